//! Figures of a specification that no file may have.
//!
//! Owns the check of those that others calculate with: what comes in by the log need not have been
//! a file. Never looks at names and texts.

use super::{RunSpec, ServiceSpec, StopSpec, TaskSpec};
use crate::limits;
use crate::units::{Bytes, Millis};

impl ServiceSpec {
    /// What of it is larger than any file may say.
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        let (health, update) = (&self.health, &self.update);
        let canary = update.canary.as_ref().map(|canary| canary.duration);
        let options = || self.routes.iter().map(|route| &route.options);
        let times = [health.interval, health.timeout, health.grace, update.healthy_deadline];
        let of_routes = options().flat_map(|options| [options.timeout, options.wait]).flatten();
        let counts = [self.replicas, update.max_parallel];
        if counts.iter().any(|count| *count > limits::REPLICAS_MAX) {
            return Some("a number of replicas");
        }
        if times.into_iter().chain(canary).chain(of_routes).any(is_long) {
            return Some("a time");
        }
        if options().filter_map(|options| options.body_max).any(is_large) {
            return Some("a size");
        }
        self.run.excess().or_else(|| self.stop.excess())
    }
}

impl TaskSpec {
    /// What of it is larger than any file may say.
    #[must_use]
    pub fn excess(&self) -> Option<&'static str> {
        let of_time = is_long(self.timeout).then_some("a time");
        of_time.or_else(|| self.run.excess()).or_else(|| self.stop.excess())
    }
}

impl StopSpec {
    fn excess(&self) -> Option<&'static str> {
        is_long(self.grace).then_some("a time")
    }
}

impl RunSpec {
    fn excess(&self) -> Option<&'static str> {
        if self.cpu.is_some_and(|cpu| cpu.0 > limits::CPU_MAX_MILLI) {
            return Some("a number of cores");
        }
        let sizes = self.volumes.iter().filter_map(|volume| volume.size);
        sizes.chain([self.memory]).any(is_large).then_some("a size")
    }
}

fn is_long(time: Millis) -> bool {
    time.0 > limits::SPAN_MAX_MS
}

fn is_large(size: Bytes) -> bool {
    size.0 > limits::SIZE_MAX
}

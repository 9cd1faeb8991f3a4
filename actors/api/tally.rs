//! How many runs of tasks began and ended on this node since the API was started.
//!
//! Owns the counting, by comparing each view with the one before. Never looks back further: runs of
//! before the first view were counted by an earlier life.

use crate::actors::root::View;
use crate::fsm::State;
use crate::id::{AllocId, NodeId, WorkloadName};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels = [(&'static str, String); 1];
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// The counters; a clone counts with the same ones.
#[derive(Clone, Debug)]
pub struct Tally {
    spawned: Family<Labels, Counter>,
    durations: Durations,
}

impl Default for Tally {
    fn default() -> Self {
        // From 100 ms, each four times the one before, to 7 hours.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.1, 4.0, 10));
        Self { spawned: Family::default(), durations: Durations::new_with_constructor(histogram) }
    }
}

impl Tally {
    /// Counts what has changed from one view to the next.
    pub(super) fn count(&self, before: &View, after: &View) {
        let count = |id| self.run(id, after.node, &before.state, &after.state);
        if after.touched.all {
            after.state.runs.keys().for_each(count);
        } else {
            after.touched.allocations.iter().for_each(count);
        }
    }

    fn run(&self, id: &AllocId, node: NodeId, before: &State, after: &State) {
        let (Some(run), Some(here)) = (after.runs.get(id), after.allocations.get(id)) else {
            return;
        };
        if here.node != node {
            return;
        }
        if !before.allocations.contains_key(id) {
            self.spawned.get_or_create(&labels(&run.workload)).inc();
        }
        let was_over = before.runs.get(id).is_some_and(|run| run.ended_at.is_some());
        if let Some(ended) = run.ended_at.filter(|_| !was_over) {
            let began = here.first_running.unwrap_or(here.created_at);
            let took = ended.since(began).duration();
            self.durations.get_or_create(&labels(&run.workload)).observe(took.as_secs_f64());
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Runs of tasks that were given to this node";
        registry.register("mill_tasks_spawned", help, self.spawned.clone());
        let help = "How long runs of tasks took on this node, in seconds";
        registry.register("mill_task_duration_seconds", help, self.durations.clone());
    }
}

fn labels(task: &WorkloadName) -> Labels {
    [("task", task.as_str().to_owned())]
}

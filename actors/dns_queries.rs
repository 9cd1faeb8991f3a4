//! How many questions about names were answered, by what they came to.
//!
//! Owns the counters, which start anew with the process. Never decides anything by them.

use crate::node::dns::Outcome;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The counters; a clone counts the same.
#[derive(Clone, Debug)]
pub struct DnsQueries {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    by_outcome: [Counter; Outcome::ALL.len()],
}

impl Default for DnsQueries {
    fn default() -> Self {
        let family = Family::<_, Counter>::default();
        let by_outcome =
            Outcome::ALL.map(|one| family.get_or_create_owned(&[("result", one.name())]));
        Self { family, by_outcome }
    }
}

impl DnsQueries {
    /// A question came to this.
    pub fn count(&self, outcome: Outcome) {
        self.by_outcome[outcome as usize].inc();
    }

    /// Shows them among other figures.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Answered DNS questions, by result";
        registry.register("mill_dns_queries", help, self.family.clone());
    }
}

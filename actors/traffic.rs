//! What is counted of the routes, over changes of the table and restarts of the actor.
//!
//! Owns the figures of this node. Never asks another node for its own.

use crate::fsm::State;
use crate::id::{AllocId, WorkloadName};
use crate::node::ingress::figures::{Requests, Window};
use crate::scheduler::canary::{Counted, Stage};
use crate::spec::model::RateLimit;
use parking_lot::Mutex;
use pingora_limits::rate::Rate;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A route and a status.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    code: u16,
}

/// A service and what went wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Wrong {
    service: String,
    reason: &'static str,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    route: String,
}

/// The figures of all routes.
#[derive(Debug)]
pub struct Traffic {
    begun: Instant,
    requests: Family<Answered, Counter>,
    latency: Family<Named, Histogram, fn() -> Histogram>,
    errors: Family<Wrong, Counter>,
    routes: Mutex<BTreeMap<String, Arc<RouteTraffic>>>,
    replicas: Mutex<BTreeMap<AllocId, Arc<ReplicaTraffic>>>,
    compared: Mutex<BTreeMap<WorkloadName, Compared>>,
}

/// What is counted of a service while its canary is under way.
#[derive(Debug)]
struct Compared {
    stage: Stage,
    /// Also those that no route leads to any more.
    replicas: BTreeMap<AllocId, Arc<ReplicaTraffic>>,
}

/// The figures of a replica: of what this node sent there.
#[derive(Debug, Default)]
pub struct ReplicaTraffic(Mutex<OfReplica>);

#[derive(Debug, Default)]
struct OfReplica {
    window: Window,
    /// Since it is known here.
    all: Requests,
    /// Since that canary of its service began.
    since: (Stage, Requests),
}

impl Default for Traffic {
    fn default() -> Self {
        // From half a millisecond, each twice the one before, to 65 s.
        let one: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_5, 2.0, 18));
        Self {
            begun: Instant::now(),
            requests: Family::default(),
            latency: Family::new_with_constructor(one),
            errors: Family::default(),
            routes: Mutex::default(),
            replicas: Mutex::default(),
            compared: Mutex::default(),
        }
    }
}

/// What of a route's figures changes with each request.
#[derive(Default)]
struct Recent {
    window: Window,
    /// By status.
    answered: BTreeMap<u16, Counter>,
}

/// The figures of a route.
pub struct RouteTraffic {
    key: String,
    latency: Histogram,
    recent: Mutex<Recent>,
    rate: Mutex<Option<(RateLimit, Arc<Rate>)>>,
}

impl std::fmt::Debug for RouteTraffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteTraffic").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Traffic {
    /// Those of a route.
    #[must_use]
    pub fn of(&self, key: &str) -> Arc<RouteTraffic> {
        let mut routes = self.routes.lock();
        if let Some(route) = routes.get(key) {
            return Arc::clone(route);
        }
        let named = Named { route: key.to_owned() };
        let route = Arc::new(RouteTraffic {
            key: key.to_owned(),
            latency: self.latency.get_or_create_owned(&named),
            recent: Mutex::default(),
            rate: Mutex::default(),
        });
        routes.insert(key.to_owned(), Arc::clone(&route));
        route
    }

    /// A request ended, so long after its head was read until the answer's head. Code 0: without
    /// an answer.
    pub fn ended(&self, route: &RouteTraffic, code: u16, took: Duration, bytes: (u64, u64)) {
        route.latency.observe(took.as_secs_f64());
        let mut recent = route.recent.lock();
        recent.window.add(self.begun.elapsed(), code, took, bytes);
        let answered = || Answered { route: route.key.clone(), code };
        let counter = recent.answered.entry(code);
        counter.or_insert_with(|| self.requests.get_or_create_owned(&answered())).inc();
    }

    /// Those of a replica.
    #[must_use]
    pub fn of_replica(&self, id: &AllocId) -> Arc<ReplicaTraffic> {
        Arc::clone(self.replicas.lock().entry(id.clone()).or_default())
    }

    /// A replica was tried with a request, and answered so after that long. Code 0: not at all.
    pub fn tried(&self, replica: &ReplicaTraffic, code: u16, took: Duration, bytes: (u64, u64)) {
        let mut kept = replica.0.lock();
        kept.window.add(self.begun.elapsed(), code, took, bytes);
        kept.all.add(code, took, bytes);
        if kept.since.0 != Stage::default() {
            kept.since.1.add(code, took, bytes);
        }
    }

    /// By replica, all that this node sent there.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Requests> {
        let replicas = self.replicas.lock();
        replicas.iter().map(|(id, one)| (id.to_string(), one.0.lock().all.clone())).collect()
    }

    /// By replica: requests a second, and those of the last minute.
    #[must_use]
    pub fn of_replicas(&self) -> BTreeMap<String, (f64, Requests)> {
        let now = self.begun.elapsed();
        let of = |(id, replica): (&AllocId, &Arc<ReplicaTraffic>)| {
            let window = &replica.0.lock().window;
            (id.to_string(), (window.per_second(now), window.minute(now)))
        };
        self.replicas.lock().iter().map(of).collect()
    }

    /// Canaries that are under way: what their services' replicas get is counted from then on.
    pub fn compare(&self, state: &State) {
        let mut compared = self.compared.lock();
        let mut under_way = BTreeMap::new();
        for (name, canary) in state.canaries() {
            let Some(progress) = canary.progress else { continue };
            let stage = (canary.deployment.revision, progress.since);
            let kept = compared.remove(name).filter(|known| known.stage == stage);
            let mut known = kept.unwrap_or(Compared { stage, replicas: BTreeMap::new() });
            for one in state.allocations_of(name) {
                let replica = self.of_replica(&one.id);
                replica.count_from(stage);
                known.replicas.insert(one.id.clone(), replica);
            }
            under_way.insert(name.clone(), known);
        }
        for replica in compared.values().flat_map(|ended| ended.replicas.values()) {
            replica.count_from(Stage::default());
        }
        *compared = under_way;
    }

    /// What was counted of services since their canaries began.
    #[must_use]
    pub fn counted(&self) -> Vec<Counted> {
        let of = |(service, compared): (&WorkloadName, &Compared)| {
            let replicas = compared.replicas.iter();
            let replicas = replicas.map(|(id, one)| (id.clone(), one.0.lock().since.1.clone()));
            Counted {
                service: service.clone(),
                stage: compared.stage,
                replicas: replicas.collect(),
            }
        };
        self.compared.lock().iter().map(of).collect()
    }

    /// A request was refused that no route has.
    pub fn refused(&self, code: u16) {
        self.requests.get_or_create(&Answered { route: String::new(), code }).inc();
    }

    /// A container could not be had.
    pub fn failed(&self, service: &WorkloadName, reason: &'static str) {
        self.errors.get_or_create(&Wrong { service: service.to_string(), reason }).inc();
    }

    /// By route: requests a second, and those of the last minute.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<String, (f64, Requests)> {
        let now = self.begun.elapsed();
        let of = |(key, route): (&String, &Arc<RouteTraffic>)| {
            let window = &route.recent.lock().window;
            (key.clone(), (window.per_second(now), window.minute(now)))
        };
        self.routes.lock().iter().map(of).collect()
    }

    /// Forgets the recent figures of routes and replicas that are gone.
    pub fn keep(&self, is_kept: impl Fn(&str) -> bool, is_there: impl Fn(&AllocId) -> bool) {
        self.routes.lock().retain(|key, _| is_kept(key));
        self.replicas.lock().retain(|id, _| is_there(id));
    }

    /// Shows them among other figures.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests by route and status; without a route: those that none has";
        registry.register("mill_proxy_requests", help, self.requests.clone());
        let help = "Time until the answer's head, in seconds";
        registry.register("mill_proxy_latency_seconds", help, self.latency.clone());
        let help = "Requests that a service's container could not answer, by reason";
        registry.register("mill_proxy_upstream_errors", help, self.errors.clone());
    }
}

impl ReplicaTraffic {
    fn count_from(&self, stage: Stage) {
        let mut kept = self.0.lock();
        if kept.since.0 != stage {
            kept.since = (stage, Requests::default());
        }
    }
}

impl RouteTraffic {
    /// Whether an address has sent more than the route takes, with this request.
    #[must_use]
    pub fn is_over(&self, limit: RateLimit, client: IpAddr) -> bool {
        let rate = {
            let mut kept = self.rate.lock();
            match &*kept {
                Some((of, rate)) if *of == limit => Arc::clone(rate),
                _ => {
                    let span = Duration::from_secs(u64::from(limit.seconds));
                    let rate = Arc::new(Rate::new(span));
                    *kept = Some((limit, Arc::clone(&rate)));
                    rate
                }
            }
        };
        let sent = rate.observe(&source(client), 1);
        sent > isize::try_from(limit.requests).unwrap_or(isize::MAX)
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_counted_by_itself() {
        let traffic = Traffic::default();
        let route = traffic.of("a.example");
        let limit = RateLimit { requests: 2, seconds: 60 };
        let over = |address: &str| route.is_over(limit, address.parse().unwrap());
        assert_eq!([over("192.0.2.1"), over("192.0.2.1"), over("192.0.2.1")], [false, false, true]);
        assert!(!over("192.0.2.2"));
        assert_eq!([over("2001:db8::1"), over("2001:db8::2")], [false, false]);
        assert!(over("2001:db8::3"));
        assert!(!over("2001:db8:0:1::1"));
    }
}

//! What the proxy's threads share: the table, the trusted senders, what is counted.
//!
//! Owns the swap of the table, which no request notices. Never holds a connection.

use super::access::AccessLog;
use super::certs::{self, ByHost, Certificates};
use super::gate::Gate;
use super::gauge::Gauge;
use super::local_ca::LocalCa;
use crate::actors::traffic::{RouteTraffic, Traffic, source};
use crate::cidr::Cidr;
use crate::fsm::State;
use crate::id::{AllocId, NodeId};
use crate::limits::{INGRESS_CONNECTIONS, INGRESS_SOURCE};
use crate::node::ingress::access::log_of;
use crate::node::ingress::challenge::{self, Answers};
use crate::node::ingress::table::{Maker, Rule, Table};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The routes as the threads use them.
pub type Routes = Table<Arc<RouteTraffic>, Arc<Gauge>>;
/// One of them.
pub type Route = Rule<Arc<RouteTraffic>, Arc<Gauge>>;

/// How the proxy is set up.
#[derive(Clone, Default)]
pub struct Settings {
    /// Proxies in front of this one whose headers count.
    pub trusted: Vec<Cidr>,
    /// Their connections begin with whose they are.
    pub proxy_protocol: bool,
    /// Names below `.localhost` lead to services too.
    pub local_names: bool,
    /// The port that clients reach HTTPS by.
    pub https_port: u16,
    /// What signs for every host; none but on a developer's machine.
    pub local_ca: Option<Arc<LocalCa>>,
    /// Where requests are written down.
    pub access: Option<AccessLog>,
    /// All requests are the engine's, none mill's own relay's.
    pub engine_only: bool,
}

impl Settings {
    /// Whether that is a proxy in front whose word counts.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|range| range.contains(address))
    }
}

/// What the threads share.
pub struct Shared {
    /// How it is set up.
    pub settings: Settings,
    /// What is counted.
    pub traffic: Arc<Traffic>,
    /// Who may pass routes with `auth`.
    pub gate: Gate,
    /// The certificates of the hosts.
    pub certificates: Arc<Certificates>,
    table: ArcSwap<Routes>,
    answers: ArcSwap<Answers>,
    gauges: Mutex<BTreeMap<AllocId, Arc<Gauge>>>,
    /// It is a current one.
    known: AtomicBool,
    connections: AtomicUsize,
    sources: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Shared {
    /// Without routes.
    #[must_use]
    pub fn new(settings: Settings, traffic: Arc<Traffic>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            traffic,
            gate: Gate::default(),
            certificates: Arc::default(),
            table: ArcSwap::from_pointee(Routes::default()),
            answers: ArcSwap::default(),
            gauges: Mutex::default(),
            known: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            sources: Mutex::default(),
        })
    }

    /// The routes of now.
    #[must_use]
    pub fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.table.load()
    }

    /// What an authority is answered that asks for this token.
    #[must_use]
    pub fn answer(&self, token: &str) -> Option<String> {
        self.answers.load().get(token).cloned()
    }

    /// Makes what authorities are to see of a state what they see.
    pub fn show_answers(&self, state: &State) {
        self.answers.store(Arc::new(challenge::answers(state)));
        self.certificates.set_challenges(certs::challenges(state));
    }

    /// Serves hosts by these certificates; on a developer's machine all others, too.
    pub fn serve_by(&self, mut certificates: ByHost) {
        if let Some(ca) = &self.settings.local_ca {
            let routes = self.routes();
            for host in routes.rules().map(|rule| rule.route.host.as_str()) {
                if let Some(pair) = ca.of(host) {
                    certificates.entry(host.to_owned()).or_insert(pair);
                }
            }
        }
        self.certificates.set(certificates);
    }

    /// Whether this process has known the routes.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Makes the table of a state the one that counts.
    pub fn show(&self, state: &State, node: NodeId) {
        let mut kept = BTreeMap::new();
        let mut gauges = self.gauges.lock();
        let table = {
            let mut maker = Maker {
                node,
                local_names: self.settings.local_names,
                figures: &mut |key| self.traffic.of(key),
                gauge: &mut |id| {
                    let fresh = || Arc::new(Gauge::new(self.traffic.of_replica(id)));
                    let gauge = gauges.get(id).cloned().unwrap_or_else(fresh);
                    Arc::clone(kept.entry(id.clone()).or_insert(gauge))
                },
            };
            Routes::of(state, &mut maker)
        };
        *gauges = kept;
        drop(gauges);
        let keys: std::collections::BTreeSet<&str> =
            table.rules().map(|rule| rule.key.as_str()).collect();
        self.traffic.compare(state);
        self.traffic.keep(|key| keys.contains(key), |id| state.allocations.contains_key(id));
        let before = self.table.swap(Arc::new(table));
        self.known.store(true, Ordering::Release);
        self.close_logs(&before, state);
    }

    /// Nothing more is written of services that are gone.
    fn close_logs(&self, before: &Routes, state: &State) {
        let Some(access) = &self.settings.access else { return };
        let gone = before.rules().filter(|rule| state.owner(&rule.service).is_none());
        gone.for_each(|rule| access.close(log_of(Some(&rule.service))));
    }

    /// A place for one more connection; none if there are too many, or of that source. A proxy in
    /// front has as many as there are.
    #[must_use]
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admitted> {
        let source = source(peer);
        let mut sources = self.sources.lock();
        let of_it = sources.entry(source).or_default();
        if self.connections.load(Ordering::Relaxed) >= INGRESS_CONNECTIONS
            || *of_it >= INGRESS_SOURCE && !self.settings.trusts(peer)
        {
            if *of_it == 0 {
                sources.remove(&source);
            }
            return None;
        }
        *of_it += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { shared: Arc::clone(self), source })
    }
}

/// The place of a connection; free again when this is dropped.
pub struct Admitted {
    shared: Arc<Shared>,
    source: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        let mut sources = self.shared.sources.lock();
        if let Some(of_it) = sources.get_mut(&self.source) {
            *of_it -= 1;
            if *of_it == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_bound_of_its_own() {
        let shared = Shared::new(Settings::default(), Arc::default());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut held: Vec<Admitted> =
            (0..INGRESS_SOURCE).map_while(|_| shared.admit(one)).collect();
        assert_eq!(held.len(), INGRESS_SOURCE);
        assert!(shared.admit(one).is_none());
        assert!(shared.admit(other).is_some());
        held.pop();
        assert!(shared.admit(one).is_some());
        drop(held);
        assert!(shared.sources.lock().is_empty());
    }
}

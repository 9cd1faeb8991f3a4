//! The table of routes: state → which replicas a request for a host and path may go to.
//!
//! Owns the match and the choice among replicas. Never counts anything: what is known of a replica
//! and a route is handed in, and kept over changes of the table by whoever makes it.

use super::host;
use crate::fsm::State;
use crate::fsm::model::Allocation;
use crate::fsm::routes::Pause;
use crate::id::{AllocId, NodeId, SpecHash, WorkloadName};
use crate::spec::model::{RouteSpec, ServiceSpec};
use crate::spec::path;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// A replica that requests may go to.
#[derive(Clone, Debug)]
pub struct Replica<G> {
    pub id: AllocId,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// It runs on this node.
    pub here: bool,
    /// What is known of it.
    pub gauge: G,
}

/// A route with its replicas.
#[derive(Clone, Debug)]
pub struct Rule<F, G> {
    /// How figures name it: host and path.
    pub key: String,
    pub service: WorkloadName,
    /// What the file says.
    pub route: RouteSpec,
    /// Those that may get traffic; empty: none is healthy.
    pub replicas: Vec<Replica<G>>,
    /// Its requests get the page of maintenance.
    pub paused: Option<Arc<Pause>>,
    /// What is counted of it.
    pub figures: F,
}

/// All routes.
#[derive(Clone, Debug)]
pub struct Table<F, G> {
    hosts: BTreeMap<String, Hosted<F, G>>,
}

/// The routes of a host, the longest path first.
type Hosted<F, G> = Vec<Arc<Rule<F, G>>>;

impl<F, G> Default for Table<F, G> {
    fn default() -> Self {
        Self { hosts: BTreeMap::new() }
    }
}

/// How a request stands to the table.
pub type Found<F, G> = Option<Arc<Rule<F, G>>>;

/// How the table is made.
pub struct Maker<'a, F, G> {
    /// This node.
    pub node: NodeId,
    /// Names below `.localhost` lead to services too.
    pub local_names: bool,
    /// What is counted of a route.
    pub figures: &'a mut dyn FnMut(&str) -> F,
    /// What is known of a replica.
    pub gauge: &'a mut dyn FnMut(&AllocId) -> G,
}

/// A route that a service has, or had and keeps until what follows is ready.
struct Claim<'a> {
    /// It is of the wanted specification.
    wanted: bool,
    service: &'a WorkloadName,
    route: RouteSpec,
    targets: Vec<(&'a Allocation, SocketAddrV4)>,
}

impl<F, G> Table<F, G> {
    /// The table of a state. Where a route changes hands, the old service keeps it until the new
    /// one has a replica that may get traffic.
    #[must_use]
    pub fn of(state: &State, maker: &mut Maker<F, G>) -> Self {
        let mut claims: BTreeMap<(String, String), Vec<Claim>> = BTreeMap::new();
        for claim in claims_of(state, maker.local_names) {
            let place = (claim.route.host.clone(), claim.route.key());
            claims.entry(place).or_default().push(claim);
        }
        let mut hosts: BTreeMap<String, Hosted<F, G>> = BTreeMap::new();
        for ((host, key), mut claims) in claims {
            claims.sort_by_key(|claim| !claim.wanted);
            let serves =
                |claim: &Claim| !claim.targets.is_empty() || claim.route.options.to.is_some();
            let best = claims.iter().position(serves).unwrap_or(0);
            let claim = claims.swap_remove(best);
            let replica = |(allocation, address): (&Allocation, SocketAddrV4)| Replica {
                id: allocation.id.clone(),
                address,
                here: allocation.node == maker.node,
                gauge: (maker.gauge)(&allocation.id),
            };
            let replicas = claim.targets.into_iter().map(replica).collect();
            let figures = (maker.figures)(&key);
            let (service, route) = (claim.service.clone(), claim.route);
            let paused = paused(state, &host);
            hosts.entry(host).or_default().push(Arc::new(Rule {
                key,
                service,
                route,
                replicas,
                paused,
                figures,
            }));
        }
        for rules in hosts.values_mut() {
            rules
                .sort_by_key(|rule| std::cmp::Reverse(rule.route.path.trim_end_matches('/').len()));
        }
        Self { hosts }
    }

    /// The route of a host and normalised path: the exact host's before a wildcard's, the longest
    /// prefix first.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Found<F, G> {
        let rules = self.hosts.get(host).or_else(|| {
            let parent = host::parent(host)?;
            self.hosts.get(&format!("*.{parent}"))
        })?;
        rules.iter().find(|rule| path::has_prefix(path, &rule.route.path)).cloned()
    }

    /// All routes, by host and then path.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule<F, G>>> {
        self.hosts.values().flatten()
    }

    /// Whether it has any route of that host, or of a wildcard that the host falls under.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        let parent = host::parent(host).map(|parent| format!("*.{parent}"));
        self.hosts.contains_key(host) || parent.is_some_and(|p| self.hosts.contains_key(&p))
    }
}

/// A name that only a developer's machine has is paused with the one that it is made of.
fn paused(state: &State, host: &str) -> Option<Arc<Pause>> {
    let real = || state.pauses.get(host.strip_suffix(".localhost")?);
    state.pauses.get(host).or_else(real).cloned()
}

fn claims_of(state: &State, local_names: bool) -> Vec<Claim<'_>> {
    let mut claims = Vec::new();
    for app in state.apps.values() {
        for (name, service) in &app.services {
            let target = service.target.as_ref();
            let stable = service.stable.as_ref().filter(|stable| target != Some(*stable));
            for (hash, wanted) in
                target.map(|t| (t, true)).into_iter().chain(stable.map(|stable| (stable, false)))
            {
                let Some(spec) = service_of(state, hash) else { continue };
                claims.extend(routes_of(spec, name, local_names).into_iter().map(|route| Claim {
                    wanted,
                    service: name,
                    targets: targets(state, name, &route),
                    route,
                }));
            }
        }
    }
    claims
}

fn service_of<'a>(state: &'a State, hash: &SpecHash) -> Option<&'a ServiceSpec> {
    state.spec(hash)?.spec.service()
}

/// The routes of a specification, with the names that only a developer's machine has.
fn routes_of(spec: &ServiceSpec, name: &WorkloadName, local_names: bool) -> Vec<RouteSpec> {
    let mut routes = spec.routes.clone();
    if !local_names {
        return routes;
    }
    let own = format!("{name}.localhost");
    let taken = |routes: &[RouteSpec], host: &str, path: &str| {
        routes.iter().any(|route| route.host == host && route.path == path)
    };
    for route in &spec.routes {
        let host = format!("{}.localhost", route.host);
        if !route.host.ends_with("localhost") && !taken(&routes, &host, &route.path) {
            routes.push(RouteSpec { host, ..route.clone() });
        }
    }
    if spec.main_port().is_some() && !taken(&routes, &own, "/") {
        routes.push(RouteSpec {
            host: own,
            path: "/".to_owned(),
            port: None,
            h2c: false,
            redirect: false,
            options: Box::default(),
        });
    }
    routes
}

/// The replicas that may get traffic on a route's port; where none may, those that drain and still
/// work.
fn targets<'a>(
    state: &'a State,
    name: &WorkloadName,
    route: &RouteSpec,
) -> Vec<(&'a Allocation, SocketAddrV4)> {
    let place = |allocation: &'a Arc<Allocation>| {
        let address: Ipv4Addr = allocation.observed.address?;
        // The port that this replica listens on, which may be another than the next version's.
        let port = service_of(state, &allocation.spec)?.port(route.port.as_deref())?;
        Some((&**allocation, SocketAddrV4::new(address, port)))
    };
    let all = || state.allocations_of(name);
    let good: Vec<_> = all().filter(|a| a.is_routable()).filter_map(place).collect();
    if good.is_empty() {
        return all().filter(|a| a.is_last_resort()).filter_map(place).collect();
    }
    good
}

/// What counts when a replica is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that this node has under way there.
    pub active: u32,
    /// It failed lately and is left out.
    pub out: bool,
}

/// One of the replicas: the less loaded of two at random, this node's at equal load. Those that
/// failed lately come last; those that were tried already don't come at all.
pub fn choose<'a, G>(
    replicas: &'a [Replica<G>],
    random: u64,
    load: impl Fn(&G) -> Load,
    tried: &[AllocId],
) -> Option<&'a Replica<G>> {
    let fresh = |replica: &&Replica<G>| !tried.contains(&replica.id);
    let good = |replica: &&Replica<G>| fresh(replica) && !load(&replica.gauge).out;
    let is_any_good = replicas.iter().any(|replica| good(&replica));
    let from = || replicas.iter().filter(|one| if is_any_good { good(one) } else { fresh(one) });
    let count = from().count() as u64;
    // Meanwhile another one may have been left out.
    let any = || replicas.iter().find(fresh);
    let at = |n: u64| usize::try_from(n).ok().and_then(|n| from().nth(n)).or_else(any);
    if count < 2 {
        return at(0);
    }
    let first = random % count;
    let second = (first + 1 + (random >> 32) % (count - 1)) % count;
    let (one, other) = (at(first)?, at(second)?);
    let key = |replica: &Replica<G>| (load(&replica.gauge).active, !replica.here);
    Some(if key(other) < key(one) { other } else { one })
}

#[cfg(test)]
mod tests;

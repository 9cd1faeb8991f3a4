//! Routes and their requests as documents.
//!
//! Never judges them.

use super::LiveUsage;
use crate::api::wire::{PauseView, RouteView, TrafficView};
use crate::fsm::State;
use crate::id::{AllocId, WorkloadName};
use crate::node::ingress::figures::Requests;
use crate::spec::model::{RouteSpec, ServiceSpec};

/// Every route, by host and path.
#[must_use]
pub fn routes(state: &State, seen: &LiveUsage) -> Vec<RouteView> {
    let mut all = Vec::new();
    for app in state.apps.values() {
        for (name, service) in &app.services {
            let hash = service.target.as_ref().or(service.stable.as_ref());
            let stored = hash.and_then(|hash| state.spec(hash));
            let Some(spec) = stored.and_then(|stored| stored.spec.service()) else { continue };
            let healthy = state.allocations_of(name).filter(|a| a.is_routable()).count();
            let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
            all.extend(spec.routes.iter().map(|route| RouteView {
                route: route.key(),
                host: route.host.clone(),
                path: route.path.clone(),
                service: name.to_string(),
                app: app.name.to_string(),
                port: route.port.clone(),
                to: route.options.to.clone(),
                paused: paused(state, &route.host),
                healthy,
                traffic: of_keys(seen, &keys(route)),
            }));
        }
    }
    all.sort_by(|one, other| (&one.host, &one.path).cmp(&(&other.host, &other.path)));
    all
}

fn paused(state: &State, host: &str) -> Option<PauseView> {
    let pause = state.pauses.get(host)?;
    Some(PauseView { message: pause.message.clone(), since: pause.since.to_string() })
}

/// The requests of a service by its routes; absent where it has none and got none.
pub(super) fn traffic(
    name: &WorkloadName,
    spec: &ServiceSpec,
    seen: &LiveUsage,
) -> Option<TrafficView> {
    let mut all: Vec<String> = spec.routes.iter().flat_map(keys).collect();
    let own = format!("{name}.localhost");
    let is_local = seen.traffic.contains_key(&own);
    all.push(own);
    (is_local || !spec.routes.is_empty()).then(|| of_keys(seen, &all))
}

/// What figures call a route: also its name on a developer's machine.
fn keys(route: &RouteSpec) -> Vec<String> {
    let local = RouteSpec { host: format!("{}.localhost", route.host), ..route.clone() };
    vec![route.key(), local.key()]
}

fn of_keys(seen: &LiveUsage, keys: &[String]) -> TrafficView {
    let (mut rate, mut minute) = (0.0, Requests::default());
    for (per_second, requests) in keys.iter().filter_map(|key| seen.traffic.get(key)) {
        rate += per_second;
        minute.merge(requests);
    }
    of_requests(rate, &minute)
}

/// The requests that came to a replica; absent where none did.
pub(super) fn of_replica(seen: &LiveUsage, id: &AllocId) -> Option<TrafficView> {
    let (rate, minute) = seen.replicas.get(id).filter(|(_, minute)| minute.count > 0)?;
    Some(of_requests(*rate, minute))
}

fn of_requests(rate: f64, minute: &Requests) -> TrafficView {
    let within = |share| minute.quantile(share).map(|time| time.as_secs_f64());
    let class = |(class, count): (usize, &u64)| match class {
        0 => ("none".to_owned(), *count),
        n => (format!("{n}xx"), *count),
    };
    let codes = minute.codes.iter().enumerate().filter(|(_, count)| **count > 0);
    TrafficView {
        requests_per_second: rate,
        requests: minute.count,
        errors: minute.errors,
        p50: within(0.5),
        p99: within(0.99),
        codes: codes.map(class).collect(),
        received: minute.received,
        sent: minute.sent,
    }
}

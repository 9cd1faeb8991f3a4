//! Services as documents.
//!
//! Never judges them.

use super::{LiveUsage, allocation, route};
use crate::api::why;
use crate::api::wire::{PortView, ReplicasView, ServiceView};
use crate::fsm::State;
use crate::fsm::model::{Allocation, App, Desired, Phase, Service};
use crate::id::WorkloadName;
use crate::scheduler::plan::Unplaced;
use crate::spec::model::{PortSpec, RouteSpec, ServiceSpec};

/// A service of an app, with those of the waiting replicas that are its own; nothing if no
/// specification of it is left.
#[must_use]
pub fn service(
    state: &State,
    app: &App,
    name: &WorkloadName,
    service: &Service,
    seen: &LiveUsage,
    waiting: &[Unplaced],
) -> Option<ServiceView> {
    let hash = service.target.as_ref().or(service.stable.as_ref())?;
    let spec = state.spec(hash)?.spec.service()?;
    let own: Vec<&Unplaced> = waiting.iter().filter(|one| one.service == *name).collect();
    let live: Vec<_> = state.allocations_of(name).filter(|a| a.is_live()).collect();
    Some(ServiceView {
        name: name.to_string(),
        app: app.name.to_string(),
        image: spec.run.image.clone(),
        digest: spec.run.digest.as_ref().map(|digest| digest.to_string()),
        revision: app.revision.0,
        replicas: replicas(state, name, service, spec),
        address: spec.main_port().map(|port| format!("{name}.mill:{port}")),
        virtual_address: service.address.map(|address| address.to_string()),
        ports: spec.ports.iter().map(port).collect(),
        routes: spec.routes.iter().map(RouteSpec::key).collect(),
        publish: spec.publish.iter().map(|publish| publish.host_port).collect(),
        traffic: route::traffic(name, spec, seen),
        degraded: service.degraded,
        waiting: why::waits(state, &own),
        allocations: live.into_iter().map(|a| allocation(state, a, seen)).collect(),
    })
}

fn port(port: &PortSpec) -> PortView {
    PortView { port: port.port, name: port.name.clone() }
}

/// Every service, by app and name.
#[must_use]
pub fn services(state: &State, seen: &LiveUsage) -> Vec<ServiceView> {
    let waiting = waiting(state);
    let of_app = |app: &App| {
        let all = app.services.iter();
        all.filter_map(|(name, one)| service(state, app, name, one, seen, &waiting))
            .collect::<Vec<_>>()
    };
    state.apps.values().flat_map(|app| of_app(app)).collect()
}

/// Every replica that waits for a node.
pub(super) fn waiting(state: &State) -> Vec<Unplaced> {
    why::waiting(state, state.apps.values().filter(|app| is_short(state, app)))
}

/// Whether a service of the app has fewer live allocations than it should, or old ones.
fn is_short(state: &State, app: &App) -> bool {
    app.services.iter().any(|(name, service)| {
        let stored = service.target.as_ref().and_then(|target| state.spec(target));
        let spec = stored.and_then(|stored| Some((stored.spec.service()?, &stored.run)));
        spec.is_some_and(|(spec, run)| {
            let is_new = |a: &&std::sync::Arc<Allocation>| {
                let is_same = state.spec(&a.spec).is_some_and(|stored| stored.run == *run)
                    && a.generation == service.generation;
                is_same && a.is_live() && a.desired == Desired::Run
            };
            state.allocations_of(name).filter(is_new).count() < spec.replicas as usize
        })
    })
}

/// How many replicas a service should have, and has healthy.
#[must_use]
pub fn replicas(
    state: &State,
    name: &WorkloadName,
    service: &Service,
    spec: &ServiceSpec,
) -> ReplicasView {
    let good = state.allocations_of(name).filter(|a| {
        let is_wanted = a.desired != Desired::Stop;
        let is_known = !state.is_silent(a.node);
        is_wanted && is_known && a.observed.phase == Phase::Running && a.is_routable()
    });
    let healthy: std::collections::BTreeSet<_> = good.filter_map(|a| a.replica()).collect();
    ReplicasView {
        desired: if service.target.is_some() { spec.replicas } else { 0 },
        healthy: u32::try_from(healthy.len()).unwrap_or(u32::MAX),
    }
}

/// The service of that name.
#[must_use]
pub fn service_named(state: &State, name: &WorkloadName, seen: &LiveUsage) -> Option<ServiceView> {
    let app = state.owner(name)?;
    let waiting = why::waiting(state, std::iter::once(app).filter(|app| is_short(state, app)));
    service(state, app, name, app.services.get(name)?, seen, &waiting)
}

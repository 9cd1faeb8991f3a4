//! What a file asks for and a service of another app has: published ports and routes.
//!
//! Owns the comparison across apps; within one file the specification's reader makes it.

use super::Obstacle;
use crate::fsm::State;
use crate::id::{AppName, WorkloadName};
use crate::spec::model::{ServiceSpec, Spec};
use std::collections::BTreeMap;

/// The services of other apps, as they should be or last were.
fn others<'a>(
    state: &'a State,
    spec: &'a Spec,
) -> impl Iterator<Item = (&'a WorkloadName, &'a AppName, &'a ServiceSpec)> {
    state.apps.values().filter(|app| app.name != spec.app).flat_map(|app| {
        app.services.iter().filter_map(|(name, service)| {
            let hash = service.target.as_ref().or(service.stable.as_ref())?;
            Some((name, &app.name, state.spec(hash)?.spec.service()?))
        })
    })
}

/// Host ports that a service of another app opens already.
pub(super) fn ports(state: &State, spec: &Spec) -> Vec<Obstacle> {
    let mut taken = BTreeMap::new();
    for (name, app, service) in others(state, spec) {
        for publish in &service.publish {
            taken.insert((publish.host_port, publish.udp), (name, app));
        }
    }
    let mut found = Vec::new();
    for (name, service) in &spec.services {
        for publish in &service.publish {
            let Some((other, app)) = taken.get(&(publish.host_port, publish.udp)) else { continue };
            let port = publish.host_port;
            found.push(Obstacle {
                workload: name.clone(),
                field: "publish",
                message: format!("{name}: port {port} is published by {other} of app {app}"),
                hint: Some("publish another port".to_owned()),
            });
        }
    }
    found
}

/// Routes that a service of another app has already.
pub(super) fn routes(state: &State, spec: &Spec) -> Vec<Obstacle> {
    let mut taken = BTreeMap::new();
    for (name, app, service) in others(state, spec) {
        for route in &service.routes {
            taken.insert(route.key(), (name, app));
        }
    }
    let mut found = Vec::new();
    for (name, service) in &spec.services {
        for route in &service.routes {
            let Some((other, app)) = taken.get(&route.key()) else { continue };
            found.push(Obstacle {
                workload: name.clone(),
                field: "route",
                message: format!("{name}: the route {} leads to {other} of app {app}", route.key()),
                hint: Some("take another host or path".to_owned()),
            });
        }
    }
    found
}

/// Persistent volumes that can't be given.
pub(super) fn volumes(state: &State, spec: &Spec) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for (workload, service) in &spec.services {
        for (name, size) in service.run.persistent() {
            let known = state.volumes.get(&name);
            let is_others =
                |user: &WorkloadName| state.owner(user).is_some_and(|app| app.name != spec.app);
            let others = state.users_of_volume(&name).into_iter().find(is_others);
            let (message, hint) = if !state.knows_volumes() {
                let message = "not every node of the cluster knows persistent volumes yet";
                (message.to_owned(), "install this version on every node".to_owned())
            } else if known.is_some_and(|volume| volume.deleting) {
                (format!("volume {name} is being deleted"), "wait: mill volume list".to_owned())
            } else if let Some(other) = others {
                (format!("volume {name} is {other}'s"), "name it otherwise".to_owned())
            } else if let Some(had) = known.map(|volume| volume.size).filter(|had| *had > size) {
                let had = had.exact();
                (format!("volume {name} has {had}: it only grows"), format!("write size=\"{had}\""))
            } else {
                continue;
            };
            let (message, hint) = (format!("{workload}: {message}"), Some(hint));
            found.push(Obstacle { workload: workload.clone(), field: "volume", message, hint });
        }
    }
    found
}

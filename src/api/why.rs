//! Why something is where it is, or isn't: every node's reason, the smallest remedies, what a
//! program that doesn't work said last.
//!
//! Owns what is worth telling. Never judges placement itself: it asks the planner and the placer.

mod remedy;

#[cfg(test)]
mod tests;

pub use remedy::{Remedy, remedies};

use crate::api::views::{self, refusal};
use crate::api::wire::{
    AllocationWhyView, DeploymentView, NodeReason, NodeReasonView, WaitingView, WhyKind, WhyView,
};
use crate::fsm::State;
use crate::fsm::model::{
    Allocation, App, DeployStatus, Desired, ExitReason, Health, NodeStatus, Phase,
};
use crate::id::{AppName, WorkloadName};
use crate::node::certificates::routed;
use crate::scheduler::place::{self, Placer};
use crate::scheduler::plan::{self, Plan, Scope, SettledIndexes, Unplaced};
use crate::units::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The replicas of some apps that wait for a node, as the planner sees it now.
#[must_use]
pub fn waiting<'a>(state: &State, apps: impl Iterator<Item = &'a Arc<App>>) -> Vec<Unplaced> {
    planned(state, apps).unplaced
}

/// The replicas of some apps that can't leave their draining node, as the planner sees it now.
#[must_use]
pub fn stuck<'a>(state: &State, apps: impl Iterator<Item = &'a Arc<App>>) -> Vec<Unplaced> {
    planned(state, apps).stuck
}

fn planned<'a>(state: &State, apps: impl Iterator<Item = &'a Arc<App>>) -> Plan {
    let apps: BTreeSet<AppName> = apps.map(|app| app.name.clone()).collect();
    if apps.is_empty() {
        return Plan::default();
    }
    plan::plan(state, &SettledIndexes::default(), state.time, 0, &Scope::Apps(apps))
}

/// Why a service or task is as it is; nothing if there is none of that name.
#[must_use]
pub fn workload(state: &State, name: &WorkloadName, seen: &views::LiveUsage) -> Option<WhyView> {
    let app = state.owner(name)?;
    let unplaced = waiting(state, std::iter::once(app));
    let unplaced: Vec<&Unplaced> = unplaced.iter().filter(|one| one.service == *name).collect();
    let of_runs = state.derived.runs.get(name).into_iter();
    let of_runs = of_runs.flat_map(|of| of.live.iter().chain(of.ended.iter().map(|one| &one.1)));
    let of_runs = of_runs.filter_map(|id| state.allocations.get(id));
    let every: BTreeMap<_, _> =
        state.allocations_of(name).chain(of_runs).map(|one| (&one.id, one)).collect();
    let mut all: Vec<_> = every.values().copied().filter(|a| a.is_live()).collect();
    if all.is_empty() {
        // The last that ended tells what happened.
        all.extend(every.values().copied().max_by_key(|a| (a.phase_since, a.created_at)));
    }
    let service = app.services.get(name);
    let spec = service.and_then(|service| state.spec(service.target.as_ref()?));
    let spec = spec.and_then(|stored| stored.spec.service());
    let replicas = service.zip(spec).map(|(one, spec)| views::replicas(state, name, one, spec));
    Some(WhyView {
        name: name.to_string(),
        kind: if app.tasks.contains_key(name) { WhyKind::Task } else { WhyKind::Service },
        app: app.name.to_string(),
        replicas,
        deployment: deployment(state, &app.name, name),
        waiting: waits(state, &unplaced).into_iter().chain(runs(state, name)).collect(),
        allocations: all.into_iter().map(|a| allocation(state, a, seen)).collect(),
        certificate: None,
    })
}

/// Why one allocation is as it is.
#[must_use]
pub fn one(state: &State, of: &Allocation, seen: &views::LiveUsage) -> WhyView {
    WhyView {
        name: of.id.to_string(),
        kind: WhyKind::Allocation,
        app: of.app.to_string(),
        replicas: None,
        deployment: deployment(state, &of.app, &of.workload),
        waiting: Vec::new(),
        allocations: vec![allocation(state, of, seen)],
        certificate: None,
    }
}

/// Why a host is served with TLS or not; nothing if no route has it, and nobody a certificate.
#[must_use]
pub fn host(state: &State, name: &str, seen: &views::LiveUsage) -> Option<WhyView> {
    let is_known = state.certificates.hosts.contains_key(name) || routed(state).contains(name);
    let mut apps = state.apps.values();
    let routes = |app: &&Arc<App>| {
        let specs = app.services.values().filter_map(|one| state.spec(one.target.as_ref()?));
        let mut routes = specs.filter_map(|one| one.spec.service()).flat_map(|one| &one.routes);
        routes.any(|route| route.host == name)
    };
    let app = apps.find(routes).map(|app| app.name.to_string());
    is_known.then(|| WhyView {
        name: name.to_owned(),
        kind: WhyKind::Host,
        app: app.unwrap_or_default(),
        replicas: None,
        deployment: None,
        waiting: Vec::new(),
        allocations: Vec::new(),
        certificate: Some(views::certificate(state, name, seen.now)),
    })
}

/// The app's newest deployment, if it is under way or did not succeed, and works on the service.
fn deployment(state: &State, app: &AppName, service: &WorkloadName) -> Option<DeploymentView> {
    let newest = state.deployments.get(&state.apps.get(app)?.revision)?;
    let is_news = newest.status != DeployStatus::Succeeded && newest.touched.contains(service);
    is_news.then(|| views::deployment(state, newest))
}

/// Since when a replica has no place: its deployment began, or the one before it ended.
fn since(state: &State, one: &Unplaced) -> Timestamp {
    let app = state.owner(&one.service);
    let newest = app.and_then(|app| state.deployments.get(&app.revision));
    let began = newest.filter(|d| d.touched.contains(&one.service)).map(|d| d.started_at);
    let of_seat = state.allocations_of(&one.service).filter(|a| a.replica() == Some(one.replica));
    let ended = of_seat.filter(|a| !a.is_live()).map(|a| a.phase_since).max();
    began.max(ended).unwrap_or(state.time)
}

/// Replicas that wait, with what would help the first of each service.
#[must_use]
pub fn waits(state: &State, unplaced: &[&Unplaced]) -> Vec<WaitingView> {
    let mut remedies_of_first = None;
    let view = |one: &&Unplaced| {
        let remedies = remedies_of_first.get_or_insert_with(|| {
            if one.gets_room {
                return vec!["wait: what the deployment removes makes room".to_owned()];
            }
            let of_service = |other: &&&Unplaced| other.service == one.service;
            let count = unplaced.iter().filter(of_service).count();
            let all = remedies(state, one, count).into_iter();
            all.map(|remedy| remedy.text(state)).collect::<Vec<String>>()
        });
        let app = state.owner(&one.service);
        let spec = app.and_then(|app| app.services.get(&one.service)?.target.as_ref());
        let need = spec.and_then(|hash| state.spec(hash)).map(|s| place::need(s.spec.run()));
        WaitingView {
            name: format!("{}-{}", one.service, one.replica),
            replica: one.replica,
            since: since(state, one).to_string(),
            need: need.unwrap_or_default(),
            nodes: one.refusals.iter().map(|(id, why)| refusal(state, *id, why)).collect(),
            remedies: remedies.clone(),
        }
    };
    unplaced.iter().map(view).collect()
}

/// Runs of a task that fit no node.
fn runs(state: &State, name: &WorkloadName) -> Vec<WaitingView> {
    let mut placer = Placer::new(state);
    let waiting = state.derived.waiting.iter().filter_map(|(since, id)| {
        let run = state.runs.get(id).filter(|run| run.workload == *name)?;
        let spec = state.spec(&run.spec)?;
        placer.begin(state, name);
        let refusals = placer.place(spec.spec.run()).err()?;
        Some(WaitingView {
            name: id.to_string(),
            replica: 0,
            since: since.to_string(),
            need: place::need(spec.spec.run()),
            nodes: refusals.iter().map(|(id, why)| refusal(state, *id, why)).collect(),
            remedies: Vec::new(),
        })
    });
    waiting.collect()
}

fn allocation(state: &State, one: &Allocation, seen: &views::LiveUsage) -> AllocationWhyView {
    let view = views::allocation(state, one, seen);
    let said = one.observed.exit.as_ref().and_then(|exit| exit.message.as_deref());
    let works = one.observed.phase == Phase::Running && one.observed.health == Health::Healthy;
    let output = said.filter(|_| !works).unwrap_or_default();
    let mut remedies = if works { Vec::new() } else { advice(state, one) };
    // A probe comes from the node itself, so that it may succeed though nobody else gets through.
    remedies.extend(seen.trouble.get(&one.node).into_iter().flatten().cloned());
    AllocationWhyView {
        id: view.id,
        node: view.node,
        status: view.status,
        health: view.health,
        since: one.phase_since.to_string(),
        reason: given_up(state, one)
            .or_else(|| unanswering(state, one, seen))
            .or_else(|| reason(one, seen.now))
            .or_else(|| leaving(state, one, seen)),
        output: output.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect(),
        remedies,
        nodes: if one.is_live() { ranked(state, one) } else { Vec::new() },
        traffic: view.traffic,
    }
}

/// What a person should know of an allocation that isn't simply healthy.
fn reason(one: &Allocation, now: Timestamp) -> Option<String> {
    let observed = &one.observed;
    match one.desired {
        Desired::Draining { .. } => return Some("gets nothing new and is about to end".to_owned()),
        Desired::Stop if one.is_live() => return Some("was asked to end".to_owned()),
        Desired::Run | Desired::Stop => {}
    }
    if let Some(trouble) = views::trouble(one, now).or_else(|| views::ending(None, one, now)) {
        return Some(trouble);
    }
    let text = match (observed.phase, observed.health) {
        (Phase::Pending, _) => "its node has not begun",
        (Phase::Pulling, _) => "its image is fetched",
        (Phase::Starting, _) => "its container is made",
        (Phase::Running, Health::Checking) => match &observed.message {
            Some(message) => message,
            None => "its health check has not succeeded yet",
        },
        (Phase::Running, Health::Unhealthy) => "its health check fails",
        _ => return None,
    };
    Some(text.to_owned())
}

/// That another node is tried, and why.
fn given_up(state: &State, one: &Allocation) -> Option<String> {
    let why = one.course.given_up.as_ref().filter(|_| one.is_live())?;
    let node = views::node_name(state, one.node);
    Some(format!("given up on {node}, another node is tried: {why}"))
}

/// That its node doesn't do what it is asked.
fn unanswering(state: &State, one: &Allocation, seen: &views::LiveUsage) -> Option<String> {
    let node = state.nodes.get(&one.node).filter(|_| one.is_live())?;
    let trouble = views::node(state, node, seen).message?;
    (!node.condition.answers()).then(|| format!("node {} is {trouble}", node.name))
}

/// How it stands with leaving a draining node.
fn leaving(state: &State, one: &Allocation, seen: &views::LiveUsage) -> Option<String> {
    let node = state.nodes.get(&one.node).filter(|node| node.status == NodeStatus::Draining)?;
    let stuck = stuck(state, state.apps.get(&one.app).into_iter());
    let left = views::left(state, one, &stuck, seen);
    let how = left.message.unwrap_or_else(|| left.state.to_string());
    one.is_live().then(|| format!("node {} is draining: {how}", node.name))
}

/// What would help an allocation that doesn't work.
fn advice(state: &State, one: &Allocation) -> Vec<String> {
    let observed = &one.observed;
    let spec = state.spec(&one.spec).map(|stored| &stored.spec);
    let reason = observed.exit.as_ref().map(|exit| exit.reason);
    let mut found = Vec::new();
    if let (Some(ExitReason::Oom), Some(spec)) = (reason, spec) {
        found.push(format!("raise memory above {}", spec.run().memory));
    }
    let port = spec.and_then(|spec| spec.service()?.main_port());
    let is_refused = observed.message.as_deref().is_some_and(|text| text.contains("refused"));
    if let Some(port) = port.filter(|_| is_refused) {
        found.push(format!("listen on 0.0.0.0:{port}"));
    }
    let has_run = one.first_running.is_some();
    let is_wrong = observed.phase == Phase::Backoff || observed.phase == Phase::Failed;
    if has_run && (is_wrong || observed.health == Health::Unhealthy) {
        let previous = if observed.phase == Phase::Running { "" } else { " --previous" };
        found.push(format!("read what it wrote: mill logs {}{previous}", one.id));
    }
    found
}

/// How the nodes stand for an allocation if it were placed now: its own first.
fn ranked(state: &State, one: &Allocation) -> Vec<NodeReasonView> {
    let Some(stored) = state.spec(&one.spec) else { return Vec::new() };
    let run = stored.spec.run();
    let mut placer = Placer::new(state);
    placer.begin(state, &one.workload);
    placer.give_back(one.node, run);
    let avoids = state.avoids(&one.workload);
    let mut nodes: Vec<NodeReasonView> = Vec::new();
    for (id, verdict) in placer.rank(run) {
        let view = match verdict {
            Err(why) => refusal(state, id, &why),
            Ok(score) => NodeReasonView {
                node: state.nodes.get(&id).map(|node| node.name.clone()).unwrap_or_default(),
                reason: match score.avoided {
                    _ if id == one.node => NodeReason::Chosen,
                    Some(_) => NodeReason::Avoided,
                    None => NodeReason::Fits,
                },
                detail: match avoids.and_then(|avoids| avoids.get(&id)) {
                    Some(avoided) if score.avoided.is_some() => {
                        format!("did not work there: {}", avoided.why)
                    }
                    _ => score.to_string(),
                },
            },
        };
        if id == one.node { nodes.insert(0, view) } else { nodes.push(view) }
    }
    nodes
}

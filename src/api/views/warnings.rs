//! What a person should look at first.
//!
//! Owns what is worth a line at the top of the status. Never suggests what this build can't do.

use super::service::{self, replicas};
use super::{Disk, Expelled, LiveUsage, allocation};
use crate::api::wire::WarningView;
use crate::consensus::raft::event::LogDisk;
use crate::fsm::State;
use crate::fsm::model::{
    Allocation, App, DeployStatus, ExitReason, Node, NodeStatus, Phase, RaftRole, Service,
};
use crate::fsm::volumes::{DROPLET, REGION};
use crate::id::{NodeId, WorkloadName};
use crate::limits;
use crate::network::Subnet;
use crate::node::certificates::ends_soon;
use crate::node::mesh::Figures;
use crate::scheduler::place;
use crate::scheduler::plan::Unplaced;
use crate::units::{Millis, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is said where others go on too.
const TWO_CLUSTERS: &str = "another member was recovered or restored as a cluster of its own, and \
                            refuses this one. Wipe whichever is wrong: stop its daemons, mill \
                            clean, then mill join";

/// What is wrong, the worst first.
pub(super) fn warnings(state: &State, seen: &LiveUsage) -> Vec<WarningView> {
    let mut all = Vec::new();
    if let Some(why) = seen.expelled {
        let message = match (why, seen.leader) {
            (Expelled::Recovered, Some(_)) => TWO_CLUSTERS.to_owned(),
            _ => why.to_string(),
        };
        all.push(WarningView { subject: "cluster".to_owned(), message, command: None });
    }
    if seen.leader.is_none() {
        let message = no_leader(state, &seen.silent) + &way_on(state, &seen.silent);
        all.push(WarningView { subject: "cluster".to_owned(), message, command: None });
    }
    all.extend(seen.log_disks.iter().filter_map(|(id, disk)| of_log_disk(state, *id, *disk)));
    for node in state.nodes.values().filter(|node| node.status == NodeStatus::Down) {
        let (subject, message) = (node.name.clone(), "down".to_owned());
        all.push(WarningView { subject, message, command: None });
    }
    for node in state.nodes.values() {
        for message in super::node::troubles(node, seen.now) {
            all.push(WarningView { subject: node.name.clone(), message, command: None });
        }
    }
    all.extend(state.nodes.values().filter_map(|node| of_mesh(state, node, seen)));
    all.extend(state.nodes.values().filter_map(|node| of_drain(state, node)));
    for (node, told) in &seen.trouble {
        let Some(node) = state.nodes.get(node) else { continue };
        all.extend(told.iter().map(|message| WarningView {
            subject: node.name.clone(),
            message: message.clone(),
            command: None,
        }));
    }
    all.extend(state.nodes.values().flat_map(|node| of_disks(state, node, seen)));
    let waiting = service::waiting(state);
    for app in state.apps.values() {
        for (name, service) in &app.services {
            all.extend(of_service(state, app, (name, service), seen.now, &waiting));
            all.extend(of_avoids(state, (name, service), seen.now));
        }
        all.extend(of_deployment(state, app));
    }
    all.extend(of_addresses(state));
    all.extend(of_secrets(state));
    let ending = |one: &Arc<Allocation>| of_removal(one).or_else(|| of_end(state, one, seen.now));
    all.extend(state.allocations.values().filter_map(ending));
    all.extend(of_volumes(state, seen));
    all.extend(of_certificates(state, seen.now));
    all.extend(of_pauses(state, seen.now));
    all.extend(super::backup::warnings(state, seen.now));
    all
}

/// Hosts that serve the page of maintenance.
fn of_pauses(state: &State, now: Timestamp) -> impl Iterator<Item = WarningView> {
    state.pauses.iter().map(move |(host, pause)| {
        let quote = if host.contains('*') { "'" } else { "" };
        WarningView {
            subject: host.clone(),
            message: format!("paused for {}", short(now.since(pause.since))),
            command: Some(format!("mill route resume {quote}{host}{quote}")),
        }
    })
}

/// Services that have no stable address, since a node has their part of the subnet.
fn of_addresses(state: &State) -> Option<WarningView> {
    let cluster = state.cluster.as_ref().filter(|_| state.is_next())?;
    let subnet = Subnet::of(cluster.subnet, cluster.prefix);
    let last = subnet.last_slice()?;
    // Where there is room for one node alone, nobody expects more.
    let is_small = subnet.slice(1).is_none();
    let node = state.nodes.values().find(|node| node.subnet == last.address())?;
    let name = &node.name;
    let message = format!(
        "{name} has {last}, the last part of the subnet: services have no stable addresses, and \
         NAME.virtual.mill is not answered; NAME.mill is"
    );
    let is_news = !is_small && state.apps.values().any(|app| !app.services.is_empty());
    let subject = "cluster".to_owned();
    is_news.then_some(WarningView { subject, message, command: None })
}

/// Volumes that are nearly full, by what was asked for.
fn of_volumes(state: &State, seen: &LiveUsage) -> Vec<WarningView> {
    let full = state.volumes.iter().filter_map(|(name, volume)| {
        let used = seen.volumes.get(name)?;
        let share = used.0.saturating_mul(100) / volume.size.0.max(1);
        (share >= limits::VOLUME_FULL).then(|| WarningView {
            subject: volume.service.to_string(),
            message: format!("volume {name} has {share} % of its {} in use", volume.size),
            command: Some("mill volume list".to_owned()),
        })
    });
    let hindered = state.volumes.iter().filter_map(|(name, volume)| {
        let error = volume.provided.as_ref()?.error.as_ref()?;
        Some(WarningView {
            subject: volume.service.to_string(),
            message: format!("volume {name}: {error}"),
            command: Some("mill volume list".to_owned()),
        })
    });
    full.chain(hindered).chain(of_machines(state)).collect()
}

/// Nodes that can't have a volume of the provider, since nobody knows which machines they are.
fn of_machines(state: &State) -> Vec<WarningView> {
    let lacks =
        |node: &Node| [DROPLET, REGION].into_iter().any(|label| !node.labels.contains_key(label));
    let shared = state.shared_droplets();
    let trouble = |node: &Node| match node.labels.get(DROPLET) {
        _ if lacks(node) => Some("it isn't known which machine of the provider it is".to_owned()),
        Some(droplet) if shared.contains(droplet) => {
            let all = state.nodes.values().filter(|one| one.id != node.id);
            let mut others = all.filter(|one| one.labels.get(DROPLET) == Some(droplet));
            let other = others.next().map(|other| other.name.clone()).unwrap_or_default();
            Some(format!("it says to be the provider's machine {droplet}, and so does {other}"))
        }
        _ => None,
    };
    let nodes = state.nodes.values().filter(|_| state.provider.is_some());
    let warning = nodes.filter_map(|node| {
        Some(WarningView {
            subject: node.name.clone(),
            message: format!("{}: no volume is attached to it", trouble(node)?),
            command: Some(format!("mill label {} {DROPLET}=ID {REGION}=REGION", node.name)),
        })
    });
    warning.collect()
}

/// Hosts that are kept from their certificate, or whose certificate is about to end.
fn of_certificates(state: &State, now: Timestamp) -> Vec<WarningView> {
    let routed = crate::node::certificates::routed(state);
    let warning = |host: &&str| {
        let error = state.certificates.hosts.get(*host).and_then(|one| one.error.clone());
        let ends = crate::node::certificates::serving(state, host)
            .filter(|certificate| ends_soon(certificate, now))
            .map(|one| match one.not_after <= now {
                true => format!("its certificate has ended ({})", one.not_after),
                false => format!("its certificate ends {}", one.not_after),
            });
        let message = match (ends, error) {
            (None, None) => return None,
            (Some(ends), Some(error)) => format!("{ends}: {error}"),
            (one, other) => one.or(other)?,
        };
        let command = Some(format!("mill why {host}"));
        Some(WarningView { subject: (*host).to_owned(), message, command })
    };
    routed.iter().filter_map(warning).collect()
}

/// Services whose replicas run with an older value of a secret.
fn of_secrets(state: &State) -> Vec<WarningView> {
    let mut by_service: BTreeMap<WorkloadName, Vec<String>> = BTreeMap::new();
    for (name, services) in state.outdated_secrets() {
        let now = state.secrets.get(&name).map_or(0, |secret| secret.version);
        for (service, version) in services {
            let text = format!("{name} (v{version}, now v{now})");
            by_service.entry(service).or_default().push(text);
        }
    }
    let warning = |(service, old): (WorkloadName, Vec<String>)| WarningView {
        subject: service.to_string(),
        message: format!("runs with an older value of {}", old.join(", ")),
        command: Some(format!("mill restart {service}")),
    };
    by_service.into_iter().map(warning).collect()
}

/// That nobody leads, and who is missing: `silent` are the nodes that this one can't reach.
#[must_use]
pub fn no_leader(state: &State, silent: &BTreeMap<NodeId, Millis>) -> String {
    let voters = state.nodes.values().filter(|node| node.part == RaftRole::Voter);
    let (missing, there): (Vec<_>, Vec<_>) = voters.partition(|one| silent.contains_key(&one.id));
    let (there, all) = (there.len(), there.len() + missing.len());
    let verb = if there == 1 { "answers" } else { "answer" };
    let names: Vec<&str> = missing.iter().map(|node| node.name.as_str()).collect();
    let least = missing.iter().filter_map(|node| silent.get(&node.id)).min();
    let missing = least.map(|least| format!(" ({} silent {})", names.join(", "), short(*least)));
    format!(
        "No leader: {there} of {all} voters {verb}{}. Containers run on; changes refused",
        missing.unwrap_or_default()
    )
}

/// What brings a leader back where too few voters answer.
fn way_on(state: &State, silent: &BTreeMap<NodeId, Millis>) -> String {
    let voters = state.nodes.values().filter(|node| node.part == RaftRole::Voter);
    let (missing, there): (Vec<_>, Vec<_>) = voters.partition(|one| silent.contains_key(&one.id));
    if there.len() > missing.len() {
        return String::new();
    }
    let names: Vec<&str> = missing.iter().map(|node| node.name.as_str()).collect();
    format!(
        ". Start {} again; if that can't be done ever: mill daemon --recover-single",
        names.join(" and ")
    )
}

/// The disk of a node's log that holds the cluster up.
fn of_log_disk(state: &State, id: NodeId, disk: LogDisk) -> Option<WarningView> {
    let message = match disk {
        LogDisk { hangs: true, .. } => {
            "the disk of its log does not answer: check it; the daemon ends if it stays so"
                .to_owned()
        }
        LogDisk { slow: Some(usual), .. } => {
            format!("the disk of its log takes {} ms for a write: changes are slow", usual.0)
        }
        LogDisk { slow: None, .. } => return None,
    };
    Some(WarningView { subject: super::node_name(state, id), message, command: None })
}

/// A time in one unit: `40s`, `5m`, `3h`.
pub(super) fn short(time: Millis) -> String {
    match time.0 / 1_000 {
        seconds @ 0..=119 => format!("{seconds}s"),
        seconds @ 120..=7_199 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}

/// A node that is up, and that others don't hear in the mesh: its containers aren't reached.
fn of_mesh(state: &State, node: &Node, seen: &LiveUsage) -> Option<WarningView> {
    let part = node.mesh.filter(|_| node.status != NodeStatus::Down)?;
    let hears_nothing = |(from, all): (&NodeId, &BTreeMap<NodeId, Figures>)| {
        let deaf = all.get(&node.id).is_some_and(|figures| figures.is_silent());
        deaf.then(|| super::node_name(state, *from))
    };
    let from: Vec<String> = seen.mesh.iter().filter_map(hears_nothing).collect();
    let message = format!(
        "no handshake in the mesh with {} for 3 minutes: is UDP port {} closed in between?",
        from.join(", "),
        part.port
    );
    let command = Some("mill doctor --peers".to_owned());
    (!from.is_empty()).then(|| WarningView { subject: node.name.clone(), message, command })
}

/// A drain that goes no further by itself.
fn of_drain(state: &State, node: &Node) -> Option<WarningView> {
    let stuck = super::node::stuck_on(state, node);
    let first = stuck.first()?;
    let names: Vec<String> =
        stuck.iter().map(|one| format!("{}-{}", one.service, one.replica)).collect();
    Some(WarningView {
        subject: node.name.clone(),
        message: format!("draining: no other node takes {}", names.join(", ")),
        command: Some(format!("mill why {}", first.service)),
    })
}

/// Disks with little room, and what has written most on that node.
fn of_disks(state: &State, node: &Node, seen: &LiveUsage) -> Vec<WarningView> {
    let percent = |disk: &Disk| disk.free.0.saturating_mul(100) / disk.total.0.max(1);
    let disks = seen.disks.get(&node.id).into_iter().flatten();
    let full = disks.filter(|disk| percent(disk) < limits::DISK_WARNED_PERCENT);
    let own = state.allocations_on(node.id);
    let written = own.filter_map(|one| Some((seen.written.get(&one.id)?, &one.id)));
    let most = written.max().map(|(bytes, id)| format!("; most is written by {id}: {bytes}"));
    let most = most.unwrap_or_default();
    let warning = |disk: &Disk| {
        let (percent, free, total) = (percent(disk), disk.free, disk.total);
        let refuses = seen.leader == Some(node.id) && free.0 < limits::DISK_KEPT;
        let refuses = if refuses { "; changes are refused" } else { "" };
        let place = &disk.place;
        WarningView {
            subject: node.name.clone(),
            message: format!("disk of {place} {percent} % free ({free} of {total}){refuses}{most}"),
            command: None,
        }
    };
    full.map(warning).collect()
}

/// Something that is to go and can't be removed.
fn of_removal(allocation: &Allocation) -> Option<WarningView> {
    let observed = &allocation.observed;
    let stuck = allocation.is_live() && observed.phase == Phase::Stopping;
    let why = observed.message.as_deref().filter(|_| stuck)?.lines().next()?;
    Some(WarningView {
        subject: allocation.id.to_string(),
        message: format!("can't be removed yet: {why}"),
        command: Some(format!("mill why {}", allocation.id)),
    })
}

/// One that was asked to end long ago, and hasn't.
fn of_end(state: &State, allocation: &Allocation, now: Timestamp) -> Option<WarningView> {
    let since = allocation.course.ends_since.filter(|_| allocation.is_live())?;
    let takes = now.since(since);
    let node = super::node_name(state, allocation.node);
    let id = &allocation.id;
    (takes > state.end_bound(allocation)).then(|| WarningView {
        subject: id.to_string(),
        message: format!("was asked to end {} ago and still is on {node}", short(takes)),
        command: Some(format!("mill why {id}")),
    })
}

fn of_service(
    state: &State,
    app: &App,
    (name, service): (&WorkloadName, &Service),
    now: Timestamp,
    waiting: &[Unplaced],
) -> Option<WarningView> {
    let spec = state.spec(service.target.as_ref()?)?.spec.service()?;
    let count = replicas(state, name, service, spec);
    // While a deployment is on its way, replicas that are not there yet are no news.
    let is_settled = state.running_deployment(&app.name).is_none();
    let short = count.healthy < count.desired;
    let waits = waiting.iter().any(|one| one.service == *name);
    if !(service.degraded || waits || is_settled && short) {
        return None;
    }
    let waits = waits.then(|| format!("no node fits {}", place::need(&spec.run)));
    let why = state.allocations_of(name).find_map(|a| trouble(a, now));
    let degraded = service.degraded.then(|| "degraded by a failed deployment".to_owned());
    let why = waits.or(why).or(degraded).map(|why| format!(": {why}")).unwrap_or_default();
    Some(WarningView {
        subject: name.to_string(),
        message: format!("{}/{}{why}", count.healthy, count.desired),
        command: Some(format!("mill why {name}")),
    })
}

/// Nodes where it did not work lately.
fn of_avoids(
    state: &State,
    (name, service): (&WorkloadName, &Service),
    now: Timestamp,
) -> impl Iterator<Item = WarningView> {
    let bound: Millis = limits::NODE_AVOIDED.into();
    let lately = service.avoids.iter().filter(move |(_, one)| now.since(one.at) < bound);
    lately.filter_map(move |(id, one)| {
        let node = state.nodes.get(id)?;
        let left = short(Millis(bound.0 - now.since(one.at).0));
        let (node, why) = (&node.name, &one.why);
        let message = format!("did not work on {node}, which is avoided for {left}: {why}");
        let command = Some(format!("mill why {name}"));
        Some(WarningView { subject: name.to_string(), message, command })
    })
}

/// How often it ended for want of memory: one end may kill several of its processes.
fn deaths(observed: &crate::fsm::model::AllocationStatus) -> u32 {
    observed.ooms.min(observed.attempt.0).max(1)
}

/// Why a replica doesn't work, in a line.
#[must_use]
pub fn trouble(allocation: &Allocation, now: Timestamp) -> Option<String> {
    let observed = &allocation.observed;
    let next =
        observed.retry_at.map(|at| format!(", next try {}s", at.since(now).0.div_ceil(1000)));
    let next = next.unwrap_or_default();
    if observed.phase == Phase::Backoff {
        let exit = observed.exit.as_ref()?;
        return Some(match exit.reason {
            ExitReason::Oom => format!("out of memory {}×{next}", deaths(observed)),
            _ => format!("{}{next}", allocation::said(exit)),
        });
    }
    let waits = allocation.is_live() && observed.phase < Phase::Running;
    let unhealthy = observed.health == crate::fsm::model::Health::Unhealthy;
    let message = observed.message.as_deref().filter(|_| waits || unhealthy)?;
    message.lines().next().map(str::to_owned)
}

fn of_deployment(state: &State, app: &App) -> Option<WarningView> {
    let newest = state.deployments.get(&app.revision)?;
    (newest.status == DeployStatus::Failed).then(|| WarningView {
        subject: app.name.to_string(),
        message: format!(
            "r{} failed: {}",
            newest.revision,
            newest.reason.as_deref().unwrap_or("no reason is known"),
        ),
        command: Some(format!("mill show r{}", newest.revision)),
    })
}

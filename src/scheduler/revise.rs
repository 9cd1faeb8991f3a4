//! What a person asks for → the revision to propose.
//!
//! Owns how a change of one part becomes a whole new revision, and which digests are kept. Never
//! resolves an image itself and never proposes.

#[cfg(test)]
mod tests;

mod addresses;
mod rollback;
mod taken;

pub use addresses::resolve_addresses;
pub use rollback::rollback;

use crate::fsm::State;
use crate::fsm::command::Deploy;
use crate::fsm::model::{App, DeployKind, Node, WorkloadSpec};
use crate::id::{AppName, Digest, Revision, VolumeName, WorkloadName};
use crate::limits::{REPLICAS_MAX, REVISIONS_PER_APP};
use crate::node::image_replication;
use crate::spec::model::{RunSpec, Spec};
use crate::units::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Why a revision can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviseError {
    /// No app owns a service of that name.
    #[error("no service {name}")]
    NoService { name: WorkloadName },
    /// No such app.
    #[error("no app {name}")]
    NoApp { name: AppName },
    /// An image was given for something that isn't in the file.
    #[error("the file has no service {name} to give an image to")]
    NothingToOverride { name: WorkloadName },
    /// More replicas than mill runs of one service.
    #[error("{replicas} replicas of {name} are more than the {REPLICAS_MAX} that are possible")]
    TooMany {
        /// Of which service.
        name: WorkloadName,
        /// How many.
        replicas: u32,
    },
    /// More than one writer of a volume.
    #[error(
        "{name} keeps the volume {volume}, which allows one replica only; with ephemeral=#true \
         each replica has its own, and nothing is kept"
    )]
    OneReplica {
        /// Which service.
        name: WorkloadName,
        /// Its persistent volume.
        volume: VolumeName,
    },
    /// A specification that the state refers to isn't in it.
    #[error("the specification of {name} is missing in the state")]
    Broken {
        /// Whose.
        name: WorkloadName,
    },
    /// There is no such revision.
    #[error("no revision r{revision}")]
    NoRevision { revision: Revision },
    /// There was such a revision.
    #[error("r{revision} isn't kept any more: {REVISIONS_PER_APP} revisions of an app are")]
    NotKept { revision: Revision },
    /// The revision is of another app than was named.
    #[error("r{revision} is of app {owner}, not of {app}")]
    OtherApp {
        revision: Revision,
        /// Whose it is.
        owner: AppName,
        /// Whose it should be.
        app: AppName,
    },
    /// The revision failed: going back to it would fail again.
    #[error("r{revision} never worked: {reason}")]
    NeverWorked {
        revision: Revision,
        /// Why it failed.
        reason: String,
    },
    /// No revision that succeeded is before what runs.
    #[error("app {app} has no earlier revision that succeeded and differs from what it should be")]
    NoneBefore { app: AppName },
    /// Nothing was ever deployed.
    #[error("nothing is deployed")]
    NoApps,
    /// No app was named, and there are several.
    #[error("there are several apps: {apps}")]
    WhichApp {
        /// All of them.
        apps: String,
    },
    /// An image could not be resolved to a digest.
    #[error("{name}: {source}{others}")]
    Image {
        /// The service or task.
        name: WorkloadName,
        source: ResolveError,
        /// Further ones, each on a line of its own.
        others: String,
    },
}

/// Why a reference could not be resolved to a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The registry answers and has no such image.
    #[error("{reference} not found (404)")]
    NotFound {
        /// The image.
        reference: String,
    },
    /// The registry refuses the credentials, or wants some.
    #[error("{reason}")]
    Denied {
        /// The image.
        reference: String,
        reason: String,
    },
    /// What is there is no image that can run here.
    #[error("{reason}")]
    Invalid {
        /// The image.
        reference: String,
        reason: String,
    },
    /// It was loaded, and no node that has it is there.
    #[error("{reference} {reason}")]
    Lost {
        /// The image.
        reference: String,
        /// Where it is.
        reason: String,
    },
    /// The registry wants to be left alone for a while.
    #[error("{reason}")]
    Limited {
        /// The image.
        reference: String,
        reason: String,
        /// For how long.
        wait: Millis,
    },
    /// The registry can't be reached or doesn't work.
    #[error("{reason}")]
    Unreachable {
        /// The image.
        reference: String,
        reason: String,
    },
}

impl ResolveError {
    /// It may be otherwise in a while, without anybody changing the image.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. } | Self::Limited { .. })
    }
}

/// What a reference leads to among the images that were loaded; none if it isn't one of them.
#[must_use]
pub fn loaded(state: &State, reference: &str) -> Option<Result<Digest, ResolveError>> {
    let digest = state.loaded_digest(reference)?;
    let lenders = image_replication::lenders(state, None, &digest)?;
    if lenders.nodes.is_empty() {
        let (reference, reason) = (reference.to_owned(), lenders.reason);
        return Some(Err(ResolveError::Lost { reference, reason }));
    }
    Some(Ok(digest))
}

/// What each reference was resolved to.
pub type Resolved = BTreeMap<String, Result<Digest, ResolveError>>;

/// A place in the file that this cluster can't carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The service or task.
    pub workload: WorkloadName,
    pub field: &'static str,
    pub message: String,
    pub hint: Option<String>,
}

/// A file on its way to a revision.
#[derive(Clone, Debug)]
pub struct Up {
    /// The file, decoded.
    pub spec: Spec,
    /// The file as it was written.
    pub file: String,
    /// It may share no name with what the app runs.
    pub replace: bool,
}

/// Puts other images in the place of those in the file.
///
/// # Errors
/// If the file has no such service or task.
pub fn override_images(
    spec: &mut Spec,
    images: &[(WorkloadName, String)],
) -> Result<(), ReviseError> {
    for (name, image) in images {
        let service = spec.services.get_mut(name).map(|service| &mut service.run);
        let task = spec.tasks.get_mut(name).map(|task| &mut task.run);
        let Some(run) = service.or(task) else {
            return Err(ReviseError::NothingToOverride { name: name.clone() });
        };
        run.image.clone_from(image);
    }
    Ok(())
}

/// The references in a file, each once.
#[must_use]
pub fn references(spec: &Spec) -> BTreeSet<String> {
    let services = spec.services.values().map(|service| &service.run);
    let tasks = spec.tasks.values().map(|task| &task.run);
    services.chain(tasks).map(|run| run.image.clone()).collect()
}

/// Whether something runs by that reference, so that its digest is known without its registry.
#[must_use]
pub fn is_kept(state: &State, reference: &str) -> bool {
    state.apps.values().any(|app| {
        let mut names = app.services.keys().chain(app.tasks.keys());
        names.any(|name| kept_digest(state, app, name, reference).is_some())
    })
}

/// The revision that a file makes of its app. With the registry down, what has the same image as
/// before keeps its digest.
///
/// # Errors
/// An image that could not be resolved.
pub fn up(state: &State, up: Up, resolved: &Resolved) -> Result<Deploy, ReviseError> {
    let app = state.apps.get(&up.spec.app);
    let mut missing: Vec<(WorkloadName, ResolveError)> = Vec::new();
    let mut pin = |name: &WorkloadName, run: &mut RunSpec| {
        let kept = app.and_then(|app| kept_digest(state, app, name, &run.image));
        let digest = match (resolved.get(&run.image), kept) {
            (Some(Ok(digest)), _) => digest.clone(),
            (Some(Err(error)), Some(kept)) if error.is_passing() => kept,
            (None, Some(kept)) => kept,
            (Some(Err(error)), _) => {
                missing.push((name.clone(), error.clone()));
                return Ok(());
            }
            (None, None) => return Err(ReviseError::Broken { name: name.clone() }),
        };
        run.digest = Some(digest);
        Ok(())
    };
    let mut services = BTreeMap::new();
    for (name, mut service) in up.spec.services {
        pin(&name, &mut service.run)?;
        services.insert(name, WorkloadSpec::Service(service));
    }
    let mut tasks = BTreeMap::new();
    for (name, mut task) in up.spec.tasks {
        pin(&name, &mut task.run)?;
        tasks.insert(name, WorkloadSpec::Task(task));
    }
    refuse_missing(missing)?;
    Ok(Deploy {
        app: up.spec.app,
        kind: DeployKind::Up,
        base: Some(app.map_or(Revision(0), |app| app.revision)),
        services,
        tasks,
        file: up.file,
        replace: up.replace,
        plan: None,
    })
}

/// Says of every image that could not be resolved why.
fn refuse_missing(missing: Vec<(WorkloadName, ResolveError)>) -> Result<(), ReviseError> {
    let mut missing = missing.into_iter();
    let Some((name, source)) = missing.next() else { return Ok(()) };
    let others = missing.map(|(name, source)| format!("\n{name}: {source}")).collect();
    Err(ReviseError::Image { name, source, others })
}

/// The digest that a service or task runs now, if its image is written the same.
fn kept_digest(state: &State, app: &App, name: &WorkloadName, image: &str) -> Option<Digest> {
    let service = app.services.get(name).and_then(|service| service.target.as_ref());
    let run = state.spec(service.or_else(|| app.tasks.get(name))?)?.spec.run();
    run.digest.clone().filter(|_| run.image == image)
}

/// The revision in which a service has that many replicas.
///
/// # Errors
/// There is no such service, or it can't have so many.
pub fn scale(state: &State, name: &WorkloadName, replicas: u32) -> Result<Deploy, ReviseError> {
    if replicas > REPLICAS_MAX {
        return Err(ReviseError::TooMany { name: name.clone(), replicas });
    }
    let mut deploy = as_it_is(state, owner(state, name)?, DeployKind::Scale)?;
    match deploy.services.get_mut(name) {
        Some(WorkloadSpec::Service(service)) => {
            if let Some((volume, _)) = service.run.persistent().next().filter(|_| replicas > 1) {
                return Err(ReviseError::OneReplica { name: name.clone(), volume });
            }
            service.replicas = replicas;
        }
        _ => return Err(ReviseError::NoService { name: name.clone() }),
    }
    Ok(deploy)
}

/// The revision without a service or task.
///
/// # Errors
/// There is neither of that name.
pub fn without(state: &State, name: &WorkloadName) -> Result<Deploy, ReviseError> {
    let of_task = state.owner(name).filter(|app| app.tasks.contains_key(name));
    let app = of_task.map_or_else(|| owner(state, name), Ok)?;
    let mut deploy = as_it_is(state, app, DeployKind::Down)?;
    deploy.services.remove(name);
    deploy.tasks.remove(name);
    Ok(deploy)
}

/// The revision in which an app runs nothing.
///
/// # Errors
/// There is no such app.
pub fn down(state: &State, name: &AppName) -> Result<Deploy, ReviseError> {
    let app = state.apps.get(name).ok_or_else(|| ReviseError::NoApp { name: name.clone() })?;
    let mut deploy = as_it_is(state, app, DeployKind::Down)?;
    deploy.services.clear();
    deploy.tasks.clear();
    Ok(deploy)
}

fn owner<'a>(state: &'a State, name: &WorkloadName) -> Result<&'a Arc<App>, ReviseError> {
    let runs = |app: &App| app.services.get(name).is_some_and(|s| s.target.is_some());
    let owner = state.owner(name).filter(|app| runs(app));
    owner.ok_or_else(|| ReviseError::NoService { name: name.clone() })
}

/// The app as it should be now.
fn as_it_is(state: &State, app: &App, kind: DeployKind) -> Result<Deploy, ReviseError> {
    let spec_of = |name: &WorkloadName, hash| {
        let stored = state.spec(hash).ok_or_else(|| ReviseError::Broken { name: name.clone() })?;
        Ok((name.clone(), stored.spec.clone()))
    };
    let services = app.services.iter();
    let wanted = services.filter_map(|(name, service)| Some((name, service.target.as_ref()?)));
    Ok(Deploy {
        app: app.name.clone(),
        kind,
        base: Some(app.revision),
        services: wanted.map(|(name, hash)| spec_of(name, hash)).collect::<Result<_, _>>()?,
        tasks: app.tasks.iter().map(|(n, hash)| spec_of(n, hash)).collect::<Result<_, _>>()?,
        file: state.file_of_app(app).to_string(),
        replace: true,
        plan: None,
    })
}

/// What in a file no node of this cluster could ever carry out, or another app is in the way of.
#[must_use]
pub fn obstacles(state: &State, spec: &Spec) -> Vec<Obstacle> {
    let services = spec.services.iter().map(|(name, service)| (name, &service.run));
    let tasks = spec.tasks.iter().map(|(name, task)| (name, &task.run));
    let mut found: Vec<Obstacle> =
        services.chain(tasks).filter_map(|(name, run)| too_large(state, name, run)).collect();
    found.extend(taken::ports(state, spec));
    found.extend(taken::routes(state, spec));
    found.extend(taken::volumes(state, spec));
    found
}

/// Why no node of this cluster could ever run it, even if nothing else ran.
#[must_use]
pub fn too_large(state: &State, name: &WorkloadName, run: &RunSpec) -> Option<Obstacle> {
    // Before a node has registered nothing is known of it.
    let known: Vec<&Arc<Node>> = state.nodes.values().filter(|n| n.memory.0 > 0).collect();
    let obstacle = |field, message, hint: String| {
        Some(Obstacle { workload: name.clone(), field, message, hint: Some(hint) })
    };
    let most_cpu = known.iter().map(|node| node.cpu).max()?;
    let most_memory = known.iter().map(|node| node.memory).max()?;
    let (cpu, memory) = (run.reserved_cpu(), run.memory);
    if cpu > most_cpu {
        let message = format!("{name}: no node has {cpu} cores; the largest has {most_cpu}");
        return obstacle("cpu", message, format!("write at most: cpu {most_cpu}"));
    }
    if memory > most_memory {
        let message = format!("{name}: no node has {memory} of memory; the largest {most_memory}");
        // Rounded, it could be more than there is.
        let most = format!("write at most: memory \"{}M\"", most_memory.0 / 1_000_000);
        return obstacle("memory", message, most);
    }
    if !known.iter().any(|node| node.cpu >= cpu && node.memory >= memory) {
        let message = format!("{name}: no node has both {cpu} cores and {memory} of memory");
        return obstacle("memory", message, "lower cpu or memory".to_owned());
    }
    let fits = |node: &Node| run.constraints.iter().all(|(k, v)| node.labels.get(k) == Some(v));
    if !known.iter().any(|node| fits(node)) {
        let wanted: Vec<String> = run.constraints.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let message = format!("{name}: no node has the labels {}", wanted.join(" "));
        return obstacle("constraint", message, "label a node or drop the constraint".to_owned());
    }
    None
}

//! What a person asks to run once, and what an id or name of a run stands for.
//!
//! Owns the checks of a request. Never resolves an image itself and never proposes.

use crate::api::wire::SpawnRequest;
use crate::fsm::State;
use crate::fsm::command::Spawned;
use crate::fsm::model::Run;
use crate::id::{AllocId, Digest, WorkloadName};
use crate::limits;
use crate::spec::image::{Reference, ReferenceError};
use crate::spec::model::{EnvPart, EnvValue, RunSpec, StopSpec, TaskSpec};
use crate::units::{Bytes, MilliCpu, Millis};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// Neither or both.
    #[error("name either a task or an image")]
    What,
    /// What only an image can have.
    #[error("{field} is the file's where a task is named")]
    Fixed {
        /// Which field.
        field: &'static str,
    },
    /// Not an image.
    #[error("image {image:?}: {source}")]
    Image {
        /// As given.
        image: String,
        /// Why.
        source: ReferenceError,
    },
    /// Not a variable.
    #[error("env {name:?}: {why}")]
    Env {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Out of bounds.
    #[error("{field} must be {bounds}")]
    Bounds {
        /// Which field.
        field: &'static str,
        /// What it may be.
        bounds: &'static str,
    },
}

/// The name made from an image, or another one where a file has it: its runs never mix with those
/// of the file's service or task.
#[must_use]
pub fn free_name(state: &State, name: &WorkloadName) -> WorkloadName {
    let taken = |name: &WorkloadName| state.owner(name).is_some();
    let numbered = (2..1_000).map(|n| format!("-run-{n}"));
    let endings = ["".to_owned(), "-run".to_owned()].into_iter().chain(numbered);
    let mut named = endings.map(|ending| {
        let most = limits::NAME_MAX - ending.len();
        let begin: String = name.as_str().chars().take(most).collect();
        WorkloadName::from(format!("{}{ending}", begin.trim_end_matches('-')))
    });
    named.find(|name| !taken(name)).unwrap_or_else(|| name.clone())
}

/// Why a text stands for no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// There is none.
    #[error("no run of a task {name}")]
    None {
        /// What was asked for.
        name: String,
    },
    /// A task that doesn't run.
    #[error("task {name} doesn't run")]
    Idle {
        /// Which.
        name: String,
    },
    /// Several.
    #[error("{name} stands for several runs: {fits}")]
    Several {
        /// What was asked for.
        name: String,
        /// Some of them.
        fits: String,
    },
    /// It is no task's.
    #[error("{id} is a replica of service {service}")]
    Replica {
        /// Its id.
        id: AllocId,
        /// Whose.
        service: WorkloadName,
    },
    /// It is a service.
    #[error("{service} is a service")]
    Service {
        /// Which.
        service: WorkloadName,
    },
}

/// Checks a request. An image is not pinned yet.
///
/// # Errors
/// What is wrong with it.
pub fn read(request: SpawnRequest) -> Result<Spawned, SpawnError> {
    check_env(&request.env)?;
    match (request.task, request.image) {
        (Some(task), None) => {
            let fixed = [
                ("command", request.command.is_some()),
                ("cpu", request.cpu.is_some()),
                ("memory", request.memory.is_some()),
                ("timeout", request.timeout.is_some()),
            ];
            match fixed.iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(SpawnError::Fixed { field }),
                None => Ok(Spawned::Task { name: task.into(), env: request.env }),
            }
        }
        (None, Some(image)) => {
            let parsed = Reference::parse(&image);
            let reference =
                parsed.map_err(|source| SpawnError::Image { image: image.clone(), source })?;
            let wrong =
                |(n, word): (usize, &String)| n == 0 && word.is_empty() || word.contains('\0');
            if request.command.iter().flatten().enumerate().any(wrong) {
                let (field, bounds) = ("command", "a program with its arguments");
                return Err(SpawnError::Bounds { field, bounds });
            }
            let name = name_of(&reference.repository);
            let run = RunSpec {
                command: request.command.unwrap_or_default(),
                cpu: request.cpu.map(cores).transpose()?,
                memory: memory(request.memory)?,
                env: request.env.into_iter().map(|(name, text)| (name, plain(text))).collect(),
                ..RunSpec::of(image)
            };
            let timeout = timeout(request.timeout)?;
            let stop = StopSpec { signal: None, grace: Millis::secs(10) };
            let spec = Box::new(TaskSpec { run, timeout, schedule: None, stop });
            Ok(Spawned::Image { name, spec })
        }
        _ => Err(SpawnError::What),
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), SpawnError> {
    for (name, value) in env {
        let bad = |why| Err(SpawnError::Env { name: name.clone(), why });
        if name.is_empty() || name.contains(['=', '\0']) {
            return bad("is no name of a variable");
        }
        if name.starts_with("MILL_") {
            return bad("MILL_ is what mill itself sets");
        }
        if value.contains('\0') || name.len() + value.len() >= limits::ARG_MAX {
            return bad("its value can't be given to a program");
        }
    }
    Ok(())
}

fn cores(cores: f64) -> Result<MilliCpu, SpawnError> {
    let most = limits::CPU_MAX_MILLI as f64 / 1000.0;
    if (0.001..=most).contains(&cores) {
        return Ok(MilliCpu((cores * 1000.0).round() as u64));
    }
    Err(SpawnError::Bounds { field: "cpu", bounds: "0.001 to 1024 cores" })
}

fn memory(bytes: Option<u64>) -> Result<Bytes, SpawnError> {
    let bytes = bytes.unwrap_or(RunSpec::DEFAULT_MEMORY.0);
    if (limits::MEMORY_MIN..=limits::SIZE_MAX).contains(&bytes) {
        return Ok(Bytes(bytes));
    }
    Err(SpawnError::Bounds { field: "memory", bounds: "4000000 bytes (4M) or more" })
}

fn timeout(seconds: Option<f64>) -> Result<Millis, SpawnError> {
    let Some(seconds) = seconds else { return Ok(Millis::secs(3600)) };
    let most = limits::SPAN_MAX_MS as f64 / 1000.0;
    if (1.0..=most).contains(&seconds) {
        return Ok(Millis((seconds * 1000.0) as u64));
    }
    Err(SpawnError::Bounds { field: "timeout", bounds: "1 second to 366 days" })
}

fn plain(text: String) -> EnvValue {
    EnvValue(if text.is_empty() { vec![] } else { vec![EnvPart::Text(text)] })
}

/// The last part of an image's path, as a name.
fn name_of(repository: &str) -> WorkloadName {
    let last = repository.rsplit('/').next().unwrap_or_default();
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = last.chars().map(fitting).take(limits::NAME_MAX).collect();
    let name = name.trim_matches('-');
    WorkloadName::from(if name.is_empty() { "task" } else { name })
}

impl Spawned {
    /// The name under which it runs.
    #[must_use]
    pub fn name(&self) -> &WorkloadName {
        match self {
            Self::Task { name, .. } | Self::Image { name, .. } => name,
        }
    }

    /// The container that it makes; nothing if there is no such task.
    #[must_use]
    pub fn run<'a>(&'a self, state: &'a State) -> Option<&'a RunSpec> {
        match self {
            Self::Task { name, .. } => state.task(name).map(|(_, _, task)| &task.run),
            Self::Image { spec, .. } => Some(&spec.run),
        }
    }

    /// Gives an image the digest that it was resolved to.
    pub fn pin(&mut self, digest: Digest) {
        if let Self::Image { spec, .. } = self {
            spec.run.digest = Some(digest);
        }
    }
}

/// The run that a text stands for: a task with one that is not over, else an id or the only one
/// that begins so; of several, the only one that is not over.
///
/// # Errors
/// It stands for none, for several, or for a replica of a service.
pub fn find<'a>(state: &'a State, text: &str) -> Result<&'a Arc<Run>, FindError> {
    let name = WorkloadName::from(text);
    let several = |all: &[&Arc<Run>]| {
        let ids: Vec<&str> = all.iter().take(limits::FITS_SHOWN).map(|r| r.id.as_str()).collect();
        FindError::Several { name: text.to_owned(), fits: ids.join(", ") }
    };
    if let Some(run) = state.runs.get(&AllocId::from(text)) {
        return Ok(run);
    }
    if let Some(of) = state.derived.runs.get(&name).filter(|of| !of.live.is_empty()) {
        let live: Vec<_> = of.live.iter().filter_map(|id| state.runs.get(id)).collect();
        return if let [only] = live.as_slice() { Ok(only) } else { Err(several(&live)) };
    }
    if let Some(app) = state.owner(&name) {
        return Err(match app.tasks.contains_key(&name) {
            true => FindError::Idle { name: text.to_owned() },
            false => FindError::Service { service: name },
        });
    }
    let begins = |id: &AllocId| !text.is_empty() && id.as_str().starts_with(text);
    let from = || AllocId::from(text)..;
    let fits: Vec<_> =
        state.runs.range(from()).take_while(|(id, _)| begins(id)).map(|(_, run)| run).collect();
    let live: Vec<_> = fits.iter().filter(|run| run.ended_at.is_none()).copied().collect();
    match (fits.as_slice(), live.as_slice()) {
        ([only], _) | (_, [only]) => return Ok(only),
        ([], _) => {}
        (all, []) => return Err(several(all)),
        (_, live) => return Err(several(live)),
    }
    let replica = state.allocations.range(from()).next().filter(|(id, _)| begins(id));
    Err(match replica {
        Some((id, a)) => FindError::Replica { id: id.clone(), service: a.workload.clone() },
        None => FindError::None { name: text.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str) -> SpawnRequest {
        SpawnRequest { image: Some(image.to_owned()), ..SpawnRequest::default() }
    }

    fn env(name: &str) -> SpawnRequest {
        let env = BTreeMap::from([(name.to_owned(), "v".to_owned())]);
        SpawnRequest { env, ..image("busybox") }
    }

    #[yare::parameterized(
        nothing = { SpawnRequest::default(), "name either a task or an image" },
        both = { SpawnRequest { task: Some("t".into()), ..image("i") }, "name either" },
        fixed = {
            SpawnRequest { task: Some("t".into()), cpu: Some(1.0), ..SpawnRequest::default() },
            "cpu is the file's where a task is named"
        },
        no_image = { image("a b"), "image \"a b\"" },
        own = { env("MILL_NODE"), "env \"MILL_NODE\": MILL_ is what mill itself sets" },
        unnamed = { env(""), "is no name of a variable" },
        no_memory = { SpawnRequest { memory: Some(1), ..image("i") }, "memory must be 4000000" },
        no_cpu = { SpawnRequest { cpu: Some(f64::NAN), ..image("i") }, "cpu must be 0.001" },
        no_program = { SpawnRequest { command: Some(vec![String::new()]), ..image("i") },
            "command must be a program" },
        no_time = { SpawnRequest { timeout: Some(0.5), ..image("i") }, "timeout must be 1 second" },
    )]
    fn what_makes_no_sense_is_refused(request: SpawnRequest, why: &str) {
        let text = read(request).unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn a_name_that_a_file_has_is_not_an_image_s() {
        use crate::scheduler::preview::tests::{SHOP, World};
        let mut world = World::new(&[(4, 8)]);
        world.up(SHOP);
        let named = |name: &str| free_name(&world.state, &name.into()).to_string();
        assert_eq!((named("web"), named("busybox")), ("web-run".into(), "busybox".into()));
    }

    #[test]
    fn an_image_is_named_by_the_last_part_of_its_path() {
        for (reference, name) in [
            ("busybox", "busybox"),
            ("127.0.0.1:5000/team/my_app:v1", "my-app"),
            ("registry.example.com/a/b.c:v2", "b-c"),
        ] {
            assert_eq!(read(image(reference)).unwrap().name().as_str(), name, "{reference}");
        }
    }
}

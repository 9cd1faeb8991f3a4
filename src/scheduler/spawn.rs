//! What runs once: its name, its container, and what an id or name of a run stands for.
//!
//! Never resolves an image itself and never proposes.

use crate::fsm::State;
use crate::fsm::command::Spawned;
use crate::fsm::model::Run;
use crate::id::{AllocId, Digest, WorkloadName};
use crate::limits;
use crate::spec::model::RunSpec;
use std::sync::Arc;

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
    Idle { name: String },
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
        id: AllocId,
        /// Whose.
        service: WorkloadName,
    },
    #[error("{service} is a service")]
    Service { service: WorkloadName },
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

    #[test]
    fn a_name_that_a_file_has_is_not_an_image_s() {
        use crate::scheduler::preview::tests::{SHOP, World};
        let mut world = World::new(&[(4, 8)]);
        world.up(SHOP);
        let named = |name: &str| free_name(&world.state, &name.into()).to_string();
        assert_eq!((named("web"), named("busybox")), ("web-run".into(), "busybox".into()));
    }
}

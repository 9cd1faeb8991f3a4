//! An earlier revision → the same once more, as a new revision.
//!
//! Owns which revision is gone back to. Never resolves an image: digests stay as they were pinned.

use super::ReviseError;
use crate::fsm::State;
use crate::fsm::command::Deploy;
use crate::fsm::model::{App, DeployKind, DeployStatus, Deployment, WorkloadSpec};
use crate::id::{AppName, Revision, SpecHash, WorkloadName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The revision that makes an app what it was at another one: that revision, or the last one that
/// succeeded before what runs. Without a name it is the revision's app, or the only one.
///
/// # Errors
/// There is no such revision or app, nothing to go back to, or it never worked.
pub fn rollback(
    state: &State,
    app: Option<&AppName>,
    revision: Option<Revision>,
) -> Result<Deploy, ReviseError> {
    let to = match revision {
        Some(revision) => named(state, app, revision)?,
        None => before(state, only(state, app)?)?,
    };
    let now = state.apps.get(&to.app);
    let now = now.ok_or_else(|| ReviseError::NoApp { name: to.app.clone() })?;
    Ok(Deploy {
        app: to.app.clone(),
        kind: DeployKind::Rollback,
        base: Some(now.revision),
        services: specs(state, &to.services)?,
        tasks: specs(state, &to.tasks)?,
        file: state.file_of(to).to_string(),
        replace: true,
        plan: None,
    })
}

/// A revision that was asked for.
fn named<'a>(
    state: &'a State,
    app: Option<&AppName>,
    revision: Revision,
) -> Result<&'a Arc<Deployment>, ReviseError> {
    let Some(found) = state.deployments.get(&revision) else {
        let was = revision.0 > 0 && revision <= state.last_revision;
        let error = if was {
            ReviseError::NotKept { revision }
        } else {
            ReviseError::NoRevision { revision }
        };
        return Err(error);
    };
    if let Some(app) = app.filter(|app| **app != found.app) {
        let (owner, app) = (found.app.clone(), app.clone());
        return Err(ReviseError::OtherApp { revision, owner, app });
    }
    // What was superseded or aborted was not given its time: that is no verdict.
    if found.status == DeployStatus::Failed || found.reverting.is_some() {
        let reason = found.reason.as_deref().and_then(|why| why.lines().next());
        let reason = reason.unwrap_or("it failed").to_owned();
        return Err(ReviseError::NeverWorked { revision, reason });
    }
    Ok(found)
}

fn only<'a>(state: &'a State, name: Option<&AppName>) -> Result<&'a Arc<App>, ReviseError> {
    if let Some(name) = name {
        return state.apps.get(name).ok_or_else(|| ReviseError::NoApp { name: name.clone() });
    }
    let mut all = state.apps.values();
    match (all.next(), all.next()) {
        (None, _) => Err(ReviseError::NoApps),
        (Some(app), None) => Ok(app),
        // Also one that was taken down counts: going back must never hit the wrong one.
        (Some(_), Some(_)) => {
            let names: Vec<&str> = state.apps.keys().map(AppName::as_str).collect();
            Err(ReviseError::WhichApp { apps: names.join(" ") })
        }
    }
}

/// The last revision that succeeded before what runs. While a deployment is on its way, what runs
/// is that one, so it is the stable one.
fn before<'a>(state: &'a State, app: &App) -> Result<&'a Arc<Deployment>, ReviseError> {
    let none = || ReviseError::NoneBefore { app: app.name.clone() };
    let stable = app.stable.and_then(|revision| state.deployments.get(&revision));
    let stable = stable.ok_or_else(none)?;
    // Where all of it was taken down there is nothing to go back to.
    let is_something = |d: &Deployment| !d.services.is_empty() || !d.tasks.is_empty();
    if state.running_deployment(&app.name).is_some() && is_something(stable) {
        return Ok(stable);
    }
    let older = state.deployments.range(..stable.revision).rev().map(|(_, d)| d);
    let mut worked = older.filter(|d| d.app == app.name && d.status == DeployStatus::Succeeded);
    let differs =
        |d: &&Arc<Deployment>| (&d.services, &d.tasks) != (&stable.services, &stable.tasks);
    worked.find(|d| is_something(d) && differs(d)).ok_or_else(none)
}

fn specs(
    state: &State,
    hashes: &BTreeMap<WorkloadName, SpecHash>,
) -> Result<BTreeMap<WorkloadName, WorkloadSpec>, ReviseError> {
    let one = |(name, hash): (&WorkloadName, &SpecHash)| {
        let stored = state.spec(hash).ok_or_else(|| ReviseError::Broken { name: name.clone() })?;
        Ok((name.clone(), stored.spec.clone()))
    };
    hashes.iter().map(one).collect()
}

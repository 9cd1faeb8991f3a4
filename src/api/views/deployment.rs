//! Deployments and apps as documents.
//!
//! Never judges them.

use crate::api::wire::{AppView, DeploymentView};
use crate::fsm::State;
use crate::fsm::model::{App, Deployment};
use crate::id::{AppName, Revision};

/// A deployment.
#[must_use]
pub fn deployment(state: &State, deployment: &Deployment) -> DeploymentView {
    let image_of = |hash| state.spec(hash).map(|stored| stored.spec.run().image.clone());
    let images = deployment.services.iter();
    DeploymentView {
        revision: deployment.revision.0,
        app: deployment.app.to_string(),
        kind: deployment.kind.into(),
        status: deployment.status.into(),
        started_at: deployment.started_at.to_string(),
        ended_at: deployment.ended_at.map(|at| at.to_string()),
        reason: deployment.reason.clone(),
        images: images
            .filter_map(|(name, hash)| Some((name.to_string(), image_of(hash)?)))
            .collect(),
        canaries: super::canary::canaries(state, deployment),
        file: None,
    }
}

/// A deployment with its file.
#[must_use]
pub fn deployment_with_file(state: &State, one: &Deployment) -> DeploymentView {
    let file = Some(state.file_of(one).to_string()).filter(|file| !file.is_empty());
    DeploymentView { file, ..deployment(state, one) }
}

/// The newest deployments before a revision, newest first.
#[must_use]
pub fn deployments(
    state: &State,
    app: Option<&AppName>,
    before: Option<Revision>,
    limit: usize,
) -> Vec<DeploymentView> {
    let end = before.unwrap_or(Revision(u64::MAX));
    let older = state.deployments.range(..end).rev().map(|(_, deployment)| deployment);
    let of_app = older.filter(|deployment| app.is_none_or(|app| deployment.app == *app));
    of_app.take(limit).map(|d| deployment(state, d)).collect()
}

/// An app: its file and revision. Nothing once all of it was taken down.
#[must_use]
pub fn app(state: &State, app: &App) -> Option<AppView> {
    let runs = app.services.values().any(|service| service.target.is_some());
    (runs || !app.tasks.is_empty()).then(|| AppView {
        app: app.name.to_string(),
        revision: app.revision.0,
        file: state.file_of_app(app).to_string(),
    })
}

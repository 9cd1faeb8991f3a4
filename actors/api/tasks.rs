//! Handlers of tasks' runs: spawning, looking, killing.
//!
//! Never places anything: that is plan's.

use super::context::Context;
use super::deploy::resolve;
use super::error::ApiError;
use super::request::{self, Request, json};
use crate::api;
use crate::api::spawn::SpawnError;
use crate::api::views;
use crate::api::wire::SpawnRequest;
use crate::fsm::command::{Spawn, Spawned};
use crate::fsm::model::Run;
use crate::fsm::{Command, Outcome, State};
use crate::id::{AllocId, Digest, Index, WorkloadName};
use crate::scheduler::revise::{self, ReviseError};
use crate::scheduler::spawn::{self, FindError};
use std::collections::BTreeSet;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

const EXAMPLE: &str = r#"{"task": "migrate"} or {"image": "busybox", "command": ["date"]}"#;

/// `POST /v1/tasks`.
pub async fn spawn(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: SpawnRequest = request.json(EXAMPLE).await?;
    let body = serde_json::to_vec(&wanted).unwrap_or_default();
    let key = context.key(&request, &body)?;
    let mut asked = api::spawn::read(wanted)?;
    let reading = context.read().await?;
    let state = reading.state();
    // A request that comes again is answered with the run that it made.
    let known = key.as_ref().and_then(|key| state.idempotency.get(key));
    if let Some(Ok(Outcome::Run { id })) = known.map(|known| known.outcome.clone()) {
        return answer(state, &id, reading.view.index);
    }
    if let Spawned::Image { name, .. } = &mut asked {
        *name = spawn::free_name(state, name);
    }
    let name = asked.name().clone();
    let not_found = || ApiError::NotFound { what: "task", name: name.to_string() };
    let run = asked.run(state).ok_or_else(not_found)?;
    if let Some(found) = revise::too_large(state, &name, run) {
        return Err(ApiError::Conflict { message: found.message, hint: found.hint });
    }
    if matches!(asked, Spawned::Image { .. }) {
        let image = run.image.clone();
        asked.pin(digest(&context, state, name.clone(), &image).await?);
    }
    let id = fresh_id(state, &name);
    let command = Command::Spawn(Spawn { id, what: asked });
    let done = context.propose(command, key).await?;
    let Outcome::Run { id } = &done.outcome else {
        let reason = "the state answered without a run".to_owned();
        return Err(ApiError::Internal { doing: "spawning", reason });
    };
    let view = context.view_after(&done)?;
    answer(&view.state, id, done.index)
}

async fn digest(
    context: &Context,
    state: &State,
    name: WorkloadName,
    image: &str,
) -> Result<Digest, ApiError> {
    let mut found = resolve(context, state, BTreeSet::from([image.to_owned()])).await;
    match found.remove(image) {
        Some(Ok(digest)) => Ok(digest),
        Some(Err(source)) => Err(ReviseError::Image { name, source, others: String::new() }.into()),
        None => Err(ReviseError::Broken { name }.into()),
    }
}

fn fresh_id(state: &State, name: &WorkloadName) -> AllocId {
    loop {
        let id = AllocId::task(name, rand::random());
        if !state.runs.contains_key(&id) && !state.allocations.contains_key(&id) {
            return id;
        }
    }
}

fn answer(state: &State, id: &AllocId, index: Index) -> Result<Response, ApiError> {
    let not_found = || ApiError::NotFound { what: "run of a task", name: id.to_string() };
    let run = state.runs.get(id).ok_or_else(not_found)?;
    Ok(request::at(index, json(StatusCode::ACCEPTED, &views::run(state, run))?))
}

/// `GET /v1/tasks`.
pub async fn list(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let mut all = views::runs(reading.state());
    if let Some(name) = request.one("name") {
        all.retain(|run| run.name == name);
    }
    if request.one("all").is_some() && !request.flag("all")? {
        all.retain(|run| run.ended_at.is_none());
    }
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `GET /v1/tasks/{id}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let run = find(reading.state(), &request)?;
    Ok(reading.mark(json(StatusCode::OK, &views::run(reading.state(), run))?))
}

/// `DELETE /v1/tasks/{id}`.
pub async fn kill(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let key = context.key(&request, b"")?;
    let reading = context.read().await?;
    let run = find(reading.state(), &request)?.id.clone();
    let done = context.propose(Command::Kill { run: run.clone() }, key).await?;
    let view = context.view_after(&done)?;
    answer(&view.state, &run, done.index)
}

fn find<'a>(state: &'a State, request: &Request) -> Result<&'a Arc<Run>, ApiError> {
    Ok(spawn::find(state, request.param("id"))?)
}

impl From<SpawnError> for ApiError {
    fn from(error: SpawnError) -> Self {
        let hint = match &error {
            SpawnError::What => format!("send: {EXAMPLE}"),
            SpawnError::Fixed { field } => format!("leave {field} out, or name an image"),
            SpawnError::Image { .. } => "an image is named like ghcr.io/me/app:v1".to_owned(),
            SpawnError::Env { .. } => "choose another name, such as DB_URL".to_owned(),
            SpawnError::Bounds { field, .. } => format!("without {field} the default counts"),
        };
        Self::bad(error.to_string(), hint)
    }
}

impl From<FindError> for ApiError {
    fn from(error: FindError) -> Self {
        let message = error.to_string();
        let hint = match &error {
            FindError::None { name } => {
                return Self::NotFound { what: "run of a task", name: name.clone() };
            }
            FindError::Several { .. } => return Self::bad(message, "write more of the id"),
            FindError::Idle { name } => format!("its runs: mill ps -a {name}"),
            FindError::Replica { id, service } => {
                format!("mill restart {id}, or mill scale {service} N, or mill down {service}")
            }
            FindError::Service { service } => {
                format!("mill down {service}, or mill scale {service} 0")
            }
        };
        Self::Conflict { message, hint: Some(hint) }
    }
}

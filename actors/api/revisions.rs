//! Handlers of deployments, apps, and the changes of one service that make a revision.
//!
//! Owns the retry of a change that lost a race. Never computes a revision: that is `revise`.

use super::context::{Context, now};
use super::error::ApiError;
use super::figures::Figures;
use super::request::{self, Request, json};
use super::stream::{self, Feed, Left};
use crate::actors::root::View;
use crate::api::views::{self, Event, EventId};
use crate::api::wire::{FailedEvent, RevisionView, RollbackRequest, ScaleRequest};
use crate::fsm::command::Deploy;
use crate::fsm::{Command, Outcome, Rejection, State};
use crate::id::{AppName, Index, Revision, WorkloadName};
use crate::limits;
use crate::node::oci::pull::Pulls;
use crate::scheduler::preview;
use crate::scheduler::revise::{self, ReviseError};
use crate::units::Millis;
use std::sync::Arc;
use tokio::sync::watch;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/deployments`.
pub async fn list(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let limit = request.parsed("limit", "a number")?.unwrap_or(limits::DEPLOYMENTS_LISTED);
    let before = request.one("before").map(revision).transpose()?;
    let app = request.one("app").map(AppName::from);
    let reading = context.read().await?;
    let limit = limit.min(limits::DEPLOYMENTS_LISTED_MAX);
    let state = reading.state();
    if let Some(app) = app.as_ref().filter(|app| !state.apps.contains_key(*app))
        && state.deployments.values().all(|one| one.app != *app)
    {
        return Err(ApiError::NotFound { what: "app", name: app.to_string() });
    }
    let all = views::deployments(state, app.as_ref(), before, limit);
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `GET /v1/deployments/{revision}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let wanted = revision(request.param("revision"))?;
    let reading = context.read().await?;
    let found = reading.state().deployments.get(&wanted).ok_or_else(|| no_deployment(wanted))?;
    let view = views::deployment_with_file(reading.state(), found);
    Ok(reading.mark(json(StatusCode::OK, &view)?))
}

/// `GET /v1/deployments/{revision}/diff`.
pub async fn diff(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let wanted = revision(request.param("revision"))?;
    let to = request.one("to").map(revision).transpose()?;
    let reading = context.read().await?;
    let state = reading.state();
    let found = |wanted| state.deployments.get(&wanted).ok_or_else(|| no_deployment(wanted));
    let from = found(wanted)?;
    let newest = || state.apps.get(&from.app).map_or(wanted, |app| app.revision);
    let to = found(to.unwrap_or_else(newest))?;
    if from.app != to.app {
        let (from, to) = ((from.revision, &from.app), (to.revision, &to.app));
        let message = format!("r{} is of app {}, r{} of app {}", from.0, from.1, to.0, to.1);
        return Err(ApiError::bad(message, "name two revisions of one app: mill history"));
    }
    Ok(reading.mark(json(StatusCode::OK, &preview::difference(state, from, to))?))
}

/// `GET /v1/deployments/{revision}/events`.
pub async fn events(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let wanted = revision(request.param("revision"))?;
    let reading = context.read().await?;
    if !reading.state().deployments.contains_key(&wanted) {
        return Err(no_deployment(wanted));
    }
    let last = last_event(&request)?.filter(|last| last.revision == wanted);
    let response = follow(&context, last.map_or(EventId::new(wanted, 0), EventId::next))?;
    Ok(reading.mark(response))
}

/// The event that the client saw last.
pub fn last_event(request: &Request) -> Result<Option<EventId>, ApiError> {
    let Some(text) = request.header("last-event-id").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bad = |_| ApiError::bad(format!("Last-Event-ID {text} is not of mill"), "leave it out");
    text.parse().map(Some).map_err(bad)
}

/// A stream of a deployment's events from `next` on, to its end.
pub fn follow(context: &Arc<Context>, next: EventId) -> Result<Response, ApiError> {
    let sources = Sources::of(context);
    stream::open(context, move |feed| feed_events(sources, next, feed))
}

/// What the events of a deployment are made of.
pub struct Sources {
    views: watch::Receiver<Option<View>>,
    pulls: watch::Receiver<Pulls>,
}

impl Sources {
    /// Those of this node.
    pub fn of(context: &Context) -> Self {
        Self { views: context.views.clone(), pulls: context.doors.images.pulls() }
    }
}

/// Feeds a deployment's events from `next` on, to its end.
///
/// # Errors
/// The client has left.
pub async fn feed_events(
    Sources { mut views, mut pulls }: Sources,
    mut next: EventId,
    feed: Feed,
) -> Result<(), Left> {
    let revision = next.revision;
    let mut figures = Figures::default();
    loop {
        let view = views.borrow_and_update().clone();
        let found =
            view.as_ref().and_then(|view| views::events_after(&view.state, revision, next.number));
        let (Some(found), Some(view)) = (found, view) else {
            return feed_forgotten(next, &feed).await;
        };
        for (id, mut event) in found.events {
            next.number = id.number + 1;
            if let Event::Progress(data) = &mut event {
                views::fill_in(&view.state, data, view.node, &pulls.borrow());
                figures.told(data);
            }
            let (name, id) = (Some(event.name()), id.to_string());
            match &event {
                Event::Accepted(data) => feed.send(name, &id, data).await?,
                Event::Progress(data) => feed.send(name, &id, data).await?,
                Event::Done(data) => feed.send(name, &id, data).await?,
                Event::Failed(data) => feed.send(name, &id, data).await?,
            }
        }
        if found.ended {
            return Ok(());
        }
        let seen = pulls.borrow_and_update().clone();
        for data in figures.news(views::pulling(&view.state, revision, (view.node, now()), &seen)) {
            next.live = next.live.saturating_add(1);
            // It has the number of the step before it, and one of its own behind that.
            let id = EventId { number: next.number.saturating_sub(1), ..next };
            feed.send(Some("progress"), &id.to_string(), &data).await?;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return Ok(()) },
            () = figures.due(&mut pulls) => {}
            () = feed.closed() => return Err(Left),
        }
    }
}

/// The deployment was followed for so long that its record is gone.
async fn feed_forgotten(next: EventId, feed: &Feed) -> Result<(), Left> {
    let reason = "the deployment's record is not kept any more".to_owned();
    let (status, service, restored, elapsed) = ("failed".to_owned(), None, None, 0.0);
    let revision = next.revision.0;
    let data = FailedEvent { revision, service, reason, status, restored, elapsed };
    let id = EventId::new(next.revision, next.number).to_string();
    feed.send(Some("failed"), &id, &data).await
}

/// `GET /v1/apps/{app}`.
pub async fn app(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let name = AppName::from(request.param("app"));
    let state = reading.state();
    let found = state.apps.get(&name).and_then(|app| views::app(state, app));
    let not_found = || ApiError::NotFound { what: "app", name: name.to_string() };
    Ok(reading.mark(json(StatusCode::OK, &found.ok_or_else(not_found)?)?))
}

/// `DELETE /v1/apps/{app}`.
pub async fn down(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = AppName::from(request.param("app"));
    if !context.dev {
        super::deploy::guard(context.read().await?.state(), request.one("cluster"))?;
    }
    let key = context.key(&request, b"")?;
    change(&context, key, |state| revise::down(state, &name)).await
}

/// `DELETE /v1/services/{name}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = WorkloadName::from(request.param("name"));
    let key = context.key(&request, b"")?;
    change(&context, key, |state| revise::without(state, &name)).await
}

/// `POST /v1/services/{name}/scale`.
pub async fn scale(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: ScaleRequest = request.json("{\"replicas\": 3}").await?;
    let name = WorkloadName::from(request.param("name"));
    let count = wanted.replicas;
    let key = context.key(&request, count.to_string().as_bytes())?;
    change(&context, key, |state| revise::scale(state, &name, count)).await
}

/// `POST /v1/rollback`.
pub async fn rollback(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: RollbackRequest = request.json("{\"revision\": 7, \"app\": \"shop\"}").await?;
    let app = wanted.app.as_deref().map(AppName::from);
    let to = wanted.revision.map(Revision);
    let body = format!("{app:?} {to:?}");
    let key = context.key(&request, body.as_bytes())?;
    change(&context, key, |state| revise::rollback(state, app.as_ref(), to)).await
}

/// `POST /v1/services/{name}/restart`.
pub async fn restart(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let service = WorkloadName::from(request.param("name"));
    let key = context.key(&request, b"")?;
    // Asked first, so that a name that doesn't exist costs no entry.
    let reading = context.read().await?;
    let not_found = || ApiError::NotFound { what: "service", name: service.to_string() };
    let seen = context.observed(&reading.view).await;
    views::service_named(reading.state(), &service, &seen).ok_or_else(not_found)?;
    let done = context.propose(Command::RestartService { service: service.clone() }, key).await?;
    let view = context.view_after(&done)?;
    let shown = views::service_named(&view.state, &service, &seen).ok_or_else(not_found)?;
    Ok(request::at(done.index, json(StatusCode::ACCEPTED, &shown)?))
}

async fn change(
    context: &Arc<Context>,
    key: Option<String>,
    make: impl Fn(&State) -> Result<Deploy, ReviseError> + Send + Sync,
) -> Result<Response, ApiError> {
    let accepted = propose(context, key, make).await?;
    let document = RevisionView { revision: accepted.revision.0 };
    Ok(request::at(accepted.index, json(StatusCode::ACCEPTED, &document)?))
}

/// A revision that was accepted, or that is the app's already.
pub struct Accepted {
    /// Which.
    pub revision: Revision,
    /// Whether it was made by this change.
    pub new: bool,
    /// The entry's index.
    pub index: Index,
}

/// Makes a revision of the newest state and proposes it; anew if somebody was faster.
pub async fn propose(
    context: &Arc<Context>,
    key: Option<String>,
    make: impl Fn(&State) -> Result<Deploy, ReviseError> + Send + Sync,
) -> Result<Accepted, ApiError> {
    let mut tries = 0;
    loop {
        let view = context.read().await?.view;
        // What it names may be gone, because it was carried out.
        if let Some(known) = known(&view, key.as_deref()) {
            return known;
        }
        let deploy = make(&view.state)?;
        let attempt = key.as_deref().map(|key| key_of_try(key, tries));
        match context.propose(Command::Deploy(deploy), attempt).await {
            Ok(done) => return accepted(&done.outcome, done.index),
            Err(ApiError::Rejected(Rejection::Moved { .. })) if tries < limits::API_RETRIES => {
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Each try has a key of its own, or it would be answered like the first one.
fn key_of_try(key: &str, tries: u32) -> String {
    format!("{key}:{tries}")
}

/// What a request with this key was answered, if it was carried out before.
pub fn known(view: &View, key: Option<&str>) -> Option<Result<Accepted, ApiError>> {
    let key = key?;
    let ttl = Millis::from(limits::IDEMPOTENCY_TTL);
    let mut outcomes = (0..=limits::API_RETRIES).map_while(|n| {
        let found = view.state.idempotency.get(&key_of_try(key, n))?;
        (view.state.time < found.at.plus(ttl)).then_some(&found.outcome)
    });
    let is_lost_race = |outcome: &&Result<_, _>| matches!(outcome, Err(Rejection::Moved { .. }));
    let last = outcomes.find(|outcome| !is_lost_race(outcome))?;
    Some(match last {
        Ok(outcome) => accepted(outcome, view.index),
        Err(rejection) => Err(rejection.clone().into()),
    })
}

fn accepted(outcome: &Outcome, index: Index) -> Result<Accepted, ApiError> {
    match outcome {
        Outcome::Revision { revision, new } => {
            Ok(Accepted { revision: *revision, new: *new, index })
        }
        Outcome::Done | Outcome::Run { .. } | Outcome::Node { .. } => Err(ApiError::Internal {
            doing: "deploying",
            reason: "the state answered without a revision".to_owned(),
        }),
    }
}

/// A revision as people write it: `8` or `r8`.
fn revision(text: &str) -> Result<Revision, ApiError> {
    let number = text.strip_prefix('r').unwrap_or(text).parse();
    let bad = |_| ApiError::bad(format!("{text} is not a revision"), "write a number, as in 8");
    number.map(Revision).map_err(bad)
}

fn no_deployment(revision: Revision) -> ApiError {
    ApiError::NotFound { what: "deployment", name: format!("r{revision}") }
}

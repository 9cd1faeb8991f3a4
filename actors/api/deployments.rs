//! Handlers of deployments: their records and their events.
//!
//! Owns how events are fed to a client. Never changes a deployment.

use super::context::{Context, now};
use super::error::ApiError;
use super::figures::Figures;
use super::request::{Request, json};
use super::stream::{self, Feed, Left};
use crate::actors::root::View;
use crate::api::views::{self, Event, EventId};
use crate::api::wire::{DeploymentStatus, FailedEvent};
use crate::id::{AppName, Revision};
use crate::limits;
use crate::node::oci::pull::Pulls;
use std::sync::Arc;
use tokio::sync::watch;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/deployments`.
pub async fn list(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let limit = request.count("limit", "a number")?.unwrap_or(limits::DEPLOYMENTS_LISTED);
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
    Ok(reading.mark(json(StatusCode::OK, &views::difference(state, from, to))?))
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
        Self { views: context.views.clone(), pulls: context.ports.images.pulls() }
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
    let (status, service, restored, elapsed) = (DeploymentStatus::Failed, None, None, 0.0);
    let revision = next.revision.0;
    let data = FailedEvent { revision, service, reason, status, restored, elapsed };
    let id = EventId::new(next.revision, next.number).to_string();
    feed.send(Some("failed"), &id, &data).await
}

/// A revision as people write it: `8` or `r8`.
fn revision(text: &str) -> Result<Revision, ApiError> {
    let number = text.strip_prefix('r').unwrap_or(text).parse().ok();
    let bad = || ApiError::bad(format!("{text} is not a revision"), "write a number, as in 8");
    number.filter(|number| *number <= limits::NUMBER_MAX).map(Revision).ok_or_else(bad)
}

fn no_deployment(revision: Revision) -> ApiError {
    ApiError::NotFound { what: "deployment", name: format!("r{revision}") }
}

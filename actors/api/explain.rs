//! Handlers that explain: what a file would do, why something is as it is, what happened.
//!
//! Never change anything: what they show is computed in `preview`, `why` and `events`.

use super::context::Context;
use super::error::ApiError;
use super::request::{Request, json};
use super::stream::{self, Feed, Left};
use super::{allocations, deploy};
use crate::actors::root::View;
use crate::api::wire::{EventView, WhyView};
use crate::api::{views, why};
use crate::fsm::State;
use crate::fsm::events;
use crate::fsm::model::Role;
use crate::id::WorkloadName;
use crate::scheduler::preview::{self, Planned};
use crate::scheduler::revise::{self, ReviseError, Up};
use std::sync::Arc;
use tokio::sync::watch;
use warp::http::StatusCode;
use warp::reply::Response;

/// `POST /v1/plan`.
pub async fn plan(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let replace = request.flag("replace")?;
    let images = deploy::overrides(&request)?;
    let file = deploy::file(&mut request).await?;
    let reading = context.read().await?;
    let state = reading.state();
    // To look up an image uses the cluster's logins, and reaches hosts that the caller can't.
    let may_ask = request.role >= Role::Deploy;
    let (spec, resolved) = deploy::prepare(&context, state, &file, &images, may_ask).await?;
    deploy::refuse_empty(state, &spec, replace)?;
    let wanted = match revise::up(state, Up { spec, file, replace }, &resolved) {
        Err(ReviseError::Broken { name }) if !may_ask => return Err(unpinned(&name)),
        wanted => wanted?,
    };
    let state = Arc::clone(&reading.view.state);
    // Following a rollout takes longer than a request's task may be held up.
    let computing = tokio::task::spawn_blocking(move || {
        let found = preview::preview(&state, &wanted)?;
        let view = views::plan(&state, &found, &wanted);
        Ok::<_, ApiError>((Planned { hash: found.hash, deploy: wanted }, view))
    });
    let failed = |error: tokio::task::JoinError| ApiError::Internal {
        doing: "planning",
        reason: error.to_string(),
    };
    let (planned, view) = computing.await.map_err(failed)??;
    context.plans.remember(planned);
    Ok(reading.mark(json(StatusCode::OK, &view)?))
}

fn unpinned(name: &WorkloadName) -> ApiError {
    let message = format!(
        "the image of {name} is none that runs already: only a token of role deploy may look it up"
    );
    let hint = Some("plan with such a token: mill token create --role deploy".to_owned());
    ApiError::Denied { message, hint }
}

/// `GET /v1/why/{name}`.
pub async fn why(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let seen = context.observed(&reading.view).await;
    let view = reasons(reading.state(), request.param("name"), &seen)?;
    Ok(reading.mark(json(StatusCode::OK, &view)?))
}

fn reasons(state: &State, name: &str, seen: &views::LiveUsage) -> Result<WhyView, ApiError> {
    if let Some(found) = why::host(state, name, seen) {
        return Ok(found);
    }
    let found = match allocations::by_name(state, name) {
        Ok((all, Some(workload))) => why::workload(state, &workload, seen).or_else(|| {
            // Of an image that was spawned nobody owns the name.
            let live = all.iter().find(|one| one.is_live()).or_else(|| all.last());
            live.map(|one| why::one(state, one, seen))
        }),
        Ok((one, None)) => one.first().map(|one| why::one(state, one, seen)),
        Err(error @ ApiError::NotFound { .. }) => {
            // A replica that waits has no id: `web-2` stands for it.
            let (service, replica) = name.rsplit_once('-').ok_or(error)?;
            let whole = why::workload(state, &WorkloadName::from(service), seen);
            whole.and_then(|whole| only(whole, replica.parse().ok()?))
        }
        Err(error) => return Err(error),
    };
    let what = "service, task or allocation";
    found.ok_or_else(|| ApiError::NotFound { what, name: name.to_owned() })
}

/// Only what is about one waiting replica.
fn only(mut whole: WhyView, replica: u32) -> Option<WhyView> {
    whole.waiting.retain(|one| one.replica == replica);
    whole.allocations.clear();
    (!whole.waiting.is_empty()).then_some(whole)
}

/// `GET /v1/events`.
pub async fn events(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let follow = request.flag("follow")?;
    let limit = request.count("limit", "a number")?;
    let last = match request.header("last-event-id").filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad(format!("Last-Event-ID {text} is not of mill"), "leave it out")
        })?,
        None => 0,
    };
    // Who saw some is told of those that are gone since.
    let was_there = last > 0;
    let reading = context.read().await?;
    let last = match limit {
        // Who resumes a stream has those already that it began with.
        Some(limit) if !(follow && was_there) => {
            last.max(reading.state().last_event.saturating_sub(limit as u64))
        }
        _ => last,
    };
    if follow {
        let views = context.views.clone();
        let response =
            stream::open(&context, move |feed| feed_events(views, (last, was_there), feed))?;
        return Ok(reading.mark(response));
    }
    let state = reading.state();
    let kept = events::after(state, last).map(|event| views::event(state, event));
    let missed = views::missed(state, last).filter(|_| was_there);
    let all: Vec<EventView> = missed.into_iter().chain(kept).collect();
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// Feeds the events behind one, for as long as the client stays. A client that was there before is
/// told of those that it missed: this node may have been brought far ahead at once.
async fn feed_events(
    mut views: watch::Receiver<Option<View>>,
    (mut last, mut was_there): (u64, bool),
    feed: Feed,
) -> Result<(), Left> {
    loop {
        let view = views.borrow_and_update().clone();
        if let Some(view) = view {
            let missed = views::missed(&view.state, last).filter(|_| was_there);
            was_there = true;
            if let Some(missed) = missed {
                last = missed.id;
                feed.send(None, &missed.id.to_string(), &missed).await?;
            }
            for event in events::after(&view.state, last) {
                last = event.id;
                let data = views::event(&view.state, event);
                feed.send(None, &event.id.to_string(), &data).await?;
            }
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return Ok(()) },
            () = feed.closed() => return Err(Left),
        }
    }
}

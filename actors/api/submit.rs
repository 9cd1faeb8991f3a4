//! How a change of what runs is submitted: made of the newest state, proposed, made again when
//! somebody was faster.
//!
//! Owns the key of each try and the guard against another cluster's file. Never computes a
//! revision: that is `revise`.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, json};
use crate::actors::root::View;
use crate::api::wire::RevisionView;
use crate::fsm::command::Deploy;
use crate::fsm::{Command, Outcome, Rejection, State};
use crate::id::{Index, Revision};
use crate::limits;
use crate::scheduler::revise::ReviseError;
use crate::units::Millis;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// Makes a revision, and answers with its number.
pub async fn change(
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

/// A file that is meant for one cluster is refused by every other.
pub fn guard(state: &State, wanted: Option<&str>) -> Result<(), ApiError> {
    let ours = state.cluster.as_ref().map_or("", |cluster| cluster.name.as_str());
    match wanted {
        Some(wanted) if wanted != ours => {
            let message = format!("the file is for cluster {wanted}; this is {ours}");
            let hint = Some("choose the other cluster by --address, or change the file".to_owned());
            Err(ApiError::Conflict { message, hint })
        }
        _ => Ok(()),
    }
}

//! Handlers of API tokens.
//!
//! Owns the random numbers that make a token. Never keeps one: the state has its hash.

use super::context::{Context, now};
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::actors::peer::ca;
use crate::api::views;
use crate::api::wire::{self, NewTokenView, TokenRequest, TokenView};
use crate::cluster::token;
use crate::cluster::trust::Fingerprint;
use crate::fsm::command::GrantToken;
use crate::fsm::model::{Role, Token};
use crate::fsm::{Command, State};
use crate::id::TokenId;
use crate::limits;
use crate::units::Millis;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/tokens`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let all = reading.state().tokens.values();
    let all: Vec<TokenView> = all.map(|token| views::token(token)).collect();
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `POST /v1/tokens`.
pub async fn create(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let wanted: TokenRequest = request.json("{\"role\": \"read\", \"ttl\": 3600}").await?;
    let role = role(&wanted.role)?;
    if wanted.ttl == Some(0) {
        return Err(ApiError::bad("a ttl of 0 seconds has ended already", "leave ttl out"));
    }
    if wanted.uses.is_some_and(|uses| uses == 0 || role != Role::Join) {
        return Err(ApiError::bad("uses counts the nodes that a join token lets in", "1 or more"));
    }
    let reading = context.read().await?;
    let has_room = |state: &State| {
        let ends = |token: &&Arc<Token>| token.expires_at.is_none_or(|at| at > state.time);
        // Before every node drops those that have ended, they take room.
        let all = state.tokens.values();
        all.filter(|token| !state.is_next() || ends(token)).count() < limits::TOKENS_MAX
    };
    if !has_room(reading.state()) {
        let message = format!("there are {} tokens already", limits::TOKENS_MAX);
        let hint = Some("revoke some: mill token revoke ID".to_owned());
        return Err(ApiError::Conflict { message, hint });
    }
    let body = format!("{} {:?} {:?}", wanted.role, wanted.ttl, wanted.uses);
    let key = context.key(&request, body.as_bytes())?;
    let ca = reading.state().ca.as_ref().and_then(|ca| ca::certificate_from_pem(&ca.cert).ok());
    let minted = token::mint(rand::random(), rand::random(), ca.map(|ca| Fingerprint::of(&ca)));
    let life = wanted.ttl.map(|ttl| Millis(ttl.saturating_mul(1000)));
    let expires_at = life.or_else(|| token::life(role)).map(|life| now().plus(life));
    let (id, hash) = (minted.id.clone(), minted.hash);
    let command = match wanted.uses {
        Some(_) => {
            let uses = wanted.uses;
            Command::GrantToken(GrantToken { id, role, hash, expires_at, uses })
        }
        None => Command::CreateToken { id, role, hash, expires_at },
    };
    let is_repeat = key.is_some();
    let done = context.propose(command, key).await?;
    if is_repeat && !context.view_after(&done)?.state.tokens.contains_key(&minted.id) {
        let message = "a token was made with this Idempotency-Key, and was shown then".to_owned();
        let hint = Some("revoke it and make another: mill token list".to_owned());
        return Err(ApiError::Conflict { message, hint });
    }
    let role = role.into();
    let document = NewTokenView { id: minted.id.to_string(), role, token: minted.text };
    Ok(request::at(done.index, json(StatusCode::CREATED, &document)?))
}

/// `DELETE /v1/tokens/{id}`.
pub async fn revoke(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let id = TokenId::from(request.param("id"));
    // Asked first, so that a name that doesn't exist costs no entry.
    if !context.read().await?.state().tokens.contains_key(&id) {
        return Err(ApiError::NotFound { what: "token", name: id.to_string() });
    }
    let done = context.propose(Command::RevokeToken { id }, None).await?;
    Ok(request::at(done.index, empty()))
}

pub(super) fn role(wanted: &wire::Role) -> Result<Role, ApiError> {
    Ok(match wanted {
        wire::Role::Admin => Role::Admin,
        wire::Role::Deploy => Role::Deploy,
        wire::Role::Read => Role::Read,
        wire::Role::Join => Role::Join,
        wire::Role::Other(name) => {
            return Err(ApiError::bad(format!("no role {name}"), "admin, deploy, read or join"));
        }
    })
}

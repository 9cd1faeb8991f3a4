//! Handlers of API tokens.
//!
//! Owns the random numbers that make a token. Never keeps one: the state has its hash.

use super::context::{Context, now};
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::actors::peer::ca;
use crate::api::views;
use crate::api::wire::{NewTokenView, TokenRequest, TokenView};
use crate::cluster::token;
use crate::cluster::trust::Fingerprint;
use crate::fsm::Command;
use crate::fsm::model::Role;
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
    let reading = context.read().await?;
    if reading.state().tokens.len() >= limits::TOKENS_MAX {
        let message = format!("there are {} tokens already", limits::TOKENS_MAX);
        let hint = Some("revoke some: mill token revoke ID".to_owned());
        return Err(ApiError::Conflict { message, hint });
    }
    let body = format!("{} {:?}", wanted.role, wanted.ttl);
    let key = context.key(&request, body.as_bytes())?;
    let ca = reading.state().ca.as_ref().and_then(|ca| ca::certificate_from_pem(&ca.cert).ok());
    let minted = token::mint(rand::random(), rand::random(), ca.map(|ca| Fingerprint::of(&ca)));
    let command = Command::CreateToken {
        id: minted.id.clone(),
        role,
        hash: minted.hash,
        expires_at: wanted.ttl.map(|ttl| now().plus(Millis(ttl.saturating_mul(1000)))),
    };
    let is_repeat = key.is_some();
    let done = context.propose(command, key).await?;
    if is_repeat && !context.view_after(&done)?.state.tokens.contains_key(&minted.id) {
        let message = "a token was made with this Idempotency-Key, and was shown then".to_owned();
        let hint = Some("revoke it and make another: mill token list".to_owned());
        return Err(ApiError::Conflict { message, hint });
    }
    let role = views::role(role).to_owned();
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

pub(super) fn role(text: &str) -> Result<Role, ApiError> {
    let all = [Role::Join, Role::Read, Role::Deploy, Role::Admin];
    let unknown = || ApiError::bad(format!("no role {text}"), "admin, deploy, read or join");
    all.into_iter().find(|role| views::role(*role) == text).ok_or_else(unknown)
}

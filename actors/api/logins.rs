//! Handlers of the logins to registries.
//!
//! Owns that a login is tried before it is kept. Never shows a password, and keeps it only sealed.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::api::views;
use crate::api::wire::{LoginRequest, LoginView};
use crate::fsm::Command;
use crate::node::oci::docker_config::Login;
use crate::secret::Secret;
use crate::spec::image::Reference;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/registries`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let all = reading.state().logins.iter();
    let all: Vec<LoginView> = all.map(|(registry, login)| views::login(registry, login)).collect();
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `PUT /v1/registries/{registry}`.
pub async fn set(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let registry = registry(request.param("registry"))?;
    let wanted: LoginRequest = request.json("{\"user\": \"ann\", \"password\": \"…\"}").await?;
    let is_name = !wanted.user.is_empty() && !wanted.user.contains([':', '\n', '\r']);
    if !is_name || wanted.password.is_empty() {
        let message = "a login has a user without a colon, and a password".to_owned();
        return Err(ApiError::BadRequest { message, hint: None });
    }
    let (user, password) = (wanted.user, Secret::new(wanted.password));
    let login = Login { user: user.clone(), password };
    // The node may have become a member just now.
    let view = context.view().ok_or(ApiError::Starting)?;
    if let Some(node) = view.state.nodes.get(&view.node) {
        context.ports.images.use_keyring(&node.keyring);
    }
    let password = context.ports.images.login(registry.clone(), login).await?;
    let command = Command::SetLogin { registry: registry.clone(), user, password };
    let done = context.propose(command, None).await?;
    let view = context.view_after(&done)?;
    // Whoever deploys next means the new one already.
    context.ports.images.use_logins(&view.state.logins);
    let kept = view.state.logins.get(&registry).ok_or(ApiError::Unconfirmed)?;
    Ok(request::at(done.index, json(StatusCode::OK, &views::login(&registry, kept))?))
}

/// `DELETE /v1/registries/{registry}`.
pub async fn remove(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let registry = registry(request.param("registry"))?;
    // Asked first, so that a name that doesn't exist costs no entry.
    if !context.read().await?.state().logins.contains_key(&registry) {
        return Err(ApiError::NotFound { what: "login for", name: registry });
    }
    let done = context.propose(Command::RemoveLogin { registry }, None).await?;
    if let Some(view) = context.view() {
        context.ports.images.use_logins(&view.state.logins);
    }
    Ok(request::at(done.index, empty()))
}

/// A registry as images name it.
fn registry(text: &str) -> Result<String, ApiError> {
    let text = match text {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let parsed = Reference::parse(&format!("{text}/x")).ok();
    let is_one = parsed.is_some_and(|image| image.registry == text);
    let wrong = || ApiError::bad(format!("{text:?} is no registry"), "write HOST or HOST:PORT");
    is_one.then(|| text.to_owned()).ok_or_else(wrong)
}

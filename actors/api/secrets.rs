//! Handlers of secrets.
//!
//! Owns sealing a value before it is proposed. Never shows one but to an admin who asks for it.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::actors::root::{Done, View};
use crate::api::views;
use crate::api::wire::{
    Encoding, RotatedView, SecretRequest, SecretValueView, SecretView, SecretsRequest,
};
use crate::fsm::secrets::{NewSecret, SecretChange, secret_purpose};
use crate::fsm::{Command, Rejection, State};
use crate::id::{SecretName, WorkloadName};
use crate::limits;
use crate::secret::{Keyring, SealError};
use crate::spec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;
use zeroize::Zeroizing;

/// Names with their values.
type Values = Vec<(SecretName, Zeroizing<Vec<u8>>)>;

/// `GET /v1/secrets`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    Ok(reading.mark(json(StatusCode::OK, &views::secrets(reading.state()))?))
}

/// `GET /v1/secrets/{name}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = SecretName::from(request.param("name"));
    let reading = context.read().await?;
    let secret = reading.state().secrets.get(&name).ok_or_else(|| missing(&name))?;
    let keyring = keyring(&context)?;
    let opened = keyring.unwrap(&secret_purpose(&name, secret.version), &secret.envelope());
    let value = opened.map_err(sealed)?;
    let (value, encoding) = match std::str::from_utf8(&value) {
        Ok(text) if !secret.binary => (text.to_owned(), None),
        _ => (STANDARD.encode(value.as_slice()), Some(Encoding::Base64)),
    };
    let (name, version) = (name.to_string(), secret.version);
    let document = SecretValueView { name, version, value, encoding };
    Ok(reading.mark(json(StatusCode::OK, &document)?))
}

/// `PUT /v1/secrets/{name}`.
pub async fn set(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let name = checked(request.param("name"))?;
    let most = limits::SECRET_MAX * 2;
    let wanted: SecretRequest = request.json_of(most, "{\"value\": \"…\"}").await?;
    let value = Zeroizing::new(wanted.value);
    let value = match wanted.encoding {
        None => Zeroizing::new(value.as_bytes().to_vec()),
        Some(Encoding::Base64) => {
            let decoded = STANDARD.decode(value.as_bytes());
            let bad = |_| ApiError::bad("the value is no base64", "send the text itself");
            Zeroizing::new(decoded.map_err(bad)?)
        }
        Some(Encoding::Other(name)) => {
            let message = format!("no encoding {name}");
            return Err(ApiError::bad(message, "base64, or leave encoding out"));
        }
    };
    let done = change(&context, vec![(name.clone(), value)]).await?;
    let view = context.view_after(&done)?;
    let kept = view.state.secrets.get(&name).ok_or(ApiError::Unconfirmed)?;
    let shown = views::secret(&view.state, &name, kept);
    Ok(request::at(done.index, json(StatusCode::OK, &shown)?))
}

/// `POST /v1/secrets`: several, all or none.
pub async fn import(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let example = "{\"secrets\": {\"web.key\": \"…\"}}";
    let wanted: SecretsRequest = request.json_of(limits::SECRET_IMPORT_MAX, example).await?;
    let mut values = Values::new();
    for (name, value) in wanted.secrets {
        values.push((checked(&name)?, Zeroizing::new(value.into_bytes())));
    }
    if values.is_empty() {
        return Err(ApiError::bad("there are no secrets in it", format!("send: {example}")));
    }
    let names: Vec<SecretName> = values.iter().map(|(name, _)| name.clone()).collect();
    let done = change(&context, values).await?;
    let view = context.view_after(&done)?;
    let shown = names.iter().filter_map(|name| {
        let kept = view.state.secrets.get(name)?;
        Some(views::secret(&view.state, name, kept))
    });
    let shown: Vec<SecretView> = shown.collect();
    Ok(request::at(done.index, json(StatusCode::OK, &shown)?))
}

/// `DELETE /v1/secrets/{name}`.
pub async fn delete(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = SecretName::from(request.param("name"));
    let force = request.flag("force")?;
    // Asked first, so that a name that doesn't exist costs no entry.
    let reading = context.read().await?;
    if !reading.state().secrets.contains_key(&name) {
        return Err(missing(&name));
    }
    let users = reading.state().users_of_secret(&name);
    if !force && !users.is_empty() {
        let users: Vec<&str> = users.iter().map(WorkloadName::as_str).collect();
        let message = format!("secret {name} is needed by {}", users.join(", "));
        let hint = Some(format!("take it out of the file, or: mill secret delete {name} --force"));
        return Err(ApiError::Conflict { message, hint });
    }
    let change = SecretChange::Delete { name, force };
    let done = context.propose(Command::Secrets(change), None).await?;
    Ok(request::at(done.index, empty()))
}

/// `POST /v1/secrets/rotate-key`: the leader makes another keyring; done when the state has it.
pub async fn rotate(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let Some(before) = reading.state().keyring_id().map(str::to_owned) else {
        let message = "this cluster has no keyring".to_owned();
        return Err(ApiError::Conflict { message, hint: None });
    };
    ready(&context).await?;
    context.propose(Command::Secrets(SecretChange::NewKeyring), None).await?;
    let is_done =
        |state: &State| !state.keyring_due && state.keyring_id().is_some_and(|now| now != before);
    let mut views = context.views.clone();
    let there = views.wait_for(|view| view.as_ref().is_some_and(|view| is_done(&view.state)));
    let view = match tokio::time::timeout(limits::ROTATE_WAIT, there).await {
        Ok(Ok(view)) => view.clone().ok_or(ApiError::Starting)?,
        Ok(Err(_)) => return Err(ApiError::Stopping),
        Err(_) => return Err(ApiError::Unconfirmed),
    };
    let (secrets, logins) = (view.state.secrets.len(), view.state.logins.len());
    let document = RotatedView { secrets, logins };
    Ok(request::at(view.index, json(StatusCode::OK, &document)?))
}

/// Seals the values as the next versions and proposes them, anew if somebody was faster.
async fn change(context: &Context, values: Values) -> Result<Done, ApiError> {
    for (name, value) in &values {
        if value.is_empty() || value.len() > limits::SECRET_MAX {
            let most = limits::SECRET_MAX >> 10;
            let message = format!("secret {name} has {} bytes", value.len());
            return Err(ApiError::bad(message, format!("a value has 1 byte to {most} KiB")));
        }
    }
    ready(context).await?;
    let mut tries = 0;
    loop {
        let reading = context.read().await?;
        let keyring = keyring(context)?;
        let sealed =
            values.iter().map(|(name, value)| seal(reading.state(), &keyring, name, value));
        let sealed = sealed.collect::<Result<Vec<_>, _>>().map_err(self::sealed)?;
        let command = Command::Secrets(SecretChange::Set(sealed));
        match context.propose(command, None).await {
            Err(ApiError::Rejected(Rejection::Stale)) if tries < limits::SECRET_RETRIES => {
                tries += 1;
            }
            done => return done,
        }
    }
}

fn seal(
    state: &State,
    keyring: &Keyring,
    name: &SecretName,
    value: &[u8],
) -> Result<NewSecret, SealError> {
    let version = state.next_secret_version(name);
    let drawn = (rand::random(), [rand::random(), rand::random()]);
    let envelope = keyring.wrap(&secret_purpose(name, version), value, drawn)?;
    Ok(NewSecret {
        name: name.clone(),
        version,
        key: envelope.key,
        text: envelope.text,
        size: u32::try_from(value.len()).unwrap_or(u32::MAX),
        binary: value.contains(&0) || std::str::from_utf8(value).is_err(),
    })
}

/// This node's keyring, as the newest view has it.
pub(super) fn keyring(context: &Context) -> Result<Keyring, ApiError> {
    let view = context.view().ok_or(ApiError::Starting)?;
    if let Some(node) = view.state.nodes.get(&view.node) {
        // The node may have become a member just now.
        context.ports.images.use_keyring(&node.keyring);
    }
    (context.ports.keyring)().ok_or(ApiError::Starting)
}

/// Waits until every node knows secrets: after `init` and after an upgrade a moment.
async fn ready(context: &Context) -> Result<(), ApiError> {
    let mut views = context.views.clone();
    let is_ready = |view: &View| view.state.knows_secrets();
    let there = views.wait_for(|view| view.as_ref().is_some_and(is_ready));
    if let Ok(Ok(_)) = tokio::time::timeout(limits::SECRETS_READY, there).await {
        return Ok(());
    }
    let message = "not every node of the cluster knows secrets yet".to_owned();
    let hint = Some("install this version on every node: mill nodes shows versions".to_owned());
    Err(ApiError::Conflict { message, hint })
}

pub(super) fn sealed(error: SealError) -> ApiError {
    ApiError::Internal { doing: "using the cluster's keyring", reason: error.to_string() }
}

fn missing(name: &SecretName) -> ApiError {
    ApiError::NotFound { what: "secret", name: name.to_string() }
}

/// A name as files may have it.
fn checked(text: &str) -> Result<SecretName, ApiError> {
    let wrong = |why: &str| {
        let message = format!("the secret's name {text:?} {why}");
        ApiError::bad(message, "write a name such as web.database-url")
    };
    spec::check_secret(text).map_err(wrong)?;
    Ok(SecretName::from(text))
}

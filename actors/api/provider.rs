//! `PUT /v1/provider`: who keeps new volumes.
//!
//! Owns that its token is sealed before it is proposed. Never shows it.

use super::context::Context;
use super::error::ApiError;
use super::request::{self, Request, empty};
use crate::actors::platform::block_storage::API;
use crate::api::wire::ProviderRequest;
use crate::fsm::volumes::{Provider, ProviderKind, TOKEN_PURPOSE, VolumeChange};
use crate::fsm::{Command, Rejection};
use crate::limits;
use crate::secret::{Keyring, SealError, Secret};
use std::sync::Arc;
use warp::reply::Response;

/// `PUT /v1/provider`.
pub async fn set(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let example = "{\"name\": \"digitalocean\", \"token\": \"…\"}";
    let wanted: ProviderRequest = request.json(example).await?;
    check(&wanted)?;
    let mut tries = 0;
    loop {
        let keyring = super::secrets::keyring(&context)?;
        let provider = sealed(&wanted, &keyring).map_err(super::secrets::sealed)?;
        let command = Command::Volumes(VolumeChange::Provider(provider));
        match context.propose(command, None).await {
            Err(ApiError::Rejected(Rejection::Stale)) if tries < limits::CERTIFICATE_RETRIES => {
                tries += 1;
            }
            done => return Ok(request::at(done?.index, empty())),
        }
    }
}

/// Whether that is a provider.
///
/// # Errors
/// What is wrong with it.
pub fn check(wanted: &ProviderRequest) -> Result<(), ApiError> {
    let ProviderRequest { name, token, api } = wanted;
    if ProviderKind::named(name).is_none() {
        let message = format!("there is no provider {name:?}");
        return Err(ApiError::bad(message, "digitalocean; without one, nodes keep the volumes"));
    }
    let is_token = |c: char| c.is_ascii_graphic();
    if token.is_empty() || token.len() > limits::PROVIDER_TOKEN_MAX || !token.chars().all(is_token)
    {
        let message = "that is no token of the provider";
        return Err(ApiError::bad(message, "pipe it in: --provider-token - < FILE"));
    }
    match api.as_ref().filter(|url| !ProviderRequest::is_address(url)) {
        Some(url) => {
            let message = format!("the provider's API {url:?} is no address");
            Err(ApiError::bad(message, format!("such as {API}")))
        }
        None => Ok(()),
    }
}

/// The provider that was asked for, its token sealed.
///
/// # Errors
/// There is no keyring yet.
pub fn sealed(wanted: &ProviderRequest, keyring: &Keyring) -> Result<Provider, SealError> {
    let token = Secret::new(wanted.token.as_str());
    Ok(Provider {
        // It was checked before.
        kind: ProviderKind::named(&wanted.name).unwrap_or(ProviderKind::DigitalOcean),
        api: wanted.api.clone().unwrap_or_else(|| API.to_owned()),
        token: keyring.seal(TOKEN_PURPOSE, &token, rand::random())?,
    })
}

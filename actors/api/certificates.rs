//! Handlers of certificates, and of where they are ordered.
//!
//! Owns what is checked before a certificate is taken, and sealing its key. Never shows one.

use super::context::{self, Context};
use super::error::ApiError;
use super::request::{self, Request, empty, json};
use crate::actors::root::{Done, View};
use crate::api::views;
use crate::api::wire::{AcmeRequest, CertificateRequest};
use crate::fsm::certificates::{
    Acme, Certificate, CertificateChange, EAB_PURPOSE, Eab, Source, key_purpose,
};
use crate::fsm::{Command, Rejection};
use crate::limits;
use crate::node::certificates::{LETS_ENCRYPT, STAGING, is_public, read, routed, serving};
use crate::node::ingress::host;
use crate::secret::{Keyring, SealError, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::sync::Arc;
use warp::http::StatusCode;
use warp::reply::Response;

/// How an imported certificate is sent.
const EXAMPLE: &str = "{\"certificate\": \"PEM\", \"key\": \"PEM\"}";

/// `GET /v1/certs`.
pub async fn list(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    let reading = context.read().await?;
    let all = views::certificates(reading.state(), context::now());
    Ok(reading.mark(json(StatusCode::OK, &all)?))
}

/// `GET /v1/certs/{host}`.
pub async fn get(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = named(&request)?;
    let reading = context.read().await?;
    let state = reading.state();
    let is_known = state.certificates.hosts.contains_key(&name) || routed(state).contains(&*name);
    if !is_known && serving(state, &name).is_none() {
        return Err(ApiError::NotFound { what: "host", name });
    }
    let shown = views::certificate(state, &name, context::now());
    Ok(reading.mark(json(StatusCode::OK, &shown)?))
}

/// `PUT /v1/certs/{host}`.
pub async fn import(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let name = named(&request)?;
    let most = (limits::CERTIFICATE_CHAIN_MAX + limits::CERTIFICATE_KEY_MAX) * 2;
    let wanted: CertificateRequest = request.json_of(most, EXAMPLE).await?;
    let key = Secret::new(wanted.key);
    let known = read::read(&wanted.certificate, key.reveal(), &name, context::now());
    let wrong = |error: read::ReadError| {
        let hint = "nothing was changed; both are PEM, the host's own certificate first";
        ApiError::bad(error.to_string(), hint)
    };
    let known = known.map_err(wrong)?;
    ready(&context).await?;
    let done = sealing(&context, |keyring| {
        let certificate = Certificate {
            source: Source::Import,
            chain: wanted.certificate.clone(),
            key: keyring.seal(&key_purpose(&name), &key, rand::random())?,
            issuer: known.issuer.clone(),
            not_before: known.not_before,
            not_after: known.not_after,
            renew_at: None,
        };
        Ok(CertificateChange::Put { host: name.clone(), certificate })
    });
    let done = done.await?;
    answer(&context, &name, &done)
}

/// `POST /v1/certs/{host}/renew`.
pub async fn renew(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = named(&request)?;
    let reading = context.read().await?;
    let state = reading.state();
    let conflict = |message: String, hint: &str| {
        Err(ApiError::Conflict { message, hint: Some(hint.to_owned()) })
    };
    let imported = state.certificates.of(&name).is_some_and(|one| one.source == Source::Import);
    if imported || name.starts_with("*.") {
        let hint = "bring the next one: mill cert import HOST CERT KEY";
        return conflict(format!("the certificate of {name} is imported"), hint);
    }
    if !routed(state).contains(&*name) {
        let hint = "route it to a service, then its certificate is ordered by itself";
        return conflict(format!("no route is for {name}"), hint);
    }
    if !is_public(&name) {
        return conflict(format!("no authority knows {name}"), "import one: mill cert import");
    }
    if state.certificates.acme.is_none() {
        let hint = "mill cert setup --email ADDRESS";
        return conflict("no authority is set up to order certificates from".to_owned(), hint);
    }
    let change = CertificateChange::Renew { host: name.clone() };
    let done = context.propose(Command::Certificates(change), None).await?;
    answer(&context, &name, &done)
}

/// `DELETE /v1/certs/{host}`.
pub async fn delete(context: Arc<Context>, request: Request) -> Result<Response, ApiError> {
    let name = named(&request)?;
    let reading = context.read().await?;
    if !reading.state().certificates.hosts.contains_key(&name) {
        return Err(ApiError::NotFound { what: "certificate of", name });
    }
    let change = CertificateChange::Forget { host: name };
    let done = context.propose(Command::Certificates(change), None).await?;
    Ok(request::at(done.index, empty()))
}

/// `PUT /v1/acme`.
pub async fn set_authority(
    context: Arc<Context>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let wanted: AcmeRequest = request.json("{\"email\": \"ops@example.com\"}").await?;
    check(&wanted)?;
    ready(&context).await?;
    let done = sealing(&context, |keyring| {
        Ok(CertificateChange::Authority(Some(authority(&wanted, keyring)?)))
    });
    let done = done.await?;
    Ok(request::at(done.index, empty()))
}

/// `DELETE /v1/acme`.
pub async fn forget_authority(
    context: Arc<Context>,
    _request: Request,
) -> Result<Response, ApiError> {
    let change = CertificateChange::Authority(None);
    let done = context.propose(Command::Certificates(change), None).await?;
    Ok(request::at(done.index, empty()))
}

/// Whether certificates can be ordered so.
///
/// # Errors
/// What is wrong with it.
pub fn check(wanted: &AcmeRequest) -> Result<(), ApiError> {
    if *wanted == AcmeRequest::default() {
        let message = "where certificates are ordered is missing";
        return Err(ApiError::bad(message, "give an email, a directory, or staging"));
    }
    if wanted.staging && wanted.directory.is_some() {
        let message = "staging is a directory of Let's Encrypt";
        return Err(ApiError::bad(message, "give a directory or staging, not both"));
    }
    let https = |directory: &String| directory.len() > 8 && directory.starts_with("https://");
    if let Some(directory) = wanted.directory.as_ref().filter(|directory| !https(directory)) {
        let message = format!("the ACME directory {directory:?} is no https address");
        return Err(ApiError::bad(message, format!("such as {LETS_ENCRYPT}")));
    }
    let is_email =
        |email: &String| email.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
    if let Some(email) = wanted.email.as_ref().filter(|email| !is_email(email)) {
        let message = format!("the ACME email {email:?} is no address");
        return Err(ApiError::bad(message, "such as ops@example.com"));
    }
    if let Some(eab) = &wanted.eab {
        let pair = eab.split_once(':').filter(|(id, key)| !id.is_empty() && !key.is_empty());
        let no_pair = || ApiError::bad("the external account is no pair", "write it as KID:HMAC");
        let (_, key) = pair.ok_or_else(no_pair)?;
        if URL_SAFE_NO_PAD.decode(key.trim_end_matches('=')).is_err() {
            let message = "the key of the external account is no base64url";
            return Err(ApiError::bad(message, "write KID:HMAC as the authority gave them out"));
        }
    }
    Ok(())
}

/// The authority that was asked for, its secret sealed.
///
/// # Errors
/// There is no keyring yet.
pub fn authority(wanted: &AcmeRequest, keyring: &Keyring) -> Result<Acme, SealError> {
    let eab = wanted.eab.as_ref().and_then(|eab| eab.split_once(':')).map(|(id, key)| {
        let key = keyring.seal(EAB_PURPOSE, &Secret::new(key), rand::random())?;
        Ok(Eab { id: id.to_owned(), key })
    });
    let usual = if wanted.staging { STAGING } else { LETS_ENCRYPT };
    Ok(Acme {
        directory: wanted.directory.clone().unwrap_or_else(|| usual.to_owned()),
        email: wanted.email.clone(),
        eab: eab.transpose()?,
        account: None,
    })
}

/// Proposes what is sealed by the keyring of now, anew if it has changed meanwhile.
async fn sealing(
    context: &Context,
    make: impl Fn(&Keyring) -> Result<CertificateChange, SealError>,
) -> Result<Done, ApiError> {
    let mut tries = 0;
    loop {
        let keyring = super::secrets::keyring(context)?;
        let change = make(&keyring).map_err(super::secrets::sealed)?;
        match context.propose(Command::Certificates(change), None).await {
            Err(ApiError::Rejected(Rejection::Stale)) if tries < limits::CERTIFICATE_RETRIES => {
                tries += 1;
            }
            done => return done,
        }
    }
}

/// A host as routes may have it.
fn named(request: &Request) -> Result<String, ApiError> {
    let text = request.param("host");
    let wildcard = text.strip_prefix("*.");
    let name = host::name(wildcard.unwrap_or(text)).filter(|_| !text.contains(':'));
    let wrong = || ApiError::bad(format!("{text:?} is no host"), "write it as app.example.com");
    let name = name.ok_or_else(wrong)?;
    Ok(if wildcard.is_some() { format!("*.{name}") } else { name })
}

/// A host as it is after a change.
fn answer(context: &Context, name: &str, done: &Done) -> Result<Response, ApiError> {
    let view = context.view_after(done)?;
    let shown = views::certificate(&view.state, name, context::now());
    Ok(request::at(done.index, json(StatusCode::OK, &shown)?))
}

/// Waits until every node knows certificates: after `init` and after an upgrade a moment.
async fn ready(context: &Context) -> Result<(), ApiError> {
    let mut views = context.views.clone();
    let is_ready = |view: &View| view.state.knows_certificates();
    let there = views.wait_for(|view| view.as_ref().is_some_and(is_ready));
    if let Ok(Ok(_)) = tokio::time::timeout(limits::CERTIFICATES_READY, there).await {
        return Ok(());
    }
    let message = "not every node of the cluster knows certificates yet".to_owned();
    let hint = Some("install this version on every node: mill nodes shows versions".to_owned());
    Err(ApiError::Conflict { message, hint })
}

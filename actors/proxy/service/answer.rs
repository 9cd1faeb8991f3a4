//! What the client gets: mill's own answers, and what is changed in a container's.
//!
//! Owns writing them. Never decides which one it is.

use super::Ctx;
use crate::id::AllocId;
use crate::node::ingress::refusal::Refusal;
use bytes::Bytes;
use hyper::header;
use pingora_core::modules::http::compression::ResponseCompression;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, Session};
use sha2::Digest as _;

/// The cookie by which a client stays with a replica.
const COOKIE: &str = "mill-replica";
/// How a name and password are asked for.
const CHALLENGE: &str = "Basic realm=\"restricted\", charset=\"UTF-8\"";
/// For how long browsers are told to use HTTPS only: a year.
const HSTS: &str = "max-age=31536000";

/// Answers with one of mill's own pages.
pub(super) async fn refuse(session: &mut Session, refusal: &Refusal) -> Result<()> {
    let accept = session.req_header().headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, text) = refusal.page(accept);
    let mut head = ResponseHeader::build(refusal.status(), Some(6))?;
    head.insert_header(header::CONTENT_TYPE, kind)?;
    head.insert_header("Mill-Error", refusal.code())?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    if *refusal == Refusal::Unauthorized {
        head.insert_header(header::WWW_AUTHENTICATE, CHALLENGE)?;
    }
    if let Some(seconds) = refusal.retry_after() {
        head.insert_header(header::RETRY_AFTER, seconds.to_string())?;
    }
    send(session, head, text).await
}

/// Sends the client elsewhere, for good and with the same method.
pub(super) async fn redirect(session: &mut Session, place: &str) -> Result<()> {
    let mut head = ResponseHeader::build(308, Some(3))?;
    head.insert_header(header::LOCATION, place)?;
    send(session, head, String::new()).await
}

async fn send(session: &mut Session, mut head: ResponseHeader, text: String) -> Result<()> {
    head.insert_header(header::CONTENT_LENGTH, text.len().to_string())?;
    let is_head = session.req_header().method == hyper::Method::HEAD;
    let ends = is_head || text.is_empty();
    session.write_response_header(Box::new(head), ends).await?;
    if !ends {
        session.write_response_body(Some(Bytes::from(text)), true).await?;
    }
    Ok(())
}

/// Answers for a container that didn't, as far as the client can still be told.
pub(super) async fn failed(session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
    let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
    let refusal = ctx.refusal.take().or_else(|| reason(error));
    let Some(refusal) = refusal.filter(|_| !begun) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    ctx.error = Some(refusal.code());
    session.set_keepalive(None);
    if let Err(error) = refuse(session, &refusal).await {
        tracing::debug!(%error, "a client has gone before its answer");
    }
    FailToProxy { error_code: refusal.status(), can_reuse_downstream: false }
}

/// What is to be said of an error; nothing to a client that has gone.
fn reason(error: &Error) -> Option<Refusal> {
    use ErrorType::{
        ConnectionClosed, H1Error, H2Error, InvalidH2, InvalidHTTPHeader, ReadError, ReadTimedout,
        WriteError, WriteTimedout,
    };
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, ConnectionClosed | ReadError | WriteError | WriteTimedout) => {
            None
        }
        (ErrorSource::Downstream, ReadTimedout) => Some(Refusal::SlowRequest),
        (ErrorSource::Downstream, _) => Some(Refusal::BadRequest("The request can't be read")),
        (ErrorSource::Upstream, ReadTimedout) => Some(Refusal::Timeout),
        (ErrorSource::Upstream, InvalidHTTPHeader | H1Error | H2Error | InvalidH2) => {
            Some(Refusal::BadAnswer)
        }
        (ErrorSource::Upstream, _) => Some(Refusal::Connect),
        _ => Some(Refusal::Internal),
    }
}

/// Changes a container's answer as the route says.
pub(super) fn dress(session: &mut Session, response: &mut ResponseHeader, ctx: &Ctx) -> Result<()> {
    let Some(route) = &ctx.route else { return Ok(()) };
    let options = &route.route.options;
    for name in &options.remove {
        response.remove_header(name.as_str());
    }
    for (name, value) in &options.set {
        response.insert_header(name.clone(), value.as_str())?;
    }
    let secure = ctx.told.as_ref().is_some_and(|told| told.secure);
    if options.hsts && secure {
        response.insert_header(header::STRICT_TRANSPORT_SECURITY, HSTS)?;
    }
    if let Some(mark) = &ctx.stay {
        let cookie = format!("{COOKIE}={mark}; Path=/; HttpOnly; SameSite=Lax");
        response.append_header(header::SET_COOKIE, cookie)?;
    }
    if options.compress && is_stream(response) {
        pause_compression(session);
    }
    Ok(())
}

/// An event stream is passed on as it comes.
fn is_stream(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

fn pause_compression(session: &mut Session) {
    if let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>() {
        module.adjust_level(0);
    }
}

/// What the cookie says of a replica: not its name, which is nobody's business.
pub(super) fn mark(id: &AllocId) -> String {
    let digest = sha2::Sha256::digest(id.as_str().as_bytes());
    hex::encode(&digest[..8])
}

/// The replica's mark in a request's cookies.
pub(super) fn cookie(request: &RequestHeader) -> Option<String> {
    let lines = request.headers.get_all(header::COOKIE).iter();
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';')).find_map(|one| {
        let (name, value) = one.trim().split_once('=')?;
        (name == COOKIE).then(|| value.to_owned())
    })
}

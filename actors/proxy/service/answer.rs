//! What the client gets from the engine: mill's own answers, and a container's as changed.
//!
//! Owns writing them. Never decides which one it is.

use super::about;
use crate::actors::proxy::passage::Passage;
use crate::node::ingress::dress::Changes;
use crate::node::ingress::page::Page;
use crate::node::ingress::refusal::Refusal;
use bytes::Bytes;
use hyper::header::{self, HeaderName};
use pingora_core::modules::http::compression::ResponseCompression;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};

/// Answers with one of mill's own pages.
pub(super) async fn send(session: &mut Session, page: Page) -> Result<()> {
    let mut head = ResponseHeader::build(page.status, Some(page.headers.len() + 1))?;
    for (name, value) in page.headers {
        head.insert_header(name, value)?;
    }
    head.insert_header(header::CONTENT_LENGTH, page.body.len().to_string())?;
    let is_head = session.req_header().method == hyper::Method::HEAD;
    let ends = is_head || page.body.is_empty();
    session.write_response_header(Box::new(head), ends).await?;
    if !ends {
        session.write_response_body(Some(Bytes::from(page.body)), true).await?;
    }
    Ok(())
}

/// Answers for a container that didn't, as far as the client can still be told.
pub(super) async fn failed(
    session: &mut Session,
    error: &Error,
    passage: &mut Passage,
) -> FailToProxy {
    let begun = session.response_written().is_some_and(|head| !head.status.is_informational());
    let refusal = passage.refusal.take().or_else(|| reason(error));
    let Some(refusal) = refusal.filter(|_| !begun) else {
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    };
    passage.error = Some(refusal.code());
    session.set_keepalive(None);
    let page = Page::refused(&refusal, about::accept(session));
    if let Err(error) = send(session, page).await {
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
pub(super) fn dress(
    session: &mut Session,
    response: &mut ResponseHeader,
    changes: &Changes,
) -> Result<()> {
    let dropped = |name: &&HeaderName| changes.drops(name.as_str());
    let names: Vec<HeaderName> = response.headers.keys().filter(dropped).cloned().collect();
    for name in &names {
        response.remove_header(name);
    }
    for (name, value) in changes.adds() {
        response.append_header(name.to_owned(), value.as_ref())?;
    }
    if changes.options.compress && is_stream(response) {
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

//! What happens to a request that the engine serves: the hooks that it calls.
//!
//! Owns how the engine's sessions and errors are read. What becomes of a request is decided by
//! [`super::passage`], as for mill's own relay.

mod about;
mod answer;
mod upstream;

use super::passage::{Fault, Onward, Passage, Way};
use super::shared::Shared;
use crate::node::ingress::forward;
use crate::node::ingress::frames::Frames;
use crate::node::ingress::page::Page;
use crate::node::ingress::refusal::Refusal;
use async_trait::async_trait;
use bytes::Bytes;
use hyper::header::{self, HeaderName};
use pingora_core::modules::http::HttpModules;
use pingora_core::modules::http::compression::{ResponseCompression, ResponseCompressionBuilder};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use upstream::Patience;

/// How much an answer is compressed: what takes little time.
const COMPRESSION: u32 = 3;

/// The hooks.
pub struct Ingress {
    pub(super) shared: Arc<Shared>,
}

/// What the engine keeps of a request under way.
pub struct Ctx {
    passage: Passage,
    way: Way,
    patience: Option<Patience>,
    /// The container's side of a WebSocket.
    socket: Option<Frames>,
}

#[async_trait]
impl ProxyHttp for Ingress {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        let passage = Passage::begin();
        Ctx { passage, way: Ok(Onward::Container), patience: None, socket: None }
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(ResponseCompressionBuilder::enable(0));
    }

    /// Before the engine's own modules look at the request.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let passage = &mut ctx.passage;
        let way = passage.route(&self.shared, &about::asked(session), |_| true);
        ctx.way = way.unwrap_or(Err(Refusal::Internal));
        if ctx.way.is_ok() && passage.wants_auth() {
            let header = session.req_header().headers.get(header::AUTHORIZATION);
            let header = header.and_then(|value| value.to_str().ok());
            if let Err(refusal) = passage.let_in(&self.shared, header).await {
                ctx.way = Err(refusal);
            }
        }
        if passage.route.as_ref().is_some_and(|route| route.route.options.compress)
            && let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>()
        {
            module.adjust_level(COMPRESSION);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let page = match std::mem::replace(&mut ctx.way, Ok(Onward::Container)) {
            Ok(Onward::Container) => return Ok(false),
            Ok(Onward::Answer(text)) => Page::plain(text),
            Ok(Onward::Elsewhere(place)) => Page::moved(place),
            Err(refusal) => {
                ctx.passage.error = Some(refusal.code());
                Page::refused(&refusal, about::accept(session))
            }
        };
        answer::send(session, page).await?;
        Ok(true)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.passage.body += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if let Some(patience) = &ctx.patience {
            patience.renew();
        }
        if ctx.passage.is_too_large() {
            ctx.passage.refusal = Some(Refusal::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is too large");
        }
        Ok(())
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let kept = about::kept(session);
        match ctx.passage.choose(&self.shared, kept.as_deref()).await {
            Ok(address) => {
                let h2c = ctx.passage.route.as_ref().is_some_and(|route| route.route.h2c);
                Ok(upstream::peer(address, h2c))
            }
            Err(refusal) => {
                let status = ErrorType::HTTPStatus(refusal.status());
                ctx.passage.refusal = Some(refusal);
                Error::e_explain(status, "no replica can be had")
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        fd: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(route) = ctx.passage.route.as_ref().filter(|route| !route.route.h2c) else {
            return Ok(());
        };
        ctx.patience = Some(Patience::begin(fd, super::passage::timeout(route)));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(told) = &ctx.passage.told else { return Ok(()) };
        let replaced = |name: &&HeaderName| forward::is_replaced(name.as_str(), told.trusted);
        let names: Vec<HeaderName> = request.headers.keys().filter(replaced).cloned().collect();
        for name in &names {
            request.remove_header(name);
        }
        for (name, value) in told.headers() {
            request.insert_header(name, value)?;
        }
        let came = session.req_header().uri.path_and_query().map_or("/", |target| target.as_str());
        let target = ctx.passage.target(came);
        if came != "*" && request.raw_path() != target.as_bytes() {
            request.set_raw_path(target.as_bytes())?;
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status.as_u16() >= 200 || response.status.as_u16() == 101 {
            ctx.patience = None;
            ctx.socket = about::is_websocket(response).then(Frames::default);
            ctx.passage.answered();
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status.as_u16() >= 200
            && let Some(changes) = ctx.passage.changes(&self.shared)
        {
            answer::dress(session, response, &changes)?;
        }
        Ok(())
    }

    /// A WebSocket whose container ends it without a word is closed as the protocol wants it.
    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        let Some(socket) = &mut ctx.socket else { return Ok(None) };
        let bytes = body.as_deref().unwrap_or_default();
        socket.advance(bytes);
        if end && let Some(goodbye) = socket.end() {
            *body = Some([bytes, goodbye].concat().into());
        }
        Ok(None)
    }

    /// Nothing was sent, so that another replica may be tried.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let slow = matches!(error.etype(), ErrorType::ConnectTimedout);
        error.set_retry(ctx.passage.not_connected(&self.shared, slow));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let fault = Fault {
            of_container: *error.esource() == ErrorSource::Upstream,
            reused,
            over: ctx.patience.take().is_some_and(|patience| patience.is_over()),
            untouched: about::is_safe(session) && session.is_body_empty() && ctx.passage.body == 0,
            begun: session.response_written().is_some_and(|r| !r.status.is_informational()),
        };
        error.set_retry(ctx.passage.broken(&self.shared, fault));
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        answer::failed(session, error, &mut ctx.passage).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        ctx.patience = None;
        let answered = session.response_written().map_or(0, |response| response.status.as_u16());
        let sent = session.body_bytes_sent() as u64;
        ctx.passage.ended(&self.shared, answered, sent);
        if let Some(error) = error {
            let request = session.request_summary();
            tracing::debug!(%error, request, answered, "a request was not passed on");
        }
        if ctx.passage.is_logged(&self.shared) {
            about::write(session, &ctx.passage, &self.shared, answered, sent);
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

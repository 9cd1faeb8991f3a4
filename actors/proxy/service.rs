//! What happens to a request: the hooks that the engine calls.
//!
//! Owns the order of the checks and the retries. What they decide is pure (`node::ingress`).

mod about;
mod answer;
mod upstream;
mod written;

use super::gate::Verdict;
use super::gauge::Seat;
use super::shared::{Route, Settings, Shared};
use crate::id::AllocId;
use crate::node::ingress::forward::{self, Claims, FORGEABLE, Sender, Told};
use crate::node::ingress::frames::Frames;
use crate::node::ingress::refusal::Refusal;
use crate::node::ingress::{challenge, host};
use crate::spec::path;
use about::{body_max, is_websocket, peer_of};
use async_trait::async_trait;
use bytes::Bytes;
use hyper::header;
use pingora_core::modules::http::HttpModules;
use pingora_core::modules::http::compression::{ResponseCompression, ResponseCompressionBuilder};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use upstream::Patience;

/// How much an answer is compressed: what takes little time.
const COMPRESSION: u32 = 3;

/// The hooks.
pub struct Ingress {
    pub(super) shared: Arc<Shared>,
}

/// What is known of a request under way.
pub struct Ctx {
    started: Instant,
    route: Option<Arc<Route>>,
    told: Option<Told>,
    /// What becomes of it: it is passed on, sent elsewhere, or refused.
    way: Way,
    /// The path that it was routed by.
    normal: String,
    tried: Vec<AllocId>,
    seat: Option<Seat>,
    /// Why it is refused, where the engine's error doesn't say so.
    refusal: Option<Refusal>,
    /// Bytes of the body so far.
    body: u64,
    patience: Option<Patience>,
    /// How long the answer's head took.
    head: Option<Duration>,
    /// The client is to stay with this replica from now on.
    stay: Option<String>,
    /// The container's side of a WebSocket.
    socket: Option<Frames>,
    /// The name under which it was let in.
    user: Option<String>,
    /// What mill answered itself.
    error: Option<&'static str>,
}

/// What becomes of a request.
type Way = std::result::Result<Onward, Refusal>;

/// What becomes of a request that isn't refused.
enum Onward {
    /// A container gets it.
    Container,
    /// The client is sent there.
    Elsewhere(String),
    /// An authority sees this.
    Answer(String),
}

/// What a request wants, as far as routing goes.
struct Wanted {
    host: String,
    /// Path and query as they came.
    raw: String,
    normal: String,
}

impl Ingress {
    /// The first checks: who asks for what.
    fn receive(&self, session: &Session, ctx: &mut Ctx) -> std::result::Result<Wanted, Refusal> {
        let request = session.req_header();
        let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let authority = request.uri.authority().map(|authority| authority.as_str());
        let named = text("host").or(authority).unwrap_or_default();
        let sender = Sender {
            peer: peer_of(session),
            trusted: &self.shared.settings.trusted,
            tls: session.digest().is_some_and(|digest| digest.ssl_digest.is_some()),
            host: named,
        };
        let claims = Claims {
            forwarded_for: text("x-forwarded-for"),
            proto: text("x-forwarded-proto"),
            host: text("x-forwarded-host"),
            forwarded: text("forwarded"),
            request_id: text("x-request-id"),
        };
        ctx.told = Some(forward::told(sender, claims, rand::random()));
        let host = host::name(named).ok_or(Refusal::BadRequest("The request names no host"))?;
        let asked = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
        if let Some(asked) = asked.and_then(|tls| tls.organization.as_ref())
            && *asked != host
            && !self.shared.certificates.are_one(asked, &host)
        {
            return Err(Refusal::Misdirected);
        }
        let raw = request.uri.path_and_query().map_or("/", |target| target.as_str());
        let plain = raw.split('?').next().unwrap_or_default();
        let plain = if plain == "*" { "/" } else { plain };
        let leads = path::normal(plain);
        let normal = leads.ok_or(Refusal::BadRequest("The request's path can't be read"))?;
        Ok(Wanted { host, raw: raw.to_owned(), normal })
    }

    /// Whether the route takes the request.
    fn check(
        route: &Route,
        told: &Told,
        request: &RequestHeader,
    ) -> std::result::Result<(), Refusal> {
        let options = &route.route.options;
        if !options.allow.is_empty()
            && !options.allow.iter().any(|range| range.contains(told.client))
        {
            return Err(Refusal::NotAllowed);
        }
        if let Some(limit) = options.limit
            && route.figures.is_over(limit, told.client)
        {
            return Err(Refusal::TooMany);
        }
        let length = request.headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > body_max(route)) {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(())
    }

    /// Whether its name and password are good, where the route wants them.
    async fn let_in(&self, session: &Session, ctx: &mut Ctx) -> std::result::Result<(), Refusal> {
        let auth = ctx.route.as_ref().and_then(|route| route.route.options.auth.as_ref());
        let Some(secret) = auth else { return Ok(()) };
        let header = session.req_header().headers.get(header::AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        match self.shared.gate.admit(secret, header).await {
            Verdict::Welcome(name) => ctx.user = Some(name),
            Verdict::Stranger => return Err(Refusal::Unauthorized),
            Verdict::Crowded => return Err(Refusal::TooMany),
        }
        Ok(())
    }

    /// Routes a request.
    fn route(&self, session: &Session, ctx: &mut Ctx) -> Way {
        let wanted = self.receive(session, ctx)?;
        if let Some(answer) = challenge::token(&wanted.raw).and_then(|t| self.shared.answer(t)) {
            return Ok(Onward::Answer(answer));
        }
        let found = self.shared.routes().find(&wanted.host, &wanted.normal);
        // A node that has just started may know of none.
        let missing = || if self.shared.is_known() { Refusal::NoRoute } else { Refusal::NoReplica };
        let route = found.ok_or_else(missing)?;
        ctx.route = Some(Arc::clone(&route));
        if let Some(pause) = &route.paused {
            return Err(Refusal::Paused(pause.message.clone()));
        }
        let told = ctx.told.as_ref().ok_or(Refusal::Internal)?;
        Self::check(&route, told, session.req_header())?;
        ctx.normal = wanted.normal;
        let to = route.route.options.to.as_ref();
        if let Some(to) = to {
            return Ok(Onward::Elsewhere(forward::redirect(to, &wanted.raw)));
        }
        let Settings { https_port, local_ca, .. } = &self.shared.settings;
        // On a developer's machine both are served.
        let is_moved = route.route.redirect && !told.secure && local_ca.is_none();
        if is_moved && self.shared.certificates.has(&wanted.host) {
            let place = forward::secured(&wanted.host, *https_port, &wanted.raw);
            return Ok(Onward::Elsewhere(place));
        }
        Ok(Onward::Container)
    }
}

#[async_trait]
impl ProxyHttp for Ingress {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            started: Instant::now(),
            route: None,
            told: None,
            way: Ok(Onward::Container),
            normal: String::new(),
            tried: Vec::new(),
            seat: None,
            refusal: None,
            body: 0,
            patience: None,
            head: None,
            stay: None,
            socket: None,
            user: None,
            error: None,
        }
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(ResponseCompressionBuilder::enable(0));
    }

    /// Before the engine's own modules look at the request.
    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        ctx.way = self.route(session, ctx);
        if ctx.way.is_ok()
            && let Err(refusal) = self.let_in(session, ctx).await
        {
            ctx.way = Err(refusal);
        }
        if ctx.route.as_ref().is_some_and(|route| route.route.options.compress)
            && let Some(module) = session.downstream_modules_ctx.get_mut::<ResponseCompression>()
        {
            module.adjust_level(COMPRESSION);
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        match std::mem::replace(&mut ctx.way, Ok(Onward::Container)) {
            Ok(Onward::Container) => Ok(false),
            Ok(Onward::Answer(text)) => {
                answer::plain(session, text).await?;
                Ok(true)
            }
            Ok(Onward::Elsewhere(place)) => {
                answer::redirect(session, &place).await?;
                Ok(true)
            }
            Err(refusal) => {
                ctx.error = Some(refusal.code());
                answer::refuse(session, &refusal).await?;
                Ok(true)
            }
        }
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.body += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        if let Some(patience) = &ctx.patience {
            patience.renew();
        }
        if ctx.route.as_ref().is_some_and(|route| ctx.body > body_max(route)) {
            ctx.refusal = Some(Refusal::BodyTooLarge);
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is too large");
        }
        Ok(())
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        self.peer(session, ctx).await
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
        let Some(route) = ctx.route.as_ref().filter(|route| !route.route.h2c) else {
            return Ok(());
        };
        ctx.patience = Some(Patience::begin(fd, upstream::timeout(route)));
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let (Some(told), Some(route)) = (&ctx.told, &ctx.route) else { return Ok(()) };
        if !told.trusted {
            for name in FORGEABLE {
                request.remove_header(*name);
            }
        }
        request.insert_header("X-Forwarded-For", told.forwarded_for.as_str())?;
        request.insert_header("X-Forwarded-Proto", told.proto)?;
        request.insert_header("X-Forwarded-Host", told.host.as_str())?;
        request.insert_header("Forwarded", told.forwarded.as_str())?;
        request.insert_header("X-Request-Id", told.request_id.as_str())?;
        let came = session.req_header().uri.path_and_query().map_or("/", |target| target.as_str());
        let target = forward::target(&route.route, came, &ctx.normal);
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
            ctx.head = Some(ctx.started.elapsed());
            ctx.socket = is_websocket(response).then(Frames::default);
            if let Some(seat) = &mut ctx.seat {
                seat.answered();
            }
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status.as_u16() >= 200 {
            // On a developer's machine the same names are served without TLS, too.
            let hsts = self.shared.settings.local_ca.is_none();
            answer::dress(session, response, ctx, hsts)?;
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

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        self.not_connected(ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        self.broken(session, ctx, error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        answer::failed(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        ctx.patience = None;
        let answered = session.response_written().map_or(0, |response| response.status.as_u16());
        let bytes = (ctx.body, session.body_bytes_sent() as u64);
        if let Some(seat) = ctx.seat.take() {
            seat.ended(&self.shared.traffic, answered, bytes);
        }
        if let Some(error) = error {
            let request = session.request_summary();
            tracing::debug!(%error, request, answered, "a request was not passed on");
        }
        match &ctx.route {
            Some(route) => {
                let took = ctx.head.unwrap_or_else(|| ctx.started.elapsed());
                self.shared.traffic.ended(&route.figures, answered, took, bytes);
            }
            None => self.shared.traffic.refused(answered),
        }
        if let Some(access) = &self.shared.settings.access {
            written::down(access, session, answered, ctx);
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

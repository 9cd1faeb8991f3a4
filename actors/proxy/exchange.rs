//! A request under way, as both engines know it: where it goes, what becomes of it.
//!
//! Owns the order of the checks and which try is made again. Never reads or writes a connection.

mod replica;
mod written;

use super::gate::Verdict;
use super::gauge::Seat;
use super::shared::{Route, Settings, Shared};
use crate::id::AllocId;
use crate::limits::{ROUTE_BODY, ROUTE_TIMEOUT};
use crate::node::ingress::dress::Changes;
use crate::node::ingress::forward::{self, Claims, Sender, Told};
use crate::node::ingress::refusal::Refusal;
use crate::node::ingress::{challenge, host};
use crate::spec::path;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use replica::Fault;
pub(super) use written::Line;

/// What a request asks for.
pub(super) struct Asked<'a> {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// Over TLS, and for this host.
    pub(super) tls: Option<Option<&'a str>>,
    /// `Host`, or the authority of HTTP/2.
    pub(super) host: &'a str,
    /// Path and query as they came.
    pub(super) target: &'a str,
    /// What it claims of the client.
    pub(super) claims: Claims<'a>,
    /// The length that it says.
    pub(super) length: Option<u64>,
}

/// What becomes of a request.
pub(super) type Way = Result<Onward, Refusal>;

/// What becomes of a request that isn't refused.
pub(super) enum Onward {
    /// A container gets it.
    Container,
    /// The client is sent there.
    Elsewhere(String),
    /// An authority sees this.
    Answer(String),
}

/// What is known of a request under way.
pub(super) struct Exchange {
    started: Instant,
    pub(super) route: Option<Arc<Route>>,
    pub(super) told: Option<Told>,
    /// The path that it was routed by.
    pub(super) normal: String,
    tried: Vec<AllocId>,
    seat: Option<Seat>,
    /// Why it is refused, where that isn't plain.
    pub(super) refusal: Option<Refusal>,
    /// Bytes of its body so far.
    pub(super) body: u64,
    /// How long the answer's head took.
    head: Option<Duration>,
    /// The client is to stay with this replica from now on.
    stay: Option<String>,
    /// The name under which it was let in.
    user: Option<String>,
    /// What mill answered itself.
    pub(super) error: Option<&'static str>,
}

impl Exchange {
    /// A request has come.
    pub(super) fn begin() -> Self {
        Self {
            started: Instant::now(),
            route: None,
            told: None,
            normal: String::new(),
            tried: Vec::new(),
            seat: None,
            refusal: None,
            body: 0,
            head: None,
            stay: None,
            user: None,
            error: None,
        }
    }

    /// Routes it. None: the engine that asks doesn't take such a route, and nothing has happened.
    pub(super) fn route(
        &mut self,
        shared: &Shared,
        asked: &Asked,
        takes: impl FnOnce(&Route) -> bool,
    ) -> Option<Way> {
        let host = match self.receive(shared, asked) {
            Ok(host) => host,
            Err(refusal) => return Some(Err(refusal)),
        };
        if let Some(answer) = challenge::token(asked.target).and_then(|t| shared.answer(t)) {
            return Some(Ok(Onward::Answer(answer)));
        }
        let Some(route) = shared.routes().find(&host, &self.normal) else {
            // A node that has just started may know of none.
            let known = shared.is_known();
            return Some(Err(if known { Refusal::NoRoute } else { Refusal::NoReplica }));
        };
        if !takes(&route) {
            return None;
        }
        let way = self.decide(shared, &route, asked, &host);
        self.route = Some(route);
        Some(way)
    }

    /// The first checks: who asks for what. The host that it asks for.
    fn receive(&mut self, shared: &Shared, asked: &Asked) -> Result<String, Refusal> {
        let sender = Sender {
            peer: asked.peer,
            trusted: &shared.settings.trusted,
            tls: asked.tls.is_some(),
            host: asked.host,
        };
        self.told = Some(forward::told(sender, asked.claims, rand::random()));
        let host =
            host::name(asked.host).ok_or(Refusal::BadRequest("The request names no host"))?;
        if let Some(Some(of_tls)) = asked.tls
            && of_tls != host
            && !shared.certificates.are_one(of_tls, &host)
        {
            return Err(Refusal::Misdirected);
        }
        let plain = asked.target.split('?').next().unwrap_or_default();
        let leads = path::normal(if plain == "*" { "/" } else { plain });
        self.normal = leads.ok_or(Refusal::BadRequest("The request's path can't be read"))?;
        Ok(host)
    }

    fn decide(&self, shared: &Shared, route: &Route, asked: &Asked, host: &str) -> Way {
        if let Some(pause) = &route.paused {
            return Err(Refusal::Paused(pause.message.clone()));
        }
        let told = self.told.as_ref().ok_or(Refusal::Internal)?;
        check(route, told, asked.length)?;
        if let Some(to) = &route.route.options.to {
            return Ok(Onward::Elsewhere(forward::redirect(to, asked.target)));
        }
        let Settings { https_port, local_ca, .. } = &shared.settings;
        // On a developer's machine both are served.
        let is_moved = route.route.redirect && !told.secure && local_ca.is_none();
        if is_moved && shared.certificates.has(host) {
            let place = forward::secured(host, *https_port, asked.target);
            return Ok(Onward::Elsewhere(place));
        }
        Ok(Onward::Container)
    }

    /// Whether it must say who it is.
    pub(super) fn wants_auth(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.route.options.auth.is_some())
    }

    /// Whether its name and password are good, where the route wants them.
    pub(super) async fn let_in(
        &mut self,
        shared: &Shared,
        header: Option<&str>,
    ) -> Result<(), Refusal> {
        let auth = self.route.as_ref().and_then(|route| route.route.options.auth.as_ref());
        let Some(secret) = auth else { return Ok(()) };
        match shared.gate.admit(secret, header).await {
            Verdict::Welcome(name) => self.user = Some(name),
            Verdict::Stranger => return Err(Refusal::Unauthorized),
            Verdict::Crowded => return Err(Refusal::TooMany),
        }
        Ok(())
    }

    /// Whether its body is larger than the route takes.
    pub(super) fn is_too_large(&self) -> bool {
        self.route.as_ref().is_some_and(|route| self.body > body_max(route))
    }

    /// The path and query as the container gets them.
    pub(super) fn target<'a>(&'a self, came: &'a str) -> Cow<'a, str> {
        let route = self.route.as_ref();
        route.map_or_else(Cow::default, |route| forward::target(&route.route, came, &self.normal))
    }

    /// The answer's head has come.
    pub(super) fn answered(&mut self) {
        self.head = Some(self.started.elapsed());
        if let Some(seat) = &mut self.seat {
            seat.answered();
        }
    }

    /// What is changed in the container's answer.
    pub(super) fn changes(&self, shared: &Shared) -> Option<Changes<'_>> {
        let options = &self.route.as_ref()?.route.options;
        let secure = self.told.as_ref().is_some_and(|told| told.secure);
        // On a developer's machine the same names are served without TLS, too.
        let hsts = options.hsts && secure && shared.settings.local_ca.is_none();
        Some(Changes { options, hsts, stay: self.stay.as_deref() })
    }

    /// It is over: answered with that status, with so many bytes. Code 0: not at all.
    pub(super) fn ended(&mut self, shared: &Shared, status: u16, sent: u64) {
        let bytes = (self.body, sent);
        if let Some(seat) = self.seat.take() {
            seat.ended(&shared.traffic, status, bytes);
        }
        match &self.route {
            Some(route) => {
                let took = self.head.unwrap_or_else(|| self.started.elapsed());
                shared.traffic.ended(&route.figures, status, took, bytes);
            }
            None => shared.traffic.refused(status),
        }
    }
}

/// Whether the route takes the request.
fn check(route: &Route, told: &Told, length: Option<u64>) -> Result<(), Refusal> {
    let options = &route.route.options;
    if !options.allow.is_empty() && !options.allow.iter().any(|range| range.contains(told.client)) {
        return Err(Refusal::NotAllowed);
    }
    if let Some(limit) = options.limit
        && route.figures.is_over(limit, told.client)
    {
        return Err(Refusal::TooMany);
    }
    if length.is_some_and(|length| length > body_max(route)) {
        return Err(Refusal::BodyTooLarge);
    }
    Ok(())
}

fn body_max(route: &Route) -> u64 {
    route.route.options.body_max.map_or(ROUTE_BODY, |most| most.0)
}

/// Until the answer's head.
pub(super) fn timeout(route: &Route) -> Duration {
    let said = route.route.options.timeout;
    said.map_or(ROUTE_TIMEOUT, |timeout| Duration::from_millis(timeout.0))
}

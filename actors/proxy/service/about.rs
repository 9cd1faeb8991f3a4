//! What is told of the engine's sessions and answers.
//!
//! Owns how they are read. Never changes any of them.

use crate::actors::proxy::passage::{Asked, Line, Passage};
use crate::actors::proxy::shared::Shared;
use crate::node::ingress::dress;
use crate::node::ingress::forward::Claims;
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::net::{IpAddr, Ipv4Addr};

/// What a request asks for.
pub(super) fn asked(session: &Session) -> Asked<'_> {
    let request = session.req_header();
    let text = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let tls = session.digest().and_then(|digest| digest.ssl_digest.as_ref());
    Asked {
        peer: peer_of(session),
        tls: tls.map(|tls| tls.organization.as_deref()),
        host: text("host").or_else(|| authority(session)).unwrap_or_default(),
        target: target(session),
        claims: Claims {
            forwarded_for: text("x-forwarded-for"),
            proto: text("x-forwarded-proto"),
            host: text("x-forwarded-host"),
            forwarded: text("forwarded"),
            request_id: text("x-request-id"),
        },
        length: text("content-length").and_then(|length| length.parse().ok()),
    }
}

/// The other end of the connection.
fn peer_of(session: &Session) -> IpAddr {
    let inet = session.client_addr().and_then(|address| address.as_inet());
    inet.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

fn authority(session: &Session) -> Option<&str> {
    session.req_header().uri.authority().map(|authority| authority.as_str())
}

fn target(session: &Session) -> &str {
    session.req_header().uri.path_and_query().map_or("/", |target| target.as_str())
}

/// What the client would like to have.
pub(super) fn accept(session: &Session) -> &str {
    let accept = session.req_header().headers.get(header::ACCEPT);
    accept.and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The mark of the replica that the client was with before.
pub(super) fn kept(session: &Session) -> Option<String> {
    let lines = session.req_header().headers.get_all(header::COOKIE).iter();
    dress::kept(lines.filter_map(|line| line.to_str().ok()))
}

/// Whether it may be sent twice.
pub(super) fn is_safe(session: &Session) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE];
    safe.contains(&session.req_header().method)
}

pub(super) fn is_websocket(response: &ResponseHeader) -> bool {
    let protocol = response.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// Writes a request down that has ended.
pub(super) fn write(session: &Session, passage: &Passage, shared: &Shared, status: u16, sent: u64) {
    let request = session.req_header();
    let value = |name: HeaderName| request.headers.get(name).map(|value| value.as_bytes());
    let authority = || authority(session).map(str::as_bytes);
    let line = Line {
        protocol: &format!("{:?}", request.version),
        method: request.method.as_str(),
        host: value(header::HOST).or_else(authority).unwrap_or_default(),
        target: target(session),
        referer: value(header::REFERER),
        agent: value(header::USER_AGENT),
    };
    passage.write(shared, &line, status, sent);
}

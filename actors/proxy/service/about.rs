//! What is told of a session, an answer and a route.
//!
//! Owns nothing. Never changes any of them.

use crate::actors::proxy::shared::Route;
use crate::limits::ROUTE_BODY;
use hyper::{StatusCode, header};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use std::net::{IpAddr, Ipv4Addr};

/// The other end of the connection.
pub(super) fn peer_of(session: &Session) -> IpAddr {
    let inet = session.client_addr().and_then(|address| address.as_inet());
    inet.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip())
}

pub(super) fn is_websocket(response: &ResponseHeader) -> bool {
    let protocol = response.headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    response.status == StatusCode::SWITCHING_PROTOCOLS
        && protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

pub(super) fn body_max(route: &Route) -> u64 {
    route.route.options.body_max.map_or(ROUTE_BODY, |most| most.0)
}

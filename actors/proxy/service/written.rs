//! What of a request is written into the access log.
//!
//! Owns which of its parts, and that they are short. Never waits for a disk.

use super::Ctx;
use crate::actors::proxy::access::AccessLog;
use crate::api::wire::AccessView;
use crate::limits::{ACCESS_PATH_MAX, ACCESS_TEXT_MAX};
use crate::node::ingress::access::log_of;
use hyper::header::{self, HeaderName};
use pingora_proxy::Session;

/// Writes a request down that has ended, unless its route says otherwise.
pub(super) fn down(log: &AccessLog, session: &Session, status: u16, ctx: &Ctx) {
    let Some(told) = &ctx.told else { return };
    let route = ctx.route.as_ref();
    if route.is_some_and(|route| route.route.options.unlogged) {
        return;
    }
    let request = session.req_header();
    let text = |name: HeaderName| {
        let value = request.headers.get(name)?;
        Some(short(&String::from_utf8_lossy(value.as_bytes()), ACCESS_TEXT_MAX))
    };
    let authority = || request.uri.authority().map(|authority| authority.to_string());
    let path = request.uri.path_and_query().map_or("/", |target| target.as_str());
    let line = AccessView {
        client: told.client.to_string(),
        user: ctx.user.as_ref().map(|user| short(user, ACCESS_TEXT_MAX)),
        protocol: format!("{:?}", request.version),
        tls: told.secure,
        method: short(request.method.as_str(), ACCESS_TEXT_MAX),
        host: text(header::HOST).or_else(authority).unwrap_or_default(),
        path: short(path, ACCESS_PATH_MAX),
        status,
        bytes: session.body_bytes_sent() as u64,
        duration: (ctx.started.elapsed().as_secs_f64() * 1e6).round() / 1e6,
        route: route.map(|route| route.key.clone()),
        service: route.map(|route| route.service.to_string()),
        allocation: ctx.tried.last().map(ToString::to_string),
        error: ctx.error.map(str::to_owned),
        request_id: told.request_id.clone(),
        referer: text(header::REFERER),
        agent: text(header::USER_AGENT),
    };
    log.write(log_of(route.map(|route| &route.service)), line);
}

/// At most so many bytes of it.
fn short(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

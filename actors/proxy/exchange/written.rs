//! What of a request is written into the access log.
//!
//! Owns which of its parts, and that they are short. Never waits for a disk.

use super::Exchange;
use crate::actors::proxy::shared::Shared;
use crate::api::wire::AccessView;
use crate::limits::{ACCESS_PATH_MAX, ACCESS_TEXT_MAX};
use crate::node::ingress::access::log_of;

/// What only an engine knows of a request that has ended.
pub(in crate::actors::proxy) struct Line<'a> {
    /// As it is spoken: `HTTP/1.1`.
    pub(in crate::actors::proxy) protocol: &'a str,
    pub(in crate::actors::proxy) method: &'a str,
    /// The host as it was named.
    pub(in crate::actors::proxy) host: &'a [u8],
    /// Path and query as they came.
    pub(in crate::actors::proxy) target: &'a str,
    /// `Referer`.
    pub(in crate::actors::proxy) referer: Option<&'a [u8]>,
    /// `User-Agent`.
    pub(in crate::actors::proxy) agent: Option<&'a [u8]>,
}

impl Exchange {
    /// Whether it is written down once it has ended.
    pub(in crate::actors::proxy) fn is_logged(&self, shared: &Shared) -> bool {
        let hidden = self.route.as_ref().is_some_and(|route| route.route.options.unlogged);
        shared.settings.access.is_some() && self.told.is_some() && !hidden
    }

    /// Writes it down.
    pub(in crate::actors::proxy) fn write(
        &self,
        shared: &Shared,
        line: &Line,
        status: u16,
        sent: u64,
    ) {
        let (Some(log), Some(told)) = (&shared.settings.access, &self.told) else { return };
        let route = self.route.as_ref();
        let text = |value: &[u8]| short(&String::from_utf8_lossy(value), ACCESS_TEXT_MAX);
        let line = AccessView {
            client: told.client.to_string(),
            user: self.user.as_ref().map(|user| short(user, ACCESS_TEXT_MAX)),
            protocol: line.protocol.to_owned(),
            tls: told.secure,
            method: short(line.method, ACCESS_TEXT_MAX),
            host: text(line.host),
            path: short(line.target, ACCESS_PATH_MAX),
            status,
            bytes: sent,
            duration: (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e6,
            route: route.map(|route| route.key.clone()),
            service: route.map(|route| route.service.to_string()),
            allocation: self.tried.last().map(ToString::to_string),
            error: self.error.map(str::to_owned),
            request_id: told.request_id().to_owned(),
            referer: line.referer.map(text),
            agent: line.agent.map(text),
        };
        log.write(log_of(route.map(|route| &route.service)), line);
    }
}

/// At most so many bytes of it.
fn short(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

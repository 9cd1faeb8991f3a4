//! Access logs: what they are called, and how a line reads.
//!
//! Owns the names under which a node keeps them beside the logs of containers. Never writes one.

use crate::api::wire::AccessView;
use crate::fsm::State;
use crate::id::{AllocId, WorkloadName};
use std::collections::BTreeSet;

/// The log of requests to a service; without one: of those that no route takes. No allocation is
/// called like that.
#[must_use]
pub fn log_of(service: Option<&WorkloadName>) -> AllocId {
    AllocId::from(format!("@{}", service.map_or("", WorkloadName::as_str)))
}

/// All that a node may have.
#[must_use]
pub fn logs_of(state: &State) -> BTreeSet<AllocId> {
    let mut all = BTreeSet::from([log_of(None)]);
    for app in state.apps.values() {
        all.extend(app.services.keys().map(|service| log_of(Some(service))));
    }
    all
}

/// As people read it: `203.0.113.7 GET app.example.com/x?y 200 5120 3ms`, then who, and mill's own
/// error, if there are.
#[must_use]
pub fn line(access: &AccessView) -> String {
    let AccessView { client, method, host, path, status, bytes, duration, .. } = access;
    let status = if *status == 0 { "-".to_owned() } else { status.to_string() };
    let millis = duration * 1e3;
    let time = if millis < 10.0 { format!("{millis:.1}ms") } else { format!("{millis:.0}ms") };
    let user = access.user.as_ref().map(|user| format!(" {user}")).unwrap_or_default();
    let error = access.error.as_ref().map(|error| format!(" {error}")).unwrap_or_default();
    format!("{client} {method} {host}{path} {status} {bytes} {time}{user}{error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_documented() {
        let mut access = AccessView {
            client: "203.0.113.7".to_owned(),
            user: None,
            protocol: "HTTP/1.1".to_owned(),
            tls: false,
            method: "GET".to_owned(),
            host: "app.example.com".to_owned(),
            path: "/x?y".to_owned(),
            status: 200,
            bytes: 5120,
            duration: 0.0031,
            route: Some("app.example.com".to_owned()),
            service: Some("web".to_owned()),
            allocation: None,
            error: None,
            request_id: "r".to_owned(),
            referer: None,
            agent: None,
        };
        assert_eq!(line(&access), "203.0.113.7 GET app.example.com/x?y 200 5120 3.1ms");
        access.user = Some("ann".to_owned());
        access.error = Some("timeout".to_owned());
        (access.status, access.duration) = (0, 60.02);
        let expected = "203.0.113.7 GET app.example.com/x?y - 5120 60020ms ann timeout";
        assert_eq!(line(&access), expected);
    }
}

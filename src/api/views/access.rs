//! A line of an access log as people read it.
//!
//! Never reads one.

use crate::api::wire::AccessView;

/// As people read it: `203.0.113.7 GET app.example.com/x?y 200 5120 3ms`, then who, and mill's own
/// error, if there are.
#[must_use]
pub fn access(access: &AccessView) -> String {
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
        let mut log = AccessView {
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
        assert_eq!(self::access(&log), "203.0.113.7 GET app.example.com/x?y 200 5120 3.1ms");
        log.user = Some("ann".to_owned());
        log.error = Some("timeout".to_owned());
        (log.status, log.duration) = (0, 60.02);
        let expected = "203.0.113.7 GET app.example.com/x?y - 5120 60020ms ann timeout";
        assert_eq!(self::access(&log), expected);
    }
}

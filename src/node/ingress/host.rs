//! Host names of requests.
//!
//! Owns how a name is read and compared. Never resolves one.

/// The host of a `Host` header or authority, in lower case, without port and final dot. None if it
/// is none: whoever sends such a thing is refused.
#[must_use]
pub fn name(authority: &str) -> Option<String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']')?;
            let address: std::net::Ipv6Addr = inner.parse().ok()?;
            let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
            (format!("[{address}]"), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    let bytes = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let is_port = |port: &str| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if !port.is_none_or(is_port) {
        return None;
    }
    if host.starts_with('[') {
        return Some(host);
    }
    let mut host = host;
    if host.ends_with('.') {
        host.pop();
    }
    let fits = !host.is_empty() && host.len() <= 253 && host.bytes().all(bytes);
    (fits && host.split('.').all(|label| !label.is_empty())).then_some(host)
}

/// The wildcard that a host falls under: `*.example.com` of `app.example.com`.
#[must_use]
pub fn parent(host: &str) -> Option<&str> {
    host.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        plain = { "app.example.com", Some("app.example.com") },
        port = { "app.example.com:8080", Some("app.example.com") },
        capitals = { "App.Example.COM", Some("app.example.com") },
        dot = { "app.example.com.", Some("app.example.com") },
        address = { "192.0.2.7:80", Some("192.0.2.7") },
        six = { "[2001:db8::1]:80", Some("[2001:db8::1]") },
        underscore = { "a_b.example", Some("a_b.example") },
        empty = { "", None },
        blank = { "a b", None },
        at = { "user@a.example", None },
        slash = { "a.example/x", None },
        no_port = { "a.example:http", None },
        two_ports = { "a.example:80:80", None },
        dots = { "a..example", None },
        lone_dot = { ".", None },
        bad_six = { "[::1", None },
    )]
    fn a_host_is_read_or_refused(authority: &str, expected: Option<&str>) {
        assert_eq!(name(authority).as_deref(), expected);
    }
}

//! What a container is told of the client: the headers that only a proxy may set.
//!
//! Owns which of a sender's own claims count: those of a trusted proxy, and no others. Never
//! touches other headers.

use crate::cidr::Cidr;
use crate::spec::model::RouteSpec;
use crate::spec::path;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Who sent a request, and over what.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// Proxies whose claims count.
    pub trusted: &'a [Cidr],
    /// Over TLS.
    pub tls: bool,
    /// The host as the request has it.
    pub host: &'a str,
}

/// What the request claims already.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims<'a> {
    /// `X-Forwarded-For`.
    pub forwarded_for: Option<&'a str>,
    /// `X-Forwarded-Proto`.
    pub proto: Option<&'a str>,
    /// `X-Forwarded-Host`.
    pub host: Option<&'a str>,
    /// `Forwarded` (RFC 7239).
    pub forwarded: Option<&'a str>,
    /// `X-Request-Id`.
    pub request_id: Option<&'a str>,
}

/// What the container is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client's address, as far as it can be known.
    pub client: IpAddr,
    /// The client spoke TLS, with us or with a trusted proxy.
    pub secure: bool,
    /// The sender's other claims about the client's address count.
    pub trusted: bool,
    /// The values of the headers behind each other: one is written for each request.
    text: String,
    /// Where `X-Forwarded-For`, `X-Forwarded-Host` and `Forwarded` end in it.
    ends: [usize; 3],
}

impl Told {
    /// It, as headers.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let [hops, host, forwarded] = self.ends;
        let all = [
            ("X-Forwarded-For", &self.text[..hops]),
            ("X-Forwarded-Proto", proto(self.secure)),
            ("X-Forwarded-Host", &self.text[hops..host]),
            ("Forwarded", &self.text[host..forwarded]),
            ("X-Request-Id", self.request_id()),
        ];
        all.into_iter()
    }

    /// `X-Request-Id`.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.text[self.ends[2]..]
    }
}

/// So long is the text of most requests, in bytes.
const TOLD_USUALLY: usize = 192;

/// Headers that the proxy says itself.
const OWN: &[&str] =
    &["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "x-request-id"];

/// Headers with which others tell a client's address; a stranger's are taken away.
const FORGEABLE: &[&str] = &["x-real-ip", "true-client-ip", "cf-connecting-ip"];

/// Whether a header of the request doesn't reach the container. An underscore counts as a dash:
/// many programs see no difference.
#[must_use]
pub fn is_replaced(name: &str, trusted: bool) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    let is = |own: &&str| name.len() == own.len() && name.bytes().zip(own.bytes()).all(same);
    OWN.iter().any(is) || (!trusted && FORGEABLE.iter().any(is))
}

/// What a container is told of a request.
#[must_use]
pub fn told(sender: Sender, claims: Claims, random: u128) -> Told {
    let peer = sender.peer.to_canonical();
    let trusts = |address: IpAddr| sender.trusted.iter().any(|range| range.contains(address));
    let trusted = trusts(peer);
    let claims = if trusted { claims } else { Claims::default() };
    let hops = claims.forwarded_for.unwrap_or_default();
    let secure = match claims.proto {
        Some(proto) if proto.eq_ignore_ascii_case("https") => true,
        Some(proto) if proto.eq_ignore_ascii_case("http") => false,
        _ => sender.tls,
    };
    let host = claims.host.unwrap_or(sender.host);
    let mut text = String::with_capacity(TOLD_USUALLY);
    let mut ends = [0; 3];
    add(&mut text, &before(hops));
    let at = text.len();
    // Writing to memory can't fail, here and below.
    let _ = write!(text, "{peer}");
    let node = at..text.len();
    ends[0] = text.len();
    add(&mut text, &[host]);
    ends[1] = text.len();
    add(&mut text, &before(claims.forwarded.unwrap_or_default()));
    let [open, close] = if peer.is_ipv6() { ["\"[", "]\""] } else { [""; 2] };
    add(&mut text, &["for=", open]);
    text.extend_from_within(node);
    add(&mut text, &[close, ";host=\"", host, "\";proto=", proto(secure)]);
    ends[2] = text.len();
    match claims.request_id.filter(|id| is_plain_id(id)) {
        Some(id) => text.push_str(id),
        None => drop(write!(text, "{random:032x}")),
    }
    Told { client: client(peer, hops, trusts), secure, trusted, text, ends }
}

fn proto(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// What others have said stands before one's own.
fn before(theirs: &str) -> [&str; 2] {
    if theirs.is_empty() { [""; 2] } else { [theirs, ", "] }
}

fn add(text: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| text.push_str(part));
}

/// The last hop that is no trusted proxy; what is before it may be made up.
fn client(peer: IpAddr, hops: &str, trusts: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    for hop in hops.rsplit(',').map(str::trim) {
        if !trusts(client) {
            break;
        }
        let Some(address) = address(hop) else { break };
        client = address;
    }
    client
}

/// An address as hops are written, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let plain = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    plain.or_else(with_port).map(|address| address.to_canonical())
}

fn is_plain_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b);
    (8..=128).contains(&id.len()) && id.bytes().all(plain)
}

/// The path and query as the container gets them. Dots and doubled slashes are resolved where the
/// path would otherwise lead elsewhere than it was routed.
#[must_use]
pub fn target<'a>(route: &RouteSpec, raw: &'a str, normal: &'a str) -> Cow<'a, str> {
    let (raw_path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let path = if route.options.strip {
        path::without_prefix(normal, &route.path)
    } else if path::has_dots(raw_path) {
        normal
    } else {
        return Cow::Borrowed(raw);
    };
    match query {
        Some(query) => Cow::Owned(format!("{path}?{query}")),
        None => Cow::Borrowed(path),
    }
}

/// Where a route with `to` leads: a bare address keeps the request's path.
#[must_use]
pub fn redirect(to: &str, raw: &str) -> String {
    let rest = to.split_once("://").map_or(to, |(_, rest)| rest);
    if rest.contains('/') { to.to_owned() } else { format!("{to}{raw}") }
}

/// The same address with HTTPS, at the port that clients reach it by.
#[must_use]
pub fn secured(host: &str, port: u16, raw: &str) -> String {
    match port {
        443 => format!("https://{host}{raw}"),
        port => format!("https://{host}:{port}{raw}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    fn sender<'a>(peer: &str, trusted: &'a [Cidr]) -> Sender<'a> {
        Sender { peer: peer.parse().unwrap(), trusted, tls: false, host: "a.example" }
    }

    const FORGED: Claims = Claims {
        forwarded_for: Some("203.0.113.7"),
        proto: Some("https"),
        host: Some("b.example"),
        forwarded: Some("for=203.0.113.7"),
        request_id: Some("0123456789"),
    };

    fn values(told: &Told) -> Vec<&str> {
        told.headers().map(|(_, value)| value).collect()
    }

    #[test]
    fn a_stranger_claims_nothing() {
        let told = told(sender("192.0.2.9", &[]), FORGED, 7);
        assert_eq!(told.client, "192.0.2.9".parse::<IpAddr>().unwrap());
        assert_eq!((told.secure, told.trusted), (false, false));
        let id = format!("{:032x}", 7);
        let forwarded = "for=192.0.2.9;host=\"a.example\";proto=http";
        assert_eq!(values(&told), ["192.0.2.9", "http", "a.example", forwarded, &id]);
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added() {
        let trusted = [Cidr::parse("10.0.0.0/8").unwrap()];
        let told = told(sender("10.1.1.1", &trusted), FORGED, 7);
        assert_eq!(told.client, "203.0.113.7".parse::<IpAddr>().unwrap());
        assert_eq!((told.secure, told.trusted), (true, true));
        let forwarded = "for=203.0.113.7, for=10.1.1.1;host=\"b.example\";proto=https";
        let hops = "203.0.113.7, 10.1.1.1";
        assert_eq!(values(&told), [hops, "https", "b.example", forwarded, "0123456789"]);
    }

    #[parameterized(
        none = { "", "10.1.1.1" },
        one = { "203.0.113.7", "203.0.113.7" },
        forged_before = { "1.1.1.1, 203.0.113.7", "203.0.113.7" },
        proxies_between = { "203.0.113.7, 10.2.2.2", "203.0.113.7" },
        port = { "203.0.113.7:4711", "203.0.113.7" },
        six = { "2001:db8::9", "2001:db8::9" },
        nonsense = { "unknown", "10.1.1.1" },
        nonsense_before = { "unknown, 10.2.2.2", "10.2.2.2" },
    )]
    fn the_client_is_the_last_hop_that_is_no_proxy(hops: &str, expected: &str) {
        let trusted = [Cidr::parse("10.0.0.0/8").unwrap()];
        let claims = Claims { forwarded_for: Some(hops), ..Claims::default() };
        let told = told(sender("10.1.1.1", &trusted), claims, 7);
        assert_eq!(told.client, expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn six_is_quoted() {
        let told = told(sender("2001:db8::1", &[]), Claims::default(), 7);
        assert!(values(&told)[3].starts_with("for=\"[2001:db8::1]\";"));
    }

    #[parameterized(
        as_it_is = { false, "/api//x?a=/../b", "/api//x?a=/../b" },
        dots = { false, "/api/y/../x?q", "/api/x?q" },
        stripped = { true, "/api/x?q", "/x?q" },
        stripped_whole = { true, "/api", "/" },
    )]
    fn a_container_gets_the_path_that_was_routed(strip: bool, raw: &str, expected: &str) {
        let options = crate::spec::model::RouteOptions { strip, ..Default::default() };
        let route = RouteSpec {
            host: "a.example".to_owned(),
            path: "/api".to_owned(),
            port: None,
            h2c: false,
            redirect: true,
            options: Box::new(options),
        };
        let normal = path::normal(raw.split('?').next().unwrap()).unwrap();
        assert_eq!(target(&route, raw, &normal), expected);
    }

    #[test]
    fn a_bare_address_keeps_the_path() {
        let to = "https://www.example.com";
        assert_eq!(redirect(to, "/a?b"), "https://www.example.com/a?b");
        assert_eq!(redirect("https://www.example.com/x", "/a"), "https://www.example.com/x");
    }
}

//! The heads that mill's own relay writes: a request's to the container, an answer's to the client.
//!
//! Owns which headers end here because they belong to one connection, and the framing, which is
//! never copied. Never reads a connection.

use super::dress::Changes;
use super::forward::{self, Told};
use super::head;
use super::reply::{self, Reply};
use std::io::Write as _;

/// Headers that belong to one connection, or are written anew.
const OF_CONNECTION: &[&str] = &[
    "connection",
    "content-length",
    "transfer-encoding",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "te",
];

/// Writes the head of a plain request for the container.
pub fn request(
    out: &mut Vec<u8>,
    request: &httparse::Request,
    target: &str,
    told: &Told,
    body: head::Body,
) {
    add(out, &[request.method.unwrap_or_default(), " ", target, " HTTP/1.1\r\n"]);
    for header in request.headers.iter() {
        if !is_of_connection(header.name) && !forward::is_replaced(header.name, told.trusted) {
            line(out, header.name, header.value);
        }
    }
    for (name, value) in told.headers() {
        line(out, name, value.as_bytes());
    }
    match body {
        head::Body::Chunked => add(out, &["Transfer-Encoding: chunked\r\n"]),
        // Methods that usually have a body say that there is none.
        head::Body::Length(0) if !has_length(request) => {}
        head::Body::Length(length) => length_line(out, length),
        head::Body::Upgrade => {}
    }
    add(out, &["\r\n"]);
}

fn has_length(request: &httparse::Request) -> bool {
    request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-length"))
}

/// Writes the head of an answer for the client; `closes`: it is the last one of the connection.
/// `date`: for an answer without one.
pub fn answer(out: &mut Vec<u8>, reply: &Reply, changes: &Changes, date: &[u8], closes: bool) {
    first_line(out, reply);
    let mut dated = false;
    for header in reply.headers.iter().filter(|one| is_kept(reply, one)) {
        if !changes.drops(header.name) {
            dated |= header.name.eq_ignore_ascii_case("date");
            line(out, header.name, header.value);
        }
    }
    for (name, value) in changes.adds() {
        line(out, name, value.as_bytes());
    }
    if !dated {
        line(out, "Date", date);
    }
    match reply.body {
        reply::Body::Length(length) | reply::Body::None(Some(length)) => length_line(out, length),
        reply::Body::Chunked | reply::Body::UntilEnd => {
            add(out, &["Transfer-Encoding: chunked\r\n"]);
        }
        reply::Body::None(None) => {}
    }
    add(out, &[if closes { "Connection: close\r\n\r\n" } else { "\r\n" }]);
}

/// Writes the head of an answer that is not the last one of its request.
pub fn interim(out: &mut Vec<u8>, reply: &Reply) {
    first_line(out, reply);
    for header in reply.headers.iter().filter(|one| is_kept(reply, one)) {
        line(out, header.name, header.value);
    }
    add(out, &["\r\n"]);
}

fn first_line(out: &mut Vec<u8>, reply: &Reply) {
    // Writing to memory can't fail, here and below.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", reply.status, reply.reason);
}

fn length_line(out: &mut Vec<u8>, length: u64) {
    let _ = write!(out, "Content-Length: {length}\r\n");
}

fn is_kept(reply: &Reply, header: &httparse::Header) -> bool {
    let name = header.name.as_bytes();
    !is_of_connection(header.name)
        && !reply::tokens(reply.headers).any(|one| one.eq_ignore_ascii_case(name))
}

fn is_of_connection(name: &str) -> bool {
    OF_CONNECTION.iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn add(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::REPLY_HEADERS_MAX;
    use crate::node::ingress::forward::{Claims, Sender, told};
    use crate::spec::model::RouteOptions;
    use std::mem::MaybeUninit;

    fn sent(lines: &str, trusted: bool, body: head::Body) -> String {
        let text = format!("{lines}\r\n\r\n").replace('|', "\r\n");
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        assert!(request.parse(text.as_bytes()).unwrap().is_complete());
        let sender = Sender {
            peer: "192.0.2.9".parse().unwrap(),
            trusted: &[],
            tls: true,
            host: "a.example",
        };
        let mut told = told(sender, Claims::default(), 7);
        told.trusted = trusted;
        let mut out = Vec::new();
        super::request(&mut out, &request, "/x", &told, body);
        String::from_utf8(out).unwrap()
    }

    const TOLD: &str = "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\
                        X-Forwarded-Host: a.example\r\n\
                        Forwarded: for=192.0.2.9;host=\"a.example\";proto=https\r\n\
                        X-Request-Id: 00000000000000000000000000000007\r\n";

    #[test]
    fn a_container_reads_what_the_proxy_says() {
        let lines = "GET /y HTTP/1.1|Host: a.example|X-Forwarded-For: 1|x-request-id: 2|\
                     x_forwarded_for: 3|X-Real_IP: 4|CF-Connecting-IP: 5|Connection: close|\
                     X-Own: 6";
        let expected = format!("GET /x HTTP/1.1\r\nHost: a.example\r\nX-Own: 6\r\n{TOLD}\r\n");
        assert_eq!(sent(lines, false, head::Body::Length(0)), expected);
        assert!(sent(lines, true, head::Body::Length(0)).contains("CF-Connecting-IP: 5\r\n"));
    }

    #[test]
    fn framing_is_written_anew() {
        let lines = "POST /y HTTP/1.1|Host: a.example|Content-Length: 007";
        let ends = |text: String, end: &str| {
            assert!(text.ends_with(&format!("{TOLD}{end}\r\n")), "{text}");
        };
        ends(sent(lines, false, head::Body::Length(7)), "Content-Length: 7\r\n");
        let lines = "POST /y HTTP/1.1|Host: a.example|Transfer-Encoding: Chunked";
        ends(sent(lines, false, head::Body::Chunked), "Transfer-Encoding: chunked\r\n");
        let lines = "POST /y HTTP/1.1|Host: a.example|Content-Length: 0";
        ends(sent(lines, false, head::Body::Length(0)), "Content-Length: 0\r\n");
    }

    fn got(lines: &str, options: &RouteOptions, closes: bool) -> String {
        let text = format!("{lines}\r\n\r\n").replace('|', "\r\n");
        let mut space = [const { MaybeUninit::uninit() }; REPLY_HEADERS_MAX];
        let reply = reply::read(text.as_bytes(), &mut space, false).unwrap().unwrap();
        let changes = Changes { options, hsts: false, stay: None };
        let mut out = Vec::new();
        super::answer(&mut out, &reply, &changes, b"now", closes);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn a_client_reads_what_the_container_says() {
        let plain = RouteOptions::default();
        let lines = "HTTP/1.0 404 Nope|Server: s|Date: then|Content-Length: 5|Keep-Alive: 5|\
                     Connection: keep-alive, X-Hop|X-Hop: 1|Upgrade: h2c";
        let expected = "HTTP/1.1 404 Nope|Server: s|Date: then|Content-Length: 5||";
        assert_eq!(got(lines, &plain, false), expected);
        let lines = "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Trailer: X-Sum";
        let expected = "HTTP/1.1 200 OK|Trailer: X-Sum|Date: now|Transfer-Encoding: chunked|\
                        Connection: close||";
        assert_eq!(got(lines, &plain, true), expected);
        let options = RouteOptions {
            set: [("x-own".to_owned(), "2".to_owned())].into(),
            remove: vec!["server".to_owned()],
            ..RouteOptions::default()
        };
        let lines = "HTTP/1.1 200 OK|Server: s|X-Own: 1|Content-Length: 5";
        let expected = "HTTP/1.1 200 OK|x-own: 2|Date: now|Content-Length: 5||";
        assert_eq!(got(lines, &options, false), expected);
    }

    /// Lines of which heads are made, of all kinds that say how they are read.
    const LINES: &[&str] = &[
        "Content-Length: 5",
        "content-length:0",
        "Transfer-Encoding: chunked",
        "transfer-encoding:CHUNKED",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: X-Own",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "TE: trailers",
        "X-Forwarded-For: 1",
        "x_forwarded_for: 1",
        "Forwarded: for=1",
        "X-Request-Id: 1",
        "X-Real-IP: 1",
        "X-Own: caf\u{e9}",
        "X-Empty:",
        "Cookie: a=b; c=d",
        "Host: b.example",
    ];

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_in_one_way(
            method in 0..4usize,
            lines in proptest::collection::vec(0..LINES.len(), 0..6),
        ) {
            let method = ["GET", "POST", "OPTIONS", "PUT"][method];
            let lines: String = lines.iter().map(|at| format!("{}|", LINES[*at])).collect();
            let text = format!("{method} /y HTTP/1.1|Host: a.example|{lines}|");
            let text = text.replace('|', "\r\n");
            let Ok(head::Read::Whole(came)) = head::read(text.as_bytes()) else { return Ok(()) };
            if came.is_plain {
                let lines = text.trim_end().replace("\r\n", "|");
                let out = sent(&lines, false, came.body);
                let Ok(head::Read::Whole(goes)) = head::read(out.as_bytes()) else {
                    panic!("{text:?} became {out:?}")
                };
                assert_eq!((goes.length, goes.body), (out.len(), came.body), "{text:?}: {out:?}");
                assert!(goes.is_plain && !goes.closes, "{text:?}: {out:?}");
                let small = out.to_lowercase().replace('_', "-");
                for name in ["x-forwarded-for:", "\r\nforwarded:", "x-request-id:"] {
                    assert_eq!(small.matches(name).count(), 1, "{text:?}: {out:?}");
                }
                assert!(!small.contains("x-real-ip"), "{text:?}: {out:?}");
            }
        }
    }
}

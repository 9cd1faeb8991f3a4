//! The head of an HTTP/1 request, read strictly: what two readers could understand differently is
//! refused before anybody else reads it (RFC 9112, 11.2).
//!
//! Owns what is accepted and where the body ends. Never changes a head.

use super::host;
use super::refusal::Refusal;
use crate::limits::{HEAD_MAX, HEADERS_MAX};
use std::mem::MaybeUninit;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Another protocol may follow.
    Upgrade,
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its length in bytes.
    pub length: usize,
    /// What follows it.
    pub body: Body,
    /// It asks for nothing but to be passed on, in a way that leaves nothing to interpret.
    pub is_plain: bool,
    /// The client waits to be told to go on before it sends the body.
    pub expects: bool,
    /// The client asks for no further request over this connection.
    pub closes: bool,
}

/// A head, or how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// More bytes are needed.
    Partial,
    Whole(Head),
}

/// Reads the head at the beginning of these bytes.
///
/// # Errors
/// It isn't accepted.
pub fn read(bytes: &[u8]) -> Result<Read, Refusal> {
    let Some(length) = end(bytes)? else { return Ok(Read::Partial) };
    let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(&bytes[..length], &mut space) {
        Ok(httparse::Status::Complete(end)) if end == length => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
        Ok(_) | Err(_) => return Err(Refusal::BadRequest("The request can't be read")),
    }
    check(&request, length).map(Read::Whole)
}

/// Looks at a head that was read. None: it is none.
pub fn parsed<T>(head: &[u8], look: impl FnOnce(&httparse::Request) -> T) -> Option<T> {
    let mut space = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(head, &mut space);
    matches!(parsed, Ok(httparse::Status::Complete(_))).then(|| look(&request))
}

/// The first header of that name.
#[must_use]
pub fn value<'r>(request: &'r httparse::Request, name: &str) -> Option<&'r [u8]> {
    let mut named = request.headers.iter().filter(|one| one.name.eq_ignore_ascii_case(name));
    named.next().map(|header| header.value)
}

/// The first header of that name, if it is plain text.
#[must_use]
pub fn text<'r>(request: &'r httparse::Request, name: &str) -> Option<&'r str> {
    value(request, name).and_then(plain)
}

/// All headers of that name that are plain text.
pub fn texts<'r>(request: &'r httparse::Request, name: &str) -> impl Iterator<Item = &'r str> {
    let named = request.headers.iter().filter(move |one| one.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| plain(header.value))
}

fn plain(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// Where the head ends; every line must end with both characters.
fn end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let seen = &bytes[..bytes.len().min(HEAD_MAX)];
    let mut last = 0;
    while let Some(at) = seen[last..].iter().position(|b| *b == b'\n').map(|at| last + at) {
        if at == 0 || seen[at - 1] != b'\r' {
            return Err(Refusal::BadRequest("A line of the request ends without a return"));
        }
        if at == last + 1 && last > 0 {
            return Ok(Some(at + 1));
        }
        last = at + 1;
    }
    if bytes.len() >= HEAD_MAX { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

/// The values of the headers that say how a request is read.
#[derive(Default)]
struct Framing<'h> {
    host: Option<&'h str>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    connection: bool,
    closes: bool,
    expects: bool,
    /// Something else than its framing belongs to this connection alone.
    special: bool,
}

/// Methods of plain requests.
const PLAIN: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Headers that belong to one connection, or change what is understood over it.
const SPECIAL: &[&str] = &[
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "http2-settings",
];

fn check(request: &httparse::Request, head: usize) -> Result<Head, Refusal> {
    let bad = |why| Err(Refusal::BadRequest(why));
    let mut found = Framing::default();
    for header in request.headers.iter() {
        note(&mut found, header)?;
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return bad("The request can't be read");
    };
    if method == "CONNECT" {
        return bad("This is no forward proxy");
    }
    if version == 0 && found.chunked {
        return bad("HTTP/1.0 knows no chunks");
    }
    if found.chunked && found.length.is_some() {
        return bad("The request has two lengths");
    }
    check_target(target, method, found.host)?;
    if found.host.is_none() && version == 1 {
        return bad("The request names no host");
    }
    let body = if found.chunked {
        Body::Chunked
    } else if found.upgrade && found.length.unwrap_or(0) == 0 && version == 1 {
        Body::Upgrade
    } else {
        Body::Length(found.length.unwrap_or(0))
    };
    let is_plain = version == 1
        && !found.special
        && !found.upgrade
        && target.starts_with('/')
        && PLAIN.contains(&method)
        && !(found.expects && body == Body::Length(0));
    Ok(Head { length: head, body, is_plain, expects: found.expects, closes: found.closes })
}

/// Takes down a header that says how a request is read.
fn note<'h>(found: &mut Framing<'h>, header: &httparse::Header<'h>) -> Result<(), Refusal> {
    let bad = |why| Err(Refusal::BadRequest(why));
    let is = |name: &str| header.name.eq_ignore_ascii_case(name);
    let text = || std::str::from_utf8(header.value).ok();
    if is("host") {
        let Some(value) = text().filter(|text| host::name(text).is_some()) else {
            return bad("The request names no host");
        };
        if found.host.replace(value).is_some() {
            return bad("The request names two hosts");
        }
    } else if is("content-length") {
        let digits = text().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(length) = digits.and_then(|digits| digits.parse().ok()) else {
            return bad("The request's length can't be read");
        };
        if found.length.replace(length).is_some() {
            return bad("The request has two lengths");
        }
    } else if is("transfer-encoding") {
        let plain = text().is_some_and(|text| text.eq_ignore_ascii_case("chunked"));
        if !plain || found.chunked {
            return bad("The request's transfer encoding is not chunked");
        }
        found.chunked = true;
    } else if is("upgrade") {
        found.upgrade = true;
    } else if is("connection") {
        let closes = text().is_some_and(|text| text.eq_ignore_ascii_case("close"));
        let keeps = text().is_some_and(|text| text.eq_ignore_ascii_case("keep-alive"));
        found.special |= found.connection || !(closes || keeps);
        (found.connection, found.closes) = (true, closes);
    } else if is("expect") {
        let plain = text().is_some_and(|text| text.eq_ignore_ascii_case("100-continue"));
        found.special |= found.expects || !plain;
        found.expects = true;
    } else if SPECIAL.iter().any(|name| is(name)) {
        found.special = true;
    }
    Ok(())
}

/// A target is a path, `*` of OPTIONS, or a whole address of the same host.
fn check_target(target: &str, method: &str, host: Option<&str>) -> Result<(), Refusal> {
    let bad = |why| Err(Refusal::BadRequest(why));
    if !target.bytes().all(|b| b.is_ascii_graphic()) || target.contains('#') {
        return bad("The request's address can't be read");
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok(());
    }
    let rest = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"));
    let Some(rest) = rest else { return bad("The request's address can't be read") };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match (host::name(authority), host.and_then(host::name)) {
        (Some(one), Some(other)) if one == other => Ok(()),
        (Some(_), None) => bad("The request names no host"),
        (Some(_), Some(_)) => bad("The request names two hosts"),
        (None, _) => bad("The request's address can't be read"),
    }
}

#[cfg(test)]
mod tests;

//! The head of a container's answer: what it says and where its body ends (RFC 9112, 6.3).
//!
//! Owns what is taken for an answer. Never changes one.

use crate::limits::{REPLY_HEAD_MAX, REPLY_HEADERS_MAX};
use std::mem::MaybeUninit;

/// It can't be read, or could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer can't be read")]
pub struct BadReply;

/// How the body of an answer is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none. The answer to `HEAD` may say how long it would be.
    None(Option<u64>),
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All that comes until the connection ends.
    UntilEnd,
}

/// What a head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'h, 'b> {
    /// Its length in bytes.
    pub length: usize,
    pub status: u16,
    /// Its words.
    pub reason: &'b str,
    /// All headers as they came.
    pub headers: &'h [httparse::Header<'b>],
    /// What follows it.
    pub body: Body,
    /// Another request may be sent over this connection.
    pub keeps: bool,
}

/// Room for the headers.
pub type Space<'b> = [MaybeUninit<httparse::Header<'b>>; REPLY_HEADERS_MAX];

/// Reads the head at the beginning of these bytes; none: more are needed.
///
/// # Errors
/// It isn't accepted.
pub fn read<'h, 'b>(
    bytes: &'b [u8],
    space: &'h mut Space<'b>,
    to_head: bool,
) -> Result<Option<Reply<'h, 'b>>, BadReply> {
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut response, bytes, space) {
        Ok(httparse::Status::Complete(length)) if length <= REPLY_HEAD_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() < REPLY_HEAD_MAX => return Ok(None),
        Ok(_) | Err(_) => return Err(BadReply),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(BadReply);
    };
    if status < 100 {
        return Err(BadReply);
    }
    let headers: &'h [httparse::Header<'b>] = response.headers;
    let (body, sure) = framing(headers, status, version, to_head)?;
    let keeps = sure && version == 1 && !tokens(headers).any(|one| is(one, b"close"));
    let reason = response.reason.unwrap_or_default();
    Ok(Some(Reply { length, status, reason, headers, body, keeps }))
}

/// The framing, and whether nothing about it is odd.
fn framing(
    headers: &[httparse::Header],
    status: u16,
    version: u8,
    to_head: bool,
) -> Result<(Body, bool), BadReply> {
    let (mut length, mut chunked) = (None, false);
    for header in headers {
        if is(header.name.as_bytes(), b"content-length") {
            let said = number(header.value)?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(BadReply);
            }
        } else if is(header.name.as_bytes(), b"transfer-encoding") {
            if chunked || version == 0 || !is(header.value, b"chunked") {
                return Err(BadReply);
            }
            chunked = true;
        }
    }
    Ok(match (status, length) {
        (100..200 | 204, _) => (Body::None(None), length.is_none() && !chunked),
        (304, _) => (Body::None(length), true),
        _ if to_head => (Body::None(length), true),
        // Chunks count, and whoever says both is not trusted with another request.
        _ if chunked => (Body::Chunked, length.is_none()),
        (_, Some(length)) => (Body::Length(length), true),
        (_, None) => (Body::UntilEnd, false),
    })
}

fn number(value: &[u8]) -> Result<u64, BadReply> {
    let text = std::str::from_utf8(value).map_err(|_| BadReply)?;
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadReply);
    }
    text.parse().map_err(|_| BadReply)
}

/// What the headers `Connection` name.
pub(super) fn tokens<'h>(headers: &'h [httparse::Header]) -> impl Iterator<Item = &'h [u8]> {
    let of_connection = |header: &&httparse::Header| is(header.name.as_bytes(), b"connection");
    let values = headers.iter().filter(of_connection).map(|header| header.value);
    values.flat_map(|value| value.split(|b| *b == b',').map(<[u8]>::trim_ascii))
}

fn is(name: &[u8], other: &[u8]) -> bool {
    name.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    fn look<T>(lines: &str, to_head: bool, of: impl Fn(&Reply) -> T) -> Result<T, BadReply> {
        let text = format!("{lines}\r\n\r\nmore").replace('|', "\r\n");
        let mut space = [const { MaybeUninit::uninit() }; REPLY_HEADERS_MAX];
        read(text.as_bytes(), &mut space, to_head).map(|reply| {
            let reply = reply.expect("a whole head");
            assert_eq!(reply.length, text.len() - 4);
            of(&reply)
        })
    }

    #[parameterized(
        length = { "HTTP/1.1 200 OK|Content-Length: 5", Body::Length(5), true },
        same_twice = {
        "HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 5", Body::Length(5), true
    },
        chunked = { "HTTP/1.1 200 OK|Transfer-Encoding: chunked", Body::Chunked, true },
        both = {
            "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Content-Length: 5", Body::Chunked, false
        },
        neither = { "HTTP/1.1 200 OK", Body::UntilEnd, false },
        old = { "HTTP/1.0 200 OK|Content-Length: 5", Body::Length(5), false },
        closes = {
            "HTTP/1.1 200 OK|Content-Length: 5|Connection: x, Close", Body::Length(5), false
        },
        no_words = { "HTTP/1.1 200|Content-Length: 5", Body::Length(5), true },
        no_content = { "HTTP/1.1 204 No Content", Body::None(None), true },
        odd_no_content = { "HTTP/1.1 204 No|Content-Length: 5", Body::None(None), false },
        not_modified = { "HTTP/1.1 304 Not Modified|Content-Length: 5", Body::None(Some(5)), true },
        early = { "HTTP/1.1 103 Early Hints|Link: x", Body::None(None), true },
    )]
    fn a_body_is_framed(lines: &str, body: Body, keeps: bool) {
        assert_eq!(look(lines, false, |reply| (reply.body, reply.keeps)), Ok((body, keeps)));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let answers = [
            ("HTTP/1.1 200 OK|Content-Length: 5", Some(5)),
            ("HTTP/1.1 200 OK|Transfer-Encoding: chunked", None),
            ("HTTP/1.1 200 OK", None),
        ];
        for (lines, length) in answers {
            let seen = look(lines, true, |reply| (reply.body, reply.keeps));
            assert_eq!(seen, Ok((Body::None(length), true)));
        }
    }

    #[parameterized(
        garbage = { "nonsense" },
        other_version = { "HTTP/2.0 200 OK" },
        low = { "HTTP/1.1 099 X" },
        lengths = { "HTTP/1.1 200 OK|Content-Length: 5|Content-Length: 6" },
        list = { "HTTP/1.1 200 OK|Content-Length: 5, 5" },
        sign = { "HTTP/1.1 200 OK|Content-Length: +5" },
        empty = { "HTTP/1.1 200 OK|Content-Length:" },
        huge = { "HTTP/1.1 200 OK|Content-Length: 99999999999999999999" },
        coded = { "HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked" },
        twice = { "HTTP/1.1 200 OK|Transfer-Encoding: chunked|Transfer-Encoding: chunked" },
        old_chunks = { "HTTP/1.0 200 OK|Transfer-Encoding: chunked" },
        folded = { "HTTP/1.1 200 OK|X: a| b" },
        nul = { "HTTP/1.1 200 OK|X: a\0b" },
        return_within = { "HTTP/1.1 200 OK|X: a\rb" },
        blank_before_colon = { "HTTP/1.1 200 OK|Content-Length : 5" },
    )]
    fn what_could_be_read_in_two_ways_is_refused(lines: &str) {
        assert_eq!(look(lines, false, |reply| reply.status), Err(BadReply));
    }

    #[test]
    fn a_head_is_awaited_up_to_its_bound() {
        let begun = "HTTP/1.1 200 OK\r\nX: ";
        let long = format!("{begun}{}", "y".repeat(REPLY_HEAD_MAX));
        for (text, expected) in [("", Ok(true)), (begun, Ok(true)), (&long, Err(BadReply))] {
            let mut space = [const { MaybeUninit::uninit() }; REPLY_HEADERS_MAX];
            let read = read(text.as_bytes(), &mut space, false);
            assert_eq!(read.map(|reply| reply.is_none()), expected);
        }
    }
}

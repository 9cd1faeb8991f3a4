//! The table of heads: what is read, and what is refused because two readers could differ.

use super::*;
use yare::parameterized;

fn body(lines: &str) -> Result<Body, u16> {
    let text = format!("{lines}\r\n\r\n").replace('|', "\r\n");
    match read(text.as_bytes()) {
        Ok(Read::Whole(head)) => {
            assert_eq!(head.length, text.len());
            Ok(head.body)
        }
        Ok(Read::Partial) => panic!("{text:?} is taken for a part"),
        Err(refusal) => Err(refusal.status()),
    }
}

#[parameterized(
    get = { "GET / HTTP/1.1|Host: a.example", Body::Length(0) },
    length = { "POST / HTTP/1.1|Host: a.example|Content-Length: 5", Body::Length(5) },
    chunked = { "POST / HTTP/1.1|Host: a.example|Transfer-Encoding: chunked", Body::Chunked },
    capitals = { "POST / HTTP/1.1|Host: a.example|transfer-encoding: Chunked", Body::Chunked },
    websocket = {
        "GET / HTTP/1.1|Host: a.example|Connection: Upgrade|Upgrade: websocket", Body::Upgrade
    },
    absolute = { "GET http://a.example/x HTTP/1.1|Host: a.example", Body::Length(0) },
    old = { "GET / HTTP/1.0", Body::Length(0) },
    options = { "OPTIONS * HTTP/1.1|Host: a.example", Body::Length(0) },
    no_blank_after_colon = { "GET / HTTP/1.1|Host:a.example", Body::Length(0) },
    empty_value = { "GET / HTTP/1.1|Host: a.example|X-Empty:", Body::Length(0) },
    latin = { "GET / HTTP/1.1|Host: a.example|X-Name: caf\u{e9}", Body::Length(0) },
)]
fn a_head_is_read(lines: &str, expected: Body) {
    assert_eq!(body(lines), Ok(expected));
}

#[parameterized(
    cl_te = { "POST / HTTP/1.1|Host: a|Content-Length: 4|Transfer-Encoding: chunked" },
    te_cl = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 4" },
    te_twice = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked" },
    te_list = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked" },
    te_identity = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: identity" },
    te_last = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity" },
    te_quoted = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"" },
    te_almost = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked" },
    te_vertical_tab = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: \u{b}chunked" },
    te_blank_before_colon = { "POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked" },
    te_of_old = { "POST / HTTP/1.0|Host: a|Transfer-Encoding: chunked" },
    te_folded = { "POST / HTTP/1.1|Host: a|Transfer-Encoding:| chunked" },
    cl_twice = { "POST / HTTP/1.1|Host: a|Content-Length: 4|Content-Length: 5" },
    cl_twice_equal = { "POST / HTTP/1.1|Host: a|Content-Length: 4|Content-Length: 4" },
    cl_list = { "POST / HTTP/1.1|Host: a|Content-Length: 4, 4" },
    cl_sign = { "POST / HTTP/1.1|Host: a|Content-Length: +4" },
    cl_negative = { "POST / HTTP/1.1|Host: a|Content-Length: -4" },
    cl_hex = { "POST / HTTP/1.1|Host: a|Content-Length: 0x4" },
    cl_empty = { "POST / HTTP/1.1|Host: a|Content-Length:" },
    cl_huge = { "POST / HTTP/1.1|Host: a|Content-Length: 99999999999999999999" },
    cl_blank_before_colon = { "POST / HTTP/1.1|Host: a|Content-Length : 4" },
    cl_blank_within = { "POST / HTTP/1.1|Host: a|Content-Length: 4 4" },
    folded = { "GET / HTTP/1.1|Host: a|X-Long: b| c" },
    blank_first = { "GET / HTTP/1.1| Host: a" },
    host_absent = { "GET / HTTP/1.1|X: y" },
    host_twice = { "GET / HTTP/1.1|Host: a|Host: b" },
    host_twice_equal = { "GET / HTTP/1.1|Host: a|Host: a" },
    host_empty = { "GET / HTTP/1.1|Host:" },
    host_with_path = { "GET / HTTP/1.1|Host: a/b" },
    host_with_user = { "GET / HTTP/1.1|Host: u@a" },
    host_list = { "GET / HTTP/1.1|Host: a, b" },
    absolute_other = { "GET http://b/x HTTP/1.1|Host: a" },
    absolute_alone = { "GET http://b/x HTTP/1.1" },
    absolute_other_scheme = { "GET ftp://a/x HTTP/1.1|Host: a" },
    no_path = { "GET x HTTP/1.1|Host: a" },
    star = { "GET * HTTP/1.1|Host: a" },
    connect = { "CONNECT a:443 HTTP/1.1|Host: a" },
    blank_in_target = { "GET /a b HTTP/1.1|Host: a" },
    fragment = { "GET /a#b HTTP/1.1|Host: a" },
    no_version = { "GET /|Host: a" },
    two = { "GET / HTTP/2.0|Host: a" },
    odd_version = { "GET / HTTP/1.10|Host: a" },
    odd_method = { "GE(T / HTTP/1.1|Host: a" },
    odd_name = { "GET / HTTP/1.1|Host: a|X(Y: z" },
    no_name = { "GET / HTTP/1.1|Host: a|: z" },
    no_colon = { "GET / HTTP/1.1|Host: a|Xyz" },
    nul = { "GET / HTTP/1.1|Host: a|X: a\0b" },
    return_within = { "GET / HTTP/1.1|Host: a|X: a\rb" },
    newline_within = { "GET / HTTP/1.1|Host: a|X: a\nY: b" },
    newline_ends = { "GET / HTTP/1.1\nHost: a" },
)]
fn what_could_be_read_in_two_ways_is_refused(lines: &str) {
    assert_eq!(body(lines), Err(400));
}

#[test]
fn a_head_is_awaited_up_to_its_bound() {
    let begun = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    assert_eq!(read(begun.as_bytes()), Ok(Read::Partial));
    assert_eq!(read(b""), Ok(Read::Partial));
    assert_eq!(read(b"\n\n").map_err(|e| e.status()), Err(400));
    let long = format!("{begun}{}", "y".repeat(HEAD_MAX));
    assert_eq!(read(long.as_bytes()), Err(Refusal::HeadTooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(HEADERS_MAX));
    assert_eq!(read(many.as_bytes()), Err(Refusal::HeadTooLarge));
}

#[test]
fn what_follows_a_head_is_no_part_of_it() {
    let two = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\n";
    let Ok(Read::Whole(head)) = read(two) else { panic!("not read") };
    assert_eq!(head.length, 27);
}

#[parameterized(
    get = { "GET /a?b HTTP/1.1|Host: a", true },
    post = { "POST / HTTP/1.1|Host: a|Content-Length: 5", true },
    chunked = { "PUT / HTTP/1.1|Host: a|Transfer-Encoding: chunked", true },
    kept = { "GET / HTTP/1.1|Host: a|Connection: keep-alive", true },
    closes = { "GET / HTTP/1.1|Host: a|Connection: close", true },
    waits = { "POST / HTTP/1.1|Host: a|Content-Length: 5|Expect: 100-continue", true },
    waits_for_nothing = { "GET / HTTP/1.1|Host: a|Expect: 100-continue", false },
    expects_more = { "POST / HTTP/1.1|Host: a|Content-Length: 5|Expect: x", false },
    old = { "GET / HTTP/1.0|Host: a", false },
    upgrade = { "GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket", false },
    upgrade_alone = { "GET / HTTP/1.1|Host: a|Upgrade: h2c", false },
    upgrade_with_body = { "POST / HTTP/1.1|Host: a|Content-Length: 5|Upgrade: h2c", false },
    nominates = { "GET / HTTP/1.1|Host: a|Connection: X-Forwarded-For", false },
    nominates_more = { "GET / HTTP/1.1|Host: a|Connection: close, X-Request-Id", false },
    two_connections = { "GET / HTTP/1.1|Host: a|Connection: close|Connection: close", false },
    te = { "GET / HTTP/1.1|Host: a|TE: trailers", false },
    trailer = { "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Trailer: X", false },
    absolute = { "GET http://a/ HTTP/1.1|Host: a", false },
    star = { "OPTIONS * HTTP/1.1|Host: a", false },
    rare_method = { "PROPFIND / HTTP/1.1|Host: a", false },
    small_method = { "get / HTTP/1.1|Host: a", false },
)]
fn what_is_plain(lines: &str, expected: bool) {
    let text = format!("{lines}\r\n\r\n").replace('|', "\r\n");
    let Ok(Read::Whole(head)) = read(text.as_bytes()) else { panic!("not read") };
    assert_eq!(head.is_plain, expected);
}

//! Answers of all kinds, and where they end.

use super::ENGINE_ONLY;
use super::support::{Client, Site, chunked, raw};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use yare::parameterized;

const NEXT: &str = "GET / HTTP/1.1|Host: a.example||";

#[tokio::test]
async fn who_serves_is_who_is_meant_to() {
    let site = Site::new(1, "route \"a.example\"").await;
    // The engine says of every connection that it is kept.
    assert_eq!(site.get("/").await.header("connection").is_some(), ENGINE_ONLY);
    let old = site.ask("GET / HTTP/1.1|Host: a.example|TE: trailers||").await;
    assert!(old.header("connection").is_some(), "what isn't plain is the engine's");
}

#[parameterized(
    length = { "keep", "HTTP/1.1 200 OK|Content-Length: 3||abc", 200, "abc" },
    chunked = { "keep", "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|0||", 200, "abc" },
    until_end = { "raw", "HTTP/1.1 200 OK||abc", 200, "abc" },
    old = { "raw", "HTTP/1.0 200 OK|Content-Length: 3||abc", 200, "abc" },
    old_until_end = { "raw", "HTTP/1.0 200 OK||abc", 200, "abc" },
    closes = { "raw", "HTTP/1.1 200 OK|Connection: close|Content-Length: 3||abc", 200, "abc" },
    empty = { "keep", "HTTP/1.1 404 Not Found|Content-Length: 0||", 404, "" },
    no_content = { "keep", "HTTP/1.1 204 No Content||", 204, "" },
    not_modified = { "keep", "HTTP/1.1 304 Not Modified|ETag: \"x\"||", 304, "" },
    hints = {
        "keep", "HTTP/1.1 103 Early Hints||HTTP/1.1 200 OK|Content-Length: 3||abc", 200, "abc"
    },
)]
#[test_macro(tokio::test)]
async fn an_answer_is_passed_on_and_the_connection_kept(
    kind: &str,
    sent: &str,
    status: u16,
    body: &str,
) {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for _ in 0..2 {
        client.send(&format!("GET /{kind}?{} HTTP/1.1|Host: a.example||", raw(sent))).await;
        let answer = client.last_answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{answer:?}");
    }
    client.send(NEXT).await;
    assert_eq!(client.answer().await.body, "s0");
}

#[parameterized(
    length = { "HTTP/1.1 200 OK|Content-Length: 10||abc" },
    chunks = { "HTTP/1.1 200 OK|Transfer-Encoding: chunked||3|abc|" },
    within_a_chunk = { "HTTP/1.1 200 OK|Transfer-Encoding: chunked||9|abc" },
)]
#[test_macro(tokio::test)]
async fn what_breaks_off_is_never_taken_for_whole(sent: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client.send(&format!("GET /raw?{} HTTP/1.1|Host: a.example||{NEXT}", raw(sent))).await;
    let seen = client.all().await;
    // Where the end comes together with the head, perhaps neither is passed on.
    let body = seen.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let is_part = seen.is_empty() || body.contains("abc");
    assert!(is_part && !body.contains("0\r\n\r\n"), "{seen}");
    assert!(!body.contains("s0"), "nothing comes after it: {seen}");
    site.until(|site| site.active() == 0).await;
}

#[tokio::test]
async fn what_follows_an_answer_is_nobodys() {
    let site = Site::new(1, "route \"a.example\"").await;
    let poison = "HTTP/1.1 200 OK|Content-Length: 3||abcHTTP/1.1 200 OK|Content-Length: 4||evil";
    let mut client = site.client().await;
    for _ in 0..3 {
        client.send(&format!("GET /keep?{} HTTP/1.1|Host: a.example||", raw(poison))).await;
        assert_eq!(client.answer().await.body, "abc");
        client.send(NEXT).await;
        assert_eq!(client.answer().await.body, "s0");
    }
}

#[tokio::test]
async fn an_idle_connection_that_ends_is_noticed_or_tried_again() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for _ in 0..6 {
        // Its container takes one request a connection, and hangs up at the second.
        client.send("GET /once HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "once");
    }
    let post = "POST /once HTTP/1.1|Host: a.example|Content-Length: 1||x";
    let mut codes = Vec::new();
    for _ in 0..2 {
        codes.push(ask(&mut client, &site, post).await);
    }
    assert!(codes.contains(&502), "what may do something is not sent twice: {codes:?}");
    assert_eq!(site.get("/").await.status, 200);
}

/// Asks over a connection, or another one where that was closed.
async fn ask(client: &mut Client, site: &Site, lines: &str) -> u16 {
    client.send(lines).await;
    let answer = client.answer().await;
    if answer.header("connection").is_some_and(|value| value == "close") {
        *client = site.client().await;
    }
    answer.status
}

#[tokio::test]
async fn containers_connections_are_used_again() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let mut ports = std::collections::BTreeSet::new();
    for _ in 0..5 {
        client.send("GET /port HTTP/1.1|Host: a.example||").await;
        ports.insert(client.answer().await.body);
    }
    assert_eq!(ports.len(), 1);
}

#[tokio::test]
async fn a_head_may_come_in_pieces() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for piece in ["GE", "T /pieces HTTP/1.1|Ho", "st: a.example|", "|"] {
        client.send(piece).await;
        super::support::time_passes(20).await;
    }
    assert_eq!(client.answer().await.body, "pieces");
}

#[tokio::test]
async fn large_answers_wait_for_slow_readers() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let asks = "GET /large HTTP/1.1|Host: a.example||".repeat(4);
    client.send(&asks).await;
    super::support::time_passes(300).await;
    for _ in 0..4 {
        assert_eq!(client.answer().await.body.len(), 1 << 20);
    }
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing_behind() {
    let site = Site::new(1, "route \"a.example\"").await;
    for path in ["/large", "/stream", "/slow"] {
        let mut client = site.client().await;
        client.send(&format!("GET {path} HTTP/1.1|Host: a.example||")).await;
        if path != "/slow" {
            let _ = client.some().await;
        }
    }
    let mut client = site.client().await;
    client.send("POST /sum HTTP/1.1|Host: a.example|Content-Length: 10||abc").await;
    drop(client);
    site.until(|site| site.active() == 0).await;
}

/// A client whose bodies nobody else sends; in the end it may leave in the middle of one.
async fn mirror(mut client: Client, number: usize, leaves: bool) {
    for round in 0..12 {
        let size = [1, 700, 5_000, 17_000, 70_000, 150_000][(number + round) % 6];
        let mut text = format!("{number}-{round};").repeat(size);
        text.truncate(size);
        let (head, body) = match round % 2 {
            0 => (format!("Content-Length: {size}"), text.clone()),
            _ => ("Transfer-Encoding: chunked".to_owned(), chunked(&text, 9_999)),
        };
        let path = if round % 3 == 0 { "/mirror" } else { "/mirror-chunks" };
        client.send(&format!("POST {path} HTTP/1.1|Host: a.example|{head}||")).await;
        if leaves && round == 11 {
            return client.send(&body[..body.len() / 2]).await;
        }
        client.send(&body).await;
        let answer = client.answer().await;
        assert!(answer.body == text, "client {number}, round {round}, {size} bytes");
    }
}

#[tokio::test]
async fn nobody_gets_anything_of_anybody_else() {
    let site = Site::new(3, "route \"a.example\"").await;
    let mut clients = JoinSet::new();
    for number in 0..24 {
        let client = Client(BufReader::new(TcpStream::connect(site.http).await.unwrap()));
        clients.spawn(mirror(client, number, number % 6 == 5));
    }
    while let Some(done) = clients.join_next().await {
        done.unwrap();
    }
    site.until(|site| site.active() == 0).await;
    assert_eq!(site.get("/").await.status, 200);
}

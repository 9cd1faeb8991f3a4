//! What mill's own relay does better than the engine, or refuses more strictly.

use super::support::{Site, raw};
use tokio::io::AsyncWriteExt as _;
use yare::parameterized;

#[tokio::test]
async fn a_connection_outlives_waiting_and_trailers() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client
        .send("POST /sum HTTP/1.1|Host: a.example|Expect: 100-continue|Content-Length: 3||")
        .await;
    assert_eq!(client.answer().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.body, "3");
    client.send("POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||").await;
    client.send("5;x=y|hello|0|X-Forwarded-For: 1|X-Sum: 5||").await;
    assert_eq!(client.answer().await.body, "5");
    let trailers = "HTTP/1.1 200 OK|Trailer: X-Sum|Transfer-Encoding: chunked||3|abc|0|X-Sum: 3||";
    client.send(&format!("GET /keep?{} HTTP/1.1|Host: a.example||", raw(trailers))).await;
    let mut seen = String::new();
    while !seen.ends_with("3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n") {
        let more = client.some().await;
        assert!(!more.is_empty(), "{seen}");
        seen += &more;
    }
    client.send("GET / HTTP/1.1|Host: a.example||").await;
    assert_eq!(client.answer().await.body, "s0");
}

#[parameterized(
    two_lengths = { "HTTP/1.1 200 OK|Content-Length: 3|Content-Length: 4||abcd" },
    coded = { "HTTP/1.1 200 OK|Transfer-Encoding: gzip, chunked||0||" },
    folded = { "HTTP/1.1 200 OK|X: a| b|Content-Length: 0||" },
    other_protocol = { "HTTP/1.1 101 Switching Protocols|Upgrade: x||" },
    other_version = { "HTTP/3.0 200 OK||" },
)]
#[test_macro(tokio::test)]
async fn an_answer_that_could_be_read_in_two_ways_is_refused(sent: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let answer = site.get(&format!("/keep?{}", raw(sent))).await;
    let error = answer.header("mill-error");
    assert_eq!((answer.status, error.as_deref()), (502, Some("bad-answer")));
    assert_eq!(answer.header("connection").as_deref(), Some("close"));
    assert_eq!(site.get("/").await.body, "s0");
}

#[tokio::test]
async fn chunks_that_could_be_read_in_two_ways_reach_no_container_as_a_whole() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client.send("POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||").await;
    client.send("3|abc|0x|").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection").as_deref()), (400, Some("close")));
    site.until(|site| site.active() == 0).await;
}

#[tokio::test]
async fn an_early_answer_ends_the_connection() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client.send("POST /early HTTP/1.1|Host: a.example|Content-Length: 100000||some").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection").as_deref()), (413, Some("close")));
    assert_eq!(client.some().await, "");
    site.until(|site| site.active() == 0).await;
}

#[tokio::test]
async fn a_refused_body_that_is_here_is_skipped() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let post = "POST / HTTP/1.1|Host: b.example|Content-Length: 3||abc";
    client.send(&format!("{post}{post}GET / HTTP/1.1|Host: a.example||")).await;
    for _ in 0..2 {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (404, None));
    }
    assert_eq!(client.answer().await.body, "s0");
    client.send("POST / HTTP/1.1|Host: b.example|Content-Length: 9999||abc").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection").as_deref()), (404, Some("close")));
    assert_eq!(client.some().await, "");
}

#[tokio::test]
async fn uploads_of_all_lengths_arrive_whole() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for size in [1, 4_095, 8_192, 16_385, 65_535, 65_536, 65_537, 1 << 20] {
        client.send(&format!("POST /sum HTTP/1.1|Host: a.example|Content-Length: {size}||")).await;
        client.0.write_all(&vec![b'x'; size]).await.unwrap();
        assert_eq!(client.answer().await.body, size.to_string());
        let head = "POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||";
        client.send(&format!("{head}{size:x}|{}|0||", "y".repeat(size))).await;
        assert_eq!(client.answer().await.body, size.to_string());
    }
}

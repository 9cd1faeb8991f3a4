//! What is refused before anybody behind the proxy sees it.

use super::support::Site;
use yare::parameterized;

#[parameterized(
    two_lengths = { "POST /sum HTTP/1.1|Host: a.example|Content-Length: 4|\
                     Transfer-Encoding: chunked||0||" },
    length_twice = { "POST /sum HTTP/1.1|Host: a.example|Content-Length: 4|\
                      Content-Length: 4||abcd" },
    bare_newline = { "GET / HTTP/1.1\nHost: a.example\n\n" },
    folded = { "GET / HTTP/1.1|Host: a.example|X: y| z||" },
    blank_before_colon = { "GET / HTTP/1.1|Host : a.example||" },
    no_host = { "GET / HTTP/1.1||" },
    two_hosts = { "GET / HTTP/1.1|Host: a.example|Host: b.example||" },
    other_host = { "GET http://b.example/ HTTP/1.1|Host: a.example||" },
    connect = { "CONNECT a.example:80 HTTP/1.1|Host: a.example||" },
    nul = { "GET / HTTP/1.1|Host: a.example|X: a\0b||" },
)]
#[test_macro(tokio::test)]
async fn a_head_that_could_be_read_in_two_ways_is_refused(lines: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client.send(lines).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection").as_deref()), (400, Some("close")));
    assert_eq!(answer.header("mill-error").as_deref(), Some("bad-request"));
    assert_eq!(client.some().await, "", "nothing of what follows is read");
}

#[tokio::test]
async fn chunks_that_could_be_read_in_two_ways_end_the_connection() {
    let site = Site::new(1, "route \"a.example\"").await;
    for body in ["3\nabc|0||", "3;x\n|abc|0||", "+3|abc|0||", "3|abcd|0||"] {
        let mut client = site.client().await;
        client.send("POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||").await;
        client.send(body).await;
        client.send("GET / HTTP/1.1|Host: a.example||").await;
        let answer = client.answer().await;
        assert!(matches!(answer.status, 0 | 400), "{body:?}: {answer:?}");
        assert_eq!(client.some().await, "", "{body:?}");
    }
}

#[tokio::test]
async fn heads_have_a_bound() {
    let site = Site::new(1, "route \"a.example\"").await;
    let long = format!("GET / HTTP/1.1|Host: a.example|X: {}||", "y".repeat(40 << 10));
    let answer = site.ask(&long).await;
    assert_eq!(answer.status, 431);
    assert_eq!(answer.header("mill-error").as_deref(), Some("head-too-large"));
    let many = format!("GET / HTTP/1.1|Host: a.example|{}|", "X: y|".repeat(200));
    assert_eq!(site.ask(&many).await.status, 431);
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing_behind() {
    let site = Site::new(1, "route \"a.example\"").await;
    for _ in 0..20 {
        let mut client = site.client().await;
        client.send("GET /never HTTP/1.1|Host: a.example||").await;
    }
    site.until(|site| site.active() == 0).await;
    assert_eq!(site.get("/").await.status, 200);
}

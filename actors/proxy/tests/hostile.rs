//! Containers that answer with rubbish, and clients that say only half of what they mean to.

use super::support::{Site, raw};
use crate::actors::proxy::AccessLog;
use crate::actors::proxy::shared::Settings;
use tokio::io::AsyncWriteExt as _;
use yare::parameterized;

#[parameterized(
    nonsense = { "/garbage".to_owned() },
    binary = { "/keep?160301020001000100".to_owned() },
    not_http = { format!("/keep?{}", raw("SSH-2.0-OpenSSH_9.2||")) },
    no_status = { format!("/keep?{}", raw("HTTP/1.1 |Content-Length: 0||")) },
    status_is_a_word = { format!("/keep?{}", raw("HTTP/1.1 fine OK|Content-Length: 0||")) },
    no_colon = { format!("/keep?{}", raw("HTTP/1.1 200 OK|Content-Length 0||")) },
    no_number = { format!("/raw?{}", raw("HTTP/1.1 200 OK|Content-Length: x||")) },
    negative = { format!("/raw?{}", raw("HTTP/1.1 200 OK|Content-Length: -1||")) },
    too_much = {
        format!("/raw?{}", raw("HTTP/1.1 200 OK|Content-Length: 99999999999999999999||"))
    },
    nul = { format!("/raw?{}", raw("HTTP/1.1 200 OK|X: a\0b|Content-Length: 0||")) },
    half_a_head = { format!("/raw?{}", raw("HTTP/1.1 200 OK|Content-Le")) },
    endless_head = { "/endless".to_owned() },
    one_line_of_2_mb = { "/wider".to_owned() },
    a_thousand_headers = { "/many".to_owned() },
)]
#[test_macro(tokio::test)]
async fn rubbish_is_an_error_of_the_container_and_of_nobody_else(path: String) {
    let site = Site::new(1, "route \"a.example\"").await;
    let answer = site.get(&path).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.header("mill-error").is_some(), "{answer:?}");
    site.until(|site| site.active() == 0).await;
    assert_eq!(site.get("/").await.body, "s0");
}

#[tokio::test]
async fn one_line_of_100_kb_is_passed_on_whole() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for _ in 0..2 {
        client.send("GET /wide HTTP/1.1|Host: a.example||").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("x").map(|x| x.len())), (200, Some(100_000)));
        client.send("GET / HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "s0");
    }
}

#[parameterized(
    different = { "HTTP/1.1 200 OK|Content-Length: 3|Content-Length: 4||abcd" },
    within_one = { "HTTP/1.1 200 OK|Content-Length: 3, 4||abcd" },
    beside_chunks = { "HTTP/1.1 200 OK|Content-Length: 3|Transfer-Encoding: chunked||4|abcd|0||" },
)]
#[test_macro(tokio::test)]
async fn no_client_gets_two_lengths(sent: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let answer = site.get(&format!("/raw?{}", raw(sent))).await;
    let head = answer.head.to_ascii_lowercase();
    let lengths = head.matches("content-length:").count() + head.matches("chunked").count();
    assert!(lengths <= 1 && !head.contains("3, 4"), "{head}");
    assert_eq!(site.get("/").await.body, "s0");
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_goes_to_nobody() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for _ in 0..3 {
        client.send("GET /unasked HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "asked");
        // The container says more while its connection rests.
        super::support::time_passes(150).await;
        client.send("GET / HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "s0");
    }
}

#[parameterized(
    get = { "GET /slow HTTP/1.1|Host: a.example||" },
    upload = { "POST /sum HTTP/1.1|Host: a.example|Content-Length: 3||abc" },
    half_an_upload = { "POST /sum HTTP/1.1|Host: a.example|Content-Length: 9||abc" },
    half_a_chunk = { "POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||9|abc" },
    half_a_head = { "GET / HTTP/1.1|Host: a.ex" },
    stream = { "GET /stream HTTP/1.1|Host: a.example||" },
)]
#[test_macro(tokio::test)]
async fn who_says_no_more_is_answered_or_let_go(lines: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client.send(lines).await;
    client.0.get_mut().shutdown().await.unwrap();
    let all = client.all().await;
    let is_whole = lines.starts_with("POST /sum HTTP/1.1|Host: a.example|Content-Length: 3|");
    assert!(!is_whole || all.is_empty() || all.ends_with("\r\n\r\n3"), "{all}");
    site.until(|site| site.active() == 0).await;
    assert_eq!(site.get("/").await.body, "s0");
}

#[tokio::test]
async fn what_can_not_be_written_down_is_served_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    // No folder can be made there.
    std::fs::write(data.path().join("logs"), "").unwrap();
    let access = Some(AccessLog::start(data.path().to_owned()).unwrap());
    let settings = Settings { access, ..Settings::default() };
    let site = Site::with(1, 1, "route \"a.example\"", settings).await;
    let mut client = site.client().await;
    for _ in 0..500 {
        client.send("GET / HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "s0");
    }
    let mut full = site.client().await;
    full.send("GET / HTTP/1.1|Host: b.example||").await;
    assert_eq!(full.answer().await.status, 404);
}

//! What is passed on, and how.

use super::support::{Site, time_passes};
use crate::id::NodeId;
use std::collections::BTreeSet;
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn requests_go_to_every_replica_and_say_who_asks() {
    let site = Site::new(2, "route \"a.example\"").await;
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = site.get("/").await;
        assert_eq!(answer.status, 200);
        seen.insert(answer.body);
    }
    assert_eq!(seen, BTreeSet::from(["s0".to_owned(), "s1".to_owned()]));
    let forged = "GET /head HTTP/1.1|Host: a.example:80|X-Forwarded-For: 203.0.113.7|\
                  X-Real-IP: 203.0.113.7|X-Forwarded-Proto: https|X-Own: kept||";
    let told = site.ask(forged).await.body.to_lowercase();
    for line in [
        "host: a.example:80\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-host: a.example:80\r\n",
        "forwarded: for=127.0.0.1;host=\"a.example:80\";proto=http\r\n",
        "x-own: kept\r\n",
        "x-request-id: ",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert!(!told.contains("203.0.113.7"), "{told}");
}

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_come_early() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1|Host: a.example||").await;
        assert_eq!(client.answer().await.body, "s0");
    }
    let two = "GET /slow HTTP/1.1|Host: a.example||GET /empty HTTP/1.1|Host: a.example||";
    client.send(two).await;
    client.send("POST /sum HTTP/1.1|Host: a.example|Content-Length: 3||abc").await;
    assert_eq!(client.answer().await.body, "slow");
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(client.answer().await.body, "3");
    client.send("GET / HTTP/1.0|Host: a.example||").await;
    assert_eq!(client.answer().await.body, "s0");
    assert_eq!(client.some().await, "");
}

#[tokio::test]
async fn bodies_are_passed_on_as_they_come() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let size = 3 << 20;
    client.send(&format!("POST /sum HTTP/1.1|Host: a.example|Content-Length: {size}||")).await;
    client.0.write_all(&vec![b'x'; size]).await.unwrap();
    assert_eq!(client.answer().await.body, size.to_string());
    client.send("POST /sum HTTP/1.1|Host: a.example|Transfer-Encoding: chunked||").await;
    client.send("5|hello|6;x=y| world|0||").await;
    assert_eq!(client.answer().await.body, "11");
    client.send("GET /large HTTP/1.1|Host: a.example||").await;
    assert_eq!(client.answer().await.body.len(), 1 << 20);
    client.send("GET /chunks HTTP/1.1|Host: a.example||").await;
    assert_eq!(client.answer().await.body, "abc");
    client.send("HEAD / HTTP/1.1|Host: a.example||").await;
    let answer = client.answer_to_head().await;
    assert_eq!((answer.status, answer.header("content-length").as_deref()), (200, Some("2")));
    client.send("GET / HTTP/1.1|Host: a.example||").await;
    assert_eq!(client.answer().await.body, "s0");
}

#[tokio::test]
async fn a_client_that_waits_for_it_is_told_to_go_on() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let head = "POST /sum HTTP/1.1|Host: a.example|Expect: 100-continue|Content-Length: 3||";
    client.send(head).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("abc").await;
    assert_eq!(client.answer().await.body, "3");
}

#[tokio::test]
async fn a_stream_comes_event_by_event_and_has_no_time_out() {
    let site = Site::new(1, "route \"a.example\" timeout=\"1s\"").await;
    let mut client = site.client().await;
    client.send("GET /stream HTTP/1.1|Host: a.example||").await;
    let mut text = String::new();
    while !text.contains("data: one") {
        text += &client.some().await;
    }
    assert!(!text.contains("data: two"));
    while !text.contains("data: two") {
        let more = client.some().await;
        assert!(!more.is_empty(), "{text}");
        text += &more;
    }
}

#[tokio::test]
async fn another_protocol_passes_both_ways() {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    client
        .send(
            "GET /echo HTTP/1.1|Host: a.example|Connection: Upgrade|Upgrade: websocket|\
             Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||",
        )
        .await;
    assert_eq!(client.answer().await.status, 101);
    for word in ["one", "two", "three"] {
        client.send(word).await;
        let mut heard = String::new();
        while heard.len() < word.len() {
            heard += &client.some().await;
        }
        assert_eq!(heard, word);
    }
}

#[yare::parameterized(
    between_frames = { "81026869", "8102686988 0203e9" },
    at_once = { "", "880203e9" },
    within_a_frame = { "810268", "810268" },
    closed_already = { "880203e8", "880203e8" },
)]
#[test_macro(tokio::test)]
async fn a_websocket_that_ends_without_a_word_is_closed(sent: &str, got: &str) {
    let site = Site::new(1, "route \"a.example\"").await;
    let mut client = site.client().await;
    let head = format!(
        "GET /socket?{sent} HTTP/1.1|Host: a.example|Connection: Upgrade|Upgrade: websocket|\
         Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||"
    );
    client.send(&head).await;
    assert_eq!(client.answer().await.status, 101);
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut client.0, &mut bytes);
    let read = tokio::time::timeout(std::time::Duration::from_secs(20), read).await;
    read.expect("an end").unwrap();
    assert_eq!(hex::encode(&bytes), got.replace(' ', ""));
}

#[tokio::test]
async fn a_replica_that_refuses_is_left_out_and_another_asked() {
    let site = Site::with(2, 1, "route \"a.example\"", Default::default()).await;
    for _ in 0..30 {
        assert_eq!(site.get("/").await.body, "s0");
    }
    let alone = Site::with(1, 0, "route \"a.example\"", Default::default()).await;
    let answer = alone.get("/").await;
    assert_eq!((answer.status, answer.header("mill-error").as_deref()), (502, Some("connect")));
}

#[tokio::test]
async fn what_a_container_breaks_off_is_not_asked_twice() {
    let site = Site::new(2, "route \"a.example\"").await;
    let answer = site.ask("POST /drop HTTP/1.1|Host: a.example|Content-Length: 1||x").await;
    assert_eq!((answer.status, answer.header("mill-error").as_deref()), (502, Some("connect")));
    assert_eq!(site.get("/garbage").await.status, 502);
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_504_and_a_slow_upload_is_none() {
    let site = Site::new(1, "route \"a.example\" timeout=\"1s\"").await;
    let answer = site.get("/never").await;
    assert_eq!((answer.status, answer.header("mill-error").as_deref()), (504, Some("timeout")));
    let mut client = site.client().await;
    client.send("POST /sum HTTP/1.1|Host: a.example|Content-Length: 4||").await;
    for _ in 0..4 {
        time_passes(400).await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.body, "4");
}

#[tokio::test]
async fn requests_under_way_are_finished_when_the_proxy_stops() {
    let mut site = Site::new(1, "route \"a.example\"").await;
    let (mut busy, mut idle) = (site.client().await, site.client().await);
    idle.send("GET / HTTP/1.1|Host: a.example||").await;
    assert_eq!(idle.answer().await.body, "s0");
    busy.send("GET /slow HTTP/1.1|Host: a.example||").await;
    site.until(|site| site.active() == 1).await;
    let threads = site.threads.take().unwrap();
    let stopping = tokio::spawn(threads.stop());
    idle.send("GET / HTTP/1.1|Host: a.example||").await;
    let last = idle.answer().await;
    assert_eq!((last.status, last.header("connection").as_deref()), (200, Some("close")));
    assert_eq!(busy.answer().await.body, "slow");
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(site.http).await.is_err());
}

#[tokio::test]
async fn no_request_is_lost_while_replicas_come_and_go() {
    use crate::fsm::command::Action;
    let mut site = Site::new(3, "route \"a.example\"").await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(site.client().await);
    }
    for round in 0..12u32 {
        let at = |replica: u32| [127, 0, 0, 2 + u8::try_from(replica).unwrap()];
        let routable = site.case.state.allocations.values().filter(|a| a.is_routable());
        let ids: Vec<_> = routable.map(|a| (a.id.clone(), a.replica().unwrap())).collect();
        let (old, replica) = ids[round as usize % ids.len()].clone();
        site.case.act(Action::Drain { allocation: old });
        site.shared.show(&site.case.state, NodeId(1));
        for client in &mut clients {
            client.send("GET / HTTP/1.1|Host: a.example||").await;
        }
        for client in &mut clients {
            let answer = client.answer().await;
            assert_eq!(answer.status, 200);
            assert_ne!(answer.body, format!("s{replica}"), "it drains");
        }
        site.case.run_again("web", replica, at(replica), round);
        site.show();
    }
}

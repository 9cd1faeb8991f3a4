//! Bounds, clients that misbehave or leave, failures inside, and the end.

use super::support::{Node, PATIENCE};
use crate::actors::api::Bounds;
use crate::api::wire::HealthView;
use crate::fsm::model::DeployStatus;
use crate::limits;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

const FILE: &str = "service \"web\" {\n    image \"nginx:1\"\n}\n";

fn bounds() -> Bounds {
    Bounds {
        idle: Duration::from_millis(400),
        stranger_idle: Duration::from_millis(400),
        stall: Duration::from_millis(400),
        ..Default::default()
    }
}

/// Reads what comes until the server ends the connection.
async fn read_to_end(mut socket: TcpStream) -> String {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await;
    // A reset ends it as well as a close.
    let _ = read.expect("the connection ends");
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until a condition holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_sent() {
    let node = Node::start().await;
    let large = "#".repeat(limits::FILE_MAX + 1);
    let whole = node.local().send("POST", "/v1/deploy", large.clone()).await;
    assert_eq!((whole.status, whole.code().as_str()), (413, "too_large"));
    let frame = |chunk| Ok::<_, std::io::Error>(hyper::body::Frame::data(chunk));
    let chunks: Vec<_> =
        large.as_bytes().chunks(64 << 10).map(|c| frame(Bytes::copy_from_slice(c))).collect();
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(chunks));
    let chunked = node.local().open("POST", "/v1/deploy", body).await;
    assert_eq!(chunked.status().as_u16(), 413);
    let json = format!("{{\"role\": \"{}\"}}", "x".repeat(limits::API_JSON_MAX));
    let token = node.local().send("POST", "/v1/tokens", json).await;
    assert_eq!((token.status, token.code().as_str()), (413, "too_large"));
    let most = format!("{FILE}//{}", "x".repeat(limits::FILE_MAX - FILE.len() - 2));
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", most).await.status, 202);
}

#[tokio::test]
async fn too_many_connections_are_told_so_and_the_socket_stays_open() {
    let node = Node::with(Bounds { network: 2, ..Default::default() }).await;
    let token = node.token(crate::fsm::model::Role::Read);
    let request = |more: &str| {
        format!("GET /v1/nodes HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {token}\r\n{more}\r\n")
    };
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut socket = TcpStream::connect(node.tcp).await.unwrap();
        socket.write_all(request("").as_bytes()).await.unwrap();
        let mut first = [0; 16];
        socket.read_exact(&mut first).await.unwrap();
        held.push(socket);
    }
    let mut third = TcpStream::connect(node.tcp).await.unwrap();
    third.write_all(request("connection: close\r\n").as_bytes()).await.unwrap();
    let answer = read_to_end(third).await;
    assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
    assert!(answer.contains("\"code\":\"rate_limited\""), "{answer}");
    assert_eq!(node.local().get("/v1/health").await.status, 200);
    drop(held);
    until("a place is free again", async || {
        let mut socket = TcpStream::connect(node.tcp).await.unwrap();
        socket.write_all(request("connection: close\r\n").as_bytes()).await.unwrap();
        read_to_end(socket).await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

/// Slow heads and idle connections without a token, many more than there is room for.
#[tokio::test]
async fn whoever_shows_no_token_locks_nobody_out() {
    let node = Node::with(Bounds { strangers: [8, 4], ..Default::default() }).await;
    let token = node.token(crate::fsm::model::Role::Read);
    let mut held = Vec::new();
    let said: [&[u8]; 3] = [b"", b"GET /v1/hea", b"GET /v1/health HTTP/1.1\r\nhost: m\r\n\r\n"];
    for n in 0..40 {
        let mut socket = TcpStream::connect(node.tcp).await.unwrap();
        socket.write_all(said[n % 3]).await.unwrap();
        held.push(socket);
        if n % 10 == 0 {
            assert_eq!(node.network().token(&token).get("/v1/status").await.status, 200);
        }
    }
    assert_eq!(node.network().get("/v1/health").await.status, 200);
    // Those of the same source that came first had to go.
    read_to_end(held.remove(0)).await;
    drop(held);
}

#[tokio::test]
async fn one_token_s_streams_leave_room_for_others_and_the_socket() {
    let node = Node::with(Bounds { streams: 8, ..Default::default() }).await;
    let open = async |token: &str| {
        let client = node.network().token(token);
        let body = http_body_util::Empty::<Bytes>::new();
        client.open("GET", "/v1/events?follow", body).await
    };
    let mut held = Vec::new();
    let greedy = node.token(crate::fsm::model::Role::Read);
    for status in [200, 200, 429, 429] {
        let response = open(&greedy).await;
        assert_eq!(response.status().as_u16(), status);
        held.push(response);
    }
    let other = node.token(crate::fsm::model::Role::Read);
    assert_eq!(open(&other).await.status().as_u16(), 200);
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    assert_eq!(stream.next().await.unwrap().name, "accepted");
}

#[tokio::test]
async fn too_many_streams_are_refused_until_a_client_leaves() {
    let node = Node::with(Bounds { streams: 1, ..Default::default() }).await;
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    assert_eq!(stream.next().await.unwrap().name, "accepted");
    let second = node.local().get("/v1/deployments/1/events").await;
    assert_eq!((second.status, second.code().as_str()), (429, "rate_limited"));
    assert_eq!(second.header("retry-after"), "1");
    drop(stream);
    until("the stream's place is free", async || {
        let again = node.local();
        let body = http_body_util::Empty::<Bytes>::new();
        let response = again.open("GET", "/v1/deployments/1/events", body).await;
        response.status().as_u16() == 200
    })
    .await;
    node.finish(1, DeployStatus::Succeeded);
    until("the deployment went on", async || {
        node.local().get("/v1/deployments/1").await.body.contains("succeeded")
    })
    .await;
}

#[tokio::test]
async fn silent_and_slow_clients_are_cut_off() {
    let node = Node::with(bounds()).await;
    // Says nothing; says half a head; says one request and then nothing.
    let said: [&[u8]; 3] = [b"", b"GET /v1/hea", b"GET /v1/health HTTP/1.1\r\nhost: m\r\n\r\n"];
    for words in said {
        let mut socket = TcpStream::connect(node.tcp).await.unwrap();
        socket.write_all(words).await.unwrap();
        let answer = read_to_end(socket).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200 "), words.ends_with(b"\n"), "{answer}");
    }
    // A stream is no silence: it outlives the bound on it.
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    assert_eq!(stream.next().await.unwrap().name, "accepted");
    let begun = Instant::now();
    until("longer than the bound", async || begun.elapsed() > bounds().idle * 2).await;
    node.finish(1, DeployStatus::Succeeded);
    assert_eq!(stream.next().await.unwrap().name, "done");
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_a_stream_is_cut_off() {
    let node = Node::with(bounds()).await;
    // With room for little, so that it is soon full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(node.tcp).await.unwrap();
    let token = node.token(crate::fsm::model::Role::Read);
    let request =
        format!("GET /v1/logs?follow HTTP/1.1\r\nhost: m\r\nauthorization: Bearer {token}\r\n\r\n");
    let json = node.local().header("accept", "application/json");
    json.send("POST", "/v1/deploy", FILE).await;
    node.place("web", 0);
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 15];
    socket.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // Lines come until the sockets are full and the feed ends.
    until("the log's reader has left", async || {
        node.logs.more.send_modify(|n| *n += 1);
        node.logs.more.receiver_count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_disturbs_nobody() {
    let node = Node::start().await;
    for words in [
        "POST /v1/deploy HTTP/1.1\r\nhost: m\r\ncontent-length: 500\r\n\r\nservice",
        "POST /v1/images HTTP/1.1\r\nhost: m\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "POST /v1/deploy HTTP/1.1\r\nhost: m\r\n",
    ] {
        let path = node.directory.path().join("mill.sock");
        let mut socket = tokio::net::UnixStream::connect(path).await.unwrap();
        socket.write_all(words.as_bytes()).await.unwrap();
        drop(socket);
    }
    assert_eq!(node.local().get("/v1/health").await.status, 200);
    assert_eq!(node.state().last_revision.0, 0);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_an_error_document() {
    let node = Node::start().await;
    let file = "service \"web\" {\n    image \"panic\"\n}\n";
    let answer = node.local().send("POST", "/v1/deploy", file).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert_eq!(node.local().get("/v1/health").await.status, 200);
}

#[tokio::test]
async fn a_stop_ends_streams_and_waits_no_longer_than_its_bound() {
    let shutdown = Duration::from_millis(600);
    let node = Node::with(Bounds { shutdown, ..Default::default() }).await;
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    assert_eq!(stream.next().await.unwrap().name, "accepted");
    // A request that never ends.
    let path = node.directory.path().join("mill.sock");
    let mut stuck = tokio::net::UnixStream::connect(path).await.unwrap();
    let half = "POST /v1/deploy HTTP/1.1\r\nhost: m\r\ncontent-length: 50\r\n\r\nhalf";
    stuck.write_all(half.as_bytes()).await.unwrap();
    let begun = Instant::now();
    node.cell().stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    assert!(begun.elapsed() < shutdown * 5, "{:?}", begun.elapsed());
    assert_eq!(stream.next().await, None);
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest).await;
    // The sockets stay open for the next one, which goes on where this one stopped.
    node.boot().await;
    let mut again = node.local().events("GET", "/v1/deployments/1/events", "").await;
    assert_eq!(again.next().await.unwrap().name, "accepted");
    assert_eq!(node.network().get("/v1/health").await.status, 200);
}

#[tokio::test]
async fn a_killed_api_is_replaced_on_the_same_sockets() {
    let node = Node::start().await;
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    assert_eq!(stream.next().await.unwrap().name, "accepted");
    node.cell().kill();
    stream.broken().await;
    node.boot().await;
    let health: HealthView = node.network().get("/v1/health").await.json();
    assert_eq!(health.status.to_string(), "ready");
}

#[tokio::test]
async fn http_2_is_served_too() {
    let node = Node::start().await;
    let socket = TcpStream::connect(node.tcp).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get("http://mill/v1/health");
    let request = request.body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{\"status\":\"ready\""), "{body:?}");
}

#[tokio::test]
async fn who_still_writes_sees_an_early_answer() {
    let node = Node::start().await;
    let body = vec![b' '; 8 << 20];
    let request = |path: &str, close: &str| {
        format!("POST {path} HTTP/1.1\r\nhost: m\r\ncontent-length: {}\r\n{close}\r\n", body.len())
    };
    // Refused before its body is looked at, since there is no token.
    for path in ["/v1/deploy", "/v1/images", "/v1/volumes/v/data"] {
        let mut socket = tokio::net::TcpStream::connect(node.tcp).await.unwrap();
        socket.write_all(request(path, "connection: close\r\n").as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
    // The connection goes on, too.
    let path = node.directory.path().join("mill.sock");
    let mut socket = tokio::net::UnixStream::connect(path).await.unwrap();
    for close in ["", "connection: close\r\n"] {
        socket.write_all(request("/v1/volumes/v/data", close).as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
    }
    let mut answers = String::new();
    socket.read_to_string(&mut answers).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 404 ").count(), 2, "{answers}");
}

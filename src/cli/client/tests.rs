//! Tests of the client against a server that says what it is told to.

use super::*;
use crate::api::wire::ErrorCode;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A server that gives each connection the next answer, then closes it.
struct Script {
    target: Target,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (answers.to_vec(), Arc::clone(&requests));
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, &answer, &seen).await;
            }
        });
        Self { target: Target::Tcp { host: "127.0.0.1".to_owned(), port }, requests }
    }

    fn client(&self) -> Client {
        Client::new(vec![self.target.clone()], Some("secret".to_owned()))
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    seen: &Mutex<Vec<String>>,
) {
    let mut request = Vec::new();
    let whole = |request: &[u8]| {
        let text = String::from_utf8_lossy(request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.to_lowercase().lines().find_map(|line| {
            line.strip_prefix("content-length: ").and_then(|length| length.parse().ok())
        });
        body.len() >= length.unwrap_or(0)
    };
    while !whole(&request) {
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nmill-index: 7\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_carries_token_host_and_what_it_takes() {
    let server = Script::start(&[answer("200 OK", "{\"revision\":8}")]).await;
    let revision = server.client().scale("web", 3).await.unwrap().revision;
    assert_eq!(revision, 8);
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /v1/services/web/scale HTTP/1.1\r\n"), "{request}");
    for part in [
        format!("host: {}", server.target),
        "authorization: Bearer secret".to_owned(),
        "accept: application/json".to_owned(),
        "content-type: application/json".to_owned(),
    ] {
        assert!(request.contains(&format!("{part}\r\n")), "{part} in {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"replicas\":3}"), "{request}");
}

#[tokio::test]
async fn a_deploy_says_its_options_in_the_query() {
    let server = Script::start(&[answer("202 Accepted", "{\"revision\":1}")]).await;
    let options = DeployOptions {
        replace: true,
        images: vec!["web=r:5000/web:v2".to_owned()],
        plan: Some("4f9c2e71".to_owned()),
        idempotency_key: Some("k".to_owned()),
    };
    server.client().deploy_detached("app \"a\"".to_owned(), &options).await.unwrap();
    let request = server.requests().remove(0);
    let first =
        "POST /v1/deploy?plan=4f9c2e71&replace=true&image=web%3Dr%3A5000%2Fweb%3Av2 HTTP/1.1\r\n";
    assert!(request.starts_with(first), "{request}");
    assert!(request.contains("idempotency-key: k\r\n"), "{request}");
    assert!(request.contains("content-type: text/plain"), "{request}");
    assert!(request.ends_with("\r\n\r\napp \"a\""), "{request}");
}

#[tokio::test]
async fn a_refusal_is_the_apis_error() {
    let body = "{\"error\":{\"code\":\"not_found\",\"message\":\"no service web\",\"hint\":null}}";
    let server = Script::start(&[answer("404 Not Found", body)]).await;
    let error = server.client().service("web").await.unwrap_err();
    let ClientError::Api { status: 404, document } = &error else { panic!("{error}") };
    assert_eq!(document.error.code, ErrorCode::NotFound);
    assert_eq!((error.code(), error.text().as_str()), (1, "no service web"));
}

#[tokio::test]
async fn another_program_on_the_port_is_told_apart() {
    let server = Script::start(&[answer("502 Bad Gateway", "<html>")]).await;
    let error = server.client().status().await.unwrap_err();
    assert!(matches!(error, ClientError::Foreign { status: 502, .. }), "{error}");
    let server = Script::start(&[answer("200 OK", "<html>")]).await;
    let error = server.client().status().await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_lost_connection() {
    let server = Script::start(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned()]).await;
    let error = server.client().status().await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}

#[tokio::test]
async fn stale_answers_are_noticed() {
    let stale = "HTTP/1.1 200 OK\r\nmill-stale: true\r\ncontent-length: 2\r\n\r\n[]";
    let server = Script::start(&[answer("200 OK", "[]"), stale.to_owned()]).await;
    let client = server.client();
    client.tokens().await.unwrap();
    assert!(!client.saw_stale());
    client.tokens().await.unwrap();
    assert!(client.saw_stale());
}

#[tokio::test]
async fn the_first_place_that_answers_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let dead = directory.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let live = directory.path().join("live.sock");
    let listener = UnixListener::bind(&live).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        for _ in 0..2 {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, &answer("200 OK", "[]"), &log).await;
        }
    });
    let targets = vec![Target::Unix(dead), Target::Unix(live.clone())];
    let client = Client::new(targets, None);
    client.tokens().await.unwrap();
    client.tokens().await.unwrap();
    assert_eq!(client.chosen.get(), Some(&Target::Unix(live)));
    let request = seen.lock().unwrap().remove(0);
    assert!(request.contains("host: localhost\r\n"), "{request}");
    assert!(!request.contains("authorization"), "{request}");
}

#[tokio::test]
async fn nobody_anywhere_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.sock");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let tcp = Target::Tcp { host: "127.0.0.1".to_owned(), port: closed };
    let error = Client::new(vec![Target::Unix(missing.clone()), tcp.clone()], None).health().await;
    let error = error.unwrap_err();
    let expected = format!("No daemon at {} or {tcp}. Start: ", missing.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert_eq!(error.code(), 3);
}

fn event(id: u32, kind: &str) -> String {
    format!("id: {id}\nevent: {kind}\ndata: {{}}\n\n")
}

#[tokio::test]
async fn a_lost_stream_goes_on_after_the_last_event() {
    let server = Script::start(&[
        format!("{STREAM}{}{}id: 3\nevent: cut", event(1, "a"), event(2, "b")),
        // Torn down before any event: asked for again with the same id.
        STREAM.to_owned(),
        format!("{STREAM}{}", event(3, "c")),
    ])
    .await;
    let client = server.client();
    let mut events = Resuming::new(&client, "/v1/deployments/8/events", true);
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        kinds.push(events.next().await.unwrap().unwrap().event);
    }
    assert_eq!(kinds, ["a", "b", "c"]);
    let last: Vec<bool> =
        server.requests().iter().map(|request| request.contains("last-event-id: 2\r\n")).collect();
    assert_eq!(last, [false, true, true]);
}

#[tokio::test]
async fn a_stream_with_an_end_ends() {
    let server = Script::start(&[format!("{STREAM}: hello\n\n{}", event(1, "a"))]).await;
    let client = server.client();
    let mut events = Resuming::new(&client, "/v1/logs/web", false);
    assert!(events.next().await.unwrap().is_some());
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn an_endless_stream_without_more_to_come_ends() {
    let mut answers = vec![format!("{STREAM}{}", event(1, "a"))];
    answers.extend(std::iter::repeat_n(STREAM.to_owned(), 4));
    let server = Script::start(&answers).await;
    let client = server.client();
    let mut events = Resuming::new(&client, "/v1/logs/web?follow=true", true);
    assert!(events.next().await.unwrap().is_some());
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_that_is_refused_is_not_asked_for_again() {
    let body = "{\"error\":{\"code\":\"not_found\",\"message\":\"no web\",\"hint\":null}}";
    let server = Script::start(&[answer("404 Not Found", body)]).await;
    let client = server.client();
    let error = Resuming::new(&client, "/v1/logs/web", true).next().await.unwrap_err();
    assert!(matches!(error, ClientError::Api { status: 404, .. }), "{error}");
}

#[test]
fn queries_are_escaped() {
    let pairs = [("a", Some("x y&=/ä".to_owned())), ("b", None), ("c", Some("1".to_owned()))];
    assert_eq!(query("/p", &pairs), "/p?a=x%20y%26%3D%2F%C3%A4&c=1");
}

/// As a daemon that is restarted: it takes a connection and says nothing, twice.
#[tokio::test]
async fn a_restart_is_asked_for_once_and_waited_for_over_the_daemons_own() {
    let nothing = String::new();
    let answers = [nothing.clone(), nothing, answer("202 Accepted", "{}")];
    let server = Script::start(&answers).await;
    let client = server.client();
    patiently(async || client.restart_service("web", "k1").await).await.unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|one| one.contains("idempotency-key: k1\r\n")), "{requests:?}");
}

#[tokio::test]
async fn lines_are_asked_for_again_with_an_overlap_and_come_once() {
    let line = |ts: u64, text: &str| {
        let allocation = if text.starts_with('a') { "a" } else { "b" };
        let data = serde_json::json!({
            "ts": "", "stream": "stdout", "line": text, "allocation": allocation, "node": "",
        });
        format!("data: {data}\nid: {ts}\n\n")
    };
    const S: u64 = 1_000_000_000;
    let first = format!("{STREAM}{}{}", line(20 * S, "a1"), line(19 * S, "b1"));
    let note = "data: {\"ts\":\"\",\"stream\":\"event\",\"line\":\"n2 is back\",\
                \"allocation\":\"\",\"node\":\"n2\"}\n\n";
    let second = format!("{STREAM}{note}{}{}", line(19 * S, "b1"), line(20 * S, "a1"));
    let third = format!("{STREAM}{}{}", line(20 * S, "a1"), line(20 * S + 1, "b2"));
    let server = Script::start(&[first, second, third]).await;
    let client = server.client();
    let mut lines = Resuming::lines(&client, "/v1/logs/web?follow=true", true);
    let mut texts = Vec::new();
    while texts.len() < 4 {
        let event = lines.next().await.unwrap().unwrap();
        let view: crate::api::wire::LogLineView = event.decode().unwrap();
        texts.push(view.line);
    }
    assert_eq!(texts, ["a1", "b1", "n2 is back", "b2"]);
    let again = format!("last-event-id: {}\r\n", 10 * S);
    assert!(server.requests()[1..].iter().all(|one| one.contains(&again)), "{again}");
}

#[yare::parameterized(
    name = { "nope", io::ErrorKind::Other, "Can't reach nope:4400: host not found" },
    refused = { "10.0.0.9", io::ErrorKind::ConnectionRefused,
        "Can't reach 10.0.0.9:4400: connection refused" },
    silent = { "10.0.0.9", io::ErrorKind::TimedOut, "Can't reach 10.0.0.9:4400: no answer" },
)]
fn another_machine_is_named_with_why(host: &str, kind: io::ErrorKind, expected: &str) {
    let target = Target::Tls { host: host.to_owned(), port: 4400 };
    let error = connect::unreachable(&target, &io::Error::from(kind).into()).unwrap();
    assert_eq!((error.to_string().as_str(), error.code()), (expected, 3));
    let here = Target::Tcp { host: "127.0.0.1".to_owned(), port: 1 };
    assert!(connect::unreachable(&here, &io::Error::from(kind).into()).is_none());
}

#[test]
fn a_service_of_systemd_is_named_where_there_is_one() {
    let text = |installed| ClientError::NoDaemon { tried: vec!["/s".to_owned()], installed };
    let expected = "No daemon at /s. Start: sudo mill dev; remote: --address";
    assert_eq!(text(false).to_string(), expected);
    assert!(text(true).to_string().contains("sudo mill dev or systemctl start mill"));
}

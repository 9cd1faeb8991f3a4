//! HTTP/2: from clients, to containers, and what clients must not do with it.

use super::support::Site;
use crate::actors::proxy::shared::Settings;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

/// The client's first bytes, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// A request for `https://a.example/` (RFC 7541, appendix A).
const HEAD: &[u8] = b"\x82\x84\x87\x41\x09a.example";

/// A connection that speaks HTTP/2.
async fn connect(site: &Site) -> TlsStream<TcpStream> {
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = rustls::crypto::ring::default_provider();
    let chain = vec![made.cert.der().clone()];
    let shown = rustls::sign::CertifiedKey::from_der(chain, key, &provider).unwrap();
    site.shared.certificates.set([("a.example".to_owned(), Arc::new(shown))].into());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(site.https).await.unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn client(site: &Site) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(connect(site).await);
    let (sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(path: &str, body: &'static [u8]) -> Request<Full<Bytes>> {
    let request = Request::post(format!("https://a.example{path}"));
    let request = request.header("te", "trailers").header("content-type", "application/grpc");
    request.body(Full::new(Bytes::from_static(body))).unwrap()
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let site = Site::new(1, "route \"a.example\" redirect=#false").await;
    let client = client(&site).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..20 {
        let mut client = client.clone();
        let path = if n % 2 == 0 { "/slow" } else { "/head" };
        asked.spawn(async move {
            let answer = client.send_request(post(path, b"")).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap().to_bytes()
        });
    }
    while let Some(body) = asked.join_next().await {
        let text = String::from_utf8(body.unwrap().to_vec()).unwrap().to_lowercase();
        assert!(text == "slow" || text.contains("x-forwarded-proto: https\r\n"), "{text}");
    }
}

/// A server that speaks HTTP/2 only: it says what it got, and then trailers as gRPC has them.
async fn grpc(listener: TcpListener) {
    let answer = service_fn(|request: Request<Incoming>| async move {
        let te = request.headers().get("te").cloned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("grpc-message", te.unwrap());
        let frames = [Frame::data(body), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        Response::builder().header("content-type", "application/grpc").body(body)
    });
    while let Ok((stream, _)) = listener.accept().await {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

#[tokio::test]
async fn grpc_keeps_its_trailers() {
    let route = "route \"a.example\" upstream=\"h2c\"";
    let site = Site::with(1, 0, route, Settings::default()).await;
    let address = site.shared.routes().rules().next().unwrap().replicas[0].address;
    let serving = tokio::spawn(grpc(TcpListener::bind(address).await.unwrap()));
    let mut client = client(&site).await;
    for word in [&b"one"[..], b"two"] {
        let answer = client.send_request(post("/pkg.Service/Method", word)).await.unwrap();
        assert_eq!(answer.status(), 200);
        let whole = answer.into_body().collect().await.unwrap();
        let trailers = whole.trailers().cloned().unwrap();
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"0".parse().unwrap(), &"trailers".parse().unwrap())
        );
        assert_eq!(whole.to_bytes(), word);
    }
    serving.abort();
}

/// Writes frames until the other side has enough; whether it said goodbye.
async fn flood(site: &Site, first: &[u8], frames: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut stream = connect(site).await;
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(first).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(stream);
    let write = async {
        for n in 0..200_000 {
            if writing.write_all(&frames(n)).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut all = Vec::new();
        // An end with an error is an end.
        let _ = reading.read_to_end(&mut all).await;
        all
    };
    let whole = async {
        let forever = async {
            write.await;
            std::future::pending().await
        };
        tokio::select! { all = read => all, () = forever => Vec::new() }
    };
    let all = tokio::time::timeout(Duration::from_secs(60), whole).await.expect("an end");
    goes_away(&all)
}

/// Whether a GOAWAY is among the frames.
fn goes_away(mut bytes: &[u8]) -> bool {
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        if bytes[3] == 7 {
            return true;
        }
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    false
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let site = Site::new(1, "route \"a.example\" redirect=#false").await;
    let reset = |n: u32| {
        let stream = 2 * n + 1;
        [frame(1, 0x5, stream, HEAD), frame(3, 0, stream, &8u32.to_be_bytes())].concat()
    };
    assert!(flood(&site, &[], reset).await, "it is told to go away");
    site.until(|site| site.active() == 0).await;
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let site = Site::new(1, "route \"a.example\" redirect=#false").await;
    let header = |n: u32| {
        let name = format!("x-{n:08}");
        let mut text = vec![0, u8::try_from(name.len()).unwrap()];
        text.extend(name.as_bytes());
        text.extend([0x7f, 0x81, 0x01]);
        text.extend([b'y'; 256]);
        frame(9, 0, 1, &text)
    };
    let begun = frame(1, 0x1, 1, HEAD);
    let _ = flood(&site, &begun, header).await;
    assert_eq!(site.get("/").await.status, 200);
}

#[tokio::test]
async fn an_early_answer_ends_its_stream_and_no_other() {
    let site = Site::new(1, "route \"a.example\" redirect=#false").await;
    let io = TokioIo::new(connect(&site).await);
    let (mut sender, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let chunks = |count: usize| {
        let chunk = Bytes::from(vec![b'x'; 16_384]);
        let chunks = std::iter::repeat_n(chunk, count);
        StreamBody::new(stream::iter(chunks.map(|one| Ok::<_, Infallible>(Frame::data(one)))))
    };
    for (path, size, status) in [("/early", 500, 413), ("/sum", 20, 200), ("/early", 1, 413)] {
        let request = Request::post(format!("https://a.example{path}")).body(chunks(size)).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        if status == 200 {
            assert_eq!(body, (size * 16_384).to_string());
        }
    }
    site.until(|site| site.active() == 0).await;
}

/// A server that speaks HTTP/2 only, and takes back what it has begun. Counts what it was asked.
async fn fickle(listener: TcpListener, count: Arc<AtomicU32>) {
    while let Ok((stream, _)) = listener.accept().await {
        let count = Arc::clone(&count);
        let answer = service_fn(move |request: Request<Incoming>| {
            let count = Arc::clone(&count);
            async move {
                count.fetch_add(1, Ordering::Relaxed);
                let path = request.uri().path().to_owned();
                let _ = request.into_body().collect().await;
                let frames = match path.as_str() {
                    "/none" => return Err(std::io::Error::other("reset")),
                    "/half" => vec![
                        Ok(Frame::data(Bytes::from_static(b"half"))),
                        Err(std::io::Error::other("reset")),
                    ],
                    _ => vec![Ok(Frame::data(Bytes::from_static(b"whole")))],
                };
                let body = StreamBody::new(stream::iter(frames));
                Ok(Response::new(body))
            }
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
    }
}

#[tokio::test]
async fn a_stream_that_a_container_takes_back_is_an_error_of_that_stream() {
    let route = "route \"a.example\" upstream=\"h2c\"";
    let site = Site::with(1, 0, route, Settings::default()).await;
    let address = site.shared.routes().rules().next().unwrap().replicas[0].address;
    let asked = Arc::new(AtomicU32::new(0));
    let listener = TcpListener::bind(address).await.unwrap();
    let serving = tokio::spawn(fickle(listener, Arc::clone(&asked)));
    let mut client = client(&site).await;
    for round in 1..=3 {
        let answer = client.send_request(post("/none", b"x")).await.unwrap();
        assert_eq!(answer.status(), 502, "round {round}");
        let _ = answer.into_body().collect().await;
        let answer = client.send_request(post("/half", b"x")).await.unwrap();
        // Where the end comes together with the head it is known before anything is passed on.
        let status = answer.status().as_u16();
        assert!([200, 502].contains(&status), "{status}");
        let body = answer.into_body().collect().await;
        assert!(status == 502 || body.is_err(), "half is not whole");
        let answer = client.send_request(post("/", b"x")).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "whole");
        assert_eq!(asked.load(Ordering::Relaxed), 3 * round, "nothing is asked twice");
    }
    site.until(|site| site.active() == 0).await;
    serving.abort();
}

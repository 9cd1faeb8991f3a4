//! HTTPS: which certificate a client sees, and who sees none.

use super::support::Site;
use crate::actors::proxy::certs::ByHost;
use crate::actors::proxy::shared::Settings;
use crate::fsm::certificates::{CertificateChange, Claim, Shown};
use crate::fsm::{Command, apply_next};
use crate::id::{BootId, NodeId};
use crate::node::certificates::read;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, RootCertStore};
use rustls::{SignatureScheme, SupportedProtocolVersion, version};
use sha2::Digest as _;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate for a name that trusts itself.
fn certificate(name: &str) -> (CertificateDer<'static>, Arc<rustls::sign::CertifiedKey>) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let pair = read::pair(&made.pem(), &key.serialize_pem()).unwrap();
    (made.der().clone(), Arc::new(pair))
}

/// What a client trusts and speaks.
fn client(
    trusted: &[&CertificateDer<'static>],
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|one| roots.add((*one).clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

async fn connect(
    site: &Site,
    name: &str,
    config: impl Into<Arc<ClientConfig>>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(site.https).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.into()).connect(name, stream).await
}

/// Trusts everybody, to see what they show.
#[derive(Debug)]
struct Sees;

impl ServerCertVerifier for Sees {
    fn verify_server_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _own: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _own: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

#[tokio::test]
async fn a_host_is_served_by_its_certificate_and_others_by_none() {
    let site = Site::new(1, "route \"a.example\"\n route \"*.b.example\"").await;
    let ((own, pair), (wild, wild_pair)) = (certificate("a.example"), certificate("*.b.example"));
    let all = [("a.example".to_owned(), pair), ("*.b.example".to_owned(), wild_pair)];
    site.shared.serve_by(ByHost::from(all));
    for (versions, spoken) in
        [(&BOTH[..1], ProtocolVersion::TLSv1_2), (&BOTH[1..], ProtocolVersion::TLSv1_3)]
    {
        let config = client(&[&own, &wild], versions, &["h2", "http/1.1"]);
        let stream = connect(&site, "a.example", config).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    }
    let plain = || client(&[&own, &wild], &BOTH, &["http/1.1"]);
    assert!(connect(&site, "x.b.example", plain()).await.is_ok());
    for name in ["other.example", "x.y.b.example", "b.example", "127.0.0.1"] {
        assert!(connect(&site, name, plain()).await.is_err(), "{name}");
    }

    let ask = async |name: &str, host: &str| {
        let mut stream = connect(&site, name, plain()).await.unwrap();
        let request = format!("GET /head HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    };
    let other = ask("a.example", "x.b.example").await;
    assert!(other.starts_with("HTTP/1.1 421 "), "made for another host: {other}");
    let same = ask("x.b.example", "y.b.example").await;
    assert!(same.starts_with("HTTP/1.1 200 "), "of the same certificate: {same}");
    let answer = ask("a.example", "a.example").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.to_lowercase().contains("x-forwarded-proto: https\r\n"), "{answer}");

    // Another one takes its place without a restart.
    let (next, pair) = certificate("a.example");
    site.shared.serve_by(ByHost::from([("a.example".to_owned(), pair)]));
    assert!(connect(&site, "a.example", plain()).await.is_err(), "the old one is not shown");
    assert!(connect(&site, "a.example", client(&[&next], &BOTH, &[])).await.is_ok());
    assert!(connect(&site, "x.b.example", plain()).await.is_err(), "its certificate is gone");
}

#[tokio::test]
async fn who_comes_again_needs_no_whole_handshake_but_a_host_that_is_served() {
    let site = Site::new(1, "route \"a.example\"").await;
    for version in BOTH {
        let (own, pair) = certificate("a.example");
        site.shared.serve_by(ByHost::from([("a.example".to_owned(), pair)]));
        let config = Arc::new(client(&[&own], &[version], &["http/1.1"]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut stream = connect(&site, "a.example", Arc::clone(&config)).await.unwrap();
            stream.write_all(b"GET /head HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
            answer(&mut stream).await;
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(kind), "{version:?}");
        }
        site.shared.serve_by(ByHost::new());
        assert!(connect(&site, "a.example", config).await.is_err(), "it is served no more");
    }
}

/// Reads an answer with a length: its body.
async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn requests_follow_each_other_over_a_connection() {
    let site = Site::new(1, "route \"a.example\"").await;
    let (own, pair) = certificate("a.example");
    site.shared.serve_by(ByHost::from([("a.example".to_owned(), pair)]));
    let config = client(&[&own], &BOTH, &["http/1.1"]);
    let mut stream = connect(&site, "a.example", config).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(&mut stream);
    let write = async {
        for size in [0, 3, 20_000, 300_000] {
            let get = "GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n";
            let post = format!(
                "POST /sum HTTP/1.1\r\nHost: a.example\r\nContent-Length: {size}\r\n\r\n{}",
                "x".repeat(size)
            );
            writing.write_all(format!("{get}{post}").as_bytes()).await.unwrap();
            writing.flush().await.unwrap();
        }
    };
    let read = async {
        for size in [0, 3, 20_000, 300_000] {
            assert_eq!(answer(&mut reading).await.len(), 1 << 20);
            assert_eq!(answer(&mut reading).await, size.to_string());
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn http_leads_to_https_once_there_is_a_certificate() {
    let routes = "route \"a.example\"\n route \"p.example\" redirect=#false";
    let settings = Settings { https_port: 8443, ..Settings::default() };
    let site = Site::with(1, 1, routes, settings).await;
    assert_eq!(site.get("/x?y").await.status, 200, "there is none yet");
    let all = ["a.example", "p.example"].map(|name| (name.to_owned(), certificate(name).1));
    site.shared.serve_by(ByHost::from(all));
    let moved = site.get("/x?y").await;
    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location").unwrap(), "https://a.example:8443/x?y");
    assert_eq!(site.ask("GET / HTTP/1.1|Host: p.example||").await.status, 200);
    assert_eq!(site.ask("GET / HTTP/1.1|Host: other.example||").await.status, 404);
}

#[tokio::test]
async fn an_authority_sees_what_an_order_shows_whatever_the_host() {
    let mut site = Site::new(1, "route \"a.example\"").await;
    let claim = Claim { node: NodeId(1), boot: BootId(1), number: 1 };
    let host = "a.example".to_owned();
    let shown = Shown { token: "t0k-en".to_owned(), authorization: "t0k-en.print".to_owned() };
    let make = CertificateChange::Claim { host: host.clone(), claim, over: None };
    let show = CertificateChange::Show { host, claim, shown };
    for change in [make, show] {
        let time = site.case.state.time;
        let _ = apply_next(&mut site.case.state, time, Command::Certificates(change)).outcome;
    }
    site.shared.show_answers(&site.case.state);
    let path = "/.well-known/acme-challenge/";
    for host in ["a.example", "other.example"] {
        let seen = site.ask(&format!("GET {path}t0k-en HTTP/1.1|Host: {host}||")).await;
        assert_eq!((seen.status, seen.body.as_str()), (200, "t0k-en.print"), "{host}");
    }
    // The same over TLS; whoever asks for anything else sees nothing of it.
    let config = || {
        let mut config = client(&[], &BOTH, &["acme-tls/1"]);
        config.dangerous().set_certificate_verifier(Arc::new(Sees));
        config
    };
    let seen = connect(&site, "a.example", config()).await.unwrap();
    let pairs = seen.get_ref().1.peer_certificates().unwrap();
    let digest = sha2::Sha256::digest(b"t0k-en.print");
    assert!(pairs[0].windows(32).any(|bytes| bytes == digest.as_slice()), "what it looks for");
    assert!(connect(&site, "other.example", config()).await.is_err());
    assert!(connect(&site, "a.example", client(&[], &BOTH, &[])).await.is_err());
    let other = site.get(&format!("{path}other")).await;
    assert_eq!(other.body, "s0", "a container may have orders of its own");
}

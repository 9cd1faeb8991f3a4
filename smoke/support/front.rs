//! What stands before an authority, and adds what pebble doesn't do: renewal information, refusals
//! for a time, and orders that take as long as a test likes.
//!
//! Owns its thread, which ends with it. Never answers what the authority can answer.

use super::pebble::Pebble;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// What it does beside passing on.
#[derive(Clone, Default)]
pub struct Manner {
    /// When certificates are to be renewed, RFC 3339; absent: it has no renewal information.
    pub window: Option<(String, String)>,
    /// New orders are refused, with this `Retry-After`.
    pub refuses: Option<&'static str>,
    /// Orders aren't finalized as long as it is so.
    pub holds: bool,
}

/// A server before an authority.
pub struct Front {
    manner: watch::Sender<Manner>,
    asked: Arc<Mutex<Vec<String>>>,
    address: String,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What its connections share.
struct Shared {
    manner: watch::Receiver<Manner>,
    asked: Arc<Mutex<Vec<String>>>,
    client: reqwest::Client,
    behind: String,
}

impl Front {
    /// Before that authority, on the same machine.
    #[must_use]
    pub fn new(pebble: &Pebble, namespace: Option<PathBuf>) -> Self {
        let (manner, seen) = watch::channel(Manner::default());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let behind = pebble.place();
        let place = behind.rsplit_once(':').unwrap().0.to_owned();
        let listed = Arc::clone(&asked);
        let acceptor = acceptor(pebble);
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(pebble.ca()).unwrap()).unwrap();
        let (told, address) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            if let Some(path) = namespace {
                setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            }
            let builder = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy();
            let client = builder.build().unwrap();
            let shared = Arc::new(Shared { manner: seen, asked: listed, client, behind });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = tokio::net::TcpListener::bind(format!("{place}:0")).await.unwrap();
                told.send(listener.local_addr().unwrap().to_string()).unwrap();
                tokio::select! {
                    () = serve(listener, acceptor, shared) => {}
                    _ = ended => {}
                }
            });
        });
        let address = address.recv().unwrap();
        Self { manner, asked, address, end: Some(end), thread: Some(thread) }
    }

    /// The directory as it is seen from here.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// Does something else from now on.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        self.manner.send_modify(change);
    }

    /// The requests that came so far and have this in them: method, path, and of new orders what
    /// they replace.
    #[must_use]
    pub fn asked(&self, part: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.contains(part)).cloned().collect()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_none_or(|end| end.is_ok()) || std::thread::panicking());
    }
}

fn acceptor(pebble: &Pebble) -> tokio_rustls::TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let [certificate, key] = pebble.own().map(|path| std::fs::read(path).unwrap());
    let chain = CertificateDer::pem_slice_iter(&certificate).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    Arc::new(config.with_single_cert(chain, key).unwrap()).into()
}

async fn serve(
    listener: tokio::net::TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    shared: Arc<Shared>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answer = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            // A client may go at any time.
            let _ = http.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (path, host) = (parts.uri.path().to_owned(), parts.headers[HOST].clone());
        let is_order = path == "/order-plz";
        let replaces = is_order.then(|| replaced(&body)).flatten();
        let line = format!("{} {path} {}", parts.method, replaces.clone().unwrap_or_default());
        self.asked.lock().unwrap().push(line.trim_end().to_owned());
        let mut manner = self.manner.clone();
        if path.starts_with("/finalize-order/") {
            manner.wait_for(|manner| !manner.holds).await.unwrap();
        }
        let manner = manner.borrow().clone();
        if let Some(window) = manner.window.as_ref().filter(|_| path.starts_with("/renewal/")) {
            let window = json!({ "suggestedWindow": { "start": window.0, "end": window.1 } });
            return Response::builder()
                .header("Retry-After", "21600")
                .body(whole(&window))
                .unwrap();
        }
        let url = format!("https://{}{path}", self.behind);
        let asked = self.client.request(parts.method, url).headers(parts.headers).body(body);
        let answer = asked.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        *response.headers_mut().unwrap() = answer.headers().clone();
        let bytes = answer.bytes().await.unwrap();
        if let Some(wait) = manner.refuses.filter(|_| is_order) {
            let kind = "urn:ietf:params:acme:error:rateLimited";
            let told = json!({ "type": kind, "detail": "too many orders", "status": 429 });
            response = response.status(429).header("Retry-After", wait);
            response.headers_mut().unwrap().remove("content-length");
            return response.body(whole(&told)).unwrap();
        }
        let mut document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match (path.as_str(), replaces, manner.window) {
            ("/dir", _, Some(_)) => {
                document["renewalInfo"] =
                    format!("https://{}/renewal", host.to_str().unwrap()).into();
            }
            ("/order-plz", Some(replaces), _) => document["replaces"] = replaces.into(),
            _ => return response.body(Full::new(bytes)).unwrap(),
        }
        response.headers_mut().unwrap().remove("content-length");
        response.body(whole(&document)).unwrap()
    }
}

fn whole(document: &Value) -> Full<Bytes> {
    Full::new(document.to_string().into())
}

/// The certificate that a new order replaces.
fn replaced(body: &[u8]) -> Option<String> {
    let signed: Value = serde_json::from_slice(body).ok()?;
    let payload = URL_SAFE_NO_PAD.decode(signed["payload"].as_str()?).ok()?;
    let order: Value = serde_json::from_slice(&payload).ok()?;
    order["replaces"].as_str().map(str::to_owned)
}

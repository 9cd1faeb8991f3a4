//! How an authority is spoken to: a client with a bound for each call.
//!
//! Owns whom the directory's own certificate is trusted by, and how long an authority wants to be
//! left alone. Never reads what else is said.

use crate::actors::platform;
use crate::limits;
use crate::units::{Millis, retry_after};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Request, Response, StatusCode};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::cell::Cell;
use std::path::Path;
use std::pin::Pin;

/// As whom the client introduces itself.
const AGENT: &str = concat!("mill/", env!("CARGO_PKG_VERSION"));

/// What an authority says to whom it has given enough, whatever the status.
const LIMITED: &[u8] = b"urn:ietf:params:acme:error:rateLimited";

tokio::task_local! {
    /// How long it asked to be left alone, in its last answer to this order.
    static ASKED: Cell<Option<Millis>>;
}

/// What comes of an order, and how long the authority asked for with the last word of it.
pub(super) async fn heeding<T>(order: impl Future<Output = T>) -> (T, Option<Millis>) {
    let heard = async { (order.await, ASKED.with(Cell::take)) };
    ASKED.scope(Cell::default(), heard).await
}

/// How long an answer asks to be left alone; absent: it isn't one of those that do.
fn asked(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Millis> {
    let is_limit =
        || !status.is_success() && body.windows(LIMITED.len()).any(|part| part == LIMITED);
    let refuses = matches!(status.as_u16(), 429 | 503) || is_limit();
    let text = headers.get(RETRY_AFTER).filter(|_| refuses)?.to_str().ok()?;
    retry_after(text, platform::now())
}

/// A client of an authority.
pub(super) struct Client(reqwest::Client);

impl Client {
    /// One that trusts whom the file names, else whom the host trusts.
    ///
    /// # Errors
    /// The file can't be read, or names nobody.
    pub(super) fn new(ca: Option<&Path>) -> Result<Self, String> {
        // A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let builder = reqwest::Client::builder().user_agent(AGENT);
            builder.timeout(limits::ACME_CALL).connect_timeout(limits::ACME_CALL / 2)
        };
        let built = match ca {
            Some(path) => builder().tls_certs_only(named(path)?).build(),
            // A host without certificates of its own: those that the program brings.
            None => builder().build().or_else(|_| builder().tls_certs_only(embedded()).build()),
        };
        built.map(Self).map_err(|error| error.to_string())
    }
}

fn named(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let told = |why: &dyn std::fmt::Display| format!("--acme-ca {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| told(&error))?;
    let mut all = Vec::new();
    for der in CertificateDer::pem_slice_iter(&pem) {
        let der = der.map_err(|error| told(&error))?;
        all.push(reqwest::Certificate::from_der(&der).map_err(|error| told(&error))?);
    }
    if all.is_empty() { Err(told(&"no certificate is in it")) } else { Ok(all) }
}

fn embedded() -> Vec<reqwest::Certificate> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    all.filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect()
}

/// That the authority can't be reached, in few words.
fn unreached(error: &reqwest::Error) -> Error {
    let place = error.url().map(|url| {
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    });
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let why = if error.is_timeout() { "it took too long".to_owned() } else { cause.to_string() };
    Error::Other(format!("no answer from {}: {why}", place.unwrap_or_default()).into())
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let http = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            // It can't fail: all of it is there.
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let request = Request::from_parts(parts, body);
            let other = |error: reqwest::Error| unreached(&error);
            let request = reqwest::Request::try_from(request).map_err(other)?;
            let answer = http.execute(request).await.map_err(other)?;
            let mut response = Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            let bytes = answer.bytes().await.map_err(other)?;
            let wanted = asked(response.status(), response.headers(), &bytes);
            // Outside of an order nobody waits.
            let _ = ASKED.try_with(|asked| asked.set(wanted));
            Ok(BytesResponse::from(response.map(|()| Full::new(bytes))))
        })
    }
}

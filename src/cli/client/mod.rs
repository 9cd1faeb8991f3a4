//! The HTTP client of the API: one connection a request, over a UNIX socket or TCP.
//!
//! Owns finding the daemon, requests, and what their failures mean. Never prints, never decides
//! what a command does with an answer.

mod connect;
mod events;
mod failure;
mod kept;
mod routes;
mod socket;
pub mod sse;

pub use events::{Events, Resuming, patiently};
pub use failure::ClientError;
use failure::no_daemon;
pub use routes::DeployOptions;
pub use socket::Socket;

use super::globals::Target;
use super::shown;
use crate::api::wire::{ErrorCode, ErrorDocument};
use crate::limits;
use bytes::Bytes;
pub use connect::Untrusted;
use connect::{ConnectError, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::timeout;

#[cfg(test)]
mod tests;

/// What a request carries.
pub type RequestBody = BoxBody<Bytes, std::io::Error>;

/// A request that is being made up.
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(HeaderName, String)>,
    body: RequestBody,
    patient: bool,
}

impl Call {
    /// Without a body.
    #[must_use]
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let body = Empty::new().map_err(|never| match never {}).boxed();
        Self { method, path: path.into(), headers: Vec::new(), body, patient: false }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((HeaderName::from_static(name), value.into()));
        self
    }

    /// With a text as body.
    #[must_use]
    pub fn text(self, text: String) -> Self {
        self.full("text/plain; charset=utf-8", text.into_bytes())
    }

    /// With JSON as body.
    #[must_use]
    pub fn json<T: Serialize>(self, value: &T) -> Self {
        self.full("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    /// With these bytes as body.
    #[must_use]
    pub fn bytes(self, kind: &str, bytes: Vec<u8>) -> Self {
        self.full(kind, bytes)
    }

    fn full(self, kind: &str, bytes: Vec<u8>) -> Self {
        self.stream(kind, Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed())
    }

    /// With a body of any length.
    #[must_use]
    pub fn stream(mut self, kind: &str, body: RequestBody) -> Self {
        self.headers.push((CONTENT_TYPE, kind.to_owned()));
        self.body = body;
        self
    }

    /// The answer may take as long as it likes.
    #[must_use]
    pub fn without_timeout(mut self) -> Self {
        self.patient = true;
        self
    }
}

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    targets: Vec<Target>,
    token: Option<String>,
    chosen: OnceLock<Target>,
    stale: AtomicBool,
    /// Answers are kept as they are, instead of for a person to read.
    verbatim: bool,
}

impl Client {
    /// For the first of the places where a daemon answers.
    #[must_use]
    pub fn new(targets: Vec<Target>, token: Option<String>) -> Self {
        let stale = AtomicBool::new(false);
        Self { targets, token, chosen: OnceLock::new(), stale, verbatim: false }
    }

    /// The same, with answers as they are, for programs: control characters in them stay.
    #[must_use]
    pub fn verbatim(self, verbatim: bool) -> Self {
        Self { verbatim, ..self }
    }

    /// Whether an answer so far could not be confirmed with the leader.
    #[must_use]
    pub fn saw_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// The same since it was last asked.
    pub fn take_stale(&self) -> bool {
        self.stale.swap(false, Ordering::Relaxed)
    }

    /// The typed answer of a request.
    ///
    /// # Errors
    /// No daemon, a refusal, a lost connection, or another shape.
    pub async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, ClientError> {
        let path = call.path.clone();
        let bytes = self.bytes(call).await?;
        // An answer without a body reads as null, so that `()` and `Option` fit.
        let bytes = if bytes.is_empty() { Bytes::from_static(b"null") } else { bytes };
        let bytes = shown::answer(bytes, self.verbatim);
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Decode { path, source })
    }

    /// The typed answer of a GET.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(Call::get(path)).await
    }

    /// The answer's bytes.
    ///
    /// # Errors
    /// As [`Client::call`], but for the shape.
    pub async fn bytes(&self, call: Call) -> Result<Bytes, ClientError> {
        let patient = call.patient;
        let call = call.header("accept", "application/json");
        let whole = async {
            let response = self.send(call).await?;
            self.collect(response.into_body(), limits::ANSWER_MAX).await
        };
        if patient {
            return whole.await;
        }
        let silent = || ClientError::Silent { target: self.place() };
        timeout(limits::REQUEST_TIMEOUT, whole).await.map_err(|_| silent())?
    }

    /// The answer's events.
    ///
    /// # Errors
    /// As [`Client::bytes`].
    pub async fn events(&self, call: Call) -> Result<Events, ClientError> {
        // Lines of programs are the business of who prints them.
        let verbatim = self.verbatim || call.path.starts_with("/v1/logs");
        let call = call.header("accept", "text/event-stream");
        Ok(Events::new(self.send(call).await?.into_body(), self.place(), verbatim))
    }

    /// The answer's body, piece by piece.
    ///
    /// # Errors
    /// As [`Client::bytes`].
    pub async fn stream(&self, call: Call) -> Result<Incoming, ClientError> {
        Ok(self.send(call).await?.into_body())
    }

    /// Sends; an answer that is no success is an error.
    async fn send(&self, call: Call) -> Result<Response<Incoming>, ClientError> {
        let path = call.path.clone();
        let mut sender = self.connect().await?;
        let request = self.request(call)?;
        let response = sender.send(request).await.map_err(|source| self.lost(source))?;
        if response.headers().contains_key("mill-stale") {
            self.stale.store(true, Ordering::Relaxed);
        }
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(path, response).await)
    }

    fn request(&self, call: Call) -> Result<Request<RequestBody>, ClientError> {
        let host = self.chosen.get().map_or_else(|| "localhost".to_owned(), Target::host_header);
        let mut request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("mill/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        request.body(call.body).map_err(|source| ClientError::Request { source })
    }

    async fn refusal(&self, path: String, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let collected = self.collect(response.into_body(), limits::ERROR_ANSWER_MAX);
        let bytes = match timeout(limits::REQUEST_TIMEOUT, collected).await {
            Ok(Ok(bytes)) => shown::answer(bytes, self.verbatim),
            Ok(Err(error)) => return error,
            Err(_) => return ClientError::Silent { target: self.place() },
        };
        match serde_json::from_slice(&bytes) {
            Ok(document) => {
                ClientError::Api { status: status.as_u16(), document: self.hinted(document) }
            }
            Err(_) => self.foreign(path, status),
        }
    }

    /// Who sent no token learns which flag sends one.
    fn hinted(&self, mut document: ErrorDocument) -> ErrorDocument {
        if document.error.code == ErrorCode::Unauthorized && self.token.is_none() {
            document.error.hint = Some("Pass --token T or set MILL_TOKEN".to_owned());
        }
        document
    }

    fn foreign(&self, path: String, status: StatusCode) -> ClientError {
        ClientError::Foreign { target: self.place(), path, status: status.as_u16() }
    }

    async fn collect(&self, body: Incoming, max: usize) -> Result<Bytes, ClientError> {
        let collected = Limited::new(body, max).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|source| self.lost(source))
    }

    /// A connection to the daemon; the first one decides where it is.
    async fn connect(&self) -> Result<Sender, ClientError> {
        let token = self.token.as_deref();
        let untrusted =
            |target: &Target, source| ClientError::Untrusted { target: target.to_string(), source };
        if let Some(target) = self.chosen.get() {
            return connect::open(target, token).await.map_err(|error| match error {
                ConnectError::Untrusted(source) => untrusted(target, source),
                error => connect::unreachable(target, &error)
                    .unwrap_or_else(|| no_daemon(vec![target.to_string()])),
            });
        }
        let mut tried = Vec::new();
        for target in &self.targets {
            match connect::open(target, token).await {
                Ok(sender) => {
                    let _ = self.chosen.set(target.clone());
                    return Ok(sender);
                }
                Err(error) if error.is_denied() && self.token.is_none() => {
                    return Err(ClientError::Denied { socket: target.to_string() });
                }
                Err(ConnectError::Untrusted(source)) => return Err(untrusted(target, source)),
                Err(error) => match connect::unreachable(target, &error) {
                    Some(error) => return Err(error),
                    None => tried.push(target),
                },
            }
        }
        Err(no_daemon(self.named(&tried)))
    }

    /// The places as the message names them: without a choice, dev's socket goes without saying.
    fn named(&self, tried: &[&Target]) -> Vec<String> {
        let names = tried.iter().map(ToString::to_string);
        if self.targets.len() < 3 {
            return names.collect();
        }
        names.filter(|name| !name.ends_with("/dev.sock")).collect()
    }

    fn place(&self) -> String {
        self.chosen.get().or(self.targets.first()).map(ToString::to_string).unwrap_or_default()
    }

    fn lost(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Lost { target: self.place(), source: source.into() }
    }
}

/// A path segment or query value with everything escaped that has a meaning in an address.
#[must_use]
pub fn escape(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, MEANT).to_string()
}

/// What has a meaning in an address: all but RFC 3986's unreserved characters.
const MEANT: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path with its query; values are escaped, absent ones left out.
#[must_use]
pub fn query(path: &str, pairs: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    let given = pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (at, (name, value)) in given.enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        out.push_str(&format!("{name}={}", escape(value)));
    }
    out
}

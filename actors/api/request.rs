//! A request as the handlers see it, and the answers they give.
//!
//! Owns decoding of paths, queries and bodies with their bounds. Never decides who may do what.

use super::error::ApiError;
use crate::fsm::model::Role;
use crate::id::Index;
use crate::limits;
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::str::FromStr;
use warp::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use warp::http::{HeaderMap, HeaderValue, Method, StatusCode};
use warp::reply::Response;
use warp::ws::Ws;

/// The body as it comes in.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>;

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// The UNIX socket: whoever may open it may do everything.
    Local,
    /// TCP: a token is needed.
    Network,
    /// Another member asks, for somebody whom it has let in.
    Member,
}

/// A request.
pub struct Request {
    pub method: Method,
    /// The path as it was sent.
    pub path: String,
    /// The parts of the path that stand for something, decoded.
    pub params: BTreeMap<&'static str, String>,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The query as it was sent.
    pub raw_query: String,
    pub headers: HeaderMap,
    pub body: Body,
    /// The way to turn it into a WebSocket, if that is asked for.
    pub upgrade: Option<Ws>,
    /// Who asks, for `Idempotency-Key`: a key means something only within its caller.
    pub caller: String,
    /// What whoever asks may do.
    pub role: Role,
}

/// Decodes `%XX`, and `+` in a query.
pub fn decode(text: &str, plus: bool) -> Result<String, ApiError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) if plus => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out)
        .map_err(|_| ApiError::bad("the address is not UTF-8", "encode it as UTF-8"))
}

/// Decodes a query into its pairs.
pub fn pairs(query: &str) -> Result<Vec<(String, String)>, ApiError> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decode(name, true)?, decode(value, true)?))
    };
    parts.map(pair).collect()
}

impl Request {
    /// A part of the path; empty if the route has none of that name.
    pub fn param(&self, name: &str) -> &str {
        self.params.get(name).map_or("", String::as_str)
    }

    /// The values of a query parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a query parameter.
    pub fn one(&self, name: &str) -> Option<&str> {
        self.query.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A query parameter as a number or the like.
    pub fn parsed<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let bad = |_| ApiError::bad(format!("{name}={text} is not {wanted}"), wanted_hint(name));
        text.parse().map(Some).map_err(bad)
    }

    /// A query parameter that counts something.
    pub fn count(&self, name: &str, wanted: &str) -> Result<Option<usize>, ApiError> {
        let Some(count) = self.parsed::<u64>(name, wanted)? else { return Ok(None) };
        let exact = usize::try_from(count).ok().filter(|_| count <= limits::NUMBER_MAX);
        let bad = || ApiError::bad(format!("{name}={count} is too large"), wanted_hint(name));
        exact.map(Some).ok_or_else(bad)
    }

    /// A query parameter that is there or not: `?follow`, `?follow=true`, `?follow=false`.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.one(name) {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(text) => Err(ApiError::bad(
                format!("{name}={text} is neither true nor false"),
                format!("write {name}=true"),
            )),
        }
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the caller wants one document rather than a stream.
    pub fn wants_json(&self) -> bool {
        let accept = self.header("accept").unwrap_or_default();
        accept.contains("application/json") && !accept.contains("text/event-stream")
    }

    /// Reads the body as text, counting its bytes.
    pub async fn text(&mut self, max: usize) -> Result<String, ApiError> {
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        if kind.starts_with("application/json") || kind.starts_with("multipart/") {
            let message = format!("the file can't be sent as {kind}");
            return Err(ApiError::bad(message, "send it as it is: Content-Type: text/plain"));
        }
        let bytes = self.bytes(max).await?;
        String::from_utf8(bytes)
            .map_err(|_| ApiError::bad("the file is not text in UTF-8", "save it as UTF-8"))
    }

    /// Reads a JSON body.
    pub async fn json<T: DeserializeOwned>(&mut self, example: &str) -> Result<T, ApiError> {
        self.json_of(limits::API_JSON_MAX, example).await
    }

    /// Reads a JSON body of at most that many bytes.
    pub async fn json_of<T: DeserializeOwned>(
        &mut self,
        max: usize,
        example: &str,
    ) -> Result<T, ApiError> {
        let bytes = self.bytes(max).await?;
        parse(&bytes, example)
    }

    /// Reads a JSON body; an empty one is the default.
    pub async fn json_or_default<T: DeserializeOwned + Default>(
        &mut self,
        example: &str,
    ) -> Result<T, ApiError> {
        let bytes = self.bytes(limits::API_JSON_MAX).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        parse(&bytes, example)
    }

    /// For a route that takes no body: one with something in it would be ignored.
    pub async fn refuse_body(&mut self) -> Result<(), ApiError> {
        let bytes = self.bytes(limits::API_JSON_MAX).await?;
        match bytes.trim_ascii() {
            b"" | b"{}" | b"null" => Ok(()),
            _ => Err(ApiError::bad("this route takes no body", "send it without one")),
        }
    }

    /// Reads the body.
    pub(super) async fn bytes(&mut self, max: usize) -> Result<Vec<u8>, ApiError> {
        let declared = self.header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        let mut all = Vec::with_capacity(declared.unwrap_or(0usize).min(max));
        while let Some(chunk) = self.chunk().await? {
            if all.len() + chunk.len() > max {
                return Err(ApiError::TooLarge { max: max as u64 });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        let broken = |reason: String| {
            ApiError::bad(format!("the body broke off: {reason}"), "send all of it")
        };
        match tokio::time::timeout(limits::API_STALL, self.body.next()).await {
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(error))) => Err(broken(error.to_string())),
            Ok(None) => Ok(None),
            Err(_) => Err(broken("nothing came for too long".to_owned())),
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], example: &str) -> Result<T, ApiError> {
    let bad = |error: serde_json::Error| {
        ApiError::bad(format!("the body can't be read: {error}"), format!("send: {example}"))
    };
    serde_json::from_slice(bytes).map_err(bad)
}

fn wanted_hint(name: &str) -> String {
    format!("leave {name} out or correct it")
}

/// The body of a request from warp's.
pub fn body(stream: impl Stream<Item = Result<impl Buf, warp::Error>> + Send + 'static) -> Body {
    Box::pin(stream.map(|part| part.map(|mut buf| buf.copy_to_bytes(buf.remaining()))))
}

/// The header with the index of the state that an answer shows.
pub const MILL_INDEX: HeaderName = HeaderName::from_static("mill-index");
/// The header of an answer that no leader confirmed.
pub const MILL_STALE: HeaderName = HeaderName::from_static("mill-stale");

/// The header of a request between members: the role of whoever asks.
pub const MILL_ROLE: HeaderName = HeaderName::from_static("mill-role");
/// The header of a request between members: the cluster's life.
pub const MILL_INCARNATION: HeaderName = HeaderName::from_static("mill-incarnation");

/// An answer with a document.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Response, ApiError> {
    let failed = |error: serde_json::Error| ApiError::Internal {
        doing: "writing the answer",
        reason: error.to_string(),
    };
    let body = serde_json::to_vec(value).map_err(failed)?;
    let mut response = Response::new(Bytes::from(body).into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// An answer without a body.
pub fn empty() -> Response {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// The answer with the index of the state that it shows.
pub fn at(index: Index, mut response: Response) -> Response {
    response.headers_mut().insert(MILL_INDEX, HeaderValue::from(index.0));
    response
}

//! An HTTP client with a connection for each request.
//!
//! Never a test itself.

use super::PATIENCE;
use crate::api::wire::ErrorDocument;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio::net::{TcpStream, UnixStream};

/// Where the API is.
pub enum Target {
    Local(std::path::PathBuf),
    Network(std::net::SocketAddr),
}

/// A client that opens a connection for each request.
pub struct Client {
    pub target: Target,
    pub headers: Vec<(&'static str, String)>,
}

/// A whole answer.
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The code of the error document.
    pub fn code(&self) -> String {
        self.json::<ErrorDocument>().error.code.to_string()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub async fn send(&self, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
        let body = http_body_util::Full::new(body.into());
        let all = async {
            let response = self.open(method, path, body).await;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            Answer { status, headers, body }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("an answer")
    }

    /// Opens a stream of events.
    pub async fn events(&self, method: &str, path: &str, body: &str) -> Events {
        let body = http_body_util::Full::new(bytes::Bytes::from(body.to_owned()));
        let response = self.open(method, path, body).await;
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), text: String::new() }
    }

    pub async fn open<B>(
        &self,
        method: &str,
        path: &str,
        body: B,
    ) -> hyper::Response<hyper::body::Incoming>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", "mill");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(body).unwrap();
        match &self.target {
            Target::Local(path) => send(UnixStream::connect(path).await.unwrap(), request).await,
            Target::Network(at) => send(TcpStream::connect(at).await.unwrap(), request).await,
        }
    }
}

async fn send<I, B>(io: I, request: hyper::Request<B>) -> hyper::Response<hyper::body::Incoming>
where
    I: AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

/// Events as they come.
pub struct Events {
    body: hyper::body::Incoming,
    text: String,
}

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub struct Sse {
    pub name: String,
    pub id: String,
    pub data: serde_json::Value,
}

impl Events {
    /// The next event, or nothing at the end of the stream.
    pub async fn next(&mut self) -> Option<Sse> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event or the end")
    }

    async fn read(&mut self) -> Option<Sse> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let prefix = format!("{name}: ");
                    let line = event.lines().find_map(|line| line.strip_prefix(&prefix));
                    line.unwrap_or_default().to_owned()
                };
                let (name, id, data) = (field("event"), field("id"), field("data"));
                self.text = rest.to_owned();
                if data.is_empty() {
                    continue;
                }
                return Some(Sse { name, id, data: serde_json::from_str(&data).unwrap() });
            }
            let frame = self.body.frame().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    }

    /// Waits until the stream ends or breaks off.
    pub async fn broken(&mut self) {
        let end = async { while let Some(Ok(_)) = self.body.frame().await {} };
        tokio::time::timeout(PATIENCE, end).await.expect("the stream breaks off");
    }

    /// All events up to the end.
    pub async fn rest(mut self) -> Vec<Sse> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

//! As much HTTP as the stand-in of the provider needs: one request a connection.
//!
//! Never interprets anything.

use serde_json::Value;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// A request.
pub struct Request {
    /// `GET`, for example.
    pub method: String,
    /// With its query.
    pub path: String,
    /// Of the header `Authorization: Bearer`.
    pub token: Option<String>,
    /// The body, if it is JSON.
    pub document: Value,
}

impl Request {
    /// The value of a parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path.split_once('?')?;
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}

/// An answer.
pub struct Answer {
    status: u16,
    headers: Vec<String>,
    body: String,
}

impl Answer {
    /// With a document.
    pub fn json(status: u16, document: &Value) -> Self {
        let body = if document.is_null() { String::new() } else { document.to_string() };
        Self { status, headers: vec!["content-type: application/json".to_owned()], body }
    }

    /// With a text.
    pub fn text(text: &str) -> Self {
        Self { status: 200, headers: Vec::new(), body: text.to_owned() }
    }

    /// With another header.
    pub fn header(mut self, line: &str) -> Self {
        self.headers.push(line.to_owned());
        self
    }
}

/// Answers the one request of a connection, or breaks it off.
pub fn serve(
    client: &TcpStream,
    answer: impl FnOnce(&Request) -> Option<Answer>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut token, mut length) = (None, 0usize);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let document = serde_json::from_slice(&body).unwrap_or_default();
    let Some(answer) = answer(&Request { method, path, token, document }) else { return Ok(()) };
    let Answer { status, mut headers, body } = answer;
    headers.push(format!("content-length: {}", body.len()));
    headers.push("connection: close".to_owned());
    let mut client = client;
    let head = format!("HTTP/1.1 {status} x\r\n{}\r\n\r\n", headers.join("\r\n"));
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

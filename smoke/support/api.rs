//! A client of the HTTP API that shares no code with the program.
//!
//! Owns one request a connection, plain HTTP/1.1, over the UNIX socket or TCP. Never retries.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer may take before the test is told.
const ANSWER: Duration = Duration::from_secs(60);

/// Where the API is.
#[derive(Clone, Debug)]
enum Address {
    Socket(PathBuf),
    Tcp(String),
}

/// The API of one node.
#[derive(Clone, Debug)]
pub struct Api {
    address: Address,
    token: Option<String>,
    patience: Duration,
}

/// An answer that was read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(field, _)| field == name)?;
        Some(value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status, and gives the answer back.
    #[track_caller]
    pub fn status(self, wanted: u16) -> Self {
        assert_eq!(self.status, wanted, "{self:?}");
        self
    }

    /// Asserts an error document with this status and code.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["error"]["code"], code, "{self:?}");
    }
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `id:`, empty if there was none.
    pub id: String,
    /// `event:`, empty if there was none.
    pub name: String,
    /// `data:` as JSON; null if there was none.
    pub data: Value,
}

/// A request being put together.
pub struct Request<'a> {
    api: &'a Api,
    head: String,
    body: Vec<u8>,
}

impl Api {
    /// Over a UNIX socket, where no token is needed.
    pub fn socket(path: impl Into<PathBuf>) -> Self {
        Self { address: Address::Socket(path.into()), token: None, patience: ANSWER }
    }

    /// Over plain TCP, to `HOST:PORT`.
    pub fn tcp(address: impl Into<String>, token: Option<&str>) -> Self {
        let (address, token) = (Address::Tcp(address.into()), token.map(str::to_owned));
        Self { address, token, patience: ANSWER }
    }

    /// The same for a client that waits so long for something to come, and no longer.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Begins any request.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request<'_> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: mill\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        Request { api: self, head, body: Vec::new() }
    }

    /// A GET that must succeed, as JSON.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path).send().status(200).json()
    }

    fn connect(&self) -> std::io::Result<Box<dyn Stream + Send>> {
        Ok(match &self.address {
            Address::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(self.patience))?;
                Box::new(stream)
            }
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(Some(self.patience))?;
                Box::new(stream)
            }
        })
    }
}

trait Stream: Read + Write {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

impl Request<'_> {
    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    /// Sets a body as it is.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", kind)
    }

    /// Sets a JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    pub fn send(self) -> Answer {
        let api = self.api;
        self.try_send().unwrap_or_else(|error| panic!("{:?}: {error}", api.address))
    }

    /// As [`Request::send`], for a server that may not be there.
    pub fn try_send(self) -> std::io::Result<Answer> {
        let (status, headers, mut rest) = self.open()?;
        let mut body = Vec::new();
        rest.read_to_end(&mut body)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status, headers, body })
    }

    /// Sends it and reads the answer as events, one by one.
    ///
    /// # Panics
    /// When the connection fails or the answer is no stream.
    #[track_caller]
    pub fn events(self) -> Events {
        let stream = self.header("Accept", "text/event-stream").open();
        let (status, headers, mut rest) = stream.unwrap_or_else(|error| panic!("{error}"));
        if status != 200 {
            let mut body = String::new();
            let _ = rest.read_to_string(&mut body);
            panic!("no stream: {status} {headers:?} {body}");
        }
        Events { lines: BufReader::new(rest) }
    }

    /// Sends it, reads how the answer begins, and is gone.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    pub fn leave(self) {
        let (_status, _headers, _rest) = self.open().expect("an answer");
    }

    fn open(self) -> std::io::Result<Opened> {
        let mut stream = self.api.connect()?;
        let head = format!("{}Content-Length: {}\r\n\r\n", self.head, self.body.len());
        stream.write_all(head.as_bytes())?;
        // The answer to a body that is refused may come before all of it is sent.
        let _ = stream.write_all(&self.body);
        read_head(BufReader::new(stream))
    }
}

/// Status, header fields, and the body to be read.
type Opened = (u16, Vec<(String, String)>, Box<dyn Read + Send>);

fn read_head(mut stream: BufReader<Box<dyn Stream + Send>>) -> std::io::Result<Opened> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not HTTP: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let has = |name: &str| headers.iter().find(|(field, _)| field == name).map(|(_, v)| v.clone());
    let rest: Box<dyn Read + Send> = match has("content-length").and_then(|n| n.parse().ok()) {
        Some(length) => Box::new(stream.take(length)),
        None if has("transfer-encoding").is_some() => Box::new(Chunked { stream, left: 0 }),
        None => Box::new(stream),
    };
    Ok((status, headers, rest))
}

/// The body of a chunked answer.
struct Chunked<R> {
    stream: BufReader<R>,
    left: usize,
}

impl<R: Read> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            match line.trim() {
                "" => {}
                "0" => return Ok(0),
                size => {
                    self.left = usize::from_str_radix(size, 16).map_err(std::io::Error::other)?;
                }
            }
        }
        let wanted = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..wanted])?;
        self.left -= read;
        Ok(read)
    }
}

/// The events of a stream, as they come; ends when the server ends it.
pub struct Events {
    lines: BufReader<Box<dyn Read + Send>>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut event = Event { id: String::new(), name: String::new(), data: Value::Null };
        let mut seen = false;
        let mut data = String::new();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end_matches(['\r', '\n']).split_once(':') {
                Some(("id", value)) => value.trim_start().clone_into(&mut event.id),
                Some(("event", value)) => value.trim_start().clone_into(&mut event.name),
                Some(("data", value)) => data += value.trim_start(),
                Some(_) => continue, // a comment, which keeps the connection alive
                None if !seen => continue,
                None => {
                    event.data = serde_json::from_str(&data).unwrap_or(Value::String(data));
                    return Some(event);
                }
            }
            seen = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn serve(answer: &'static str) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
        });
        Api::tcp(address, Some("t"))
    }

    #[test]
    fn reads_answers_of_known_and_chunked_length() {
        let api = serve("HTTP/1.1 200 OK\r\nMill-Index: 7\r\nContent-Length: 2\r\n\r\n{}");
        let answer = api.request("GET", "/").send().status(200);
        assert_eq!((answer.header("mill-index"), answer.body.as_str()), (Some("7"), "{}"));
        let api = serve(
            "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n\
             a\r\n{\"error\":{\r\n13\r\n\"code\":\"not_found\"}\r\n1\r\n}\r\n0\r\n\r\n",
        );
        api.request("GET", "/").send().error(404, "not_found");
    }

    #[test]
    fn reads_events() {
        let api = serve(
            "HTTP/1.1 200 OK\r\n\r\n: hello\n\nid: 1\nevent: progress\ndata: {\"a\":1}\n\n\
             data: text\n\n",
        );
        let events: Vec<Event> = api.request("GET", "/").events().collect();
        assert_eq!((events[0].id.as_str(), events[0].name.as_str()), ("1", "progress"));
        assert_eq!(events[0].data["a"], 1);
        assert_eq!(events[1].data, "text");
    }
}

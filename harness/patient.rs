//! A server for tests that finishes what it has begun: asked to end, it answers the requests that
//! are under way and tells each connection that it closes. `/upload` says how much came.
//!
//! Owns the program of the image `patient`; built by `harness/images`, with nothing but the
//! standard library. Its signal comes as a line on standard input, from the shell that starts it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    connections: AtomicUsize,
}

fn main() {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port");
    let shared = Arc::<Shared>::default();
    let accepting = Arc::clone(&shared);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accepting.connections.fetch_add(1, Ordering::SeqCst);
            let shared = Arc::clone(&accepting);
            std::thread::spawn(move || {
                // Who asked may have gone.
                let _ = serve(&stream, &shared);
                shared.connections.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    println!("patient listens on port {port}");
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    shared.ending.store(true, Ordering::SeqCst);
    while shared.connections.load(Ordering::SeqCst) > 0 {
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A WebSocket on which the version comes again and again, until somebody ends it. Its key is not
/// answered: the clients of these tests don't look.
fn talk(mut stream: &TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                Upgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let version = std::env::var("VERSION").unwrap_or_default();
    let length = u8::try_from(version.len()).unwrap_or_default();
    loop {
        stream.write_all(&[&[0x81, length], version.as_bytes()].concat())?;
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Answers the requests of one connection until it is to close.
fn serve(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut header, mut length) = (String::new(), 0);
        while reader.read_line(&mut header)? > 2 {
            let line = header.to_ascii_lowercase();
            let value = line.strip_prefix("content-length:");
            length = value.and_then(|value| value.trim().parse().ok()).unwrap_or(length);
            header.clear();
        }
        let uploaded = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
        let path = request.split(' ').nth(1).unwrap_or("/");
        if path == "/socket" {
            return talk(stream);
        }
        if path == "/slow" {
            std::thread::park_timeout(SLOW);
        }
        let status = match (path, std::env::var("BROKEN")) {
            ("/healthz", Ok(_)) => "500 Internal Server Error",
            _ => "200 OK",
        };
        let is_last = shared.ending.load(Ordering::SeqCst);
        let kept = if is_last { "close" } else { "keep-alive" };
        let body = match path {
            "/upload" => uploaded.to_string(),
            _ => std::env::var("VERSION").unwrap_or_default(),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: {kept}\r\n\r\n{body}",
            body.len()
        );
        (&*stream).write_all(answer.as_bytes())?;
        if is_last {
            return Ok(());
        }
    }
}

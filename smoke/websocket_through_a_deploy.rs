//! `docs/workflows/websocket-through-a-deploy.md`: a WebSocket goes on while its replica is
//! replaced, for as long as `stop` gives it, and is closed as the protocol wants it.

use crate::registry::Registry;
use crate::support::{TestDaemon, files};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// An open WebSocket, whose server sends its version from time to time.
struct Socket(TcpStream);

impl Socket {
    fn open(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let request = "GET /socket HTTP/1.1\r\nHost: patient\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self(stream)
    }

    /// The next frame: its opcode, and what is in it.
    fn next(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; head[1].into()];
        self.0.read_exact(&mut payload).expect("a whole frame");
        (head[0] & 0x0f, payload)
    }
}

#[test]
fn websocket_through_a_deploy() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let port = crate::support::node::free_port();
    let image = registry.image("patient:v1");
    let file = |version: &str| {
        let text = files::patient(&image, port, 1, version, "");
        let route = "    route \"patient\"\n    stop grace=\"2s\"\n    publish";
        text.replace("    publish", route)
    };
    let _ = node.up(&file("v1")).ok();
    let mut socket = Socket::open(&node.http_address());
    assert_eq!(socket.next(), (1, b"v1".to_vec()));

    let _ = node.up(&file("v2")).ok();
    // It went on with the version that it began with, and was told of its end.
    let (mut words, mut last) = (0, socket.next());
    while last.0 == 1 {
        assert_eq!(last.1, b"v1");
        words += 1;
        last = socket.next();
    }
    assert!(words > 10, "{words} words");
    assert_eq!(last, (8, 1001u16.to_be_bytes().to_vec()), "a close frame: going away");
    assert_eq!(Socket::open(&node.http_address()).next(), (1, b"v2".to_vec()));
}

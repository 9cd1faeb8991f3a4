//! A way to a registry that breaks off.
//!
//! Owns a listener that passes everything on, until an answer gets too long. Never changes a byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A listener in front of a registry; lasts until the process ends.
pub struct Cut {
    address: String,
    left: Arc<AtomicUsize>,
}

impl Cut {
    /// Passes on so many bytes of each connection's answer, then breaks it off.
    #[must_use]
    pub fn after(bytes: usize, registry: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicUsize::new(bytes));
        let limit = Arc::clone(&left);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&registry) else { continue };
                let bytes = limit.load(Ordering::Relaxed);
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || pass(ends.0, ends.1, usize::MAX));
                std::thread::spawn(move || pass(server, client, bytes));
            }
        });
        Self { address, left }
    }

    /// The reference of an image by way of this listener.
    #[must_use]
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// From now on nothing is broken off.
    pub fn mend(&self) {
        self.left.store(usize::MAX, Ordering::Relaxed);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut left: usize) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let wanted = buffer.len().min(left);
        match from.read(&mut buffer[..wanted]) {
            Ok(0) | Err(_) => break,
            Ok(read) if to.write_all(&buffer[..read]).is_err() => break,
            Ok(read) => left -= read,
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

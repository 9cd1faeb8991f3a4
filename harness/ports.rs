//! Ports for what tests start.
//!
//! Owns that no connection has one of them by chance. Never holds one.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first; all are below those that the system gives to connections.
const FIRST: u16 = 10_000;
/// So many has a process for itself, and so many processes differ.
const EACH: u16 = 32;
const PROCESSES: u32 = 700;

/// A port that nothing listens on now, another one each time.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = FIRST + EACH * (std::process::id() % PROCESSES) as u16;
    loop {
        let port = own + NEXT.fetch_add(1, Ordering::Relaxed) % EACH;
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
}

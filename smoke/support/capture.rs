//! All that passes a wire, kept in memory.
//!
//! Owns the listening thread, which ends with the value. Never changes a frame.

use super::netns::Namespace;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is kept at most.
const MOST: usize = 64 << 20;

/// The frames of every interface of a namespace.
pub struct Capture {
    seen: Arc<Mutex<Vec<u8>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Begins now.
    #[must_use]
    pub fn of(namespace: &Namespace) -> Self {
        let file = File::open(namespace.path()).unwrap();
        let opened = std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            open()
        });
        let fd = opened.join().unwrap();
        let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut frame = vec![0; 70_000];
            while !until.load(Ordering::SeqCst) {
                // The socket's timeout bounds how long the end is not noticed.
                let Ok(size) = recv(fd.as_raw_fd(), &mut frame, MsgFlags::empty()) else {
                    continue;
                };
                let mut seen = into.lock().unwrap();
                if seen.len() < MOST {
                    seen.extend_from_slice(&frame[..size]);
                }
            }
        });
        Self { seen, over, thread: Some(thread) }
    }

    /// How many bytes passed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Whether this text passed in the clear.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

fn open() -> OwnedFd {
    let (family, kind) = (AddressFamily::Packet, SockType::Raw);
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap();
    setsockopt(&fd, sockopt::RcvBufForce, &MOST).unwrap();
    let wait = nix::sys::time::TimeVal::new(0, 100_000);
    setsockopt(&fd, sockopt::ReceiveTimeout, &wait).unwrap();
    fd
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

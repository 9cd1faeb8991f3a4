//! Where connections of other members wait that want something of this node's API.
//!
//! Owns how many may wait. Never lets anybody in: the peer port has verified who it is, and each
//! request is checked again.

use crate::id::NodeId;
use crate::limits;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, mpsc};

/// A connection of any kind.
pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Socket for T {}

/// A connection of another member, after the handshake.
pub struct MemberConnection {
    /// The connection.
    pub socket: Box<dyn Socket>,
    /// Whose certificate it has shown.
    pub node: NodeId,
}

/// Between the peer port, which lets members in, and the API, which answers them. It outlives both.
pub struct MemberListener {
    door: mpsc::Sender<MemberConnection>,
    waiting: Mutex<mpsc::Receiver<MemberConnection>>,
}

impl MemberListener {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let (door, waiting) = mpsc::channel(limits::MEMBERS_WAITING);
        Arc::new(Self { door, waiting: Mutex::new(waiting) })
    }

    /// Hands a connection over; whether there was room. Without it the connection is closed.
    pub fn enter(&self, guest: MemberConnection) -> bool {
        self.door.try_send(guest).is_ok()
    }

    /// The next connection; waits for one.
    ///
    /// # Errors
    /// None: the sender lives as long as this.
    pub async fn next(&self) -> io::Result<MemberConnection> {
        self.waiting.lock().await.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

//! Where connections of other members wait that want something of this node's API.
//!
//! Owns how many may wait. Never lets anybody in: the peer port has verified who it is, and each
//! request is checked again.

use super::serve::{Accept, Origin, Socket};
use crate::id::NodeId;
use crate::limits;
use std::io;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};

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
}

impl Accept for Arc<MemberListener> {
    type Raw = MemberConnection;

    async fn accept(&self) -> io::Result<MemberConnection> {
        // The sender lives as long as this.
        self.waiting.lock().await.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn open(self, guest: MemberConnection) -> io::Result<(Box<dyn Socket>, Origin)> {
        Ok((guest.socket, Origin { member: Some(guest.node), ..Origin::default() }))
    }
}

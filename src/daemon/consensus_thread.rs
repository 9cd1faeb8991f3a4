//! A thread for root, consensus and the links to other nodes: nothing else delays a heartbeat, and
//! what one of them hands to the other wakes nobody.
//!
//! Owns the thread, which ends with the node. Never runs anything that computes for long.

use ractor::SpawnErr;
use std::io;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The running thread; what runs on it ends when this is dropped.
pub(super) struct ConsensusThread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl ConsensusThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has none left.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("mill-consensus_thread".to_owned());
        // Ends when the sender is gone: nothing is ever sent.
        thread.spawn(move || drop(runtime.block_on(ended)))?;
        Ok(Self { handle, _end: end })
    }

    /// Where to spawn: see [`start_on`].
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

/// Starts an actor where it is to run.
pub(super) async fn start_on<T: Send + 'static>(
    thread: Handle,
    start: impl Future<Output = Result<T, SpawnErr>> + Send + 'static,
) -> Result<T, SpawnErr> {
    let started = thread.spawn(start).await;
    started.unwrap_or_else(|error| Err(SpawnErr::StartupFailed(error.into())))
}

//! Connections from the network before their other end has shown who it is.
//!
//! Owns ending those that have to go, and how often that is logged. Never says who is let in: that
//! is for the API and the peer port.

use crate::cluster::crowd::{Crowd, Often};
use crate::limits;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// All strangers of a port.
pub struct Strangers {
    what: &'static str,
    inside: Mutex<Inside>,
    /// Places of those who have shown who they are.
    known: Arc<Semaphore>,
    begun: Instant,
}

struct Inside {
    crowd: Crowd,
    /// How each is told to go.
    there: BTreeMap<u64, CancellationToken>,
    often: BTreeMap<&'static str, Often>,
}

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// In all, of those that have not shown who they are.
    pub most: usize,
    /// Of one source.
    pub each: usize,
    /// Of those that have.
    pub known: usize,
}

impl Strangers {
    /// Of a port with that name.
    #[must_use]
    pub fn new(what: &'static str, room: Room) -> Arc<Self> {
        let crowd = Crowd::new(room.most, room.each);
        let inside = Inside { crowd, there: BTreeMap::new(), often: BTreeMap::new() };
        let known = Arc::new(Semaphore::new(room.known));
        Arc::new(Self { what, inside: Mutex::new(inside), known, begun: Instant::now() })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more comes in; another one may have to go for it.
    #[must_use]
    pub fn enter(self: &Arc<Self>, source: IpAddr) -> Stranger {
        let out = CancellationToken::new();
        let mut inside = self.inside();
        let entered = inside.crowd.enter(source);
        let gone = entered.out.and_then(|id| inside.there.remove(&id));
        inside.there.insert(entered.id, out.clone());
        drop(inside);
        if let Some(gone) = gone {
            gone.cancel();
            self.tell("unknown connections give way to newer ones", source);
        }
        Stranger {
            of: Arc::clone(self),
            source,
            id: entered.id,
            out,
            is_known: AtomicBool::new(false),
            place: OnceLock::new(),
        }
    }

    /// Logs something of a kind, now and then.
    pub fn tell(&self, kind: &'static str, source: IpAddr) {
        let now = Millis::from(self.begun.elapsed());
        let due = self.inside().often.entry(kind).or_default().happened(now);
        if let Some(times) = due {
            let seconds = limits::STRANGERS_TOLD.as_secs();
            tracing::warn!(port = self.what, %source, times, "{kind} (told every {seconds}s)");
        }
    }

    fn leave(&self, source: IpAddr, id: u64) {
        let mut inside = self.inside();
        inside.crowd.leave(source, id);
        inside.there.remove(&id);
    }
}

/// A connection; it is a stranger until it is admitted.
pub struct Stranger {
    of: Arc<Strangers>,
    source: IpAddr,
    id: u64,
    out: CancellationToken,
    is_known: AtomicBool,
    place: OnceLock<OwnedSemaphorePermit>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.of.leave(self.source, self.id);
    }
}

impl Stranger {
    /// It has shown who it is: whether there is a place for it.
    pub fn admit(&self) -> bool {
        if self.place.get().is_none() {
            let Ok(place) = Arc::clone(&self.of.known).try_acquire_owned() else {
                self.of.tell("there are too many connections", self.source);
                return false;
            };
            // Two requests at once on one connection need one place.
            let _ = self.place.set(place);
        }
        if !self.is_known.swap(true, Ordering::SeqCst) {
            self.of.leave(self.source, self.id);
        }
        true
    }

    /// Whether it was admitted.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::SeqCst)
    }

    /// Ends when it has to go for another one.
    pub async fn ousted(&self) {
        self.out.cancelled().await;
    }
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stranger").field("source", &self.source).finish_non_exhaustive()
    }
}

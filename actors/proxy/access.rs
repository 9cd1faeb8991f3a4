//! The access log: a line a request, in a log of each service on the node that took the request.
//!
//! Owns the thread that writes. No request waits for it: what it can't take is counted.

use crate::actors::platform::logs::{AccessWriter, LogTime};
use crate::api::wire::AccessView;
use crate::id::AllocId;
use crate::limits::{ACCESS_BATCH, ACCESS_WAITING};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the thread is told.
enum Told {
    /// A request ended.
    Line(AllocId, LogTime, Box<AccessView>),
    /// A log is written no more.
    Close(AllocId),
}

/// Where requests are written down; clones share it.
#[derive(Clone, Debug)]
pub struct AccessLog {
    sender: SyncSender<Told>,
    lost: Arc<AtomicU64>,
}

impl AccessLog {
    /// Begins to write below a data directory.
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn start(data_dir: PathBuf) -> std::io::Result<Self> {
        let (sender, told) = sync_channel(ACCESS_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let writing = Writing { data_dir, writers: BTreeMap::new(), lost: Arc::clone(&lost) };
        let thread = std::thread::Builder::new().name("access-log".to_owned());
        thread.spawn(move || writing.run(&told))?;
        Ok(Self { sender, lost })
    }

    /// Writes a request down.
    pub fn write(&self, log: AllocId, line: AccessView) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = LogTime(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        if self.sender.try_send(Told::Line(log, now, Box::new(line))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes a log whose service is gone. One that is not closed is only kept open.
    pub fn close(&self, log: AllocId) {
        let _ = self.sender.try_send(Told::Close(log));
    }
}

/// What the thread has.
struct Writing {
    data_dir: PathBuf,
    writers: BTreeMap<AllocId, AccessWriter>,
    lost: Arc<AtomicU64>,
}

impl Writing {
    fn run(mut self, told: &Receiver<Told>) {
        while let Ok(first) = told.recv() {
            self.take(first);
            for more in told.try_iter().take(ACCESS_BATCH) {
                self.take(more);
            }
            self.writers.values_mut().for_each(AccessWriter::flush);
        }
    }

    fn take(&mut self, told: Told) {
        let (log, time, line) = match told {
            Told::Close(log) => return drop(self.writers.remove(&log)),
            Told::Line(log, time, line) => (log, time, line),
        };
        let data_dir = &self.data_dir;
        let writer =
            self.writers.entry(log).or_insert_with_key(|log| AccessWriter::new(data_dir, log));
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writer.note(time, &format!("{lost} requests are not written down: too many at once"));
        }
        // Its types rule a failure out.
        if let Ok(line) = serde_json::to_vec(&line) {
            writer.push(time, &line);
        }
    }
}

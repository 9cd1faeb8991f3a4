//! The writer thread: makes writes durable, several at once when they come faster than the disk.
//!
//! A write that is small, of a disk that is quick, may be made by who asks instead: waking the
//! thread and being woken by it take longer than such a disk.
//!
//! Owns the store. Never goes on after a failure: it reports it and ends.

use super::wal::{Store, WalError};
use crate::consensus::raft::node::Write;
use crate::limits;
use raft::eraftpb::SnapshotMetadata;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use watch::{Bounds, Finding, Watch};

mod watch;

/// What the thread is asked to do, in order.
pub enum Job {
    /// Make a write durable.
    Write(Write),
    /// Make a snapshot of this node durable.
    Snapshot {
        /// Index, term and configuration.
        meta: SnapshotMetadata,
        /// The encoded state.
        data: Vec<u8>,
    },
    /// Remove what only holds entries up to this index.
    Compact(u64),
    /// Do what was asked before, then end.
    Stop,
}

/// What the thread did.
#[derive(Debug)]
pub enum Done {
    /// All writes up to this number are durable; the last one took so long.
    Written(u64, Duration),
    /// A write takes long.
    Late,
    /// It takes so long that the disk can't be expected to answer.
    Stuck,
    /// The snapshot at this index is durable.
    Snapshot(u64),
    /// The disk had no room for a snapshot: the log stays as long as it is.
    NoSnapshot(WalError),
    /// The disk refused: nothing can be trusted after this.
    Failed(WalError),
    /// The thread is gone, asked or not.
    Ended,
}

/// The store, and whether its last write was quick.
struct Desk {
    store: Mutex<Box<dyn Store>>,
    quick: AtomicBool,
    watch: Arc<Watch>,
}

impl Desk {
    fn write(&self, store: &mut dyn Store, write: &Write) -> Result<Done, WalError> {
        let begun = Instant::now();
        let large = write.snapshot.as_ref().map_or(0, |snapshot| snapshot.data.len());
        self.watched(large, || store.write(write))?;
        let took = begun.elapsed();
        self.quick.store(took <= limits::WRITE_QUICK, Ordering::Relaxed);
        Ok(Done::Written(write.number, took))
    }

    /// Does what the disk may hang on, with so many bytes.
    fn watched<T>(&self, bytes: usize, job: impl FnOnce() -> T) -> T {
        self.watch.begin(bytes as u64);
        let done = job();
        self.watch.end();
        done
    }
}

/// The thread's handle.
pub struct Writer {
    desk: Arc<Desk>,
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub fn spawn(
        store: impl Store,
        report: impl Fn(Done) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::spawn_with(store, report, Bounds::default())
    }

    fn spawn_with(
        store: impl Store,
        report: impl Fn(Done) + Send + Sync + 'static,
        bounds: Bounds,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let (quick, watch) = (AtomicBool::new(false), Arc::new(Watch::default()));
        let report = Arc::new(report);
        let told = Arc::clone(&report);
        watch.start(bounds, move |finding| match finding {
            Finding::Late => {
                // Said here: whoever is told may be the one that waits for the disk.
                tracing::error!(
                    seconds = limits::WRITE_LATE.as_secs(),
                    "a write to the log takes long: the disk hangs"
                );
                told(Done::Late);
            }
            Finding::Stuck => told(Done::Stuck),
        })?;
        let desk = Arc::new(Desk { store: Mutex::new(Box::new(store)), quick, watch });
        let its = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("mill-log".to_owned()).spawn(move || {
            let ended = Ended(report, Arc::clone(&its.watch));
            run(&its, &queue, &*ended.0);
        })?;
        Ok(Self { desk, jobs, thread: Some(thread) })
    }

    /// Asks for something; if the thread is gone, its [`Done::Ended`] tells.
    pub fn ask(&self, job: Job) {
        let _ = self.jobs.send(job);
    }

    /// Makes a write durable here and now, before which all others have been reported; none if it
    /// had better be asked for.
    pub fn write_here(&self, write: &Write) -> Option<Done> {
        let size: usize = write.entries.iter().map(|entry| entry.data.len()).sum();
        let fits = write.snapshot.is_none() && size <= limits::WRITE_HERE_MAX;
        if !fits || !self.desk.quick.load(Ordering::Relaxed) {
            return None;
        }
        // The thread may be at work on a snapshot.
        let mut store = self.desk.store.try_lock().ok()?;
        Some(self.desk.write(store.as_mut(), write).unwrap_or_else(Done::Failed))
    }

    /// A sender for another thread.
    pub fn sender(&self) -> Sender<Job> {
        self.jobs.clone()
    }

    /// Lets the thread finish what it was asked; blocks until then.
    pub fn finish(mut self) {
        self.ask(Job::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported as `Ended`.
            let _ = thread.join();
        }
    }
}

/// Reports the end of the thread, however it comes.
struct Ended<F: Fn(Done)>(Arc<F>, Arc<Watch>);

impl<F: Fn(Done)> Drop for Ended<F> {
    fn drop(&mut self) {
        self.1.close();
        (self.0)(Done::Ended);
    }
}

fn run(desk: &Desk, queue: &Receiver<Job>, report: &impl Fn(Done)) {
    // Before anybody needs it, and while nothing is asked yet.
    if let Ok(mut store) = desk.store.lock() {
        store.provide();
    }
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
        // Poisoned by a panic amid a write: nothing can be trusted after it.
        let Ok(mut store) = desk.store.lock() else { return };
        let done = match job {
            Job::Write(write) => {
                let (write, after) = gather(write, queue);
                next = after;
                desk.write(store.as_mut(), &write).map(Some)
            }
            Job::Snapshot { meta, data } => {
                match desk.watched(data.len(), || store.save_snapshot(&meta, &data)) {
                    Err(error) if error.is_full() => Ok(Some(Done::NoSnapshot(error))),
                    saved => saved.map(|()| Some(Done::Snapshot(meta.index))),
                }
            }
            Job::Compact(to) => desk.watched(0, || {
                store.compact(to).map(|()| {
                    store.provide();
                    None
                })
            }),
            Job::Stop => return,
        };
        drop(store);
        match done {
            Ok(None) => {}
            Ok(Some(done)) => report(done),
            Err(error) => return report(Done::Failed(error)),
        }
    }
}

/// Joins the writes that wait already with the first, so that one sync covers them all.
fn gather(mut write: Write, queue: &Receiver<Job>) -> (Write, Option<Job>) {
    let size = |w: &Write| w.entries.iter().map(|e| e.data.len() as u64).sum::<u64>();
    let mut bytes = size(&write);
    while bytes < limits::WRITE_GROUP_MAX {
        match queue.try_recv() {
            Ok(Job::Write(next)) if next.snapshot.is_none() => {
                bytes += size(&next);
                write.number = next.number;
                write.entries.extend(next.entries);
                write.hard = next.hard;
                write.conf = next.conf.or(write.conf);
            }
            Ok(other) => return (write, Some(other)),
            Err(_) => break,
        }
    }
    (write, None)
}

#[cfg(test)]
mod tests;

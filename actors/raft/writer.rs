//! The writer thread: makes writes durable, several at once when they come faster than the disk.
//!
//! Owns the store. Never goes on after a failure: it reports it and ends.

use super::wal::{Store, WalError};
use crate::limits;
use crate::raft::node::Write;
use raft::eraftpb::SnapshotMetadata;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

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
    /// All writes up to this number are durable.
    Written(u64),
    /// The snapshot at this index is durable.
    Snapshot(u64),
    /// The disk refused: nothing can be trusted after this.
    Failed(WalError),
    /// The thread is gone, asked or not.
    Ended,
}

/// The thread's handle.
pub struct Writer {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread.
    pub fn spawn(
        store: impl Store,
        report: impl Fn(Done) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new().name("mill-log".to_owned()).spawn(move || {
            let ended = Ended(report);
            run(store, &queue, &ended.0);
        })?;
        Ok(Self { jobs, thread: Some(thread) })
    }

    /// Asks for something; if the thread is gone, its [`Done::Ended`] tells.
    pub fn ask(&self, job: Job) {
        let _ = self.jobs.send(job);
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
struct Ended<F: Fn(Done)>(F);

impl<F: Fn(Done)> Drop for Ended<F> {
    fn drop(&mut self) {
        (self.0)(Done::Ended);
    }
}

fn run(mut store: impl Store, queue: &Receiver<Job>, report: &impl Fn(Done)) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.recv().ok()) {
        let done = match job {
            Job::Write(write) => {
                let (write, after) = gather(write, queue);
                next = after;
                store.write(&write).map(|()| Some(Done::Written(write.number)))
            }
            Job::Snapshot { meta, data } => {
                store.save_snapshot(&meta, &data).map(|()| Some(Done::Snapshot(meta.index)))
            }
            Job::Compact(to) => store.compact(to).map(|()| None),
            Job::Stop => return,
        };
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

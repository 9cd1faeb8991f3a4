//! Carries out what consensus wants done: tell, send, write, wait.
//!
//! Never decides any of it, and never waits.

use super::writer::Job;
use super::{Msg, State, wal};
use crate::raft::consensus::Todo;
use ractor::ActorRef;

impl State {
    /// Goes on until there is nothing to do before something else happens.
    pub(super) fn pump(&mut self, myself: &ActorRef<Msg>) {
        for todo in self.consensus.pump() {
            match todo {
                Todo::Tell(event) => (self.sink)(event),
                Todo::Write(write) => self.ask(Job::Write(write)),
                Todo::ReadSnapshot => self.read_snapshot(myself),
                Todo::Answer(reader, index) => {
                    // Whoever asked may be gone.
                    let _ = reader.send(Ok(index));
                }
                Todo::Fail(error) => return self.fail(error.into(), myself),
            }
        }
        self.arm(myself);
    }

    fn arm(&mut self, myself: &ActorRef<Msg>) {
        let now = self.begun.elapsed().into();
        if !self.consensus.ticks() {
            self.ticks.begin(now);
        } else if let Some((after, generation)) = self.ticks.arm(now, self.consensus.due()) {
            myself.send_after(after.duration(), move || Msg::Tick { generation });
        }
        if let Some(after) = self.consensus.watch_reads(self.begun.elapsed().into()) {
            myself.send_after(after.duration(), || Msg::ReadsDue);
        }
    }

    fn read_snapshot(&self, myself: &ActorRef<Msg>) {
        let (dir, myself) = (self.dir.clone(), myself.clone());
        tokio::task::spawn_blocking(move || {
            let read = wal::load_snapshot(&dir).unwrap_or_else(|error| {
                tracing::error!(%error, "reading the snapshot for a peer");
                None
            });
            // The actor may have stopped.
            let _ = myself.cast(Msg::SnapshotRead(read.map(|(snapshot, _)| Box::new(snapshot))));
        });
    }
}

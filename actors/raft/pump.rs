//! Carries out what consensus wants done: tell, send, write, wait.
//!
//! Never decides any of it, and never waits.

use super::writer::Job;
use super::{Msg, State, wal};
use crate::consensus::raft::consensus::Todo;
use crate::consensus::raft::node::Write;
use ractor::ActorRef;

impl State {
    /// Goes on until there is nothing to do before something else happens.
    pub(super) fn pump(&mut self, myself: &ActorRef<Msg>) {
        while !self.failed && self.carry_out(myself) {}
        if !self.failed {
            self.arm(myself);
        }
    }

    /// Answers whether a write is done already, so that there is more to do.
    fn carry_out(&mut self, myself: &ActorRef<Msg>) -> bool {
        let mut wrote = false;
        for todo in self.consensus.pump() {
            match todo {
                Todo::Tell(event) => (self.sink)(event),
                Todo::Write(write) => wrote |= self.write(write, myself),
                Todo::ReadSnapshot => self.read_snapshot(myself),
                Todo::Answer(reader, index) => {
                    // Whoever asked may be gone.
                    let _ = reader.send(Ok(index));
                }
                Todo::Fail(error) => {
                    self.fail(error.into(), myself);
                    return false;
                }
            }
        }
        wrote
    }

    /// A leader's messages leave while its disk is at work; a follower has nothing else to do
    /// before it can answer.
    fn write(&mut self, write: Write, myself: &ActorRef<Msg>) -> bool {
        let first = self.asked == self.written;
        if first && !self.consensus.leads() {
            let done = self.writer.as_ref().and_then(|writer| writer.write_here(&write));
            if let Some(done) = done {
                self.asked = write.number;
                self.wrote(done, myself);
                return true;
            }
        }
        self.asked = write.number;
        self.ask(Job::Write(write));
        false
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

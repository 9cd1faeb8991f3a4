//! The writer with a store that can be held up and that can fail.

use super::*;
use raft::eraftpb::Entry;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Says what it wrote after it was let go.
struct Slow {
    go: Receiver<bool>,
    wrote: Sender<Write>,
}

impl Store for Slow {
    fn write(&mut self, write: &Write) -> Result<(), WalError> {
        if !self.go.recv().unwrap_or(false) {
            return Err(WalError::Stopped);
        }
        let _ = self.wrote.send(write.clone());
        Ok(())
    }

    fn save_snapshot(&mut self, _: &SnapshotMetadata, _: &[u8]) -> Result<(), WalError> {
        Ok(())
    }

    fn compact(&mut self, _: u64) -> Result<(), WalError> {
        Ok(())
    }
}

fn write(number: u64) -> Write {
    let entries = vec![Entry { index: number, data: vec![1; 10], ..Entry::default() }];
    Write { number, entries, ..Write::default() }
}

fn next(done: &Receiver<Done>) -> Done {
    done.recv_timeout(Duration::from_secs(10)).expect("the writer reports")
}

#[test]
fn what_waits_is_written_at_once_and_reported_after() {
    let (go, let_go) = sync_channel(9);
    let (wrote, written) = channel();
    let (report, done) = channel();
    let tell = move |what| drop(report.send(what));
    let writer = Writer::spawn(Slow { go: let_go, wrote }, tell).unwrap();
    for number in 1..=10 {
        writer.ask(Job::Write(write(number)));
    }
    writer.ask(Job::Snapshot { meta: SnapshotMetadata::default(), data: Vec::new() });
    assert!(done.try_recv().is_err(), "nothing is reported before it is written");
    let mut numbers = Vec::new();
    let mut entries = Vec::new();
    while numbers.last() != Some(&10) {
        go.send(true).unwrap();
        let Done::Written(number) = next(&done) else { panic!("a write comes first") };
        numbers.push(number);
        entries.extend(written.recv().unwrap().entries.iter().map(|e| e.index));
    }
    assert!(numbers.len() <= 2, "at most the first one went alone: {numbers:?}");
    assert_eq!(entries, (1..=10).collect::<Vec<_>>());
    assert!(matches!(next(&done), Done::Snapshot(0)));
    writer.finish();
    assert!(matches!(next(&done), Done::Ended));
}

#[test]
fn a_failed_write_is_the_last_thing_that_happens() {
    let (go, let_go) = sync_channel(9);
    let (wrote, written) = channel();
    let (report, done) = channel();
    let tell = move |what| drop(report.send(what));
    let writer = Writer::spawn(Slow { go: let_go, wrote }, tell).unwrap();
    go.send(false).unwrap();
    writer.ask(Job::Write(write(1)));
    assert!(matches!(next(&done), Done::Failed(_)));
    assert!(matches!(next(&done), Done::Ended));
    writer.ask(Job::Write(write(2)));
    writer.finish();
    assert!(written.try_recv().is_err());
    assert!(done.try_recv().is_err(), "nothing after the end");
}

//! The writer with a store that can be held up and that can fail.

use super::*;
use raft::eraftpb::Entry;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Says when it begins, and what it wrote after it was let go.
struct Slow {
    begun: Sender<()>,
    go: Receiver<bool>,
    wrote: Sender<Write>,
}

impl Store for Slow {
    fn write(&mut self, write: &Write) -> Result<(), WalError> {
        let _ = self.begun.send(());
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
    let writer = Writer::spawn(Slow { begun: channel().0, go: let_go, wrote }, tell).unwrap();
    for number in 1..=10 {
        writer.ask(Job::Write(write(number)));
    }
    writer.ask(Job::Snapshot { meta: SnapshotMetadata::default(), data: Vec::new() });
    assert!(done.try_recv().is_err(), "nothing is reported before it is written");
    let mut numbers = Vec::new();
    let mut entries = Vec::new();
    while numbers.last() != Some(&10) {
        go.send(true).unwrap();
        let Done::Written(number, _) = next(&done) else { panic!("a write comes first") };
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
    let writer = Writer::spawn(Slow { begun: channel().0, go: let_go, wrote }, tell).unwrap();
    go.send(false).unwrap();
    writer.ask(Job::Write(write(1)));
    assert!(matches!(next(&done), Done::Failed(_)));
    assert!(matches!(next(&done), Done::Ended));
    writer.ask(Job::Write(write(2)));
    writer.finish();
    assert!(written.try_recv().is_err());
    assert!(done.try_recv().is_err(), "nothing after the end");
}

#[test]
fn a_quick_disk_is_written_to_by_who_asks_and_a_slow_one_by_the_thread() {
    let (go, let_go) = sync_channel(9);
    let (begun, begins) = channel();
    let (wrote, written) = channel();
    let (report, done) = channel();
    let tell = move |what| drop(report.send(what));
    let writer = Writer::spawn(Slow { begun, go: let_go, wrote }, tell).unwrap();
    assert!(writer.write_here(&write(1)).is_none(), "nobody knows yet how quick it is");
    let mut number = 0;
    let here = loop {
        number += 1;
        go.send(true).unwrap();
        // On a busy machine the thread may have been slow, several times.
        match writer.write_here(&write(number)) {
            Some(done) => break done,
            None => writer.ask(Job::Write(write(number))),
        }
        assert!(matches!(next(&done), Done::Written(n, _) if n == number));
    };
    assert!(matches!(here, Done::Written(n, _) if n == number), "{here:?}");
    assert!(done.try_recv().is_err(), "the thread had no part in it");
    let numbers: Vec<u64> = written.try_iter().map(|write: Write| write.number).collect();
    assert_eq!(numbers, (1..=number).collect::<Vec<_>>());

    begins.try_iter().for_each(drop);
    writer.ask(Job::Write(write(number + 1)));
    begins.recv().unwrap();
    let since = Instant::now();
    while since.elapsed() <= limits::WRITE_QUICK {
        std::hint::spin_loop();
    }
    go.send(true).unwrap();
    assert!(matches!(next(&done), Done::Written(..)));
    assert!(writer.write_here(&write(number + 2)).is_none(), "it was slow");
}

#[test]
fn a_write_that_hangs_is_told_while_it_hangs() {
    let (go, let_go) = sync_channel(9);
    let (report, done) = channel();
    let tell = move |what| drop(report.send(what));
    let store = Slow { begun: channel().0, go: let_go, wrote: channel().0 };
    let bounds = Bounds { late: Duration::from_millis(20), stuck: Duration::from_millis(40) };
    let writer = Writer::spawn_with(store, tell, bounds).unwrap();
    writer.ask(Job::Write(write(1)));
    assert!(matches!(next(&done), Done::Late));
    assert!(matches!(next(&done), Done::Stuck));
    go.send(true).unwrap();
    assert!(matches!(next(&done), Done::Written(1, took) if took >= bounds.stuck));
    writer.finish();
    assert!(matches!(next(&done), Done::Ended));
}

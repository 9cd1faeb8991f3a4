//! Tests of the reader with files that a real writer writes.

use super::super::cursor::{Attempts, Cursor};
use super::super::files::{self, Segment};
use super::super::format::{LinePart, LogTime, Stream};
use super::super::writer::Writer;
use super::{Event, LogLine, LogReader, LogStream, Query};
use crate::id::{AllocId, Attempt};
use crate::limits;
use futures_util::StreamExt;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const ALLOC: &str = "web-0-k3f9";

fn alloc() -> AllocId {
    ALLOC.into()
}

fn writer(data: &Path, attempt: u32) -> Writer {
    Writer::new(files::directory(data, &alloc()), Attempt(attempt))
}

fn put(writer: &mut Writer, nanos: u64, text: &str) {
    writer.push(nanos, Stream::Stdout, LinePart::Full, text.as_bytes());
}

async fn next(stream: &mut LogStream) -> Option<Event> {
    tokio::time::timeout(Duration::from_secs(20), stream.next()).await.expect("an event in time")
}

async fn next_line(stream: &mut LogStream) -> LogLine {
    loop {
        match next(stream).await {
            Some(Event::Line(line)) => return line,
            Some(Event::CaughtUp) => {}
            None => panic!("the stream has ended"),
        }
    }
}

async fn all(reader: &LogReader, query: Query) -> Vec<String> {
    let mut stream = reader.read(&alloc(), query).unwrap();
    let mut lines = Vec::new();
    let mut caught_up = 0;
    while let Some(event) = next(&mut stream).await {
        match event {
            Event::Line(line) => lines.push(line.line),
            Event::CaughtUp => caught_up += 1,
        }
    }
    assert!(caught_up <= 1);
    lines
}

#[tokio::test]
async fn the_newest_attempt_is_read_and_the_previous_on_demand() {
    let data = tempfile::tempdir().unwrap();
    let reader = LogReader::new(data.path()).unwrap();
    let query = Query::default();
    assert!(all(&reader, query.clone()).await.is_empty(), "no log, no lines");
    assert!(!files::directory(data.path(), &alloc()).exists());
    for attempt in [1, 2, 10] {
        let mut writer = writer(data.path(), attempt);
        for i in 1..=3 {
            put(&mut writer, u64::from(attempt) * 100 + i, &format!("{attempt}/{i}"));
        }
    }
    assert_eq!(all(&reader, query.clone()).await, ["10/1", "10/2", "10/3"]);
    assert_eq!(all(&reader, Query { tail: Some(2), ..query.clone() }).await, ["10/2", "10/3"]);
    assert_eq!(all(&reader, Query { tail: Some(0), ..query.clone() }).await, [""; 0]);
    assert_eq!(all(&reader, Query { tail: Some(9), ..query.clone() }).await.len(), 3);
    let previous = Query { previous: true, follow: true, ..query.clone() };
    assert_eq!(all(&reader, previous).await, ["2/1", "2/2", "2/3"]);
    let since = Some(LogTime(1002));
    assert_eq!(all(&reader, Query { since, ..query.clone() }).await, ["10/2", "10/3"]);
    let both = Query { since, tail: Some(1), ..query.clone() };
    assert_eq!(all(&reader, both).await, ["10/3"]);
    let grep = Query { grep: Some("/2".into()), tail: Some(1), ..query };
    assert_eq!(all(&reader, grep).await, ["10/2"]);
}

#[tokio::test]
async fn a_tail_is_the_end_of_the_whole_whatever_the_lines() {
    let data = tempfile::tempdir().unwrap();
    let mut writer = writer(data.path(), 1);
    for i in 0..2_000_u64 {
        let size = [3, 40, 900, 16_000][(i % 4) as usize];
        let text = format!("{i} {}", "x".repeat(size));
        if i % 97 == 0 {
            let (out, err) = (Stream::Stdout, Stream::Stderr);
            writer.push(1, out, LinePart::Begin, &[b'o'; 16_384]);
            writer.push(1, err, LinePart::Begin, &[b'e'; 16_384]);
            for _ in 0..i % 31 {
                writer.push(1, out, LinePart::Continue, &[b'o'; 16_384]);
            }
            writer.push(1, err, LinePart::End, b"!");
            writer.push(1, out, LinePart::End, b"!");
        }
        put(&mut writer, 1, &text);
    }
    drop(writer);
    let reader = LogReader::new(data.path()).unwrap();
    let whole = all(&reader, Query::default()).await;
    assert_eq!(whole.len(), 2_042);
    for wanted in [1, 2, 3, 5, 19, 100, 101, 777, 2_000, 2_042, 3_000] {
        let tail = all(&reader, Query { tail: Some(wanted), ..Query::default() }).await;
        let from = whole.len().saturating_sub(wanted);
        assert!(tail == whole[from..], "the last {wanted}: {} lines came", tail.len());
    }
}

#[tokio::test]
async fn following_over_rotations_neither_loses_nor_doubles_a_line() {
    let data = tempfile::tempdir().unwrap();
    let reader = LogReader::new(data.path()).unwrap();
    let follow = Query { follow: true, ..Query::default() };
    let mut stream = reader.read(&alloc(), follow).unwrap();
    let place = data.path().to_owned();
    let count = 4 * limits::LOG_FILE_MAX / 1000;
    let writing = std::thread::spawn(move || {
        let mut writer = writer(&place, 1);
        let filler = "x".repeat(990);
        for i in 0..count {
            put(&mut writer, 1, &format!("{i} {filler}"));
            if i % 7 == 0 {
                writer.flush();
            }
        }
    });
    for i in 0..count {
        let line = next_line(&mut stream).await;
        assert_eq!(line.line.split(' ').next().unwrap(), i.to_string(), "{:?}", line.stream);
    }
    writing.join().unwrap();
    let directory = files::directory(data.path(), &alloc());
    assert!(files::segments(&directory).unwrap().len() >= 4);
    files::mark_ended(&directory).unwrap();
    while let Some(event) = next(&mut stream).await {
        assert_eq!(event, Event::CaughtUp, "nothing comes twice");
    }
}

#[tokio::test]
async fn following_goes_on_with_the_next_attempt_and_ends_with_the_allocation() {
    let data = tempfile::tempdir().unwrap();
    let reader = LogReader::new(data.path()).unwrap();
    let mut first = writer(data.path(), 1);
    put(&mut first, 1, "old");
    first.flush();
    let query = Query { follow: true, tail: Some(1), ..Query::default() };
    let mut stream = reader.read(&alloc(), query.clone()).unwrap();
    assert_eq!(next_line(&mut stream).await.line, "old");
    assert_eq!(next(&mut stream).await, Some(Event::CaughtUp));
    first.push(2, Stream::Stdout, LinePart::Begin, b"cut off");
    drop(first);
    let mut second = writer(data.path(), 2);
    put(&mut second, 3, "new");
    second.flush();
    assert_eq!(next_line(&mut stream).await.line, "cut off");
    assert_eq!(next_line(&mut stream).await.line, "new");
    put(&mut second, 4, "last");
    drop(second);
    files::mark_ended(&files::directory(data.path(), &alloc())).unwrap();
    assert_eq!(next_line(&mut stream).await.line, "last");
    assert_eq!(next(&mut stream).await, None);
    let again = all(&reader, query.clone()).await;
    assert_eq!(again, ["last"], "an ended one is read, and following it ends at once");
    let later = writer(data.path(), 3);
    drop(later);
    assert!(!files::is_ended(&files::directory(data.path(), &alloc())));
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_reading() {
    let data = tempfile::tempdir().unwrap();
    let reader = LogReader::new(data.path()).unwrap();
    let mut writer = writer(data.path(), 1);
    for i in 0..10_000 {
        put(&mut writer, i, "some text to fill more than the batches that wait");
    }
    writer.flush();
    let query = Query { follow: true, ..Query::default() };
    let streams = [(), (), ()].map(|()| reader.read(&alloc(), query.clone()).unwrap());
    let alive = tokio::runtime::Handle::current().metrics();
    let before = alive.num_alive_tasks();
    assert!(before >= 3);
    drop(streams);
    let gone = async {
        while alive.num_alive_tasks() > before - 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the tasks end");
}

#[tokio::test]
async fn half_a_record_is_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let directory = files::directory(data.path(), &alloc());
    fs::create_dir_all(&directory).unwrap();
    let segment = Segment { attempt: Attempt(1), sequence: 0 };
    let mut file = fs::File::create(directory.join(segment.file_name())).unwrap();
    let reader = LogReader::new(data.path()).unwrap();
    let query = Query { follow: true, tail: Some(10), ..Query::default() };
    let mut stream = reader.read(&alloc(), query.clone()).unwrap();
    assert_eq!(next(&mut stream).await, Some(Event::CaughtUp));
    for piece in ["mill-l", "og 1\n1 o", " F on", "e\n2 e F two\n3 o F th"] {
        file.write_all(piece.as_bytes()).unwrap();
    }
    assert_eq!(next_line(&mut stream).await.line, "one");
    let two = next_line(&mut stream).await;
    assert_eq!((two.stream, two.ts), (Stream::Stderr, LogTime(2)));
    file.write_all(b"ree \xff\xfe\n").unwrap();
    assert_eq!(next_line(&mut stream).await.line, "three \u{fffd}\u{fffd}");
}

#[test]
fn files_that_were_removed_or_are_foreign_are_told_of() {
    let data = tempfile::tempdir().unwrap();
    let directory = files::directory(data.path(), &alloc());
    fs::create_dir_all(&directory).unwrap();
    let file = |sequence: u32, text: &str| {
        let name = Segment { attempt: Attempt(1), sequence }.file_name();
        fs::write(directory.join(name), text).unwrap();
    };
    file(0, "mill-log 1\n1 o F one\n");
    let mut cursor = Cursor::new(directory.clone(), Attempts::From(Attempt(1)));
    let mut lines = Vec::new();
    while cursor.step(|line| lines.push(String::from_utf8(line.bytes).unwrap())).unwrap() {}
    file(3, "mill-log 1\n4 o F four\nno record\n5 o F five\n");
    file(4, "mill-log 2\n6 o F six\n");
    file(5, "mill-log 1\n7 o F seven\n");
    while cursor.step(|line| lines.push(String::from_utf8(line.bytes).unwrap())).unwrap() {}
    let want = [
        "one",
        "2 files left out: they were rotated away before being read",
        "four",
        "five",
        "a log file left out: its format isn't known to this version",
        "seven",
    ];
    assert_eq!(lines, want);
}

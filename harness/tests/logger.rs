//! Tests of the logger process: the real binary, started as containerd's shim does it.
//!
//! Owns nothing that is left behind. What the files hold is read with the reader.

use crate::poll::poll;
use futures_util::StreamExt;
use mill::actors::platform::logs::{
    Event, LogLine, LogReader, Query, Stream, directory, install_from, mark_ended, relieve,
};
use mill::id::AllocId;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MILL: &str = env!("CARGO_BIN_EXE_mill");

/// A running logger and the container's ends of its pipes.
struct Logger {
    child: Child,
    out: PipeWriter,
    err: PipeWriter,
    ready: PipeReader,
}

fn alloc() -> AllocId {
    "web-0-k3f9".into()
}

impl Logger {
    fn start(data: &Path, attempt: u32) -> Self {
        Self::start_of(Path::new(MILL), data, attempt)
    }

    /// Starts it with stdout's, stderr's and the ready pipe on 3, 4 and 5.
    fn start_of(program: &Path, data: &Path, attempt: u32) -> Self {
        let (out_end, out) = pipe().unwrap();
        let (err_end, err) = pipe().unwrap();
        let (ready, ready_end) = pipe().unwrap();
        let script = r#"exec "$0" logger "$1" 3<&0 4<&1 5>&2 </dev/null >/dev/null 2>&1"#;
        let target = directory(data, &alloc()).join(attempt.to_string());
        let child = Command::new("sh")
            .args(["-c", script])
            .args([program, &target])
            .stdin(out_end)
            .stdout(err_end)
            .stderr(ready_end)
            .spawn()
            .unwrap();
        Self { child, out, err, ready }
    }

    fn wait_ready(&mut self) {
        assert_eq!(self.ready.read(&mut [0]).unwrap(), 0, "closed, nothing written");
    }

    /// Ends both streams; the logger must then end by itself.
    fn finish(self) {
        let Self { mut child, out, err, .. } = self;
        drop((out, err));
        let status = poll(|| child.try_wait().unwrap()).secs(20).expect("the logger's end");
        assert!(status.success(), "{status}");
    }

    /// Proportional memory, and what no other process could share, in KiB.
    fn memory(&self) -> (u64, u64) {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).unwrap();
        let field = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("Pss:"), field("Private_Dirty:"))
    }
}

async fn read(data: &Path) -> Vec<LogLine> {
    let reader = LogReader::new(data).unwrap();
    let stream = reader.read(&alloc(), Query::default()).unwrap();
    let lines = stream.filter_map(async |event| match event {
        Event::Line(line) => Some(line),
        Event::CaughtUp => None,
    });
    lines.collect().await
}

fn of(lines: &[LogLine], stream: Stream) -> Vec<&str> {
    lines.iter().filter(|line| line.stream == stream).map(|line| line.line.as_str()).collect()
}

#[tokio::test]
async fn the_logger_keeps_both_streams_through_signals_until_their_end() {
    let data = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(data.path(), 1);
    logger.wait_ready();
    let long = "0123456789".repeat(100_000);
    writeln!(logger.out, "first").unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        kill(Pid::from_raw(logger.child.id().cast_signed()), signal).unwrap();
    }
    writeln!(logger.err, "wrong {}", "!".repeat(20)).unwrap();
    logger.out.write_all(long.as_bytes()).unwrap();
    logger.out.write_all(b"\n\n\xff\x00junk\r\nno newline at the end").unwrap();
    logger.finish();
    let lines = read(data.path()).await;
    let junk = "\u{fffd}\0junk\r";
    assert_eq!(of(&lines, Stream::Stdout), ["first", &long, "", junk, "no newline at the end"]);
    assert_eq!(of(&lines, Stream::Stderr), ["wrong !!!!!!!!!!!!!!!!!!!!"]);
    assert!(lines.windows(2).all(|pair| pair[0].ts < pair[1].ts));
    let age = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH + Duration::from_nanos(lines[0].ts.0))
        .unwrap();
    assert!(age < Duration::from_secs(60), "{age:?}");
}

#[tokio::test]
async fn ten_thousand_lines_a_second_are_all_there() {
    const LINES: usize = 50_000;
    let data = tempfile::tempdir().unwrap();
    let mut logger = Logger::start(data.path(), 1);
    logger.wait_ready();
    let begun = Instant::now();
    for i in 0..LINES {
        writeln!(logger.out, "{i} GET /some/path?with=query 200 in 3ms for somebody").unwrap();
        if i % 10 == 0 {
            writeln!(logger.err, "{i} warning").unwrap();
        }
    }
    let (pss, private) = logger.memory();
    logger.finish();
    let rate = LINES as f64 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} lines/s; PSS {pss} KiB, private {private} KiB");
    let lines = read(data.path()).await;
    let numbers = |stream| -> Vec<usize> {
        let first = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        of(&lines, stream).into_iter().map(first).collect()
    };
    assert!(numbers(Stream::Stdout).into_iter().eq(0..LINES));
    assert!(numbers(Stream::Stderr).into_iter().eq((0..LINES).step_by(10)));
    assert!(rate > 10_000.0, "{rate:.0} lines/s");
}

/// The program lies anywhere in memory, which makes it harder to attack. Its copy that loggers are
/// started from lies at one address, so that they have nothing of it for themselves.
#[tokio::test]
async fn the_program_lies_anywhere_and_its_loggers_share_what_it_needs() {
    let data = tempfile::tempdir().unwrap();
    let kept = install_from(data.path(), Path::new(MILL)).unwrap();
    let mut private = Vec::new();
    for (attempt, program, kind) in [(1, Path::new(MILL), 3), (2, &*kept, 2)] {
        let mut header = [0; 18];
        fs::File::open(program).unwrap().read_exact(&mut header).unwrap();
        assert_eq!(header[16..], [kind, 0], "{}", program.display());
        let mut logger = Logger::start_of(program, data.path(), attempt);
        logger.wait_ready();
        writeln!(logger.out, "attempt {attempt}").unwrap();
        private.push(logger.memory().1);
        logger.finish();
        let lines = read(data.path()).await;
        assert_eq!(of(&lines, Stream::Stdout).last(), Some(&&*format!("attempt {attempt}")));
    }
    println!("private, in KiB: {private:?}");
    assert!(private[1] + 1_000 < private[0] && private[1] <= 2_048, "{private:?}");
}

/// A small file system of its own, unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (kind, options) = (Some("tmpfs"), format!("size={size}"));
        mount(kind, dir.path(), kind, MsFlags::empty(), Some(options.as_str())).unwrap();
        Self(dir)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A panicking test must not panic again; the directory's removal would then complain.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_loses_counted_lines_and_stops_nobody() {
    let disk = Tmpfs::new("1m");
    let data = disk.0.path();
    fs::write(data.join("ballast"), vec![0; 700 << 10]).unwrap();
    let mut logger = Logger::start(data, 1);
    logger.wait_ready();
    const LINES: usize = 20_000;
    for i in 0..LINES {
        writeln!(logger.out, "{i} {}", "x".repeat(100)).unwrap();
    }
    assert!(logger.child.try_wait().unwrap().is_none(), "it runs on");
    // More than the pipe holds was written after the disk was full: losses have happened.
    fs::remove_file(data.join("ballast")).unwrap();
    writeln!(logger.out, "after").unwrap();
    logger.finish();
    let lines = read(data).await;
    let notes = of(&lines, Stream::Mill);
    assert!(!notes.is_empty());
    let lost: usize = notes
        .iter()
        .map(|note| {
            assert!(note.ends_with("bytes) lost: the log could not be written"), "{note}");
            note.split(' ').next().unwrap().parse::<usize>().unwrap()
        })
        .sum();
    let kept = of(&lines, Stream::Stdout);
    assert_eq!(kept.last(), Some(&"after"));
    assert!(lost > 10_000, "{lost}");
    assert_eq!(kept.len() + lost, LINES + 1, "each line is kept or counted");
    assert!(kept.iter().take(kept.len() - 1).all(|line| line.ends_with(&"x".repeat(100))));
}

#[test]
fn a_nearly_full_disk_keeps_fewer_logs() {
    let disk = Tmpfs::new("1m");
    let data = disk.0.path();
    let log = |name: &str, age: u64| {
        let folder = directory(data, &name.into());
        fs::create_dir_all(&folder).unwrap();
        // They take no room: only their lengths count, each a little more than half of what stays.
        fs::File::create(folder.join("1.0.log")).unwrap().set_len(40 << 20).unwrap();
        mark_ended(&folder).unwrap();
        let ended = fs::File::open(folder.join("ended")).unwrap();
        ended.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
        folder
    };
    let (older, newer) = (log("older-0-k3f9", 20), log("newer-0-k3f9", 10));
    let now = std::time::SystemTime::now();
    assert_eq!(relieve(data, now, |_| false).unwrap(), []);
    fs::write(data.join("ballast"), vec![0; 950 << 10]).unwrap();
    assert_eq!(relieve(data, now, |_| false).unwrap().len(), 1);
    assert!(!older.exists() && newer.exists());
}

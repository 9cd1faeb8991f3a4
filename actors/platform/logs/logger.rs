//! The logger process: one beside each container, started by containerd's shim.
//!
//! The shim calls `mill logger <directory>/<attempt>` with the container's stdout on descriptor 3,
//! its stderr on 4, and on 5 a pipe that is closed when the logger is ready. It ends when both
//! streams have ended, not before: signals are blocked, write errors counted. One thread, a few
//! small buffers. Never talks to the daemon, and goes on without it.

use super::format::{Splitter, Stream};
use super::writer::Writer;
use crate::id::Attempt;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{close, read};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The first argument that makes the binary a logger.
pub const COMMAND: &str = "logger";

const STDOUT: i32 = 3;
const STDERR: i32 = 4;
const READY: i32 = 5;

/// One of the container's output streams.
struct Input {
    stream: Stream,
    file: Option<File>,
    lines: Splitter,
}

/// Runs the logger; `args` are those after `logger`: the directory and the attempt as one path.
/// Returns when both streams have ended.
#[must_use]
pub fn main(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    // A blocked signal is never delivered: the shim's SIGTERM comes while output is still in the
    // pipes. It can only fail for a wrong argument, which this isn't.
    let _ = SigSet::all().thread_block();
    let Some((directory, attempt)) = args.next().and_then(|path| target(Path::new(&path))) else {
        eprintln!("usage: mill logger DIRECTORY/ATTEMPT, started by containerd's shim");
        return ExitCode::from(2);
    };
    // The shim's directory goes away with the container; the logger may outlive it.
    let _ = nix::unistd::chdir("/");
    // Looked at before anything is opened, which would take the number of a missing one.
    let [stdout, stderr, ready] = [STDOUT, STDERR, READY].map(inherited);
    let mut inputs = [Input::open(Stream::Stdout, stdout), Input::open(Stream::Stderr, stderr)];
    let mut writer = Writer::new(directory, attempt);
    if let Some(descriptor) = ready {
        // Ready. Nothing can be done about a failure, and the shim then gives up by itself.
        let _ = close(descriptor);
    }
    while wait(&mut inputs) {
        for input in &mut inputs {
            input.take(&mut writer);
        }
        writer.flush();
    }
    ExitCode::SUCCESS
}

/// The directory and attempt that the argument names.
fn target(path: &Path) -> Option<(PathBuf, Attempt)> {
    let attempt = path.file_name()?.to_str()?.parse().ok()?;
    let directory = path.parent()?;
    directory.is_absolute().then(|| (directory.to_owned(), Attempt(attempt)))
}

/// The descriptor, if the process was started with it.
fn inherited(descriptor: i32) -> Option<i32> {
    Path::new(&format!("/proc/self/fd/{descriptor}")).exists().then_some(descriptor)
}

/// Waits until a stream has something or has ended; false when all have ended.
fn wait(inputs: &mut [Input; 2]) -> bool {
    let mut waiting: Vec<PollFd<'_>> = inputs
        .iter()
        .filter_map(|input| input.file.as_ref())
        .map(|file| PollFd::new(file.as_fd(), PollFlags::POLLIN))
        .collect();
    if waiting.is_empty() {
        return false;
    }
    // An interrupted wait reads nothing and waits again.
    let _ = poll(&mut waiting, PollTimeout::NONE);
    true
}

impl Input {
    /// Takes an inherited descriptor over by opening it anew, which needs no `unsafe` and leaves
    /// the blocking mode of the shim's end as it is.
    fn open(stream: Stream, descriptor: Option<i32>) -> Self {
        let file = descriptor.and_then(|descriptor| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC);
            let file = options.open(format!("/proc/self/fd/{descriptor}")).ok();
            // Open twice now; if a close fails, it stays so.
            let _ = close(descriptor);
            file
        });
        Self { stream, file, lines: Splitter::default() }
    }

    /// Reads what is there, a bounded amount, so that the streams take turns.
    fn take(&mut self, writer: &mut Writer) {
        let Some(file) = &self.file else { return };
        for _ in 0..4 {
            match read(file, self.lines.space()) {
                Ok(0) => return self.end(writer),
                Ok(count) => {
                    let (now, stream) = (now(), self.stream);
                    self.lines.filled(count, |part, bytes| writer.push(now, stream, part, bytes));
                }
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => return self.end(writer),
            }
        }
    }

    /// The stream has ended: what is left has no newline.
    fn end(&mut self, writer: &mut Writer) {
        let (now, stream) = (now(), self.stream);
        self.lines.finish(|part, bytes| writer.push(now, stream, part, bytes));
        self.file = None;
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME)
        .ok()
        .and_then(|time| {
            let seconds = u64::try_from(time.tv_sec()).ok()?;
            Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_names_directory_and_attempt() {
        let want = (PathBuf::from("/data/logs/web-0-k3f9"), Attempt(3));
        assert_eq!(target(Path::new("/data/logs/web-0-k3f9/3")), Some(want));
        for bad in ["", "3", "logs/web/3", "/logs/web/x", "/"] {
            assert_eq!(target(Path::new(bad)), None, "{bad}");
        }
    }
}

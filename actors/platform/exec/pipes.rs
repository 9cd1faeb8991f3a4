//! The pipes of further processes in containers, and the folders that they are in.
//!
//! Never knows which process has them.

use crate::limits;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// The end of what a program wrote.
#[derive(Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Reads once; false at the end.
    pub async fn read(&mut self, from: &mut Receiver) -> bool {
        let mut bytes = [0; 4096];
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return false };
        self.0.extend_from_slice(&bytes[..read]);
        let beyond = self.0.len().saturating_sub(limits::FAILURE_OUTPUT_MAX);
        self.0.drain(..beyond);
        true
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).trim_end().to_owned()
    }
}

/// Makes a folder; the one above it may vanish meanwhile, when the last other process has gone.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    const TRIES: u32 = 5;
    for _ in 1..TRIES {
        if std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).is_ok() {
            return Ok(());
        }
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn remove_folder(folder: &Path) {
    // What is left is removed with the container.
    let _ = std::fs::remove_dir_all(folder);
    if let Some(above) = folder.parent() {
        // Others may have theirs there.
        let _ = std::fs::remove_dir(above);
    }
}

fn fifo(path: &Path) -> io::Result<()> {
    let mode = nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR;
    Ok(nix::unistd::mkfifo(path, mode)?)
}

/// The reading end; the shim's writing end is there once the process is started.
pub(super) fn receiver(path: &Path) -> io::Result<Receiver> {
    fifo(path)?;
    OpenOptions::new().open_receiver(path)
}

/// The reading ends of what a process writes, as far as they are there: a runtime that starts it
/// waits for both, and its container with it.
pub(super) fn readers(folder: &Path) -> Vec<File> {
    let at_once = OFlag::O_NONBLOCK.bits();
    let open = |pipe| {
        let mut options = File::options();
        options.read(true).custom_flags(at_once).open(folder.join(pipe)).ok()
    };
    ["out", "err"].into_iter().filter_map(open).collect()
}

/// The writing end, also a reading one until the shim has its own.
pub(super) fn sender(path: &Path) -> io::Result<Sender> {
    fifo(path)?;
    OpenOptions::new().read_write(true).open_sender(path)
}

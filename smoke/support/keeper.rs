//! What systemd does for a service that restarts: it keeps the descriptors that it is given, and
//! hands them to the next process.
//!
//! Owns the kept descriptors. Never starts or stops a daemon.

use rustix::fd::OwnedFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

type Kept = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// Keeps what a daemon gives it.
pub struct Keeper {
    place: PathBuf,
    kept: Kept,
}

impl Keeper {
    /// Listens in a folder until the test's process ends.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let place = folder.join("notify");
        let socket = UnixDatagram::bind(&place).unwrap();
        let kept = Kept::default();
        let all = Arc::clone(&kept);
        std::thread::spawn(move || while take(&socket, &all) {});
        Self { place, kept }
    }

    /// How many descriptors there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// The same command, in a process that is handed what is kept.
    #[must_use]
    pub fn wrap(&self, command: &Command) -> Command {
        let kept = self.kept.lock().unwrap();
        let (mut script, mut names) = (String::new(), Vec::new());
        for (at, (name, fd)) in kept.iter().enumerate() {
            fcntl_setfd(fd, FdFlags::empty()).unwrap();
            script += &format!("exec {}<&{1} {1}<&-; ", 100 + at, fd.as_raw_fd());
            names.push(name.as_str());
        }
        for at in 0..kept.len() {
            script += &format!("exec {}<&{}; exec {1}<&-; ", 3 + at, 100 + at);
        }
        script += "export LISTEN_PID=$$; exec \"$@\"";
        let mut wrapped = Command::new("bash");
        wrapped.args(["-c", &script, "bash"]).arg(command.get_program()).args(command.get_args());
        wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.env("NOTIFY_SOCKET", &self.place);
        if !names.is_empty() {
            wrapped.env("LISTEN_FDS", names.len().to_string());
            wrapped.env("LISTEN_FDNAMES", names.join(":"));
        }
        wrapped
    }
}

/// Takes a message; false: nobody can send one any more.
fn take(socket: &UnixDatagram, kept: &Kept) -> bool {
    let mut text = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let Ok(got) = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) else {
        return false;
    };
    let text = String::from_utf8_lossy(&text[..got.bytes]).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default();
    let mut kept = kept.lock().unwrap();
    if text.contains("FDSTOREREMOVE=1") {
        kept.retain(|(known, _)| known != name);
    } else if text.contains("FDSTORE=1") {
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                kept.extend(fds.map(|fd| (name.to_owned(), fd)));
            }
        }
    }
    true
}

//! The process of a private containerd: started, found again, asked, watched, ended.
//!
//! Owns the file with the process id. Never trusts that number alone: it is taken for ours only if
//! its command line names our configuration.

use super::{Config, Error};
use crate::actors::platform::containerd::client::channel;
use crate::actors::platform::runc_shim::{USUAL, find};
use crate::limits;
use containerd_client::services::v1::version_client::VersionClient;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};

/// The log is emptied at a start when it is larger than this.
const LOG_MAX: u64 = 4 << 20;
/// Pause between two looks whether it answers.
const STEP: Duration = Duration::from_millis(5);
/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(1);

/// A running containerd, whoever started it.
#[derive(Debug)]
pub(super) struct Process {
    pub pid: i32,
    handle: AsyncFd<OwnedFd>,
    // Where it is our child, held so that it is reaped.
    child: Option<Child>,
}

impl Process {
    /// The one that runs for these places, if there is one.
    pub fn find(config: &Config) -> Option<Self> {
        let pid: i32 = fs::read_to_string(config.pid_file()).ok()?.trim().parse().ok()?;
        let process = Self::open(pid, None).ok()?;
        // Looked at after the handle was opened: the number can't have changed hands since.
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let file = config.file();
        let ours = line.split(|byte| *byte == 0).any(|word| word == file.as_os_str().as_bytes());
        ours.then_some(process)
    }

    /// Starts one, not waiting until it answers.
    pub fn spawn(config: &Config) -> Result<Self, Error> {
        let binary = binary(config)?;
        config.write()?;
        let path = config.log();
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Write { path, source }
        };
        let log = OpenOptions::new().create(true).append(true).open(&path).map_err(write(&path))?;
        if log.metadata().is_ok_and(|meta| meta.len() > LOG_MAX) {
            log.set_len(0).map_err(write(&path))?;
        }
        let errors = log.try_clone().map_err(write(&path))?;
        let mut search = std::env::var_os("PATH").unwrap_or_default();
        search.push(":");
        search.push(USUAL);
        // Its layers hold what containers' users read; this process makes nothing for others.
        let child = Command::new("/bin/sh")
            .args(["-c", "umask 0022; exec \"$0\" \"$@\""])
            .arg(&binary)
            .arg("--config")
            .arg(config.file())
            .env_clear()
            .env("PATH", search)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C on mill's terminal is not meant for it.
            .process_group(0)
            .spawn()
            .map_err(|source| Error::Spawn { binary: binary.clone(), source })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let process = Self::open(pid, Some(child))
            .map_err(|source| Error::Spawn { binary: binary.clone(), source })?;
        let path = config.pid_file();
        fs::write(&path, pid.to_string()).map_err(write(&path))?;
        Ok(process)
    }

    fn open(pid: i32, child: Option<Child>) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        // Deprecated for types that don't own their descriptor for life; this one does.
        #[allow(deprecated)]
        let handle = AsyncFd::new(pidfd_open(number, PidfdFlags::empty())?)?;
        Ok(Self { pid, handle, child })
    }

    /// Waits until it has ended. Safe to cancel.
    pub async fn ended(&mut self) {
        // A readable handle is an ended process; an error can't be told from it.
        let _ = self.handle.readable().await;
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
        }
    }

    /// Waits until it answers.
    pub async fn ready(&mut self, config: &Config) -> Result<(), Error> {
        let started = Instant::now();
        let socket = config.socket();
        while started.elapsed() < limits::CONTAINERD_READY {
            if version(&socket).await.is_some() {
                return Ok(());
            }
            if tokio::time::timeout(STEP, self.ended()).await.is_ok() {
                return Err(Error::Ended { tail: last_line(&config.log()), log: config.log() });
            }
        }
        Err(Error::Silent {
            socket,
            seconds: limits::CONTAINERD_READY.as_secs(),
            tail: last_line(&config.log()),
            log: config.log(),
        })
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        match pidfd_send_signal(self.handle.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::Stop { pid: self.pid, source: error.into() }),
        }
    }
}

/// Ends the one that runs for these places.
pub(super) async fn stop(config: &Config) -> Result<(), Error> {
    if let Some(mut process) = Process::find(config) {
        process.signal(Signal::TERM)?;
        if tokio::time::timeout(limits::CONTAINERD_STOP, process.ended()).await.is_err() {
            process.signal(Signal::KILL)?;
            process.ended().await;
        }
    }
    for path in [config.pid_file(), config.socket(), config.ttrpc()] {
        // They are of no use to anybody; a leftover is replaced by the next start.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// The version of the containerd behind a socket, if one answers at once.
pub(super) async fn version(socket: &Path) -> Option<String> {
    // A look that costs nothing before the connection that does.
    tokio::net::UnixStream::connect(socket).await.ok()?;
    let mut client = VersionClient::new(channel(socket.to_owned()));
    let answer = tokio::time::timeout(QUESTION, client.version(())).await.ok()?.ok()?;
    Some(answer.into_inner().version)
}

fn binary(config: &Config) -> Result<PathBuf, Error> {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    match &config.binary {
        Some(binary) if binary.is_file() => Ok(binary.clone()),
        Some(_) => Err(Error::Absent),
        None => find("containerd", &path)
            .or_else(|| find("containerd", USUAL.as_ref()))
            .ok_or(Error::Absent),
    }
}

fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().last().unwrap_or("(empty)").to_owned()
}

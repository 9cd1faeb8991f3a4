//! A containerd of our own: a child that outlives mill, is found again and kept alive.
//!
//! Owns its configuration, process and folder. Never touches containers: they belong to the shims
//! and run on while it is away.

mod config;
mod process;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;

/// Where a private containerd keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Images, snapshots, its configuration, log and process id; on a disk.
    pub root: PathBuf,
    /// Sockets and what concerns running containers; may be on a tmpfs. At most some 80 bytes
    /// long, since sockets are in it.
    pub state: PathBuf,
    /// Which program; absent: `containerd` from `PATH`.
    pub binary: Option<PathBuf>,
}

/// A private containerd that could not be started or stopped.
#[derive(Debug, Error)]
pub enum Error {
    /// The program isn't there.
    #[error(
        "containerd isn't installed. Run: apt-get install containerd runc, or pass \
            --containerd SOCKET"
    )]
    Absent,
    /// A folder or file can't be written.
    #[error("can't write {path} for the private containerd", path = path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The program can't be run.
    #[error("can't run {binary}", binary = binary.display())]
    Spawn {
        binary: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// It ended while starting.
    #[error(
        "the private containerd ended while starting; its log {log}: {tail}",
        log = log.display()
    )]
    Ended {
        log: PathBuf,
        /// The log's last line.
        tail: String,
    },
    /// It doesn't answer.
    #[error(
        "the private containerd doesn't answer at {socket} after {seconds}s; its log {log}: \
             {tail}",
        socket = socket.display(), log = log.display()
    )]
    Silent {
        /// Where it should.
        socket: PathBuf,
        /// How long was waited.
        seconds: u64,
        log: PathBuf,
        /// The log's last line.
        tail: String,
    },
    /// A socket's path is longer than the system takes.
    #[error("{path} is too long for a socket; use a shorter --data-dir", path = path.display())]
    PathTooLong { path: PathBuf },
    /// It could not be ended.
    #[error("can't end the private containerd, process {pid}")]
    Stop {
        pid: i32,
        #[source]
        source: std::io::Error,
    },
}

impl Config {
    /// The usual places below a data directory.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        let base = data_dir.join("containerd");
        Self { root: base.join("root"), state: base.join("state"), binary: None }
    }

    /// The gRPC socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state.join("containerd.sock")
    }
}

/// A running private containerd. Dropping this leaves it running, unsupervised.
#[derive(Debug)]
pub struct Daemon {
    config: Arc<Config>,
    supervisor: supervisor::Supervisor,
}

impl Daemon {
    /// Adopts the one that runs already for these places, or starts one, and keeps it alive from
    /// then on. Returns once it answers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let supervisor = supervisor::Supervisor::start(Arc::clone(&config)).await?;
        Ok(Self { config, supervisor })
    }

    /// The gRPC socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.config.socket()
    }

    /// Its process id; `None` while it is being restarted.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.supervisor.pid()
    }

    /// How often it was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.supervisor.restarts()
    }

    /// Ends it. Its containers must be gone before, or they run on without it.
    ///
    /// # Errors
    /// It can't be signalled.
    pub async fn stop(&self) -> Result<(), Error> {
        self.supervisor.end();
        stop(&self.config).await
    }
}

/// Ends the private containerd of these places, whoever started it. None running is success.
///
/// # Errors
/// It can't be signalled.
pub async fn stop(config: &Config) -> Result<(), Error> {
    process::stop(config).await
}

/// Whether something answers on a containerd socket within a second.
pub async fn answers(socket: &Path) -> bool {
    process::version(socket).await.is_some()
}

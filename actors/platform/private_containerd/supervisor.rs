//! Keeps the private containerd alive.
//!
//! Owns when it is started again. Never gives up: containers run on meanwhile, and every further
//! failure only waits longer.

use super::process::Process;
use super::{Config, Error};
use crate::backoff::Backoff;
use crate::limits;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::{AbortHandle, JoinSet};

#[derive(Debug, Default)]
struct Shared {
    /// 0: none.
    pid: AtomicI32,
    restarts: AtomicU64,
}

/// The watch over one containerd; ends when dropped, the process stays.
#[derive(Debug)]
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    watch: AbortHandle,
    // Ends the watch when it is dropped.
    _watches: JoinSet<()>,
}

impl Supervisor {
    /// Adopts or starts the process and watches it.
    pub async fn start(config: Arc<Config>) -> Result<Self, Error> {
        let process = match Process::find(&config) {
            Some(mut process) => process.ready(&config).await.map(|()| process),
            None => spawn(&config).await,
        };
        let process = match process {
            Ok(process) => process,
            // One that was about to end, or hung: a new one decides.
            Err(Error::Ended { .. } | Error::Silent { .. }) => {
                super::stop(&config).await?;
                spawn(&config).await?
            }
            Err(error) => return Err(error),
        };
        let shared = Arc::new(Shared::default());
        shared.pid.store(process.pid, Ordering::Relaxed);
        let mut watches = JoinSet::new();
        let watch = watches.spawn(keep(config, Arc::clone(&shared), process));
        Ok(Self { shared, watch, _watches: watches })
    }

    pub(super) fn pid(&self) -> Option<i32> {
        Some(self.shared.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    pub(super) fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// Ends the watch.
    pub fn end(&self) {
        self.watch.abort();
    }
}

async fn spawn(config: &Config) -> Result<Process, Error> {
    let mut process = Process::spawn(config)?;
    process.ready(config).await?;
    Ok(process)
}

/// Starts the process again whenever it ends: at once, but with a pause if it did not live long.
async fn keep(config: Arc<Config>, shared: Arc<Shared>, mut process: Process) {
    let mut backoff = Backoff::new(limits::CONTAINERD_RETRY);
    let mut born = Instant::now();
    loop {
        process.ended().await;
        shared.pid.store(0, Ordering::Relaxed);
        tracing::warn!(pid = process.pid, "containerd ended; starting it again");
        process = loop {
            if born.elapsed() < limits::CONTAINERD_SETTLED {
                tokio::time::sleep(backoff.pause()).await;
            } else {
                backoff.reset();
            }
            born = Instant::now();
            match spawn(&config).await {
                Ok(process) => break process,
                Err(error) => tracing::error!(%error, "can't start containerd"),
            }
        };
        shared.pid.store(process.pid, Ordering::Relaxed);
        shared.restarts.fetch_add(1, Ordering::Relaxed);
    }
}

//! What this host lacks for running containers, each with its remedy.
//!
//! Owns the checks behind `mill doctor`. What can only be known by trying is tried in namespaces of
//! its own, which end with the check. Never changes the host and needs no daemon.

mod host;
mod kernel;
mod network;
mod ports;
mod programs;
#[cfg(test)]
mod tests;

use crate::actors::platform::{Places, resolvers};
use crate::config::DaemonConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it must be.
    Ok,
    /// mill runs, with less.
    Warn,
    /// mill can't run.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that mill needs, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Of what, for example `containerd`.
    pub name: String,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it; absent when nothing needs to be done.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), remedy: None }
    }

    fn warn(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name: name.to_owned(), status: Status::Warn, detail: detail.into(), remedy }
    }

    fn fail(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::warn(name, detail, remedy) }
    }
}

/// A directory for an attempt, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(below: &Path) -> io::Result<Self> {
        let path = below.join(format!(".mill-doctor-{:08x}", rand::random::<u32>()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing more can be done; what is left is empty directories.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks this host for a daemon with these settings. Blocks for up to a few seconds.
#[must_use]
pub fn doctor(config: &DaemonConfig) -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let mut checks = vec![host::root(root), host::kernel()];
    checks.extend(programs::containerd(&config.containerd));
    checks.push(programs::runc());
    checks.push(programs::nft());
    checks.push(kernel::namespaces());
    checks.push(kernel::seccomp());
    checks.push(kernel::cgroups());
    if root {
        checks.push(kernel::overlayfs(&config.data_dir));
        checks.push(kernel::network());
    } else {
        for name in ["overlayfs", "container network"] {
            checks.push(Check::warn(name, "can only be tried by root", "sudo mill doctor"));
        }
    }
    checks.push(kernel::ip_forward());
    checks.push(network::firewalls(root, &Places::of(&config.data_dir).bridge()));
    checks.push(network::resolvers(&resolvers::of_host()));
    checks.extend(kernel::mesh(config.mesh_port.is_some()));
    checks.push(host::data_dir(&config.data_dir));
    checks.push(host::disk(&config.data_dir));
    checks.push(host::memory());
    checks.push(host::clock());
    checks.extend(ports::all(config));
    checks
}

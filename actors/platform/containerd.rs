//! The client of containerd: containers, tasks and events of one namespace.
//!
//! Owns how a container becomes a snapshot, a record and a task, and how it is gone again. Every
//! call may be repeated: what exists already or is gone already counts as done. Calls wait for a
//! containerd that is being restarted. Never decides what should run.

pub(crate) mod client;
mod error;
mod events;
mod exec;
mod host;
mod look;
mod options;
pub(crate) mod status;
mod tasks;
mod whole;

pub use error::Error;
pub use events::{TaskEvent, TaskEvents};
pub use exec::NewExec;
pub(crate) use look::timestamp;
pub use options::log_uri;

use crate::id::{ContainerId, Digest};
use crate::units::Timestamp;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The snapshotter that all images and containers use.
pub const SNAPSHOTTER: &str = "overlayfs";

/// How to reach containerd and what tells this node's containers from another's on the same host.
#[derive(Clone, Debug)]
pub struct Config {
    /// containerd's gRPC socket.
    pub socket: PathBuf,
    /// containerd's namespace, for example `mill-INSTANCE`.
    pub namespace: String,
    /// What the shim runs instead of `runc`: a link to mill named `runc-…`, or `runc` itself.
    pub runc: PathBuf,
    /// Where runc keeps its own state, for example `/run/mill/runc-INSTANCE`.
    pub runc_root: PathBuf,
}

/// A container to be made.
#[derive(Clone, Debug)]
pub struct NewContainer {
    /// Its name.
    pub id: ContainerId,
    /// The image's reference, for people who look at containerd.
    pub image: String,
    /// The snapshot of the image's layers; absent for an image without layers.
    pub chain_id: Option<Digest>,
    /// What it may do and what it runs.
    pub spec: oci_spec::runtime::Spec,
    /// Kept with the container: cluster, spec hash, address.
    pub labels: BTreeMap<String, String>,
    /// Where standard output and error go: a `binary://` or `file://` URI, see [`log_uri`].
    /// Empty: nowhere.
    pub log: String,
}

/// How a container's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 128 plus the number of the signal that ended it.
    pub code: u32,
    pub at: Timestamp,
}

/// What became of a container's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// containerd says that there is none: no process was ever made, or it is lost.
    None,
    /// There is one, and nobody says how it stands: its shim doesn't answer. To be asked again.
    Unknown,
    /// Made, not started.
    Created {
        /// Process id on the host.
        pid: u32,
    },
    /// Runs.
    Running {
        /// Process id on the host.
        pid: u32,
    },
    /// Ended.
    Stopped(Exit),
}

/// A container that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub id: ContainerId,
    /// As given when it was made.
    pub labels: BTreeMap<String, String>,
    /// The image's reference.
    pub image: String,
    /// Its process.
    pub task: TaskState,
}

/// The client; cheap to clone, one connection for all clones, made anew when it breaks.
#[derive(Clone, Debug)]
pub struct Containerd {
    config: std::sync::Arc<Config>,
    channel: tonic::transport::Channel,
    works: whole::Works,
}

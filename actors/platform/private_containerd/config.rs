//! The configuration file of a private containerd, and its folders.
//!
//! Never starts anything.

use super::{Config, Error};
use crate::actors::platform::permissions;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest path of a UNIX socket, without its final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Plugins that nothing here needs; without them it starts faster and smaller.
const DISABLED: [&str; 8] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
];

impl Config {
    pub(super) fn ttrpc(&self) -> PathBuf {
        self.state.join("containerd.sock.ttrpc")
    }

    pub(super) fn file(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("containerd.log")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        self.state.join("containerd.pid")
    }

    /// Makes the folders and writes the configuration.
    pub(super) fn write(&self) -> Result<(), Error> {
        let socket = self.ttrpc();
        if socket.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(Error::PathTooLong { path: socket });
        }
        for folder in [&self.root, &self.state] {
            let made = permissions::make(folder);
            made.map_err(|source| Error::Write { path: folder.clone(), source })?;
        }
        let path = self.file();
        fs::write(&path, self.text()).map_err(|source| Error::Write { path, source })
    }

    fn text(&self) -> String {
        let disabled: Vec<String> = DISABLED.iter().map(|name| format!("{name:?}")).collect();
        format!(
            "version = 2\nroot = {root}\nstate = {state}\ndisabled_plugins = [{disabled}]\n\
             [debug]\nlevel = \"warn\"\n\
             [grpc]\naddress = {grpc}\nuid = 0\ngid = 0\n\
             [ttrpc]\naddress = {ttrpc}\nuid = 0\ngid = 0\n",
            root = quoted(&self.root.join("content")),
            state = quoted(&self.state.join("run")),
            disabled = disabled.join(", "),
            grpc = quoted(&self.socket()),
            ttrpc = quoted(&self.ttrpc()),
        )
    }
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

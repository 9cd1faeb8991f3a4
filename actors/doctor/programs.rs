//! Checks of the programs that mill calls: containerd, runc, nft.
//!
//! Owns how they are found and asked for their version. Never starts one that stays.

use super::Check;
use crate::actors::platform::SYSTEM_SOCKET;
use crate::actors::platform::runc_shim::{USUAL, find};
use crate::config::ContainerdChoice;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

const INSTALL: &str = "apt-get install containerd runc";

/// The path in which programs are looked for.
fn search() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(USUAL);
    path
}

/// The first line that a program answers to `--version`; absent if it can't run.
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    output.status.success().then_some(line)
}

/// containerd, by its socket or as a program for a private one.
pub(super) fn containerd(choice: &ContainerdChoice) -> Vec<Check> {
    containerd_in(choice, Path::new(SYSTEM_SOCKET), search())
}

pub(super) fn containerd_in(
    choice: &ContainerdChoice,
    system: &Path,
    search: OsString,
) -> Vec<Check> {
    let name = "containerd";
    let (socket, must) = match choice {
        ContainerdChoice::Given(socket) => (Some(socket.as_path()), true),
        ContainerdChoice::Auto => (Some(system), false),
        ContainerdChoice::Private => (None, false),
    };
    if let Some(socket) = socket {
        match UnixStream::connect(socket) {
            Ok(_) => return vec![Check::ok(name, format!("listens at {}", socket.display()))],
            Err(error) if must => {
                let detail = format!("{} doesn't answer: {error}", socket.display());
                let remedy = "systemctl start containerd, or pass --containerd private";
                return vec![Check::fail(name, detail, remedy)];
            }
            Err(_) => {}
        }
    }
    let programs = [name, "containerd-shim-runc-v2"];
    programs.map(|name| program(name, "--containerd private", INSTALL, &search)).into()
}

/// runc, which makes the containers.
pub(super) fn runc() -> Check {
    program("runc", "", "apt-get install runc", &search())
}

/// nft, through which the network's rules are set.
pub(super) fn nft() -> Check {
    program("nft", "", "apt-get install nftables", &search())
}

pub(super) fn program(name: &str, why: &str, remedy: &str, search: &OsString) -> Check {
    let Some(path) = find(name, search) else {
        let why = if why.is_empty() { String::new() } else { format!(", needed for {why}") };
        return Check::fail(name, format!("isn't installed{why}"), remedy);
    };
    described(name, &path, remedy)
}

fn described(name: &str, path: &Path, remedy: &str) -> Check {
    // The shim has no `--version`: it is enough that it is there.
    if name.starts_with("containerd-shim") {
        return Check::ok(name, path.display().to_string());
    }
    match version(path) {
        Some(version) => Check::ok(name, format!("{}: {version}", path.display())),
        None => Check::fail(name, format!("{} can't be run", path.display()), remedy),
    }
}

//! The AppArmor profile of containers, where the host confines programs with it.
//!
//! Owns the profile and its loading. Never changes another profile, and never keeps a container
//! from running where the host has none.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The profile's name.
pub const PROFILE: &str = "mill-default";

/// Where the kernel tells whether it confines programs.
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const LOADER: &str = "apparmor_parser";

static LOADED: OnceLock<bool> = OnceLock::new();

/// Loads the profile, once for the process. Whether containers can have it.
pub fn load() -> bool {
    *LOADED.get_or_init(|| {
        if !is_enabled(Path::new(ENABLED)) {
            return false;
        }
        let loaded = parse();
        if let Err(error) = &loaded {
            tracing::warn!(%error, "containers run without an AppArmor profile; see mill doctor");
        }
        loaded.is_ok()
    })
}

/// Whether [`load`] has loaded it.
#[must_use]
pub fn is_loaded() -> bool {
    LOADED.get().copied().unwrap_or(false)
}

fn is_enabled(parameter: &Path) -> bool {
    std::fs::read_to_string(parameter).is_ok_and(|text| text.trim() == "Y")
}

/// Hands the profile to the loader, which replaces one of the same name.
fn parse() -> std::io::Result<()> {
    let mut loader = Command::new(LOADER);
    loader.args(["--replace", "--skip-cache"]);
    let mut child =
        loader.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(profile().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().last().unwrap_or("it says nothing");
    Err(std::io::Error::other(format!("{LOADER}: {said}")))
}

/// Files and the network are bounded by the container's namespaces and capabilities; this takes
/// away what those leave: mounts, the kernel's own settings, and other profiles' processes.
fn profile() -> String {
    format!(
        "abi <abi/3.0>,\n\
         profile {PROFILE} flags=(attach_disconnected,mediate_deleted) {{\n\
         \x20 file,\n\
         \x20 network,\n\
         \x20 capability,\n\
         \x20 unix,\n\
         \x20 signal (receive) peer=unconfined,\n\
         \x20 signal (receive) peer=runc,\n\
         \x20 signal (send, receive) peer={PROFILE},\n\
         \x20 ptrace (read, trace, readby, tracedby) peer={PROFILE},\n\
         \x20 deny mount,\n\
         \x20 deny umount,\n\
         \x20 deny pivot_root,\n\
         \x20 deny /proc/sys/** wl,\n\
         \x20 deny /proc/sysrq-trigger rwl,\n\
         \x20 deny /proc/kcore rwl,\n\
         \x20 deny /proc/mem rwl,\n\
         \x20 deny /proc/kmem rwl,\n\
         \x20 deny /sys/** wl,\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_loaded_only_where_the_kernel_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let parameter = dir.path().join("enabled");
        assert!(!is_enabled(&parameter));
        std::fs::write(&parameter, "N\n").unwrap();
        assert!(!is_enabled(&parameter));
        std::fs::write(&parameter, "Y\n").unwrap();
        assert!(is_enabled(&parameter));
    }

    #[test]
    fn the_loader_takes_the_profile() {
        let mut check = Command::new(LOADER);
        check.args(["--skip-kernel-load", "--skip-cache", "--stdout"]);
        check.stdin(Stdio::piped()).stdout(Stdio::null());
        // A host without the loader has no use for the profile either.
        let Ok(mut child) = check.spawn() else { return };
        child.stdin.take().unwrap().write_all(profile().as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

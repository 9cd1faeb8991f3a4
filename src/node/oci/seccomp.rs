//! The default seccomp profile: which system calls a container may make.
//!
//! Owns the allow list in `seccomp.json`; what isn't on it fails with EPERM. Never differs from
//! container to container.

use oci_spec::runtime::{Arch, LinuxSeccomp};
use std::sync::LazyLock;

static PROFILE: LazyLock<Result<LinuxSeccomp, serde_json::Error>> = LazyLock::new(|| {
    let mut profile: LinuxSeccomp = serde_json::from_str(include_str!("seccomp.json"))?;
    profile.set_architectures(native_architectures());
    Ok(profile)
});

/// The profile for this machine's architecture.
#[must_use]
#[allow(clippy::expect_used)] // the profile is part of the program, and a test parses it
pub fn profile() -> &'static LinuxSeccomp {
    PROFILE.as_ref().expect("the embedded profile parses")
}

fn native_architectures() -> Option<Vec<Arch>> {
    match std::env::consts::ARCH {
        "x86_64" => Some(vec![Arch::ScmpArchX86_64]),
        "aarch64" => Some(vec![Arch::ScmpArchAarch64]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxSeccompAction;

    fn allowed(name: &str) -> bool {
        profile().syscalls().iter().flatten().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.args().is_none()
                && rule.names().iter().any(|n| n == name)
        })
    }

    #[test]
    fn the_profile_allows_work_and_refuses_the_rest() {
        assert_eq!(profile().default_action(), LinuxSeccompAction::ScmpActErrno);
        for name in ["read", "execve", "futex", "epoll_wait", "openat2", "rseq", "statx"] {
            assert!(allowed(name), "{name}");
        }
        for name in ["mount", "unshare", "setns", "clone", "bpf", "keyctl", "io_uring_setup"] {
            assert!(!allowed(name), "{name}");
        }
    }
}

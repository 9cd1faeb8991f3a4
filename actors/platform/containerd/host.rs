//! What this host can't do, taken out of a runtime spec, and what it alone can do, put in.
//!
//! Owns the look at the host. Never weakens a spec where the host can do what it says.

use crate::actors::platform::apparmor;
use oci_spec::runtime::Spec;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

const CGROUPS: &str = "/sys/fs/cgroup";

static COUNTS_SWAP: LazyLock<bool> = LazyLock::new(|| counts_swap(Path::new(CGROUPS)));

/// The spec as this host can carry it out: a kernel that doesn't count swap refuses a ceiling on
/// it, and with that the container.
pub(super) fn fit(spec: &Spec) -> Spec {
    let spec = if *COUNTS_SWAP { spec.clone() } else { without_swap(spec.clone()) };
    if apparmor::is_loaded() { confined(spec) } else { spec }
}

/// With the AppArmor profile: a runtime refuses one that the kernel doesn't have.
fn confined(mut spec: Spec) -> Spec {
    if let Some(process) = spec.process_mut() {
        process.set_apparmor_profile(Some(apparmor::PROFILE.to_owned()));
    }
    spec
}

/// Whether the kernel counts swap for each control group; assumed where it can't be seen.
fn counts_swap(root: &Path) -> bool {
    let memory = root.join("memory");
    if memory.join("memory.limit_in_bytes").exists() {
        return memory.join("memory.memsw.limit_in_bytes").exists();
    }
    // The root group has no such file, so look at our own.
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    own.is_empty() || root.join(own).join("memory.swap.max").exists()
}

fn without_swap(mut spec: Spec) -> Spec {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    if let Some(memory) = resources.and_then(|resources| resources.memory_mut().as_mut()) {
        memory.set_swap(None);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{
        LinuxBuilder, LinuxMemoryBuilder, LinuxResourcesBuilder, Process, SpecBuilder,
    };

    #[test]
    fn swap_is_taken_out_and_memory_stays() {
        let memory = LinuxMemoryBuilder::default().limit(10).swap(10).build().unwrap();
        let resources = LinuxResourcesBuilder::default().memory(memory).build().unwrap();
        let linux = LinuxBuilder::default().resources(resources).build().unwrap();
        let spec = without_swap(SpecBuilder::default().linux(linux).build().unwrap());
        let linux = spec.linux().as_ref().unwrap();
        let memory = linux.resources().as_ref().unwrap().memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(10), None));
    }

    #[test]
    fn a_host_with_the_profile_confines_every_container() {
        let spec = SpecBuilder::default().process(Process::default()).build().unwrap();
        let confined = confined(spec.clone());
        let process = confined.process().as_ref().unwrap();
        assert_eq!(process.apparmor_profile().as_deref(), Some("mill-default"));
        if !apparmor::is_loaded() {
            assert_eq!(*fit(&spec).process().as_ref().unwrap().apparmor_profile(), None);
        }
    }

    #[test]
    fn the_first_generation_shows_whether_swap_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let memory = root.path().join("memory");
        fs::create_dir(&memory).unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "").unwrap();
        assert!(!counts_swap(root.path()));
        fs::write(memory.join("memory.memsw.limit_in_bytes"), "").unwrap();
        assert!(counts_swap(root.path()));
    }
}

//! Whether the log's disk has room for changes that somebody wants.
//!
//! Owns the look at the disk, and which changes are spared: what nodes report, what follows from
//! that, and what makes room. Never refuses those.

use crate::actors::platform::disk;
use crate::consensus::raft::Entry;
use crate::fsm::Command;
use crate::fsm::loaded::ImageChange;
use crate::fsm::model::DeployKind;
use crate::fsm::secrets::SecretChange;
use crate::limits;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The room on the log's disk, as of a moment ago.
pub(super) struct Room {
    dir: PathBuf,
    looked: Option<(Instant, bool)>,
}

impl Room {
    pub(super) fn of(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), looked: None }
    }

    /// Whether there is room for this change.
    pub(super) fn has(&mut self, entry: &Entry) -> bool {
        !self.is_scarce() || !is_wanted(&entry.command)
    }

    fn is_scarce(&mut self) -> bool {
        if let Some((at, scarce)) = self.looked
            && at.elapsed() < limits::DISK_LOOK
        {
            return scarce;
        }
        // A disk that says nothing refuses nothing: a write to it tells.
        let scarce = disk::room(&self.dir).is_some_and(|room| room.free.0 < limits::DISK_KEPT);
        self.looked = Some((Instant::now(), scarce));
        scarce
    }
}

/// Whether a change is one that somebody wants and that can wait until there is room.
fn is_wanted(command: &[u8]) -> bool {
    // One that nobody understands is told so elsewhere.
    let Ok(command) = serde_json::from_slice::<Command>(command) else { return false };
    match command {
        Command::Deploy(deploy) => deploy.kind != DeployKind::Down,
        Command::Images(change) => matches!(change, ImageChange::Load { late: false, .. }),
        Command::Secrets(change) => !matches!(change, SecretChange::Delete { .. }),
        Command::Spawn(_)
        | Command::RestartService { .. }
        | Command::RestartAllocation { .. }
        | Command::Move { .. }
        | Command::Label { .. }
        | Command::CreateToken { .. }
        | Command::GrantToken(_)
        | Command::SetLogin { .. } => true,
        // What nodes say of themselves and of each other, what follows from it, and what makes
        // room or takes something away.
        Command::Init(_)
        | Command::Register(_)
        | Command::Join(_)
        | Command::Members(_)
        | Command::Drain { .. }
        | Command::Undrain { .. }
        | Command::Remove { .. }
        | Command::Raise { .. }
        | Command::Rotate(_)
        | Command::NodeDown { .. }
        | Command::Notice(_)
        | Command::Standstill { .. }
        | Command::Kill { .. }
        | Command::Steps(_)
        | Command::Report(_)
        | Command::RevokeToken { .. }
        | Command::RemoveLogin { .. }
        | Command::Mesh(_)
        | Command::RotateMesh
        | Command::Certificates(_)
        | Command::Routes(_)
        | Command::Canary(_)
        | Command::Backups(_)
        | Command::Volumes(_)
        | Command::Unreadable => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::{GrantToken, Report, Spawn, Spawned};
    use crate::fsm::model::Role;
    use std::collections::BTreeMap;

    #[test]
    fn reports_are_spared_and_what_somebody_wants_is_not() {
        let encoded = |command: &Command| serde_json::to_vec(command).unwrap();
        let what = Spawned::Task { name: "report".into(), env: BTreeMap::new() };
        let spawn = Command::Spawn(Spawn { id: "report-x".into(), what });
        assert!(is_wanted(&encoded(&spawn)));
        let (id, hash) = ("t".into(), String::new());
        let grant = GrantToken { id, role: Role::Read, hash, expires_at: None, uses: None };
        assert!(is_wanted(&encoded(&Command::GrantToken(grant))));
        assert!(is_wanted(&encoded(&Command::Secrets(SecretChange::Set(Vec::new())))));
        let (name, force) = ("s".into(), false);
        let delete = SecretChange::Delete { name, force };
        assert!(!is_wanted(&encoded(&Command::Secrets(delete))));
        let report = Command::Report(Report {
            node: crate::id::NodeId(1),
            boot: crate::id::BootId(1),
            seq: 1,
            allocations: BTreeMap::new(),
        });
        assert!(!is_wanted(&encoded(&report)));
        assert!(!is_wanted(b"{"));
    }
}

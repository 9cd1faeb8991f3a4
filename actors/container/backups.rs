//! Backups on a schedule: the leader's node asks for one when it is due, and each node that is
//! named writes its own.
//!
//! Owns the files in the folder that the schedule names: their names, and how many stay. Never
//! touches any other file there.

use super::{Msg, State};
use crate::actors::platform::backup;
use crate::actors::root::{self, Proposal, View};
use crate::fsm::backups::{BackupChange, BackupPlan, Ended};
use crate::fsm::{Command, State as Replicated};
use crate::secret::Keyring;
use crate::units::{Millis, Timestamp};
use ractor::ActorRef;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How the names of the files end.
const KIND: &str = ".mill-backup.age";

impl State {
    /// Asks for a backup if this node leads and one is due.
    pub(super) fn look_for_backup(&self) {
        let Some(view) = self.view.as_ref().filter(|view| view.current) else { return };
        let Some((time, at)) = view.time else { return };
        let now = time.plus(Millis::from(at.elapsed()));
        if let Some(change) = view.state.backup_due(view.node, now) {
            self.propose_backup(change);
        }
    }

    /// Writes the backup that this node is named for.
    pub(super) fn write_backup(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.clone().filter(|view| view.current) else { return };
        let (Some(due), Some(plan)) = (&view.state.backups.due, &view.state.backups.plan) else {
            return;
        };
        if !due.nodes.contains(&view.node) || self.backed_up.replace(due.at) == Some(due.at) {
            return;
        }
        let (plan, at) = (plan.clone(), due.at);
        let (state, keyring) = (Arc::clone(&view.state), self.platform.secrets.keyring().clone());
        let myself = myself.clone();
        self.work.spawn(async move {
            let writing = move || write(&state, &keyring, &plan, at);
            let done = tokio::task::spawn_blocking(writing).await;
            let how = match done.unwrap_or_else(|lost| Err(lost.to_string())) {
                Ok((file, size)) => {
                    let file = Some(file.display().to_string());
                    Ended { at, file, size, error: None }
                }
                Err(why) => {
                    tracing::warn!(%why, "the scheduled backup is not written");
                    Ended { at, file: None, size: 0, error: Some(why) }
                }
            };
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::BackupEnded(how));
        });
    }

    /// Tells the cluster how this node's backup ended.
    pub(super) fn on_backup_ended(&mut self, how: Ended) {
        if let Some(View { node, .. }) = &self.view {
            self.propose_backup(BackupChange::Ended { node: *node, how });
        }
    }

    fn propose_backup(&self, change: BackupChange) {
        let (sender, _told) = tokio::sync::oneshot::channel();
        let proposal = Proposal::new(&Command::Backups(change), None, sender.into());
        // Root outlives its children. What doesn't get through is overdue, and told so.
        let _ = self.root.cast(root::Msg::Propose(proposal));
    }
}

/// Writes one, and removes those that are too many. Blocks.
fn write(
    state: &Replicated,
    keyring: &Keyring,
    plan: &BackupPlan,
    at: Timestamp,
) -> Result<(PathBuf, u64), String> {
    let folder = Path::new(&plan.to);
    let told = |error: io::Error| format!("{}: {error}", folder.display());
    let to =
        plan.recipients.iter().map(|one| backup::recipient(one)).collect::<Result<Vec<_>, _>>();
    let bytes = backup::of(state, keyring, at, &to?)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(told(error)),
        _ => {}
    }
    let cluster = state.cluster.as_ref().map(|cluster| cluster.name.as_str()).unwrap_or_default();
    let start = format!("{cluster}-");
    let path = folder.join(format!("{start}{}{KIND}", compact(at)));
    backup::write(&path, &bytes).map_err(told)?;
    prune(folder, &start, plan.keep).map_err(told)?;
    Ok((path, bytes.len() as u64))
}

/// Keeps the newest: the names sort by time.
fn prune(folder: &Path, start: &str, keep: u32) -> io::Result<()> {
    let mut ours = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let middle = name.strip_prefix(start).and_then(|rest| rest.strip_suffix(KIND));
        let is_time = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b"TZ".contains(&b));
        if middle.is_some_and(is_time) {
            ours.push(path);
        }
    }
    ours.sort();
    let extra = ours.len().saturating_sub(keep as usize);
    ours.iter().take(extra).try_for_each(fs::remove_file)
}

/// A time as a part of a file's name, such as `20260301T040000Z`.
fn compact(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or_default();
    seconds.chars().filter(|c| !"-:".contains(*c)).chain(['Z']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::fixture;
    use crate::fsm::keys::CA_PURPOSE;
    use crate::fsm::model::Ca;
    use crate::secret::{OwnKey, SealKey, Secret};

    #[test]
    fn the_newest_files_stay_and_others_are_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let (own, key) = (OwnKey::new([1; 32]), SealKey::new([2; 32]));
        let ring = Keyring::new(own.clone());
        let mut random = crypto_box::aead::OsRng;
        ring.take_up(&key.for_node(&own.public(), &mut random).unwrap()).unwrap();
        let mut state = Replicated::default();
        let init = Command::Init(fixture::init());
        assert!(crate::fsm::apply_next(&mut state, Timestamp(1), init).outcome.is_ok());
        let sealed = key.seal(CA_PURPOSE, &Secret::new("key"), [1; 12]).unwrap();
        state.ca = Some(Ca { cert: "pem".to_owned(), key: sealed });
        let folder = place.path().join("backups");
        let recipient = age::x25519::Identity::generate().to_public().to_string();
        let mut plan = BackupPlan {
            cron: "@daily".to_owned(),
            to: folder.display().to_string(),
            keep: 2,
            recipients: vec![recipient],
            done: Timestamp(0),
        };
        fs::create_dir(&folder).unwrap();
        for other in ["prod-notes.mill-backup.age", "stage-20200101T000000Z.mill-backup.age"] {
            fs::write(folder.join(other), "x").unwrap();
        }
        for hour in 1..=4 {
            let at = Timestamp(1_700_000_000_000 + hour * 3_600_000);
            let (file, size) = write(&state, &ring, &plan, at).unwrap();
            assert_eq!(fs::metadata(&file).unwrap().len(), size);
        }
        let list = fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> =
            list.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "prod-20231115T011320Z.mill-backup.age",
                "prod-20231115T021320Z.mill-backup.age",
                "prod-notes.mill-backup.age",
                "stage-20200101T000000Z.mill-backup.age",
            ]
        );
        plan.to = place.path().join("no/such").display().to_string();
        assert!(write(&state, &ring, &plan, Timestamp(1)).is_err());
    }
}

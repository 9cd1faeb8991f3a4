//! Documents of backups on a schedule, and what is wrong with them.
//!
//! Never decides when one is taken.

use crate::api::wire::{BackupEndView, BackupsView, WarningView};
use crate::fsm::State;
use crate::id::NodeId;
use crate::limits;
use crate::units::Timestamp;

/// The schedule, and how the last ones ended.
#[must_use]
pub fn backups(state: &State) -> BackupsView {
    let (all, plan) = (&state.backups, state.backups.plan.as_ref());
    let last = all.last.iter().map(|(node, last)| BackupEndView {
        node: name(state, *node),
        at: last.at.to_string(),
        file: last.file.clone(),
        size: last.size,
        error: last.error.clone(),
    });
    BackupsView {
        cron: plan.map(|plan| plan.cron.clone()),
        to: plan.map(|plan| plan.to.clone()),
        keep: plan.map(|plan| plan.keep),
        recipients: plan.map(|plan| plan.recipients.clone()).unwrap_or_default(),
        next: all.next().map(|next| next.to_string()),
        last: last.collect(),
    }
}

fn name(state: &State, node: NodeId) -> String {
    state.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.clone())
}

/// Backups that failed the last time, or of which nothing is heard.
pub(super) fn warnings(state: &State, now: Timestamp) -> Vec<WarningView> {
    let all = &state.backups;
    if all.plan.is_none() {
        return Vec::new();
    }
    let warning = |message: String| WarningView {
        subject: "backup".to_owned(),
        message,
        command: Some("mill backup schedule".to_owned()),
    };
    let failed = all.last.iter().filter_map(|(node, last)| {
        let why = last.error.as_ref()?;
        Some(warning(format!("the last one on {} failed: {why}", name(state, *node))))
    });
    let silent = all.due.iter().filter(|due| now.since(due.at) > limits::BACKUP_OVERDUE.into());
    let silent = silent.flat_map(|due| &due.nodes);
    let silent =
        silent.map(|node| warning(format!("{} has not written the last one", name(state, *node))));
    failed.chain(silent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::Command;
    use crate::fsm::backups::{BackupChange, Ended};
    use crate::fsm::deploy::tests::running;

    #[track_caller]
    fn change(state: &mut State, change: BackupChange) {
        let command = Command::Backups(change);
        let applied = crate::fsm::apply_next(state, state.time, command);
        assert!(applied.outcome.is_ok(), "{applied:?}");
    }

    #[test]
    fn what_failed_and_what_is_overdue_is_warned_of() {
        let mut state = running();
        let set = BackupChange::Set {
            cron: "* * * * *".to_owned(),
            to: "/b".to_owned(),
            keep: 1,
            recipients: vec!["age1x".to_owned()],
        };
        change(&mut state, set);
        let later = state.backups.next().unwrap();
        let take = state.backup_due(NodeId(1), later).unwrap();
        change(&mut state, take);
        let at = state.backups.due.as_ref().unwrap().at;
        assert!(warnings(&state, at).is_empty());
        let late = Timestamp(at.0 + 3_600_000);
        assert!(warnings(&state, late)[0].message.contains("has not written the last one"));
        let error = Some("no room".to_owned());
        let how = Ended { at, file: None, size: 0, error };
        let ended = BackupChange::Ended { node: NodeId(1), how };
        change(&mut state, ended);
        let told = warnings(&state, late);
        assert_eq!(told[0].message, "the last one on n1 failed: no room");
        assert_eq!(backups(&state).last[0].error.as_deref(), Some("no room"));
        change(&mut state, BackupChange::Off);
        assert!(warnings(&state, late).is_empty() && backups(&state).cron.is_none());
    }
}

//! Backups on a schedule: when, where to, for whom, and how the last ones ended.
//!
//! Owns which nodes are to write one. Never writes any.

use super::command::NEXT_LEVEL;
use super::{Outcome, Rejection, State, Touched};
use crate::id::NodeId;
use crate::limits;
use crate::spec::cron::Schedule;
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The feature level from which on the state knows backups on a schedule.
pub const BACKUPS_LEVEL: u32 = NEXT_LEVEL;

/// What the state knows of backups on a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// When and how; absent: none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<BackupPlan>,
    /// The one that is being taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Due>,
    /// How the last one of each node ended.
    #[serde(default)]
    pub last: OrdMap<NodeId, Ended>,
}

/// When and how backups are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    /// When, in UTC.
    pub cron: String,
    /// The folder on the nodes that write one.
    pub to: String,
    /// How many files each keeps there.
    pub keep: u32,
    /// Whom they are encrypted for.
    pub recipients: Vec<String>,
    /// Up to when it was carried out.
    pub done: Timestamp,
}

/// A backup that is being taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// Since when.
    pub at: Timestamp,
    /// The nodes that haven't said yet how it ended.
    pub nodes: BTreeSet<NodeId>,
}

/// How a node's backup ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When it was due.
    pub at: Timestamp,
    /// The file, if it was written.
    pub file: Option<String>,
    /// Bytes of it.
    pub size: u64,
    /// Why it was not.
    pub error: Option<String>,
}

/// A change of the backups on a schedule. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupChange {
    /// Take them so from now on.
    Set {
        /// See [`BackupPlan::cron`].
        cron: String,
        /// See [`BackupPlan::to`].
        to: String,
        /// See [`BackupPlan::keep`].
        keep: u32,
        /// See [`BackupPlan::recipients`].
        recipients: Vec<String>,
    },
    /// Take none any more.
    Off,
    /// It is time: these nodes write one.
    Take {
        /// Up to when the schedule had been carried out.
        after: Timestamp,
        nodes: BTreeSet<NodeId>,
    },
    /// A node has written its own, or failed.
    Ended {
        node: NodeId,
        /// How.
        how: Ended,
    },
}

impl Backups {
    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        Schedule::parse(&plan.cron).ok()?.next(plan.done)
    }
}

impl State {
    /// What asks for a backup, if one is due by then: of the node that leads and one other, in
    /// turn.
    #[must_use]
    pub fn backup_due(&self, leader: NodeId, now: Timestamp) -> Option<BackupChange> {
        let plan = self.backups.plan.as_ref()?;
        self.backups.next().filter(|next| *next <= now)?;
        let others = self.nodes.values().filter(|node| node.id != leader && node.is_ready());
        // The one whose last is the oldest.
        let last = |id: &NodeId| self.backups.last.get(id).map_or(Timestamp(0), |last| last.at);
        let other = others.map(|node| node.id).min_by_key(|id| (last(id), *id));
        let nodes = [leader].into_iter().chain(other).collect();
        Some(BackupChange::Take { after: plan.done, nodes })
    }

    pub(super) fn change_backups(
        &mut self,
        change: BackupChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.nodes = true;
        match change {
            BackupChange::Set { cron, to, keep, recipients } => {
                let done = self.time;
                self.backups.plan = Some(BackupPlan { cron, to, keep, recipients, done });
            }
            BackupChange::Off => {
                self.backups.plan = None;
                self.backups.due = None;
            }
            BackupChange::Take { after, nodes } => {
                let plan = self.backups.plan.as_mut().filter(|plan| plan.done == after);
                plan.ok_or(Rejection::Stale)?.done = self.time;
                self.backups.due = Some(Due { at: self.time, nodes });
            }
            BackupChange::Ended { node, mut how } => {
                let due = self.backups.due.as_mut().filter(|due| due.at == how.at);
                let due = due.filter(|due| due.nodes.contains(&node)).ok_or(Rejection::Stale)?;
                due.nodes.remove(&node);
                if due.nodes.is_empty() {
                    self.backups.due = None;
                }
                if let Some(error) = &mut how.error {
                    let most = limits::BACKUP_WHY_MAX;
                    let end = (0..=most).rev().find(|at| error.is_char_boundary(*at));
                    error.truncate(end.unwrap_or(0));
                }
                self.backups.last.insert(node, how);
            }
        }
        Ok(Outcome::Done)
    }

    /// A node is no member any more: nothing is waited for from it.
    pub(super) fn forget_backups(&mut self, node: NodeId) {
        self.backups.last.remove(&node);
        if let Some(due) = &mut self.backups.due {
            due.nodes.remove(&node);
            if due.nodes.is_empty() {
                self.backups.due = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::deploy::tests::{change, running};
    use crate::fsm::model::Node;
    use crate::fsm::{Command, apply_next};
    use std::sync::Arc;

    const DAY: u64 = 86_400_000;

    fn state() -> State {
        let mut state = running();
        let first = state.nodes[&NodeId(1)].clone();
        for id in [2, 3] {
            let node = Node { id: NodeId(id), name: format!("n{id}"), ..(*first).clone() };
            state.nodes.insert(NodeId(id), Arc::new(node));
        }
        state.time = Timestamp(1_700_000_000_000);
        state
    }

    fn set() -> Command {
        let (cron, to, keep) = ("0 4 * * *".to_owned(), "/b".to_owned(), 7);
        let recipients = vec!["age1x".to_owned()];
        Command::Backups(BackupChange::Set { cron, to, keep, recipients })
    }

    fn ended(node: u64, at: Timestamp, error: Option<&str>) -> Command {
        let error = error.map(str::to_owned);
        let how = Ended { at, file: None, size: 0, error };
        Command::Backups(BackupChange::Ended { node: NodeId(node), how })
    }

    #[test]
    fn the_leader_and_one_other_write_one_at_its_time() {
        let mut state = state();
        assert_eq!(state.backup_due(NodeId(1), Timestamp(u64::MAX)), None, "none is asked for");
        change(&mut state, set()).unwrap();
        let next = state.backups.next().unwrap();
        assert_eq!((next.0 / 3_600_000) % 24, 4);
        assert_eq!(state.backup_due(NodeId(1), Timestamp(next.0 - 1)), None);
        let take = Command::Backups(state.backup_due(NodeId(1), next).unwrap());
        let done = apply_next(&mut state, next, take.clone());
        assert!(done.outcome.is_ok());
        let due = state.backups.due.clone().unwrap();
        assert_eq!(due.nodes, [NodeId(1), NodeId(2)].into());
        assert_eq!(change(&mut state, take), Err(Rejection::Stale), "once");
        change(&mut state, ended(1, due.at, None)).unwrap();
        assert_eq!(change(&mut state, ended(3, due.at, None)), Err(Rejection::Stale));
        change(&mut state, ended(2, due.at, Some("no room"))).unwrap();
        assert_eq!(state.backups.due, None);
        assert_eq!(state.backups.last[&NodeId(2)].error.as_deref(), Some("no room"));

        // A day without a leader is made up for once, by another pair.
        let late = Timestamp(next.0 + 3 * DAY + 1);
        let take = Command::Backups(state.backup_due(NodeId(1), late).unwrap());
        assert!(apply_next(&mut state, late, take).outcome.is_ok());
        let due = state.backups.due.clone().unwrap();
        assert_eq!(due.nodes, [NodeId(1), NodeId(3)].into());
        assert_eq!(state.backup_due(NodeId(1), late), None);
        state.forget_backups(NodeId(1));
        state.forget_backups(NodeId(3));
        assert_eq!(state.backups.due, None);
        change(&mut state, Command::Backups(BackupChange::Off)).unwrap();
        assert_eq!(state.backups.next(), None);
    }
}

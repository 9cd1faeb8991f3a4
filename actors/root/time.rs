//! Replicated time on this node: what is heard of it, and where this node leads, its clock.
//!
//! Owns the host's clocks. Never decides when time steps: that is `clock`.

use super::{Msg, Proposal, RootRef, State};
use crate::fsm::Command;
use crate::id::NodeId;
use crate::units::{Millis, Timestamp};
use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

/// The time by this host's clock.
fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp(Millis::from(since_epoch.unwrap_or_default()).0)
}

impl State {
    /// What entries of this node are stamped with. Before its clock has begun that is no news.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = self.elapsed();
        self.clock.read(wall(), now).unwrap_or(self.fsm.time)
    }

    /// Replicated time and when it was read, for who plans by it: where this node leads, and all
    /// knows of the time when nobody did.
    pub(super) fn leading_time(&self) -> Option<(Timestamp, Instant)> {
        let time = self.clock.peek(self.elapsed()).filter(|_| self.standing.is_none())?;
        Some((time.max(self.fsm.time), Instant::now()))
    }

    /// Begins or ends this node's own clock, as it leads or not. Only once the state is known to be
    /// current: before that its time is an old one.
    pub(super) fn keep_time(&mut self, myself: &RootRef) {
        let now = self.elapsed();
        if !self.leads() {
            self.clock.end(now);
            self.standing = None;
            return;
        }
        if self.clock.leads() || !self.is_current() {
            return;
        }
        let begun = self.clock.begin(self.fsm.time, wall(), now);
        self.clock.set_leader(true, now);
        let stepped = self.step();
        if let Some(from) = begun.silent_since.into_iter().chain(stepped).min() {
            self.stand(from, myself);
        }
    }

    /// Another member has said what its clock shows; answers how far it is ahead of this one's.
    pub(super) fn hear_clock(&mut self, node: NodeId, shown: Timestamp, myself: &RootRef) -> i64 {
        let ahead = i64::try_from(shown.0).unwrap_or(0) - i64::try_from(wall().0).unwrap_or(0);
        self.clock.heard(node, ahead, self.elapsed());
        if let Some(from) = self.step() {
            self.stand(from, myself);
        }
        ahead
    }

    /// The leader looks at the nodes: it stood still until now, or its clock was set.
    pub(super) fn on_looked(&mut self, late: Millis, myself: &RootRef) {
        let now = self.elapsed();
        let Some(time) = self.clock.peek(now) else { return };
        self.clock.watch_wall(wall(), now);
        let late = Some(late).filter(|late| late.0 > 0);
        let since = late.map(|late| Timestamp(time.0.saturating_sub(late.0)));
        if let Some(from) = since.into_iter().chain(self.step()).min() {
            self.stand(from, myself);
        }
    }

    /// Steps forward where that is due. Before all nodes know of standstills, never.
    fn step(&mut self) -> Option<Timestamp> {
        if !self.clock.may_step() || !self.fsm.is_next() {
            return None;
        }
        let own = self.member.as_ref().map(|member| member.node);
        let there = self.fsm.nodes.values().filter(|node| node.is_up());
        let others: BTreeSet<NodeId> =
            there.map(|node| node.id).filter(|id| Some(*id) != own).collect();
        let before = self.clock.step(&others, wall(), self.elapsed())?;
        tracing::info!(%before, "replicated time steps forward to the clocks of the members");
        Some(before)
    }

    /// Nobody led since then: that is in the log before anything that is planned by the time now.
    fn stand(&mut self, from: Timestamp, myself: &RootRef) {
        if !self.fsm.is_next() || self.fsm.cluster.is_none() {
            return;
        }
        tracing::info!(since = %from, "no leader for a while: that time counts for no deadline");
        self.stood += 1;
        let (number, myself_too) = (self.stood, myself.clone());
        self.standing = Some(number);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let command = Command::Standstill { from };
        self.propose(Proposal::new(&command, None, sender.into()), myself);
        tokio::spawn(async move {
            // Refused, it is in the log already, or another leads.
            let _ = receiver.await;
            // Root may have stopped meanwhile.
            let _ = myself_too.cast(Msg::Stood(number));
        });
    }

    /// What was asked with this number is in the log.
    pub(super) fn on_stood(&mut self, number: u64) {
        if self.standing == Some(number) {
            self.standing = None;
            self.publish(&crate::fsm::Touched::default());
        }
    }
}

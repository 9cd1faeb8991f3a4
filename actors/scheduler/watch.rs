//! The leader's watch over the nodes: who is silent, and who is to take part in raft.
//!
//! Owns what a leader hears in its term. Never judges by itself: silence is judged by `silence`,
//! the members are planned by `members`.

use crate::actors::root::{MembersStep, View};
use crate::fsm::Command;
use crate::id::NodeId;
use crate::limits;
use crate::members::{self, Next};
use crate::raft::node::Conf;
use crate::silence::Silence;
use crate::units::{Millis, Timestamp};
use std::time::Instant;

/// What a leader knows of the nodes.
pub(super) struct Watch {
    begun: Instant,
    silence: Silence,
    conf: Option<Conf>,
    /// The last step, and when it was taken: it is not taken twice before it shows or fails.
    asked: Option<(Next, Instant)>,
}

/// What is to be done.
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it is carried out at once"
)]
pub(super) enum Step {
    /// Propose it.
    Propose(Command),
    /// Change raft.
    Members(MembersStep),
}

impl Watch {
    /// A leader begins: nobody has been silent yet.
    pub(super) fn new(conf: Option<Conf>) -> Self {
        Self { begun: Instant::now(), silence: Silence::new(Millis(0)), conf, asked: None }
    }

    fn now(&self) -> Millis {
        self.begun.elapsed().into()
    }

    pub(super) fn heard(&mut self, node: NodeId) {
        let now = self.now();
        self.silence.heard(node, now);
    }

    pub(super) fn set_conf(&mut self, conf: Conf) {
        let members =
            |conf: &Conf| (conf.voters.clone(), conf.outgoing.clone(), conf.learners.clone());
        if self.conf.as_ref().map(members) != Some(members(&conf)) {
            self.asked = None;
        }
        self.conf = Some(conf);
    }

    /// A tick of the watch: those that were silent for too long.
    pub(super) fn lost(&mut self, view: &View) -> Vec<Command> {
        let now = self.now();
        self.silence.tick(&view.state, now);
        self.silence.lost(&view.state, view.node, now)
    }

    /// The next step toward the configuration that should be. `now` is replicated time.
    pub(super) fn plan(&mut self, view: &View, now: Timestamp) -> Option<Step> {
        let conf = self.conf.as_ref()?;
        let next = members::plan(&view.state, conf, view.node, now);
        let next = match next {
            Next::Nothing => members::raise(&view.state).map_or(next, Next::Record),
            next => next,
        };
        let is_asked =
            |(asked, at): &(Next, Instant)| *asked == next && at.elapsed() < limits::MEMBERS_RETRY;
        if self.asked.as_ref().is_some_and(is_asked) {
            return None;
        }
        let step = match &next {
            Next::Change { members, command } => {
                tracing::info!(?members, "the members of raft change");
                let command = serde_json::to_vec(command);
                Step::Members(MembersStep::Change(members.clone(), command))
            }
            Next::Leave => Step::Members(MembersStep::Leave),
            Next::TransferLeader(to) => {
                tracing::info!(%to, "the lead is handed over");
                Step::Members(MembersStep::TransferLeader(*to))
            }
            Next::Record(command) => Step::Propose(command.clone()),
            // Asked again at each tick of the watch.
            Next::Nothing => return None,
        };
        self.asked = Some((next, Instant::now()));
        Some(step)
    }
}

//! Nodes in the simulation: people join, drain, undrain and remove them.
//!
//! Owns what is asked for and what must hold of it. Never moves anything itself.

use super::check::led;
use super::node::SimNode;
use super::{Event, TROUBLE, World};
use crate::fsm::command::{Action, Join, RunAction};
use crate::fsm::model::{AllocKind, Allocation, Desired, Health, NodeStatus};
use crate::fsm::{Applied, Command, Entry, State, fixture};
use crate::id::NodeId;
use crate::scheduler::place::Placer;
use crate::units::Millis;

/// How long two may be in one seat after an undrain, until one of them goes.
const BOTH_FOR: u64 = 30_000;
/// How long a run may outlast its drain's deadline.
const ENDING: u64 = 60_000;
/// Nodes that there ever are.
const NODES: u64 = 8;

impl World {
    /// The leader raises the level as soon as all nodes know it.
    pub(super) fn raise_when_known(&mut self) {
        match crate::cluster::members::raise(&self.state) {
            Some(raise) => self.commit(raise),
            None if self.level > 1 => self.after(500, Event::Raise),
            None => {}
        }
    }

    /// A node joins: an entry like any other. It is down until it registers.
    pub(super) fn join(&mut self) -> NodeId {
        let id = NodeId(self.state.last_node.0 + 1);
        self.commit(Command::Join(Join {
            address: format!("10.0.0.{id}"),
            feature_level: self.level,
            ..fixture::join(&format!("n{id}"), "")
        }));
        self.nodes.insert(id, SimNode::default());
        id
    }

    /// A person does something about the nodes.
    pub(super) fn about_nodes(&mut self) -> Option<Command> {
        let mut node = self.some_node();
        match self.dice.below(6) {
            0 if self.state.last_node.0 < NODES => {
                let id = self.join();
                self.register(id);
                None
            }
            0 | 1 => {
                let soon = self.dice.between(0, 40_000);
                let bounded = self.dice.chance(50);
                let deadline = bounded.then(|| self.state.time.plus(Millis(soon)));
                Some(Command::Drain { node, deadline })
            }
            2 | 3 => Some(Command::Undrain { node }),
            _ => {
                // People mostly remove what they have drained.
                let drained = self.state.nodes.values().filter(|n| n.drain.is_some());
                // The first node's vote is needed.
                let drained = drained.map(|n| n.id).find(|id| *id != NodeId(1));
                if let Some(drained) = drained.filter(|_| self.dice.chance(80)) {
                    node = drained;
                }
                Some(Command::Remove { node })
            }
        }
    }

    pub(super) fn some_node(&mut self) -> NodeId {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        let which = usize::try_from(self.dice.below(ids.len() as u64)).unwrap_or(0);
        ids.get(which).copied().unwrap_or(NodeId(1))
    }

    /// What an entry about nodes has brought about, and that nothing new goes where nothing may.
    pub(super) fn check_members(&mut self, before: &State, entry: &Entry, applied: &Applied) {
        // Refused, or said a second time.
        if applied.outcome.is_err() || applied.touched.is_empty() {
            return;
        }
        match &entry.command {
            Command::Undrain { node } => drop(self.undrained.insert(*node, self.now)),
            Command::Remove { node } => {
                self.nodes.remove(node);
                self.removals += 1;
            }
            Command::Steps(steps) => {
                for action in &steps.actions {
                    let node = match action {
                        Action::Place(place) => place.node,
                        Action::Run(RunAction::Place { node, .. }) => *node,
                        _ => continue,
                    };
                    if !before.nodes.get(&node).is_some_and(|n| n.takes_work()) {
                        self.fail(format!("{node} got work, and doesn't take any"));
                    }
                }
            }
            _ => {}
        }
        let homeless = self
            .state
            .allocations
            .values()
            .find(|a| a.is_live() && !self.state.nodes.contains_key(&a.node));
        if let Some(lost) = homeless {
            let what = format!("{} lives on a node that was removed", lost.id);
            self.fail(what);
        }
        if self.state.removed.iter().any(|id| self.state.nodes.contains_key(id)) {
            self.fail("a removed node is a member".to_owned());
        }
    }

    /// Its node drains, or did so until just now: what takes its place may be there already.
    pub(super) fn is_moving(&self, allocation: &Allocation) -> bool {
        let node = self.state.nodes.get(&allocation.node);
        let recently = self.undrained.get(&allocation.node);
        node.is_some_and(|node| node.drain.is_some())
            || recently.is_some_and(|at| led(&self.silences, *at, self.now) < BOTH_FOR)
    }

    /// What takes over from this one is there, but does not work.
    fn has_heir(&self, old: &Allocation) -> bool {
        let mut all = self.state.allocations_of(&old.workload);
        all.any(|a| a.is_live() && a.replica() == old.replica() && a.id != old.id)
    }

    /// Its node drains, and it stays until its heir works.
    pub(super) fn waits_for_heir(&self, old: &Allocation) -> bool {
        let node = self.state.nodes.get(&old.node);
        node.is_some_and(|node| node.drain.is_some()) && self.has_heir(old)
    }

    /// It is restarted, and stays until its heir works, which may be never.
    pub(super) fn outlives_restart(&self, old: &Allocation) -> bool {
        let mut all = self.state.allocations_of(&old.workload);
        all.any(|a| {
            let works = a.observed.health == Health::Healthy;
            let is_heir = a.replica() == old.replica() && a.generation > old.generation;
            is_heir && a.is_live() && !works
        })
    }

    /// At rest a draining node holds only what fits nowhere else, or whose replacement doesn't
    /// work; and no run of a task beyond the deadline.
    pub(super) fn check_drains_at_rest(&mut self) {
        let mut wrong = None;
        for node in self.state.nodes.values().filter(|n| n.status == NodeStatus::Draining) {
            let deadline = node.drain.and_then(|drain| drain.deadline);
            let live = self.state.allocations_on(node.id).filter(|a| a.is_live());
            for one in live {
                let run = self.state.spec(&one.spec).map(|stored| stored.spec.run().clone());
                let fits = |run| Placer::new(&self.state).place(&run).is_ok();
                let is_late = deadline.is_some_and(|at| at.0 + ENDING < super::EPOCH + self.now);
                let is_wrong = match one.kind {
                    AllocKind::Task => is_late,
                    AllocKind::Service { .. } => {
                        one.desired == Desired::Run && !self.has_heir(one) && run.is_some_and(fits)
                    }
                };
                if is_wrong {
                    wrong = Some(format!("{} never left {}", one.id, node.name));
                }
            }
        }
        if let Some(what) = wrong {
            self.fail(what);
        }
    }

    /// Towards the end about half of the drains are taken back.
    pub(super) fn take_back_drains(&mut self) {
        self.all_behave();
        let draining = self.state.nodes.values().filter(|node| node.drain.is_some());
        let draining: Vec<NodeId> = draining.map(|node| node.id).collect();
        // At least one node takes work, so that the world can come to rest.
        let all = draining.len() == self.state.nodes.len();
        for (n, node) in draining.into_iter().enumerate() {
            if self.dice.chance(50) || all && n == 0 {
                self.commit(Command::Undrain { node });
            }
        }
    }
}

const _: () = assert!(BOTH_FOR < TROUBLE);

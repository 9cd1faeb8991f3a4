//! Made-up containers: what is assigned to the node runs and is healthy at once, or fails as told.
//!
//! Owns the reports about them. Never starts anything.

use mill::actors::container;
use mill::actors::root::{Child, Msg, Proposal, RootRef, Supervised, View};
use mill::fsm::Command;
use mill::fsm::command::Report;
use mill::fsm::model::{Allocation, AllocationStatus, Desired, Exit, ExitReason, Health, Phase};
use mill::id::Attempt;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What is to fail.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<Option<String>>>);

impl Script {
    /// The next container fails, for that reason.
    #[allow(dead_code, reason = "for tests to come")]
    pub fn fail_next(&self, reason: &str) {
        *self.0.lock().expect("lock") = Some(reason.to_owned());
    }

    fn take(&self) -> Option<String> {
        self.0.lock().expect("lock").take()
    }
}

/// The actor in the container actor's place.
pub struct Fakes;

/// What it keeps.
pub struct State {
    root: RootRef,
    script: Script,
    seq: u64,
}

impl Actor for Fakes {
    type Msg = View;
    type State = State;
    type Arguments = (RootRef, Script);

    async fn pre_start(
        &self,
        _myself: ActorRef<View>,
        (root, script): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { root, script, seq: 0 })
    }

    async fn handle(
        &self,
        _myself: ActorRef<View>,
        view: View,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let known = view.state.nodes.get(&view.node).is_some_and(|node| node.boot == view.boot);
        if view.current && known {
            state.report(&view);
        }
        let _ = state.root.cast(Msg::Settled { child: Child::Container, index: view.index });
        Ok(())
    }
}

impl State {
    fn report(&mut self, view: &View) {
        let own = view.state.allocations_on(view.node).filter(|one| one.is_live());
        let news = own.filter_map(|one| Some((one.id.clone(), self.observe(one)?)));
        let allocations: BTreeMap<_, _> = news.collect();
        if allocations.is_empty() {
            return;
        }
        self.seq += 1;
        let (node, boot, seq) = (view.node, view.boot, self.seq);
        let report = Command::Report(Report { node, boot, seq, allocations });
        let (reply, _) = tokio::sync::oneshot::channel();
        let _ = self.root.cast(Msg::Propose(Proposal::new(&report, None, reply.into())));
    }

    /// What has become of an allocation, if that is news.
    fn observe(&self, allocation: &Allocation) -> Option<AllocationStatus> {
        let attempt = Attempt(allocation.attempt.0.max(1));
        let seen = &allocation.observed;
        let stop = allocation.desired == Desired::Stop;
        let new =
            |phase, health, exit| AllocationStatus { attempt, phase, health, exit, ..seen.clone() };
        if stop {
            return Some(new(Phase::Stopped, Health::None, None));
        }
        if seen.phase == Phase::Running {
            return None;
        }
        Some(match self.script.take() {
            None => new(Phase::Running, Health::Healthy, None),
            Some(reason) => {
                let reason =
                    Exit { code: Some(1), reason: ExitReason::Error, message: Some(reason) };
                new(Phase::Failed, Health::None, Some(reason))
            }
        })
    }
}

impl Fakes {
    /// Starts it under root.
    pub async fn start(
        root: RootRef,
        script: Script,
    ) -> Result<Supervised<container::Msg>, SpawnErr> {
        let cell = root.get_cell();
        let (actor, _) = Self::spawn_linked(None, Self, (root, script), cell).await?;
        Ok(Supervised::new(actor.get_cell(), move |message| {
            if let container::Msg::View(view) = message {
                let _ = actor.cast(view);
            }
        }))
    }
}

//! The scheduler actor: runs the planner on the leader and proposes what it finds.
//!
//! Owns when to plan. Never decides what to do: that is `plan`, and it remembers nothing that a new
//! leader would miss.

use crate::actors::mailbox::Stamp;
use crate::actors::root::View;
use crate::actors::root::{self, Child, ChildMessage, MembersStep, Proposal, RootRef};
use crate::actors::traffic::Traffic;
use crate::cluster::members::Next;
use crate::cluster::watch::Watch;
use crate::consensus::raft::node::Conf;
use crate::fsm::Command;
use crate::fsm::model::Desired;
use crate::id::{AppName, BootId, Index, NodeId};
use crate::limits;
use crate::scheduler::canary::{Counted, Ledger};
use crate::scheduler::certificates;
use crate::scheduler::plan::{self, Scope, SettledIndexes};
use crate::units::{Millis, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the scheduler is told.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// A node has made its view at this index true.
    Settled(NodeId, Index),
    /// Another node has let itself be heard; up to there it has made its view true, and its clock
    /// is so many milliseconds ahead of this one's.
    Heard(NodeId, Index, Option<i64>),
    /// Another node, in this life, has told what it counted of canaries.
    Counted(NodeId, BootId, Vec<Counted>),
    /// The configuration of raft, while this node leads.
    Conf(Option<Conf>),
    /// It is time to look who is silent. An older generation's is ignored.
    Watch(u64),
    /// A moment has come that the planner asked for. An older generation's is ignored.
    Due(u64),
    /// What became of the steps proposed for an app: the entry's index, or none if they were
    /// refused.
    Proposed(AppName, Option<Index>),
}

impl ChildMessage for Msg {
    fn view(view: View) -> Option<Self> {
        Some(Self::View(view))
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamped(stamp)
    }
}

/// What the scheduler starts with.
pub struct Args {
    /// Where proposals go.
    pub root: RootRef,
    /// What this node counts itself.
    pub traffic: Arc<Traffic>,
}

/// The actor.
pub struct Scheduler;

/// What the scheduler keeps.
pub struct State {
    root: RootRef,
    traffic: Arc<Traffic>,
    /// What all nodes have counted of canaries.
    ledger: Ledger,
    view: Option<View>,
    /// When the view's time was read.
    read_at: Instant,
    observed: SettledIndexes,
    /// Apps to look at.
    dirty: BTreeSet<AppName>,
    /// When to look at an app again.
    wake: BTreeMap<AppName, Timestamp>,
    /// Apps whose steps are on their way, with the index to wait for once it is known.
    on_their_way: BTreeMap<AppName, Option<Index>>,
    generation: u64,
    /// While this node leads.
    watch: Option<Watch>,
    /// What the watch's clock counts from.
    begun: Instant,
    conf: Option<Conf>,
    watches: u64,
    /// The entries of orders that were said to be settled, and until when that is waited for.
    settling: BTreeMap<Index, Timestamp>,
    /// When it last looked who is silent, while this node leads.
    looked: Option<Millis>,
}

impl Actor for Scheduler {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            root: args.root,
            traffic: args.traffic,
            ledger: Ledger::default(),
            view: None,
            read_at: Instant::now(),
            observed: SettledIndexes::default(),
            dirty: BTreeSet::new(),
            wake: BTreeMap::new(),
            on_their_way: BTreeMap::new(),
            generation: 0,
            watch: None,
            begun: Instant::now(),
            conf: None,
            watches: 0,
            settling: BTreeMap::new(),
            looked: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::View(view) => {
                let nodes = view.touched.nodes || view.touched.all;
                state.on_view(view);
                if nodes {
                    state.plan_members();
                }
            }
            Msg::Settled(node, index) => drop(state.on_settled(node, index)),
            Msg::Heard(node, index, ahead) => {
                let now = state.elapsed();
                if let Some(watch) = &mut state.watch {
                    watch.heard(node, now);
                    watch.set_clock(node, ahead);
                }
                if !state.on_settled(node, index) {
                    return Ok(());
                }
            }
            Msg::Counted(node, boot, counted) => {
                let now = state.elapsed();
                state.ledger.heard(node, boot, counted, now);
                return Ok(());
            }
            Msg::Conf(conf) => {
                state.on_conf(conf, &myself);
                return Ok(());
            }
            Msg::Watch(generation) if generation != state.watches => return Ok(()),
            Msg::Watch(_) => {
                state.look(&myself);
                if !state.count() {
                    return Ok(());
                }
            }
            Msg::Due(generation) if generation != state.generation => return Ok(()),
            Msg::Due(_) => {}
            Msg::Proposed(app, index) => state.on_proposed(app, index),
        }
        state.keep_watch(&myself);
        state.plan(&myself);
        Ok(())
    }
}

impl State {
    fn on_view(&mut self, view: View) {
        if view.touched.all {
            self.dirty.extend(view.state.apps.keys().cloned());
        }
        self.dirty.extend(view.touched.apps.iter().cloned());
        if plan::concerns_tasks(&view.state, &view.touched) {
            self.dirty.insert(AppName::from(plan::TASKS));
        }
        if view.touched.nodes {
            self.dirty.extend(view.state.apps.keys().cloned());
        }
        let apps = view.touched.allocations.iter().filter_map(|id| view.state.allocations.get(id));
        self.dirty.extend(apps.map(|allocation| allocation.app.clone()));
        let reached = |waiting: &Option<Index>| waiting.is_some_and(|at| view.index >= at);
        self.on_their_way.retain(|_, waiting| !reached(waiting));
        if self.view.as_ref().is_none_or(|old| view.state.time > old.state.time) {
            self.read_at = Instant::now();
        }
        let settled = root::Msg::Settled { child: Child::Scheduler, index: view.index };
        self.view = Some(view);
        // Root outlives its children.
        let _ = self.root.cast(settled);
    }

    /// Answers whether that is news.
    fn on_settled(&mut self, node: NodeId, index: Index) -> bool {
        let known = self.observed.settled.entry(node).or_default();
        if index <= *known {
            return false;
        }
        *known = index;
        self.mark_waiting();
        true
    }

    fn leads(&self) -> bool {
        self.view.as_ref().is_some_and(|v| v.current && v.leader == Some(v.node))
    }

    /// This node leads, and the state knows of the time when nobody did.
    fn may_plan(&self, view: &View) -> bool {
        self.leads() && view.time.is_some() && self.lateness().is_none()
    }

    /// By how much this process stood still since the last look, if for long.
    fn lateness(&self) -> Option<Millis> {
        let late = self.elapsed().since(self.looked?);
        let bound = limits::SILENCE_TICK + limits::STANDSTILL_MIN;
        (late > bound.into()).then_some(late)
    }

    fn elapsed(&self) -> Millis {
        self.begun.elapsed().into()
    }

    /// Begins the watch when this node leads, ends it when it doesn't.
    fn keep_watch(&mut self, myself: &ActorRef<Msg>) {
        match (self.leads(), &self.watch) {
            (true, None) => {
                self.watch = Some(Watch::new(self.conf.clone(), self.elapsed()));
                self.look(myself);
            }
            (false, Some(_)) => (self.watch, self.looked) = (None, None),
            _ => {}
        }
    }

    fn on_conf(&mut self, conf: Option<Conf>, myself: &ActorRef<Msg>) {
        self.conf.clone_from(&conf);
        match (conf, &mut self.watch) {
            (None, _) => (self.watch, self.looked) = (None, None),
            (Some(conf), Some(watch)) => watch.set_conf(conf),
            (Some(_), None) => self.keep_watch(myself),
        }
        self.plan_members();
    }

    /// Looks who is silent, and again a tick later.
    fn look(&mut self, myself: &ActorRef<Msg>) {
        let (now, late) = (self.elapsed(), self.lateness());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Looked(late.unwrap_or_default()));
        let Some(time) = self.view.as_ref().map(|view| self.now(view)) else { return };
        let (Some(watch), Some(view)) = (&mut self.watch, &self.view) else { return };
        let seen = watch.look(&view.state, view.node, now, time);
        self.looked = Some(now);
        self.watches += 1;
        let generation = self.watches;
        myself.send_after(limits::SILENCE_TICK, move || Msg::Watch(generation));
        seen.into_iter().for_each(|command| self.ask(&command));
        self.plan_members();
    }

    /// Sums up the requests of canaries, this node's own among them; answers whether there are any.
    fn count(&mut self) -> bool {
        let now = self.elapsed();
        let Some(view) = self.view.as_ref().filter(|_| self.leads()) else { return false };
        self.ledger.heard(view.node, view.boot, self.traffic.counted(), now);
        self.observed.canaries = self.ledger.samples(&view.state, now);
        let counted = self.observed.canaries.keys();
        let apps = counted.filter_map(|service| view.state.owner(service));
        self.dirty.extend(apps.map(|app| app.name.clone()));
        !self.observed.canaries.is_empty()
    }

    /// Takes the next step toward the members that raft should have.
    fn plan_members(&mut self) {
        let Some(view) = self.view.as_ref().filter(|view| self.may_plan(view)) else { return };
        let (now, time) = (self.elapsed(), self.now(view));
        let Some(watch) = &mut self.watch else { return };
        let step = match watch.plan(&view.state, view.node, now, time) {
            Some(Next::Change { members, command }) => {
                tracing::info!(?members, "the members of raft change");
                let command = serde_json::to_vec(command);
                MembersStep::Change(members.clone(), command)
            }
            Some(Next::Leave) => MembersStep::Leave,
            Some(Next::TransferLeader(to)) => {
                tracing::info!(%to, "the lead is handed over");
                MembersStep::TransferLeader(*to)
            }
            Some(Next::Record(command)) => {
                let command = command.clone();
                return self.ask(&command);
            }
            Some(Next::Nothing) | None => return,
        };
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Members(step));
    }

    /// Proposes what nothing waits for: it is found again at the next look.
    fn ask(&self, command: &Command) {
        let (sender, _) = tokio::sync::oneshot::channel();
        let proposal = Proposal::new(command, None, sender.into());
        let _ = self.root.cast(root::Msg::Propose(proposal));
    }

    /// Something has settled: apps where traffic is led elsewhere may go on.
    fn mark_waiting(&mut self) {
        let Some(view) = &self.view else { return };
        let waiting = view.state.allocations.values().filter(|a| {
            let is_new = a.course.unrouted.is_some() && view.state.is_deployed(a);
            is_new || matches!(a.desired, Desired::Draining { settled: None, .. })
        });
        self.dirty.extend(waiting.map(|a| a.app.clone()));
    }

    fn on_proposed(&mut self, app: AppName, index: Option<Index>) {
        let seen = self.view.as_ref().map_or(Index(0), |view| view.index);
        match index {
            Some(index) if index > seen => {
                self.on_their_way.insert(app, Some(index));
            }
            Some(_) => {
                self.on_their_way.remove(&app);
            }
            None => {
                self.on_their_way.remove(&app);
                if let Some(view) = &self.view {
                    self.wake.insert(app, self.now(view).plus(limits::REPLAN_DELAY.into()));
                }
            }
        }
    }

    /// Replicated time now: a leader's own, else as far as a follower of the log can tell.
    fn now(&self, view: &View) -> Timestamp {
        match view.time {
            Some((time, at)) => view.state.time.max(time.plus(at.elapsed().into())),
            None => view.state.time.plus(self.read_at.elapsed().into()),
        }
    }

    fn plan(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.as_ref().filter(|view| self.may_plan(view)) else { return };
        let now = self.now(view);
        self.settle_orders(now);
        let Some(view) = &self.view else { return };
        let due = self.wake.iter().filter(|(_, at)| **at <= now).map(|(app, _)| app.clone());
        let mut scope: BTreeSet<AppName> = due.collect();
        scope.append(&mut self.dirty);
        let (busy, scope): (BTreeSet<_>, BTreeSet<_>) =
            scope.into_iter().partition(|app| self.on_their_way.contains_key(app));
        self.dirty = busy;
        if scope.is_empty() {
            return self.arm_next(myself, now);
        }
        for app in &scope {
            self.wake.remove(app);
        }
        let seed = rand::random();
        let plan = plan::plan(&view.state, &self.observed, now, seed, &Scope::Apps(scope));
        self.wake.extend(plan.wake);
        for command in plan.commands {
            self.propose(command, myself);
        }
        self.arm_next(myself, now);
    }

    /// Lets authorities look at what every node shows by now.
    fn settle_orders(&mut self, now: Timestamp) {
        let Some(view) = &self.view else { return };
        let (settled, again) = certificates::settled(&view.state, &self.observed, now);
        let soon = now.plus(limits::ORDER_AGAIN.into());
        self.settling.retain(|_, until| *until > now);
        let news = settled.into_iter().filter(|(index, _)| !self.settling.contains_key(index));
        let news: Vec<(Index, Command)> = news.collect();
        for (index, command) in news {
            self.settling.insert(index, soon);
            self.ask(&command);
        }
        let again = again.into_iter().chain(self.settling.values().copied()).min();
        if let Some(again) = again {
            self.wake.insert(AppName::from(certificates::ORDERS), again);
        }
    }

    fn propose(&mut self, command: Command, myself: &ActorRef<Msg>) {
        let Command::Steps(steps) = &command else { return };
        let app = steps.planned.keys().next().cloned();
        let app = app.unwrap_or_else(|| AppName::from(plan::TASKS));
        self.on_their_way.insert(app.clone(), None);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let proposal = Proposal::new(&command, None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Propose(proposal));
        let myself = myself.clone();
        tokio::spawn(async move {
            let index = match receiver.await {
                Ok(Ok(done)) => Some(done.index),
                Ok(Err(error)) => {
                    tracing::debug!(%app, %error, "planned steps were refused");
                    None
                }
                Err(_) => None,
            };
            // The scheduler may have been started anew: that one plans afresh.
            let _ = myself.cast(Msg::Proposed(app, index));
        });
    }

    fn arm_next(&mut self, myself: &ActorRef<Msg>, now: Timestamp) {
        let Some(next) = self.wake.values().min() else { return };
        self.arm(myself, next.since(now).duration().max(Duration::from_millis(1)));
    }

    fn arm(&mut self, myself: &ActorRef<Msg>, delay: Duration) {
        self.generation += 1;
        let generation = self.generation;
        myself.send_after(delay, move || Msg::Due(generation));
    }
}

//! Root's children: starting them, handing them views, starting them again after a failure.
//!
//! Owns the children's references, each with messages of its own, and what those that lead traffic
//! have settled. Never decides how long a restart waits: that is `supervise`.

use super::{Child, Msg, RootRef, State, View};
use crate::actors::mailbox::{Mailbox, Stamp, Waits};
use crate::actors::raft as consensus;
use crate::actors::{api, container, dns, mesh, peer, provider, proxy, scheduler};
use crate::consensus::raft::node::Conf;
use crate::fsm::Touched;
use crate::id::{Index, NodeId};
use crate::limits;
use crate::node::supervise::{Decision, History};
use crate::units::Millis;
use ractor::{Actor, ActorCell, ActorStatus, SpawnErr, SupervisionEvent};
use std::pin::Pin;
use std::sync::Arc;

/// What root tells every child, as messages of the child's own.
pub trait ChildMessage: Sized + Send + 'static {
    /// The newest state, answered with [`Msg::Settled`]; none for a child that is shown none.
    fn view(view: View) -> Option<Self>;
    /// How long does a message wait?
    fn stamp(stamp: Stamp) -> Self;
}

/// A running child: its cell, and the way to tell it something.
pub struct Supervised<M> {
    /// For supervision.
    pub cell: ActorCell,
    tell: Box<dyn Fn(M) + Send>,
}

impl<M> Supervised<M> {
    /// A child that takes messages in its own way.
    pub fn new(cell: ActorCell, tell: impl Fn(M) + Send + 'static) -> Self {
        Self { cell, tell: Box::new(tell) }
    }

    /// Tells it something.
    pub fn tell(&self, message: M) {
        (self.tell)(message);
    }
}

impl<M: ractor::Message> Supervised<M> {
    /// Starts an actor under root.
    ///
    /// # Errors
    /// Its `pre_start` failed, or root is about to stop.
    pub async fn start<A>(actor: A, args: A::Arguments, root: &RootRef) -> Result<Self, SpawnErr>
    where
        A: Actor<Msg = M>,
    {
        let (actor, _) = A::spawn_linked(None, actor, args, root.get_cell()).await?;
        // One that has ended is started again by root, with the view of then.
        Ok(Self::new(actor.get_cell(), move |message| drop(actor.cast(message))))
    }
}

type Starting<T> = Pin<Box<dyn Future<Output = Result<T, SpawnErr>> + Send>>;

/// How a child is started, linked to root.
pub struct Factory<M> {
    start: Box<dyn Fn(RootRef) -> Starting<Supervised<M>> + Send>,
    leads_traffic: bool,
}

impl<M> Factory<M> {
    /// Starts it so, each time.
    pub fn new<F, R>(start: F) -> Self
    where
        F: Fn(RootRef) -> R + Send + 'static,
        R: Future<Output = Result<Supervised<M>, SpawnErr>> + Send + 'static,
    {
        Self { start: Box::new(move |root| Box::pin(start(root))), leads_traffic: false }
    }

    /// The child leads traffic: nothing is stopped before it has settled the draining.
    #[must_use]
    pub fn leading_traffic(self) -> Self {
        Self { leads_traffic: true, ..self }
    }
}

/// How each child is started; one without a factory is not there.
#[derive(Default)]
pub struct Factories {
    pub raft: Option<Factory<consensus::Msg>>,
    /// The connections to other nodes.
    pub peer: Option<Factory<peer::Notice>>,
    /// The interface to the other nodes.
    pub mesh: Option<Factory<mesh::Msg>>,
    /// The node's containers.
    pub container: Option<Factory<container::Msg>>,
    /// Requests from outside.
    pub proxy: Option<Factory<proxy::Msg>>,
    /// Names.
    pub dns: Option<Factory<dns::Msg>>,
    /// The planner's shell.
    pub scheduler: Option<Factory<scheduler::Msg>>,
    /// The provider's volumes.
    pub provider: Option<Factory<provider::Msg>>,
    /// The HTTP API.
    pub api: Option<Factory<api::Msg>>,
}

/// The children, each with messages of its own.
pub(super) struct Children {
    pub(super) raft: ChildSlot<consensus::Msg>,
    pub(super) peer: ChildSlot<peer::Notice>,
    pub(super) mesh: ChildSlot<mesh::Msg>,
    pub(super) container: ChildSlot<container::Msg>,
    pub(super) proxy: ChildSlot<proxy::Msg>,
    pub(super) dns: ChildSlot<dns::Msg>,
    pub(super) scheduler: ChildSlot<scheduler::Msg>,
    pub(super) provider: ChildSlot<provider::Msg>,
    pub(super) api: ChildSlot<api::Msg>,
    stopping: bool,
}

/// A child's place, over its restarts.
pub(super) struct ChildSlot<M> {
    /// Where it is among the children.
    pick: fn(&mut Children) -> &mut Self,
    factory: Option<Factory<M>>,
    running: Option<Supervised<M>>,
    care: Care,
}

/// What root knows of a child, whatever its messages are.
struct Care {
    history: History,
    mailbox: Mailbox,
    /// It has a view that it has not settled.
    busy: bool,
    /// What it has not been shown yet.
    touched: Touched,
    /// A newer view than it was shown exists.
    behind: bool,
    /// Up to where it has made its views true.
    settled: Index,
}

/// A child that was started, and how it is put into its place.
pub struct Started {
    cell: ActorCell,
    install: Box<dyn FnOnce(&mut Children) + Send>,
}

/// What root does with every child alike.
trait Slot {
    fn care(&mut self) -> &mut Care;
    fn cell(&self) -> Option<&ActorCell>;
    /// Forgets the running child.
    fn take(&mut self) -> Option<ActorCell>;
    /// Absent without a factory.
    fn start(&self, root: RootRef) -> Option<Starting<Started>>;
    fn leads_traffic(&self) -> bool;
    fn stamp(&self);
    /// Shows the view if there is something new and the last one is settled.
    fn show(&mut self, view: &View);
}

impl<M> ChildSlot<M> {
    fn new(
        factory: Option<Factory<M>>,
        mailbox: Mailbox,
        pick: fn(&mut Children) -> &mut Self,
    ) -> Self {
        let care = Care {
            history: History::default(),
            mailbox,
            busy: false,
            touched: Touched::default(),
            behind: false,
            settled: Index::default(),
        };
        Self { pick, factory, running: None, care }
    }

    pub(super) fn tell(&self, message: M) {
        if let Some(child) = &self.running {
            child.tell(message);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl<M: ChildMessage> Slot for ChildSlot<M> {
    fn care(&mut self) -> &mut Care {
        &mut self.care
    }

    fn cell(&self) -> Option<&ActorCell> {
        self.running.as_ref().map(|child| &child.cell)
    }

    fn take(&mut self) -> Option<ActorCell> {
        self.running.take().map(|child| child.cell)
    }

    fn start(&self, root: RootRef) -> Option<Starting<Started>> {
        let (starting, pick) = ((self.factory.as_ref()?.start)(root), self.pick);
        Some(Box::pin(async move {
            let child = starting.await?;
            let cell = child.cell.clone();
            let install = move |all: &mut Children| pick(all).running = Some(child);
            Ok(Started { cell, install: Box::new(install) })
        }))
    }

    fn leads_traffic(&self) -> bool {
        self.factory.as_ref().is_some_and(|factory| factory.leads_traffic)
    }

    fn stamp(&self) {
        if let Some(child) = &self.running
            && let Some(stamp) = self.care.mailbox.stamp()
        {
            child.tell(M::stamp(stamp));
        }
    }

    fn show(&mut self, view: &View) {
        let Some(child) = self.running.as_ref().filter(|_| self.care.behind && !self.care.busy)
        else {
            return;
        };
        let touched = Arc::new(std::mem::take(&mut self.care.touched));
        let Some(view) = M::view(View { touched, ..view.clone() }) else { return };
        self.stamp();
        child.tell(view);
        self.care.behind = false;
        self.care.busy = true;
    }
}

impl Children {
    pub(super) fn new(factories: Factories, waits: &Waits) -> Self {
        let Factories { raft, peer, mesh, container, .. } = factories;
        let Factories { dns, proxy, scheduler, provider, api, .. } = factories;
        let mailbox = |child: Child| waits.of(child.name());
        Self {
            raft: ChildSlot::new(raft, mailbox(Child::Raft), |all| &mut all.raft),
            peer: ChildSlot::new(peer, mailbox(Child::Peer), |all| &mut all.peer),
            mesh: ChildSlot::new(mesh, mailbox(Child::Mesh), |all| &mut all.mesh),
            container: ChildSlot::new(container, mailbox(Child::Container), |all| {
                &mut all.container
            }),
            dns: ChildSlot::new(dns, mailbox(Child::Dns), |all| &mut all.dns),
            proxy: ChildSlot::new(proxy, mailbox(Child::Proxy), |all| &mut all.proxy),
            scheduler: ChildSlot::new(scheduler, mailbox(Child::Scheduler), |all| {
                &mut all.scheduler
            }),
            provider: ChildSlot::new(provider, mailbox(Child::Provider), |all| &mut all.provider),
            api: ChildSlot::new(api, mailbox(Child::Api), |all| &mut all.api),
            stopping: false,
        }
    }

    fn slot(&mut self, child: Child) -> &mut dyn Slot {
        match child {
            Child::Raft => &mut self.raft,
            Child::Peer => &mut self.peer,
            Child::Mesh => &mut self.mesh,
            Child::Container => &mut self.container,
            Child::Dns => &mut self.dns,
            Child::Proxy => &mut self.proxy,
            Child::Scheduler => &mut self.scheduler,
            Child::Provider => &mut self.provider,
            Child::Api => &mut self.api,
        }
    }

    /// Sends a stamp through each child's mailbox, if none is in it.
    pub(super) fn stamp_all(&mut self) {
        Child::ALL.into_iter().for_each(|child| self.slot(child).stamp());
    }

    /// Sends one through raft's.
    pub(super) fn stamp_raft(&self) {
        self.raft.stamp();
    }

    pub(super) fn publish(&mut self, view: &View, touched: &Touched) {
        for child in Child::ALL.into_iter().filter(|child| *child != Child::Raft) {
            let slot = self.slot(child);
            slot.care().touched.merge(touched);
            slot.care().behind = true;
            slot.show(view);
        }
    }

    /// Takes note that a child has settled its view; answers what all that lead traffic have
    /// settled by now, if that is news.
    pub(super) fn settled(&mut self, child: Child, index: Index, view: &View) -> Option<Index> {
        let before = self.least_settled();
        let slot = self.slot(child);
        slot.care().busy = false;
        slot.care().settled = index.max(slot.care().settled);
        slot.show(view);
        self.least_settled().filter(|now| before < Some(*now))
    }

    /// Up to where every child that leads traffic has made its views true.
    fn least_settled(&mut self) -> Option<Index> {
        let settled = Child::ALL.into_iter().filter_map(|child| {
            let slot = self.slot(child);
            slot.leads_traffic().then(|| slot.care().settled)
        });
        settled.min()
    }

    /// Stops the children, the last started first, each within its deadline.
    pub(super) async fn stop_all(&mut self) {
        self.stopping = true;
        for child in Child::ALL.into_iter().rev() {
            let Some(cell) = self.slot(child).take() else { continue };
            let deadline = Some(limits::CHILD_STOP);
            if let Err(error) = cell.stop_and_wait(None, deadline).await {
                tracing::warn!(?child, %error, "a child did not stop in time");
                cell.kill();
            }
        }
    }

    fn child_of(&mut self, cell: &ActorCell) -> Option<Child> {
        let is_it = |slot: &dyn Slot| slot.cell().is_some_and(|c| c.get_id() == cell.get_id());
        Child::ALL.into_iter().find(|child| is_it(self.slot(*child)))
    }

    /// What a new child needs beside the view.
    fn brief(&mut self, child: Child, conf: Option<&Conf>, node: Option<NodeId>) {
        match child {
            Child::Peer => {
                if let Some(raft) = self.raft.cell().cloned() {
                    self.peer.tell(peer::Notice::Consensus(raft.into()));
                }
            }
            Child::Scheduler => {
                self.scheduler.tell(scheduler::Msg::Conf(conf.cloned()));
                if let (Some(node), Some(index)) = (node, self.least_settled()) {
                    self.scheduler.tell(scheduler::Msg::Settled(node, index));
                }
            }
            Child::Raft
            | Child::Mesh
            | Child::Container
            | Child::Dns
            | Child::Proxy
            | Child::Provider
            | Child::Api => {}
        }
    }
}

fn has_ended(cell: &ActorCell) -> bool {
    matches!(cell.get_status(), ActorStatus::Stopping | ActorStatus::Stopped)
}

impl State {
    /// Starts a child for the first time; a failure counts like a later one.
    pub(super) async fn start_child(&mut self, child: Child, myself: &RootRef) {
        let Some(starting) = self.children.slot(child).start(myself.clone()) else { return };
        let result = starting.await.map_err(|error| error.to_string());
        self.on_restarted(child, result, myself);
    }

    pub(super) fn restart_child(&mut self, child: Child, myself: &RootRef) {
        if self.children.stopping {
            return;
        }
        let Some(starting) = self.children.slot(child).start(myself.clone()) else { return };
        let myself = myself.clone();
        tokio::spawn(async move {
            let result = starting.await.map_err(|error| error.to_string());
            // Root may have stopped meanwhile; the child ends with it.
            let _ = myself.cast(Msg::Restarted(child, result));
        });
    }

    pub(super) fn on_restarted(
        &mut self,
        child: Child,
        result: Result<Started, String>,
        myself: &RootRef,
    ) {
        match result {
            Ok(started) if has_ended(&started.cell) => {
                // It failed before root knew it, so that its end was not recognised.
                self.child_failed(child, "it ended right after its start", myself);
            }
            Ok(started) => {
                (started.install)(&mut self.children);
                let care = self.children.slot(child).care();
                care.busy = false;
                care.behind = true;
                care.touched = Touched::everything();
                let node = self.member.as_ref().map(|member| member.node);
                self.children.brief(child, self.conf.as_ref(), node);
                if let Some(view) = self.view() {
                    self.children.slot(child).show(&view);
                }
            }
            Err(reason) => self.child_failed(child, &reason, myself),
        }
    }

    pub(super) fn on_supervision(&mut self, event: SupervisionEvent, myself: &RootRef) {
        let (cell, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended by itself".to_owned()))
            }
            _ => return,
        };
        let Some(child) = self.children.child_of(&cell) else { return };
        self.children.slot(child).take();
        self.child_failed(child, &reason, myself);
    }

    fn child_failed(&mut self, child: Child, reason: &str, myself: &RootRef) {
        if self.children.stopping {
            return;
        }
        if child == Child::Raft {
            return self.fail(format!("raft failed: {reason}"));
        }
        let now = Millis::from(self.started.elapsed());
        match self.children.slot(child).care().history.failed(now) {
            Decision::RestartAfter(delay) => {
                self.vitals.restarted(child);
                tracing::warn!(?child, reason, ?delay, "a child failed and is started again");
                myself.send_after(delay, move || Msg::Restart(child));
            }
            Decision::GiveUp => self.fail(format!("{child:?} failed too often: {reason}")),
        }
    }
}

//! Root's children: starting them, handing them views, starting them again after a failure.
//!
//! Owns the children's references. Never decides how long a restart waits: that is `supervise`.

use super::{Child, Msg, NodeUsage, Refusal, RootRef, State, View};
use crate::actors::mailbox::{Mailbox, Stamp, Waits};
use crate::actors::raft as consensus;
use crate::consensus::raft::Entry;
use crate::consensus::raft::node::Conf;
use crate::fsm::Touched;
use crate::id::{BootId, Index, NodeId};
use crate::limits;
use crate::node::supervise::{Decision, History};
use crate::units::Millis;
use ractor::{ActorCell, ActorRef, ActorStatus, RpcReplyPort, SpawnErr, SupervisionEvent};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What root says to a child. A child ignores what is not for it.
pub enum ToChild {
    /// The newest state; answered with [`Msg::Settled`].
    View(View),
    /// To the container actor: what do the allocations use?
    Usage(RpcReplyPort<NodeUsage>),
    /// To the scheduler and the peer actor: this node has made its view at this index true.
    Settled(NodeId, Index),
    /// To the scheduler: another node has let itself be heard, and how far it has settled.
    Heard(NodeId, Index),
    /// To the scheduler: the configuration of raft, or none if this node doesn't lead.
    Conf(Option<Conf>),
    /// To the peer actor: where messages of other nodes' raft go.
    Consensus(ActorRef<consensus::Msg>),
    /// To the peer actor: proposals for the leader.
    Forward(NodeId, Vec<Entry>),
    /// To the peer actor: a proposal of another node was not taken.
    Refused {
        /// Whose it was.
        node: NodeId,
        /// Of which of that node's processes.
        boot: BootId,
        /// Its number there.
        seq: u64,
        /// Why.
        refusal: Refusal,
    },
    /// To raft.
    Raft(consensus::Msg),
    /// To every child but raft: how long does a message wait?
    Stamp(Stamp),
}

/// A running child: its cell and the way to talk to it.
pub struct Handle {
    /// For supervision.
    pub cell: ActorCell,
    /// Turns what root says into the child's own message.
    pub tell: Box<dyn Fn(ToChild) + Send>,
    /// Only raft's: proposals go straight to it.
    pub raft: Option<ActorRef<consensus::Msg>>,
}

/// Starts a child, linked to root.
pub type Factory = Arc<
    dyn Fn(RootRef) -> Pin<Box<dyn Future<Output = Result<Handle, SpawnErr>> + Send>> + Send + Sync,
>;

/// How each child is started.
pub type Factories = BTreeMap<Child, Factory>;

/// The children.
pub(super) struct Family {
    factories: Factories,
    members: BTreeMap<Child, Kin>,
    mailboxes: BTreeMap<Child, Mailbox>,
    stopping: bool,
}

#[derive(Default)]
struct Kin {
    handle: Option<Handle>,
    history: History,
    /// It has a view that it has not settled.
    busy: bool,
    /// What it has not been shown yet.
    touched: Touched,
    /// A newer view than it was shown exists.
    behind: bool,
}

impl Family {
    pub(super) fn new(factories: Factories, waits: &Waits) -> Self {
        let mailbox = |child: &Child| (*child, waits.of(child.name()));
        let mailboxes = factories.keys().map(mailbox).collect();
        Self { factories, members: BTreeMap::new(), mailboxes, stopping: false }
    }

    pub(super) fn tell(&self, child: Child, what: ToChild) {
        let kin = self.members.get(&child);
        if let Some(handle) = kin.and_then(|kin| kin.handle.as_ref()) {
            (handle.tell)(what);
        }
    }

    pub(super) fn raft(&self) -> Option<ActorRef<consensus::Msg>> {
        self.members.get(&Child::Raft)?.handle.as_ref()?.raft.clone()
    }

    /// Sends a stamp through a child's mailbox, if none is in it.
    pub(super) fn stamp(&self, child: Child) {
        if let Some(stamp) = self.mailboxes.get(&child).and_then(Mailbox::stamp) {
            let what = match child {
                Child::Raft => ToChild::Raft(consensus::Msg::Stamped(stamp)),
                _ => ToChild::Stamp(stamp),
            };
            self.tell(child, what);
        }
    }

    /// Sends one through each.
    pub(super) fn stamp_all(&self) {
        self.members.keys().for_each(|child| self.stamp(*child));
    }

    pub(super) fn publish(&mut self, view: &View, touched: &Touched) {
        for (child, kin) in &mut self.members {
            if *child == Child::Raft {
                continue;
            }
            kin.touched.merge(touched);
            kin.behind = true;
            kin.show(self.mailboxes.get(child), view);
        }
    }

    pub(super) fn settled(&mut self, child: Child, view: &View) {
        if let Some(kin) = self.members.get_mut(&child) {
            kin.busy = false;
            kin.show(self.mailboxes.get(&child), view);
        }
    }

    /// Stops the children, the last started first, each within its deadline.
    pub(super) async fn stop_all(&mut self) {
        self.stopping = true;
        for (child, kin) in self.members.iter_mut().rev() {
            let Some(handle) = kin.handle.take() else { continue };
            let deadline = Some(limits::CHILD_STOP);
            if let Err(error) = handle.cell.stop_and_wait(None, deadline).await {
                tracing::warn!(?child, %error, "a child did not stop in time");
                handle.cell.kill();
            }
        }
    }

    fn child_of(&self, cell: &ActorCell) -> Option<Child> {
        let is_it =
            |kin: &Kin| kin.handle.as_ref().is_some_and(|h| h.cell.get_id() == cell.get_id());
        self.members.iter().find(|(_, kin)| is_it(kin)).map(|(child, _)| *child)
    }
}

fn has_ended(handle: &Handle) -> bool {
    matches!(handle.cell.get_status(), ActorStatus::Stopping | ActorStatus::Stopped)
}

impl Kin {
    /// Shows the view if there is something new and the last one is settled.
    fn show(&mut self, mailbox: Option<&Mailbox>, view: &View) {
        let Some(handle) = self.handle.as_ref().filter(|_| self.behind && !self.busy) else {
            return;
        };
        if let Some(stamp) = mailbox.and_then(Mailbox::stamp) {
            (handle.tell)(ToChild::Stamp(stamp));
        }
        let touched = Arc::new(std::mem::take(&mut self.touched));
        (handle.tell)(ToChild::View(View { touched, ..view.clone() }));
        self.behind = false;
        self.busy = true;
    }
}

impl State {
    /// Starts a child for the first time; a failure counts like a later one.
    pub(super) async fn start_child(&mut self, child: Child, myself: &RootRef) {
        let Some(factory) = self.family.factories.get(&child).cloned() else { return };
        self.family.members.entry(child).or_default();
        let result = factory(myself.clone()).await.map_err(|error| error.to_string());
        self.on_restarted(child, result, myself);
    }

    pub(super) fn restart_child(&mut self, child: Child, myself: &RootRef) {
        let Some(factory) = self.family.factories.get(&child).cloned() else { return };
        if self.family.stopping {
            return;
        }
        let myself = myself.clone();
        tokio::spawn(async move {
            let result = factory(myself.clone()).await.map_err(|error| error.to_string());
            // Root may have stopped meanwhile; the child ends with it.
            let _ = myself.cast(Msg::Restarted(child, result));
        });
    }

    pub(super) fn on_restarted(
        &mut self,
        child: Child,
        result: Result<Handle, String>,
        myself: &RootRef,
    ) {
        match result {
            Ok(handle) if has_ended(&handle) => {
                // It failed before root knew it, so that its end was not recognised.
                self.child_failed(child, "it ended right after its start", myself);
            }
            Ok(handle) => {
                let kin = self.family.members.entry(child).or_default();
                kin.handle = Some(handle);
                kin.busy = false;
                kin.behind = true;
                kin.touched = Touched::everything();
                self.brief(child);
                if let Some(view) = self.view().filter(|_| child != Child::Raft)
                    && let Some(kin) = self.family.members.get_mut(&child)
                {
                    kin.show(self.family.mailboxes.get(&child), &view);
                }
            }
            Err(reason) => self.child_failed(child, &reason, myself),
        }
    }

    /// What a new child needs beside the view.
    fn brief(&self, child: Child) {
        match child {
            Child::Peer => {
                if let Some(raft) = self.family.raft() {
                    self.family.tell(Child::Peer, ToChild::Consensus(raft));
                }
            }
            Child::Scheduler => {
                self.family.tell(Child::Scheduler, ToChild::Conf(self.conf.clone()));
            }
            Child::Raft | Child::Container | Child::Api => {}
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
        let Some(child) = self.family.child_of(&cell) else { return };
        if let Some(kin) = self.family.members.get_mut(&child) {
            kin.handle = None;
        }
        self.child_failed(child, &reason, myself);
    }

    fn child_failed(&mut self, child: Child, reason: &str, myself: &RootRef) {
        if self.family.stopping {
            return;
        }
        if child == Child::Raft {
            return self.fail(format!("raft failed: {reason}"));
        }
        let now = Millis::from(self.started.elapsed());
        let kin = self.family.members.entry(child).or_default();
        match kin.history.failed(now) {
            Decision::RestartAfter(delay) => {
                self.vitals.restarted(child);
                tracing::warn!(?child, reason, ?delay, "a child failed and is started again");
                myself.send_after(delay, move || Msg::Restart(child));
            }
            Decision::GiveUp => self.fail(format!("{child:?} failed too often: {reason}")),
        }
    }
}

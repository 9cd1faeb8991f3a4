//! The container actor: makes the node's assigned allocations run.
//!
//! Owns the node's containers, their addresses and the published ports, through one actor an
//! allocation. Never decides what should run where, and before the state is known to be current it
//! neither creates nor removes anything.

pub mod alloc;
mod attached;
mod backups;
mod fleet;
pub mod health;
mod housekeeping;
mod image_replication;
mod publish;
mod reports;
mod runtime;
mod volumes;

use crate::actors::mailbox::Stamp;
use crate::actors::platform::Platform;
use crate::actors::platform::containerd::{self, Found, TaskEvent};
use crate::actors::platform::image::ImageError;
use crate::actors::platform::usage::Meter;
use crate::actors::root::{self, Child, ChildMessage, NodeUsage, RootRef, View};
use crate::fsm::Command;
use crate::fsm::backups::Ended;
use crate::fsm::command::Report;
use crate::fsm::loaded::Pin;
use crate::fsm::model::AllocationStatus;
use crate::id::{AllocId, Index, VolumeName};
use crate::units::{Bytes, Timestamp};
use fleet::Fleet;
use image_replication::ImageReplication;
use publish::Publishing;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use reports::{Next, Reports};
use runtime::Runtime;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::task::{AbortHandle, JoinSet};
use volumes::Measured;

/// What the container actor is told and asked.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// What do the allocations use?
    Usage(RpcReplyPort<NodeUsage>),
    /// Something happened to a container.
    Task(TaskEvent),
    /// Ask containerd once more what is there.
    Look,
    /// All containers, as they were after the look with this number had begun.
    Looked(u64, Result<Vec<Found>, containerd::Error>),
    /// An allocation is so now.
    Observed(AllocId, AllocationStatus),
    /// Nothing is left of an allocation.
    Finished(AllocId),
    /// A batch of reports arrived, or not.
    Reported(Result<(), root::ProposeError>),
    /// It is time to send the next batch.
    Send,
    /// The published ports are as they were wanted, as far as they can be.
    Published,
    /// What this node has of loaded images has changed, or something is to be done about them.
    Keep,
    /// A round over loaded images is over: these are missing here.
    Kept(Vec<Pin>),
    /// A loaded image was fetched, so that more nodes have it, or not.
    Fetched(Result<(), ImageError>),
    /// A failed allocation's actor may start again.
    Revive(AllocId),
    /// Read what the containers use.
    Sample,
    /// Make room where logs or images take too much.
    Relieve,
    /// Clear up what is old.
    Sweep,
    /// Containerd answers from now on, or has not for a while.
    Runtime(Runtime),
    /// Work besides an allocation's own has ended.
    Tidied,
    /// Something is done about a volume, or has failed and is to be tried again.
    VolumeTended(VolumeName, bool),
    /// A volume of the provider is unmounted, or is to be tried again.
    LetGo(VolumeName),
    /// A leader that was asked then has confirmed that the state at that index is the newest.
    Confirmed(Instant, Index),
    /// No leader has confirmed this node for too long.
    Cut,
    /// This node's scheduled backup is written, or failed.
    BackupEnded(Ended),
}

impl ChildMessage for Msg {
    fn view(view: View) -> Option<Self> {
        Some(Self::View(view))
    }

    fn stamp(stamp: Stamp) -> Self {
        Self::Stamped(stamp)
    }
}

/// What it starts with.
pub struct Args {
    /// Where proposals go.
    pub root: RootRef,
    /// What containers stand on.
    pub platform: Arc<Platform>,
}

/// The actor.
pub struct Container;

/// What it keeps.
pub struct State {
    root: RootRef,
    platform: Arc<Platform>,
    meter: Arc<Mutex<Meter>>,
    written: Arc<Mutex<BTreeMap<AllocId, Bytes>>>,
    measuring: Option<AbortHandle>,
    view: Option<View>,
    fleet: Fleet,
    reports: Reports,
    /// Number of the last batch in this boot.
    seq: u64,
    publishing: Publishing,
    images: ImageReplication,
    runtime: Runtime,
    tending: volumes::Tending,
    letting: attached::Letting,
    /// The last scheduled backup that was begun here.
    backed_up: Option<Timestamp>,
    measured: Measured,
    /// What runs besides the allocations' own work; ends with the actor.
    work: JoinSet<()>,
}

impl Actor for Container {
    type Msg = Msg;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let meter = Meter::open()?;
        let cgroups = meter.hierarchy().version();
        let mut work = JoinSet::new();
        let mut events = args.platform.containerd.events();
        let listener = myself.clone();
        work.spawn(async move {
            while let Some(event) = events.next().await {
                // The actor has ended, and this task with it.
                let _ = listener.cast(Msg::Task(event));
            }
        });
        let platform = Arc::clone(&args.platform);
        work.spawn(async move { platform.net.look_after().await });
        let mut changes = args.platform.images.changes();
        let listener = myself.clone();
        work.spawn(async move {
            while changes.changed().await.is_ok() {
                let _ = listener.cast(Msg::Keep);
            }
        });
        myself.send_after(crate::limits::USAGE_INTERVAL, || Msg::Sample);
        let (letting, root) = (attached::Letting::default(), args.root.clone());
        let platform = Arc::clone(&args.platform);
        let lease = attached::keep_lease(platform, root, letting.needed(), myself.clone());
        work.spawn(lease);
        let platform = args.platform;
        work.spawn(runtime::watch(platform.containerd.clone(), myself.clone()));
        Ok(State {
            runtime: Runtime::default(),
            fleet: Fleet::new(Arc::clone(&platform), cgroups, myself.clone()),
            publishing: Publishing::new(Arc::clone(&platform), myself.clone()),
            images: ImageReplication::new(&platform, args.root.clone(), myself),
            root: args.root,
            platform,
            meter: Arc::new(Mutex::new(meter)),
            written: Arc::default(),
            measuring: None,
            view: None,
            reports: Reports::default(),
            seq: 0,
            tending: volumes::Tending::default(),
            letting,
            backed_up: None,
            measured: Measured::default(),
            work,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.work.try_join_next().is_some() {}
        match message {
            Msg::View(view) => state.on_view(view, &myself).await?,
            Msg::Stamped(stamp) => stamp.arrived(),
            Msg::Usage(reply) => state.usage(Some(reply)),
            Msg::Task(TaskEvent::Subscribed) => state.look(&myself),
            Msg::Task(event) => state.fleet.on_event(event),
            Msg::Looked(number, result) => {
                match result {
                    Ok(found) => state.fleet.on_look(number, found),
                    Err(error) => {
                        tracing::warn!(%error, "the containers can't be seen");
                        state.fleet.look_failed(number);
                    }
                }
                state.reconcile(&myself).await?;
                if state.fleet.must_look_again() {
                    myself.send_after(crate::limits::CONTAINERD_LOOK_AGAIN, || Msg::Look);
                }
            }
            Msg::Look => state.look(&myself),
            Msg::Observed(id, observed) => state.on_observed(id, observed, &myself),
            Msg::Finished(id) => {
                state.fleet.finished(&id);
                state.rest();
            }
            Msg::Reported(result) => state.on_reported(result, &myself),
            Msg::Send => state.send(&myself),
            Msg::Published => {
                let settled = state.publishing.made();
                state.settle(settled);
                state.rest();
            }
            Msg::Keep => state.images.ask(),
            Msg::Kept(fetch) => state.images.on_kept(fetch),
            Msg::Fetched(held) => state.images.on_fetched(held),
            Msg::Revive(id) => {
                state.fleet.revive(&id);
                state.look(&myself);
            }
            Msg::Sample => {
                state.usage(None);
                state.notice_runtime();
                state.look_for_backup();
                myself.send_after(crate::limits::USAGE_INTERVAL, || Msg::Sample);
            }
            Msg::Relieve => state.relieve(&myself),
            Msg::Sweep => state.sweep(&myself),
            Msg::Runtime(runtime) => state.on_runtime(runtime),
            Msg::Tidied => state.rest(),
            Msg::BackupEnded(how) => state.on_backup_ended(how),
            Msg::LetGo(name) => state.on_let_go(&name, &myself),
            Msg::Confirmed(asked, index) => state.on_confirmed(asked, index),
            Msg::Cut => state.cut(),
            Msg::VolumeTended(name, done) => state.on_volume_tended(&name, done, &myself),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            // What it had to say is still on its way: events overtake messages.
            SupervisionEvent::ActorTerminated(_, _, Some(reason)) if reason == alloc::FINISHED => {
                return Ok(());
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended by itself".to_owned()))
            }
            _ => return Ok(()),
        };
        let Some(id) = state.fleet.id_of(&cell) else { return Ok(()) };
        match state.fleet.failed(&id) {
            crate::node::supervise::Decision::RestartAfter(delay) => {
                tracing::warn!(alloc = %id, %reason, ?delay, "its actor failed and starts again");
                myself.send_after(delay, move || Msg::Revive(id));
                Ok(())
            }
            crate::node::supervise::Decision::GiveUp => {
                Err(format!("the actor of {id} failed too often: {reason}").into())
            }
        }
    }
}

impl State {
    async fn on_view(
        &mut self,
        view: View,
        myself: &ActorRef<Msg>,
    ) -> Result<(), ActorProcessingErr> {
        let was_current = self.view.as_ref().is_some_and(|view| view.current);
        if view.current && !was_current {
            // Not now: the first seconds belong to what must run.
            myself.send_after(crate::limits::SWEEP_FIRST, || Msg::Relieve);
            myself.send_after(crate::limits::SWEEP_FIRST, || Msg::Sweep);
        }
        if let Some(node) = view.state.nodes.get(&view.node) {
            self.platform.images.use_keyring(&node.keyring);
        }
        self.platform.images.use_logins(&view.state.logins);
        self.platform.secrets.use_secrets(&view.state.secrets);
        self.platform.volumes.use_volumes(view.node, &view.state.volumes, &view.state.nodes);
        self.platform.images.use_view(&view);
        if view.current {
            self.platform.images.use_specs(&view.state.specs);
        }
        let was_let_in =
            self.view.as_ref().is_some_and(|old| old.is_let_in() && old.boot == view.boot);
        let is_back = !was_let_in && view.is_let_in();
        self.view = Some(view);
        if is_back {
            // What was said meanwhile counted for nothing.
            for (id, observed) in self.fleet.all_observed() {
                self.on_observed(id, observed, myself);
            }
        }
        self.reconcile(myself).await?;
        if let Some(view) = &self.view {
            self.images.show(view);
            let settled = self.publishing.want(view);
            self.settle(settled);
        }
        self.tend_volumes(myself);
        self.look_at_lease();
        self.tend_attached(myself);
        self.write_backup(myself);
        self.send(myself);
        self.rest();
        Ok(())
    }

    fn settle(&self, index: Option<Index>) {
        if let Some(index) = index {
            // Root outlives its children.
            let _ = self.root.cast(root::Msg::Settled { child: Child::Container, index });
        }
    }

    /// Brings the allocations' actors in line with the view, once it is known what is there.
    async fn reconcile(&mut self, myself: &ActorRef<Msg>) -> Result<(), ActorProcessingErr> {
        let Some(view) = self.view.clone() else { return Ok(()) };
        let orphans = self.fleet.reconcile(&view, myself).await?;
        for orphan in orphans {
            let platform = Arc::clone(&self.platform);
            let myself = myself.clone();
            self.work.spawn(async move {
                housekeeping::remove(&platform, orphan).await;
                // The actor has ended, and this task with it.
                let _ = myself.cast(Msg::Tidied);
            });
        }
        Ok(())
    }

    /// Asks containerd what is there.
    fn look(&mut self, myself: &ActorRef<Msg>) {
        let number = self.fleet.begin_look();
        let containerd = self.platform.containerd.clone();
        let myself = myself.clone();
        self.work.spawn(async move {
            let found = containerd.list().await;
            let _ = myself.cast(Msg::Looked(number, found));
        });
    }

    fn on_observed(&mut self, id: AllocId, observed: AllocationStatus, myself: &ActorRef<Msg>) {
        self.fleet.observed(&id, &observed);
        let known = self.reports.latest(&id).or_else(|| {
            let view = self.view.as_ref()?;
            view.state.allocations.get(&id).map(|allocation| &allocation.observed)
        });
        if known == Some(&observed) {
            return;
        }
        self.reports.add(id, observed);
        self.send(myself);
    }

    /// Sends the next batch of reports, if it is time and this life of the node is registered.
    fn send(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = &self.view else { return };
        if view.state.nodes.get(&view.node).is_none_or(|node| node.boot != view.boot) {
            return;
        }
        let reported = view.state.reports.get(&view.node).copied().unwrap_or(0);
        let allocations = match self.reports.next(Instant::now()) {
            Next::Rest => return,
            Next::Wait(wait) => {
                myself.send_after(wait, || Msg::Send);
                return;
            }
            Next::Send(batch) => batch,
        };
        self.seq = self.seq.max(reported) + 1;
        let report = Report { node: view.node, boot: view.boot, seq: self.seq, allocations };
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let proposal = root::Proposal::new(&Command::Report(report), None, sender.into());
        // Root outlives its children.
        let _ = self.root.cast(root::Msg::Propose(proposal));
        let myself = myself.clone();
        self.work.spawn(async move {
            let result = receiver.await.unwrap_or(Err(root::ProposeError::Stopping));
            let _ = myself.cast(Msg::Reported(result.map(drop)));
        });
    }

    fn on_reported(&mut self, result: Result<(), root::ProposeError>, myself: &ActorRef<Msg>) {
        match result {
            Ok(()) => self.reports.arrived(),
            Err(error) => {
                tracing::debug!(%error, "a report did not arrive");
                self.reports.failed(Instant::now());
            }
        }
        self.send(myself);
    }
}

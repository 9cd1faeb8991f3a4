//! The provider actor: on the leader, lets the provider make, attach, detach and delete volumes;
//! on every node, finds out which of the provider's machines it is.
//!
//! Owns which of that is under way and when it is tried again. Never decides what is next: that is
//! `scheduler::provided`, and it remembers nothing that the next leader would miss.

pub mod carry_out;

use crate::actors::mailbox::Stamp;
use crate::actors::platform::block_storage::{BlockStorage, Http, METADATA, StorageError};
use crate::actors::root::{self, Child, ChildMessage, Proposal, RootRef, View};
use crate::fsm::Command;
use crate::fsm::volumes::{DROPLET, ProvidedStep, REGION, TOKEN_PURPOSE, Volume, VolumeChange};
use crate::id::{NodeId, VolumeName};
use crate::limits;
use crate::scheduler::provided::compare::is_settled;
use crate::scheduler::provided::{Seen, Work, next};
use crate::secret::Keyring;
use crate::units::Timestamp;
use carry_out::carry_out;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the actor is told.
pub enum Msg {
    /// The newest state.
    View(View),
    /// How long does a message wait here?
    Stamped(Stamp),
    /// It is time to look whether something is due.
    Look,
    /// A volume's step is done and told, or has failed.
    Done(VolumeName, Result<(), StorageError>),
    /// The node has asked which machine it is.
    Asked,
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
    /// What opens the provider's token.
    pub keyring: Keyring,
}

/// The actor.
pub struct Provider;

/// What it keeps.
pub struct State {
    root: RootRef,
    keyring: Keyring,
    http: Http,
    view: Option<View>,
    /// The same, for what is under way.
    views: watch::Sender<Option<View>>,
    busy: BTreeMap<VolumeName, Turn>,
    /// Since when nothing has used a volume, as far as this leader has seen.
    unused: BTreeMap<VolumeName, Instant>,
    /// Since when nodes have been no members, as far as this leader has seen.
    gone: BTreeMap<NodeId, Instant>,
    /// When this leader compares a volume with what the provider says of it.
    compares: BTreeMap<VolumeName, Instant>,
    /// A look is on its way.
    looks: bool,
    asks: bool,
    /// It has been said that the machine is not known.
    told: bool,
    /// What is under way at the provider; ends when another node leads.
    turns: JoinSet<()>,
    /// The question which machine this is.
    asking: JoinSet<()>,
}

/// Whether a volume can have a turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// It has one; so often it failed before.
    Now(u32),
    /// Not before that; so often it failed.
    After(Instant, u32),
}

impl Actor for Provider {
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
            keyring: args.keyring,
            http: Http::new()?,
            view: None,
            views: watch::channel(None).0,
            busy: BTreeMap::new(),
            unused: BTreeMap::new(),
            gone: BTreeMap::new(),
            compares: BTreeMap::new(),
            looks: false,
            asks: false,
            told: false,
            turns: JoinSet::new(),
            asking: JoinSet::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Msg>,
        message: Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        while state.turns.try_join_next().is_some() {}
        while state.asking.try_join_next().is_some() {}
        match message {
            Msg::View(view) => {
                let settled = root::Msg::Settled { child: Child::Provider, index: view.index };
                state.views.send_replace(Some(view.clone()));
                state.view = Some(view);
                // Root outlives its children.
                let _ = state.root.cast(settled);
                state.ask_who(&myself);
            }
            Msg::Stamped(stamp) => {
                stamp.arrived();
                return Ok(());
            }
            Msg::Look => state.looks = false,
            Msg::Done(name, result) => state.on_done(name, result),
            Msg::Asked => {
                state.asks = false;
                state.ask_who(&myself);
                return Ok(());
            }
        }
        state.look(&myself);
        Ok(())
    }
}

impl State {
    /// Begins what is due, where this node leads.
    fn look(&mut self, myself: &ActorRef<Msg>) {
        let leads = |view: &View| view.current && view.leader == Some(view.node);
        let Some(view) = self.view.clone().filter(leads) else {
            // The next leader counts anew, and so does this one if it leads again.
            (self.busy, self.unused, self.gone, self.compares) = Default::default();
            self.turns.abort_all();
            return;
        };
        let provided = view.state.volumes.iter().filter(|(_, one)| one.provided.is_some());
        let provided: Vec<_> = provided.map(|(n, one)| (n.clone(), Arc::clone(one))).collect();
        self.busy.retain(|name, _| view.state.volumes.contains_key(name));
        self.compares.retain(|name, _| view.state.volumes.contains_key(name));
        if provided.is_empty() {
            return;
        }
        let (clock, now) = (Instant::now(), time(&view));
        let mut is_asked = false;
        for (name, volume) in provided {
            let seen = self.seen(&view, &name, &volume);
            let failures = match self.busy.get(&name) {
                Some(Turn::Now(_)) => continue,
                Some(Turn::After(at, _)) if *at > clock => continue,
                Some(Turn::After(_, failures)) => *failures,
                None => 0,
            };
            let mut work = next(&view.state, &volume, now, seen);
            // One at a time: the provider counts what it is asked.
            if work.is_none() && !is_asked && self.is_to_compare(&name, &volume, clock) {
                is_asked = true;
                self.compares.insert(name.clone(), clock + limits::PROVIDER_COMPARED);
                work = Some(Work::Compare);
            }
            if let Some(work) = work {
                self.begin((name, volume), work, failures, (&view, myself));
            }
        }
        if !std::mem::replace(&mut self.looks, true) {
            myself.send_after(limits::PROVIDER_TICK, || Msg::Look);
        }
    }

    /// What this leader has seen of a volume beside the state.
    fn seen(&mut self, view: &View, name: &VolumeName, volume: &Volume) -> Seen {
        let clock = Instant::now();
        let lasts = |since: &Instant, bound| clock.duration_since(*since) >= bound;
        let is_unused = if view.state.has_writer(volume) {
            self.unused.remove(name);
            false
        } else {
            lasts(self.unused.entry(name.clone()).or_insert(clock), limits::VOLUME_UNUSED)
        };
        let attachment = volume.provided.as_ref().and_then(|one| one.attachment.as_ref());
        let absent = attachment.map(|at| at.node).filter(|id| !view.state.nodes.contains_key(id));
        let is_gone = absent.is_some_and(|node| {
            lasts(self.gone.entry(node).or_insert(clock), limits::VOLUME_LEASE_OVER)
        });
        Seen { is_unused, is_gone }
    }

    fn is_to_compare(&self, name: &VolumeName, volume: &Volume, clock: Instant) -> bool {
        self.compares.get(name).is_none_or(|at| *at <= clock) && is_settled(volume)
    }

    fn begin(
        &mut self,
        (name, volume): (VolumeName, Arc<Volume>),
        work: Work,
        failures: u32,
        (view, myself): (&View, &ActorRef<Msg>),
    ) {
        let Some(provided) = &volume.provided else { return };
        self.busy.insert(name.clone(), Turn::Now(failures));
        let storage = self.storage(view, &provided.region);
        let (root, myself, view) = (self.root.clone(), myself.clone(), view.clone());
        let views = self.views.subscribe();
        self.turns.spawn(async move {
            let known = volume.provided.as_ref().and_then(|one| one.error.clone());
            let compares = work == Work::Compare;
            let one = (&name, &*volume);
            let done = match (work, storage) {
                (Work::Tell(step), _) => Ok(Some(step)),
                (_, Err(error)) => Err(error),
                (Work::Compare, Ok(storage)) => {
                    let asked = carry_out(&storage, &view.state, one, Work::Compare).await;
                    // It counts if the volume still stands as it did, and is news.
                    let counts = asked != Ok(ProvidedStep::Hindered { why: known.clone() })
                        && confirmed(&root, views, one).await;
                    asked.map(|step| counts.then_some(step))
                }
                (work, Ok(storage)) => match confirmed(&root, views, one).await {
                    true => carry_out(&storage, &view.state, one, work).await.map(Some),
                    false => Ok(None),
                },
            };
            let (step, result) = match done {
                Ok(step) => (step, Ok(())),
                // An answer that didn't come is no difference.
                Err(error) if compares && error.is_passing() => (None, Err(error)),
                Err(error) => {
                    tracing::warn!(volume = %name, %error, "the provider's volume has to wait");
                    (hindered(&error, known, failures), Err(error))
                }
            };
            if let Some(step) = step {
                propose(&root, VolumeChange::Provided { name: name.clone(), step }).await;
            }
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Done(name, result));
        });
    }

    /// The provider's storage, as the state says.
    fn storage(&self, view: &View, region: &str) -> Result<BlockStorage, StorageError> {
        let none = || StorageError::Odd("the cluster has no provider".to_owned());
        let provider = view.state.provider.as_ref().ok_or_else(none)?;
        let opened = self.keyring.open(TOKEN_PURPOSE, &provider.token);
        let token = opened.map_err(|error| {
            StorageError::Odd(format!("the provider's token can't be opened: {error}"))
        })?;
        Ok(BlockStorage::new(self.http.clone(), &provider.api, token, region))
    }

    fn on_done(&mut self, name: VolumeName, result: Result<(), StorageError>) {
        let failures = match self.busy.get(&name) {
            Some(Turn::Now(failures) | Turn::After(_, failures)) => *failures,
            None => return,
        };
        let Err(error) = result else {
            // What it said shows in the next view: soon enough to look again.
            self.busy.insert(name, Turn::After(Instant::now() + limits::PROPOSE_AGAIN, 0));
            return;
        };
        let [first, longest] = limits::PROVIDER_AGAIN;
        let pause = first.saturating_mul(1 << failures.min(5)).min(longest);
        let pause = error.wait().map_or(pause, |wait| wait.max(pause));
        if let Some(at) = self.compares.get_mut(&name) {
            *at = (*at).min(Instant::now() + longest);
        }
        self.busy.insert(name, Turn::After(Instant::now() + pause, failures + 1));
    }

    /// Finds out which machine this is, if the state doesn't say.
    fn ask_who(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.as_ref().filter(|view| view.current && view.is_let_in()) else {
            return;
        };
        let node = view.state.nodes.get(&view.node);
        let Some(node) = node.filter(|_| view.state.provider.is_some()) else { return };
        let facts = [(DROPLET, "id"), (REGION, "region")];
        let unknown = facts.iter().filter(|(label, _)| !node.labels.contains_key(*label));
        let unknown: Vec<_> = unknown.copied().collect();
        if unknown.is_empty() {
            self.told = false;
            return;
        }
        if std::mem::replace(&mut self.asks, true) {
            return;
        }
        let is_news = !std::mem::replace(&mut self.told, true);
        let (http, root, me) = (self.http.clone(), self.root.clone(), view.node);
        let myself = myself.clone();
        self.asking.spawn(async move {
            let (mut labels, mut failed) = (BTreeMap::new(), None);
            for (label, fact) in unknown {
                match http.own(METADATA, fact).await {
                    Ok(value) => drop(labels.insert(label.to_owned(), Some(value))),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed.filter(|_| is_news) {
                tracing::warn!(
                    %error,
                    "this node isn't known to be a machine of the provider: set its labels \
                     {DROPLET} and {REGION}, or no volume is attached to it"
                );
            }
            if !labels.is_empty() {
                tell(&root, &Command::Label { node: me, labels }).await;
            }
            tokio::time::sleep(limits::PROVIDER_WHO).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::Asked);
        });
    }
}

/// Whether this node still leads, and the volume still stands as it did: a leader that was, or that
/// stood still, must not take from a node what it was given since.
async fn confirmed(
    root: &RootRef,
    mut views: watch::Receiver<Option<View>>,
    (name, volume): (&VolumeName, &Volume),
) -> bool {
    let answer = root.call(root::Msg::ReadIndex, Some(limits::READ_CONFIRM)).await;
    let Ok(CallResult::Success(Some(index))) = answer else { return false };
    let seen = views.wait_for(|view| view.as_ref().is_some_and(|view| view.index >= index));
    let Ok(Ok(view)) = tokio::time::timeout(limits::READ_CONFIRM, seen).await else { return false };
    view.as_ref().is_some_and(|view| {
        let known = view.state.volumes.get(name);
        let is_same = known.is_some_and(|known| known.provided == volume.provided);
        is_same && view.leader == Some(view.node)
    })
}

/// What people hear of a failure: at once if only they can change it, else if it lasts.
fn hindered(error: &StorageError, known: Option<String>, failures: u32) -> Option<ProvidedStep> {
    let why = Some(error.to_string());
    let is_news = known != why && (!error.is_passing() || failures > 2);
    is_news.then_some(ProvidedStep::Hindered { why })
}

async fn propose(root: &RootRef, change: VolumeChange) {
    tell(root, &Command::Volumes(change)).await;
}

/// Proposes and waits for the outcome; what did not get through is found again at the next look.
async fn tell(root: &RootRef, command: &Command) {
    let (sender, told) = tokio::sync::oneshot::channel();
    // Root outlives its children.
    let _ = root.cast(root::Msg::Propose(Proposal::new(command, None, sender.into())));
    let _ = told.await;
}

/// The cluster's time, as far as a leader knows it.
fn time(view: &View) -> Timestamp {
    match view.time {
        Some((time, at)) => view.state.time.max(time.plus(at.elapsed().into())),
        None => view.state.time,
    }
}

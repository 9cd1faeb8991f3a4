//! The provider's volumes on this node: let go when the state gives them to another, or when no
//! leader has confirmed this node for too long.
//!
//! Owns the end of what still writes them, and the lease. Never gives a volume to anybody.

use super::volumes::tell;
use super::{Msg, State};
use crate::actors::platform::Platform;
use crate::actors::platform::containerd::TaskState;
use crate::actors::root::{self, RootRef, View};
use crate::fsm::volumes::{ProvidedStep, VolumeChange};
use crate::id::{Index, VolumeName};
use crate::limits;
use crate::node::provided::{Mount, held, needs_lease, released, stale};
use ractor::ActorRef;
use ractor::rpc::CallResult;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What is under way about them.
#[derive(Debug, Default)]
pub(super) struct Letting {
    /// By volume: the attachment that is let go.
    under_way: BTreeMap<VolumeName, u64>,
    /// This node has one, or is about to.
    needed: watch::Sender<bool>,
    /// What an earlier process left was looked for.
    is_looked: bool,
    /// All of them are let go, for the lease is over.
    cutting: Option<AbortHandle>,
    /// When a leader was asked last, and up to where the state must be seen before that counts.
    confirmed: Option<(Instant, Index)>,
}

/// Has the node confirmed by a leader as long as it has a volume of the provider, for ever.
pub(super) async fn keep_lease(
    platform: Arc<Platform>,
    root: RootRef,
    mut needed: watch::Receiver<bool>,
    listener: ActorRef<Msg>,
) {
    let attached = platform.volumes.attached().clone();
    let begun = Instant::now();
    // Its sender goes with the actor, as this task does.
    while needed.wait_for(|needed| *needed).await.is_ok() {
        let asked = Instant::now();
        let answer = root.call(root::Msg::ReadIndex, Some(limits::READ_CONFIRM)).await;
        if let Ok(CallResult::Success(Some(index))) = answer {
            // The actor has ended, and this task with it.
            let _ = listener.cast(Msg::Confirmed(asked, index));
        }
        // A new process has the time of an old one: nobody can have confirmed it yet.
        if begun.elapsed() >= limits::VOLUME_LEASE && !attached.holds_lease() {
            // The actor has ended, and this task with it.
            let _ = listener.cast(Msg::Cut);
        }
        tokio::time::sleep(limits::VOLUME_CONFIRM).await;
    }
}

impl Letting {
    /// Whether this node has to be confirmed by a leader.
    pub(super) fn needed(&self) -> watch::Receiver<bool> {
        self.needed.subscribe()
    }
}

impl State {
    /// A leader has answered: all up to there was committed since it was asked. What that says of
    /// this node counts: one that is taken for lost has no lease, whoever answers it.
    pub(super) fn on_confirmed(&mut self, asked: Instant, index: Index) {
        self.letting.confirmed = Some((asked, index));
        self.look_at_lease();
    }

    /// Takes the lease if the state that was confirmed has been seen, and knows this node.
    pub(super) fn look_at_lease(&mut self) {
        let (Some((asked, index)), Some(view)) = (self.letting.confirmed, &self.view) else {
            return;
        };
        if view.index >= index {
            self.letting.confirmed = None;
            if view.is_let_in() && !view.removed {
                self.platform.volumes.attached().confirm(asked);
            }
        }
    }

    /// Lets go what the state says is another's, and lets grow what is larger.
    pub(super) fn tend_attached(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.clone() else { return };
        let volumes = &view.state.volumes;
        let was_needed = *self.letting.needed.borrow();
        let has_any = volumes.values().any(|volume| volume.provided.is_some());
        if self.letting.is_looked && !was_needed && !has_any {
            return;
        }
        let attached = self.platform.volumes.attached().clone();
        let mounts = attached.mounts().unwrap_or_else(|error| {
            tracing::warn!(%error, "the mounts of this node can't be read");
            Vec::new()
        });
        let is_needed = !mounts.is_empty() || needs_lease(volumes, view.node);
        self.letting.needed.send_replace(is_needed);
        if !view.current && !view.removed {
            return;
        }
        self.letting.is_looked = true;
        for (name, number) in &mounts {
            let held = held(volumes, view.node, name);
            if let Some((provided, _)) =
                held.filter(|(one, _)| !attached.is_grown(name, *number, one))
            {
                let (attached, name, number) = (attached.clone(), name.clone(), *number);
                let provided = provided.clone();
                self.work.spawn_blocking(move || {
                    if let Err(error) = attached.grow(&name, &provided, number) {
                        tracing::warn!(volume = %name, %error, "it grows with its next start");
                    }
                });
            }
        }
        let mut due: BTreeSet<Mount> = stale(volumes, view.node, &mounts).into_iter().collect();
        due.extend(released(volumes, view.node));
        for (name, number) in due {
            self.let_go((name, number), &view, myself);
        }
    }

    fn let_go(&mut self, mount: Mount, view: &View, myself: &ActorRef<Msg>) {
        if self.letting.under_way.contains_key(&mount.0) {
            return;
        }
        self.letting.under_way.insert(mount.0.clone(), mount.1);
        let (platform, root) = (Arc::clone(&self.platform), self.root.clone());
        let (view, myself) = (view.clone(), myself.clone());
        self.work.spawn(async move {
            let closed = close(&platform, &view, &mount).await;
            if let Err(error) = &closed {
                tracing::warn!(volume = %mount.0, %error, "it isn't unmounted yet");
            }
            let (name, number) = mount;
            let is_due = released(&view.state.volumes, view.node).contains(&(name.clone(), number));
            if is_due {
                let node = view.node;
                let step = match closed {
                    Ok(()) => ProvidedStep::Unmounted { number, node },
                    Err(error) => {
                        ProvidedStep::Hindered { why: Some(format!("it isn't unmounted: {error}")) }
                    }
                };
                tell(&root, VolumeChange::Provided { name: name.clone(), step }).await;
            }
            // The next look is at what the state says then.
            tokio::time::sleep(limits::VOLUME_CUT).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::LetGo(name));
        });
    }

    /// A volume was let go, or couldn't be.
    pub(super) fn on_let_go(&mut self, name: &VolumeName, myself: &ActorRef<Msg>) {
        self.letting.under_way.remove(name);
        self.tend_attached(myself);
    }

    /// No leader has confirmed this node for too long: what writes the provider's volumes ends, and
    /// they are unmounted. What is still wanted here starts again by itself.
    pub(super) fn cut(&mut self) {
        if self.letting.cutting.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let Some(view) = self.view.clone() else { return };
        let platform = Arc::clone(&self.platform);
        let attached = platform.volumes.attached().clone();
        if attached.mounts().is_ok_and(|mounts| mounts.is_empty()) {
            return;
        }
        tracing::error!(
            "no leader has confirmed this node for {}s: what writes volumes of the provider is \
             ended, since they may be given to another node",
            limits::VOLUME_LEASE.as_secs()
        );
        self.letting.cutting = Some(self.work.spawn(async move {
            let mut left: BTreeSet<Mount> = BTreeSet::new();
            while !attached.holds_lease() {
                // One that is unmounted here may still be in a container.
                left.extend(attached.mounts().unwrap_or_default());
                for mount in std::mem::take(&mut left) {
                    end_writers(&platform, &view, &mount.0).await;
                    if let Err(error) = close_once(&platform, &view, &mount).await {
                        tracing::debug!(volume = %mount.0, %error, "it isn't unmounted yet");
                        left.insert(mount);
                    }
                }
                if left.is_empty() {
                    return;
                }
                tokio::time::sleep(limits::VOLUME_CUT).await;
            }
        }));
    }
}

/// Ends what writes a volume and unmounts it, in several tries.
async fn close(platform: &Platform, view: &View, mount: &Mount) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..limits::VOLUME_CLOSE_TRIES {
        last = close_once(platform, view, mount).await;
        if last.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(limits::VOLUME_CUT).await;
    }
    last
}

async fn close_once(platform: &Platform, view: &View, mount: &Mount) -> io::Result<()> {
    let (attached, of) = (platform.volumes.attached().clone(), mount.clone());
    let volume = view.state.volumes.get(&mount.0);
    let provided = volume.and_then(|volume| volume.provided.clone());
    let unmount = move || attached.close(&of, provided.as_ref());
    // As a rule what wrote it has ended, and nobody has to be looked for.
    let closed = blocking(unmount.clone()).await;
    if closed.is_ok() {
        return closed;
    }
    end_writers(platform, view, &mount.0).await;
    blocking(unmount).await
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

/// Kills every container of this node that has a volume: by the state it is not to have it.
async fn end_writers(platform: &Platform, view: &View, name: &VolumeName) {
    let found = match platform.containerd.list().await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "the containers with the volume can't be ended");
            return;
        }
    };
    let has_it = |container: &crate::id::ContainerId| {
        let (id, _) = container.parts()?;
        let allocation = view.state.allocations.get(&id)?;
        let spec = view.state.spec(&allocation.spec)?;
        spec.spec.run().persistent().any(|(one, _)| one == *name).then_some(())
    };
    for container in found {
        let runs = !matches!(container.task, TaskState::Stopped(_) | TaskState::None);
        if !runs || has_it(&container.id).is_none() {
            continue;
        }
        let id = &container.id;
        tracing::warn!(container = %id, volume = %name, "ended: its volume isn't its own");
        if let Err(error) = platform.containerd.kill(&container.id, KILL).await {
            tracing::warn!(container = %container.id, %error, "it can't be ended");
        }
    }
}

/// SIGKILL.
const KILL: u32 = 9;

//! Volumes that change: given up, moved here or away, found again. What the state says is done, and
//! the cluster is told.
//!
//! Owns which of that is under way. Never decides that a volume is given up or moved.

use super::{Msg, State};
use crate::actors::platform::Platform;
use crate::actors::platform::volumes::VolumeStore;
use crate::actors::root::{self, Proposal, RootRef, View};
use crate::fsm::Command;
use crate::fsm::volumes::{Volume, VolumeChange};
use crate::id::{NodeId, VolumeName};
use crate::limits;
use crate::units::Bytes;
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// What is under way, also what waits for its next try, with the number of tries.
#[derive(Debug, Default)]
pub(super) struct Tending {
    under_way: BTreeMap<VolumeName, Work>,
    failed: BTreeMap<VolumeName, u32>,
    is_swept: bool,
}

/// What is done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Its data goes for good.
    Remove,
    /// Its data was moved away: the copy here goes.
    Leave,
    /// Its data is fetched from a node, as the copy of that number.
    Fetch(NodeId, u64),
    /// It has no node, and its data is here.
    Claim,
}

/// What volumes take, measured now and then when somebody asks.
#[derive(Clone, Default)]
pub(super) struct Measured(Arc<Mutex<Option<Figures>>>);

/// When volumes were measured, and what each takes.
type Figures = (Instant, BTreeMap<VolumeName, Bytes>);

impl Measured {
    /// The last figures, or new ones if they are old. Blocks while it measures.
    pub(super) fn of(&self, store: &VolumeStore) -> BTreeMap<VolumeName, Bytes> {
        let mut last = self.0.lock();
        match &*last {
            Some((at, figures))
                if at.elapsed() < limits::VOLUME_MEASURE && store.is_of(figures) =>
            {
                figures.clone()
            }
            _ => {
                let figures = store.used();
                *last = Some((Instant::now(), figures.clone()));
                figures
            }
        }
    }
}

/// What is to be done on this node about a volume.
fn work(view: &View, volume: &Volume, is_here: impl Fn() -> bool) -> Option<Work> {
    let (me, state) = (view.node, &view.state);
    if volume.provided.is_some() {
        return None;
    }
    if volume.deleting {
        return (volume.node == me).then_some(Work::Remove);
    }
    if volume.left == Some(me) {
        return Some(Work::Leave);
    }
    if let Some(moving) = volume.moving.filter(|moving| moving.to == me) {
        return (!state.is_written(volume)).then_some(Work::Fetch(volume.node, moving.copy));
    }
    let is_orphan = !state.nodes.contains_key(&volume.node);
    if is_orphan && is_here() {
        return Some(Work::Claim);
    }
    None
}

impl State {
    /// Does what is to be done about volumes on this node.
    pub(super) fn tend_volumes(&mut self, myself: &ActorRef<Msg>) {
        let Some(view) = self.view.clone().filter(|view| view.current) else { return };
        let store = self.platform.volumes.clone();
        if !std::mem::replace(&mut self.tending.is_swept, true) {
            let (store, view) = (store.clone(), view.clone());
            // Only a panic is lost.
            self.work.spawn(async move {
                drop(tokio::task::spawn_blocking(move || sweep(&store, &view)).await);
            });
        }
        for (name, volume) in &view.state.volumes {
            let Some(work) = work(&view, volume, || store.find(name).is_some()) else { continue };
            self.tend(name, work, &view, myself);
        }
    }

    fn tend(&mut self, name: &VolumeName, work: Work, view: &View, myself: &ActorRef<Msg>) {
        if self.tending.under_way.contains_key(name) {
            return;
        }
        self.tending.under_way.insert(name.clone(), work);
        let tries = self.tending.failed.get(name).copied().unwrap_or(0);
        let (platform, root) = (Arc::clone(&self.platform), self.root.clone());
        let (myself, view, name) = (myself.clone(), view.clone(), name.clone());
        self.work.spawn(async move {
            let done = carry_out(&platform, &view, &name, work).await;
            let (is_done, change) = match done {
                Ok(change) => (true, change),
                Err(error) => {
                    tracing::warn!(volume = %name, %error, ?work, "a volume is not dealt with");
                    let is_over = is_final(&error) || tries + 1 >= limits::VOLUME_TRIES;
                    let is_over = is_over && matches!(work, Work::Fetch(..));
                    (is_over, stay(&name, view.node, work, &error).filter(|_| is_over))
                }
            };
            if let Some(change) = change {
                tell(&root, change).await;
            }
            let pause = if is_done { limits::VOLUME_DONE } else { limits::VOLUME_AGAIN };
            tokio::time::sleep(pause).await;
            // The actor has ended, and this task with it.
            let _ = myself.cast(Msg::VolumeTended(name, is_done));
        });
    }

    /// Something is done about a volume, or has failed and is tried again.
    pub(super) fn on_volume_tended(
        &mut self,
        name: &VolumeName,
        is_done: bool,
        myself: &ActorRef<Msg>,
    ) {
        self.tending.under_way.remove(name);
        match is_done {
            true => drop(self.tending.failed.remove(name)),
            false => *self.tending.failed.entry(name.clone()).or_default() += 1,
        }
        self.tend_volumes(myself);
    }
}

/// Tells the cluster; what does not get through is told again.
pub(super) async fn tell(root: &RootRef, change: VolumeChange) {
    let (sender, told) = tokio::sync::oneshot::channel();
    let command = Command::Volumes(change);
    // Root outlives its children.
    let _ = root.cast(root::Msg::Propose(Proposal::new(&command, None, sender.into())));
    let _ = told.await;
}

/// Removes copies that an interrupted move has left.
fn sweep(store: &VolumeStore, view: &View) {
    for name in store.copied() {
        let Some(volume) = view.state.volumes.get(&name) else { continue };
        let is_coming = volume.moving.is_some_and(|moving| moving.to == view.node);
        // Where it has no node, any copy may be the last one.
        if is_coming || !view.state.nodes.contains_key(&volume.node) {
            continue;
        }
        let ours = store.find(&name).filter(|_| volume.node == view.node);
        if let Err(error) = store.drop_copies(&name, &ours.unwrap_or_default()) {
            tracing::warn!(volume = %name, %error, "an old copy is not removed");
        }
    }
}

/// It will not be otherwise the next time.
fn is_final(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
}

fn stay(name: &VolumeName, node: NodeId, work: Work, why: &io::Error) -> Option<VolumeChange> {
    let Work::Fetch(_, copy) = work else { return None };
    Some(VolumeChange::Stay { name: name.clone(), node, copy, why: why.to_string() })
}

/// Does it; what the cluster is told then.
async fn carry_out(
    platform: &Platform,
    view: &View,
    name: &VolumeName,
    work: Work,
) -> io::Result<Option<VolumeChange>> {
    let store = platform.volumes.clone();
    let (one, node) = (name.clone(), view.node);
    let stream = match work {
        // It is here since the last try, and the cluster wasn't told.
        Work::Fetch(_, copy) if store.has_copy(name, copy) => None,
        Work::Fetch(from, _) => {
            let lent = platform.images.volume(view, from, name).await;
            Some(lent.map_err(|error| io::Error::other(error.reason))?)
        }
        _ => None,
    };
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || match (work, stream) {
        (Work::Remove, _) => {
            store.remove(&one)?;
            Ok(Some(VolumeChange::Gone { name: one, node }))
        }
        (Work::Leave, _) => {
            store.remove(&one)?;
            Ok(Some(VolumeChange::Left { name: one, node }))
        }
        (Work::Fetch(_, copy), stream) => {
            if let Some(stream) = stream {
                let from = SyncIoBridge::new_with_handle(StreamReader::new(stream), runtime);
                store.receive(&one, copy, from)?;
            }
            Ok(Some(VolumeChange::Moved { name: one, node, copy }))
        }
        (Work::Claim, _) => Ok(Some(VolumeChange::Found { name: one, node })),
    });
    done.await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::fixture;
    use crate::fsm::volumes::{Moving, Provided};
    use crate::fsm::{self, Touched};
    use crate::id::BootId;
    use crate::units::Timestamp;

    fn view(node: u64) -> View {
        let mut state = fsm::State::default();
        let init = Command::Init(fixture::init());
        let applied = fsm::apply_next(&mut state, Timestamp(1), init);
        assert!(applied.outcome.is_ok());
        let first = state.nodes[&NodeId(1)].clone();
        let second = crate::fsm::model::Node { id: NodeId(2), ..(*first).clone() };
        state.nodes.insert(NodeId(2), Arc::new(second));
        View {
            index: state.index,
            state: Arc::new(state),
            touched: Arc::new(Touched::everything()),
            current: true,
            leader: None,
            node: NodeId(node),
            boot: BootId(1),
            removed: false,
            time: None,
        }
    }

    fn volume(node: u64, moving: Option<u64>, left: Option<u64>) -> Volume {
        let moving = moving.map(|to| Moving { to: NodeId(to), copy: 9 });
        Volume { moving, left: left.map(NodeId), ..fixture::volume(NodeId(node)) }
    }

    #[test]
    fn each_node_does_its_part() {
        let asked = |me, volume: &Volume, here: bool| work(&view(me), volume, || here);
        assert_eq!(asked(1, &volume(1, None, None), true), None);
        assert_eq!(asked(1, &volume(1, Some(2), None), true), None);
        let fetch = Some(Work::Fetch(NodeId(1), 9));
        assert_eq!(asked(2, &volume(1, Some(2), None), false), fetch);
        assert_eq!(asked(1, &volume(2, None, Some(1)), true), Some(Work::Leave));
        assert_eq!(asked(2, &volume(2, None, Some(1)), true), None);
        assert_eq!(asked(2, &volume(7, None, None), true), Some(Work::Claim));
        assert_eq!(asked(2, &volume(7, None, None), false), None);
        let given_up = Volume { deleting: true, ..volume(1, Some(2), None) };
        assert_eq!(asked(1, &given_up, true), Some(Work::Remove));
        assert_eq!(asked(2, &given_up, true), None);
        let (name, region) = ("mill-c-data".to_owned(), "x".to_owned());
        let (id, attachment, error, made) = (None, None, None, Bytes(0));
        let provided = Provided { name, region, id, made, attachment, error };
        let provided = Volume { provided: Some(provided), ..given_up };
        assert_eq!(asked(1, &provided, true), None, "its data is the provider's");
    }
}

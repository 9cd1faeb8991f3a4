//! What the node does besides its allocations: usage, old logs, orphans, rest.
//!
//! Owns the removal of what belongs to no allocation. Never removes anything before the state is
//! known to be current.

use super::alloc::leftover;
use super::{Msg, State};
use crate::actors::platform::{Platform, disk, logs, written};
use crate::actors::root::NodeUsage;
use crate::id::{AllocId, ContainerId};
use crate::limits;
use crate::node::ingress::access;
use crate::units::MilliCpu;
use ractor::{ActorRef, RpcReplyPort};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// What is there of no allocation, or of an attempt that is over.
pub(super) struct Orphan {
    /// Whose it was.
    pub id: AllocId,
    pub containers: Vec<ContainerId>,
    /// Also its network and files.
    pub whole: bool,
}

/// Removes an orphan; what can't be removed is tried again after the next start.
pub(super) async fn remove(platform: &Platform, orphan: Orphan) {
    for container in &orphan.containers {
        tracing::info!(%container, "removing a container that belongs to no allocation");
        if let Err(error) = platform.containerd.delete(container).await {
            tracing::warn!(%container, %error, "it can't be removed");
        }
    }
    if orphan.whole
        && let Err(error) = leftover(platform, &orphan.id).await
    {
        tracing::warn!(alloc = %orphan.id, %error, "its network and files can't be removed");
    }
}

impl State {
    /// Reads what the containers and the node use, and answers the one who asked.
    pub(super) fn usage(&mut self, reply: Option<RpcReplyPort<NodeUsage>>) {
        let running = self.fleet.running();
        if reply.is_none() && running.is_empty() {
            return;
        }
        let meter = Arc::clone(&self.meter);
        let parent = self.platform.places.cgroup();
        let trouble = self.platform.net.trouble();
        let (platform, figures) = (Arc::clone(&self.platform), Arc::clone(&self.written));
        let (measured, volumes) = (self.measured.clone(), self.platform.volumes.clone());
        self.work.spawn_blocking(move || {
            let mut meter = lock(&meter);
            let used = meter.containers(&parent, running.iter().map(|(_, container)| container));
            let of = |(id, container): &(AllocId, ContainerId)| {
                let usage = used.get(container)?;
                Some((id.clone(), (usage.cpu.unwrap_or_default(), usage.memory)))
            };
            let node = meter.node().unwrap_or_default();
            let node = (node.cpu_used.unwrap_or(MilliCpu(0)), node.memory_used);
            let total = |(id, container): &(AllocId, ContainerId)| {
                Some((id.clone(), used.get(container)?.cpu_total))
            };
            let disks = written::disks(&platform).into_iter();
            let place =
                |room: disk::Room| (room.folder.display().to_string(), room.free, room.total);
            let answer = NodeUsage {
                written: lock(&figures).clone(),
                disks: disks.map(place).collect(),
                allocations: running.iter().filter_map(of).collect(),
                cpu_totals: running.iter().filter_map(total).collect(),
                volumes: measured.of(&volumes),
                node,
                trouble,
            };
            if let Some(reply) = reply {
                // The caller may have gone: nothing is lost.
                let _ = reply.send(answer);
            }
        });
    }

    /// Removes logs that are old or too many, and images where the disk is nearly full; every
    /// minute, since a program can write much in an hour.
    pub(super) fn relieve(&mut self, myself: &ActorRef<Msg>) {
        myself.send_after(limits::RELIEF_INTERVAL, || Msg::Relieve);
        self.images.ask();
        self.measure();
        let Some(view) = self.view.as_ref().filter(|view| view.current) else { return };
        let live = view.state.allocations_on(view.node).filter(|a| a.is_live());
        let mut live: BTreeSet<AllocId> = live.map(|allocation| allocation.id.clone()).collect();
        live.extend(access::logs_of(&view.state));
        let platform = Arc::clone(&self.platform);
        self.work.spawn(async move {
            let data = platform.places.data.clone();
            let relieved = tokio::task::spawn_blocking(move || {
                let lives = |id: &AllocId| live.contains(id);
                match logs::relieve(&data, SystemTime::now(), lives) {
                    Ok(gone) if gone.is_empty() => {}
                    Ok(gone) => tracing::info!(?gone, "removed logs that were old or too many"),
                    Err(error) => tracing::warn!(%error, "old logs can't be removed"),
                }
            });
            // A panic in there is told by its own message.
            let _ = relieved.await;
            platform.images.relieve().await;
        });
    }

    /// Measures what each container has written to the disk, one after the other, and leaves most
    /// of the time to others.
    fn measure(&mut self) {
        if self.measuring.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let running = self.fleet.running();
        let (platform, figures) = (Arc::clone(&self.platform), Arc::clone(&self.written));
        let ids: BTreeSet<AllocId> = running.iter().map(|(id, _)| id.clone()).collect();
        lock(&figures).retain(|id, _| ids.contains(id));
        self.measuring = Some(self.work.spawn(async move {
            for (id, container) in running {
                let begun = Instant::now();
                if let Some(bytes) = written::of_container(&platform, &id, &container).await {
                    lock(&figures).insert(id, bytes);
                }
                tokio::time::sleep(begun.elapsed() * limits::WRITTEN_SHARE).await;
            }
        }));
    }

    /// Removes kept binaries and images that nobody uses, every hour.
    pub(super) fn sweep(&mut self, myself: &ActorRef<Msg>) {
        myself.send_after(limits::SWEEP_INTERVAL, || Msg::Sweep);
        if !self.view.as_ref().is_some_and(|view| view.current) {
            return;
        }
        let platform = Arc::clone(&self.platform);
        self.work.spawn(async move {
            let named = match platform.containerd.list().await {
                Ok(found) => found.into_iter().filter_map(|found| {
                    found.labels.get(super::alloc::label::LOGGER).map(PathBuf::from)
                }),
                // Without knowing them nothing is removed.
                Err(_) => return,
            };
            let mut named: BTreeSet<PathBuf> = named.collect();
            named.extend(named.clone().iter().map(|kept| logs::wrapper_of(kept)));
            let images = platform.images.clone();
            let swept = tokio::task::spawn_blocking(move || {
                let data = &platform.places.data;
                if let Err(error) = logs::remove_unused(data, &platform.logger, &named) {
                    tracing::warn!(%error, "kept binaries can't be removed");
                }
            });
            // A panic in there is told by its own message.
            let _ = swept.await;
            if let Err(error) = images.collect().await {
                tracing::warn!(%error, "images that nothing needs can't be removed");
            }
        });
    }

    /// Where nothing runs and nothing is meant to run, nothing stays: no bridge, no rules.
    pub(super) fn rest(&mut self) {
        let Some(view) = self.view.as_ref().filter(|v| v.current || v.removed) else { return };
        let live = view.state.allocations_on(view.node).any(|a| a.is_live());
        let assigned = live && !view.removed;
        if assigned || !self.fleet.is_empty() {
            return;
        }
        let platform = Arc::clone(&self.platform);
        self.work.spawn(async move {
            match platform.net.rest().await {
                Ok(true) => remove_cgroups(&platform.places.cgroup()).await,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the network can't be taken down"),
            }
        });
    }
}

/// A panic while it was held lost at most one reading.
fn lock<T>(figures: &Mutex<T>) -> MutexGuard<'_, T> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the empty parents of the containers' control groups.
async fn remove_cgroups(parent: &str) {
    let name = parent.trim_start_matches('/').to_owned();
    let removed = tokio::task::spawn_blocking(move || {
        let root = std::path::Path::new("/sys/fs/cgroup");
        let mounts = std::fs::read_dir(root).into_iter().flatten().flatten();
        for mount in mounts.map(|entry| entry.path()).chain([root.to_owned()]) {
            // Not there in most places; one that is in use is left.
            let _ = std::fs::remove_dir(mount.join(&name));
        }
    });
    // It can't fail but by a panic, which tells itself.
    let _ = removed.await;
}

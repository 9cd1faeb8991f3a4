//! The actors of the node's allocations: which there are, which must begin, which must hear what.
//!
//! Owns their references and the containers found but not yet taken over. Never touches a
//! container: that is for the allocation's own actor.

use super::alloc::{self, Adopted, Alloc, Job, News, ended, label};
use super::housekeeping::Orphan;
use crate::actors::platform::Platform;
use crate::actors::platform::containerd::{Exit, Found, TaskEvent, TaskState};
use crate::actors::root::View;
use crate::allocation::{FoundTask, Want};
use crate::fsm::model::{AllocKind, Allocation, AllocationStatus, Phase};
use crate::id::{AllocId, Attempt, ContainerId};
use crate::node::oci::CgroupVersion;
use crate::node::project::{self, Assignment};
use crate::node::supervise::{Decision, History};
use crate::units::Millis;
use ractor::{Actor as _, ActorCell, ActorRef, SpawnErr};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// The actors.
pub(super) struct Fleet {
    platform: Arc<Platform>,
    cgroups: CgroupVersion,
    actor: ActorRef<super::Msg>,
    members: BTreeMap<AllocId, Member>,
    /// Failed ones that wait, and how often they failed.
    failing: BTreeMap<AllocId, History>,
    resting: BTreeSet<AllocId>,
    /// Ended ones whose end the state does not show yet.
    ended: BTreeSet<AllocId>,
    /// Containers that no actor has taken over; absent until the first look.
    found: Option<BTreeMap<AllocId, BTreeMap<Attempt, Found>>>,
    looks: u64,
    /// Ends of containers without an actor, since the last look began: it may not show them.
    early: BTreeMap<(AllocId, Attempt), Exit>,
    /// What ran when the last look began.
    ran: BTreeSet<(AllocId, Attempt)>,
    /// Of some of these nobody said how they stand.
    unclear: bool,
    /// Another look is on its way.
    looks_again: bool,
    last_address: Option<Ipv4Addr>,
    /// What has no allocation was looked for.
    tidied: bool,
    started: Instant,
}

struct Member {
    actor: ActorRef<alloc::Msg>,
    address: Ipv4Addr,
    want: Want,
    observed: AllocationStatus,
    /// It has said so itself.
    told: bool,
}

impl Member {
    fn runs(&self) -> bool {
        self.observed.phase == Phase::Running
    }
}

/// A program that ran by the last look has ended.
fn end(container: &mut Found, exit: Exit) {
    if matches!(container.task, TaskState::Running { .. } | TaskState::Created { .. }) {
        container.task = TaskState::Stopped(exit);
    }
}

impl Fleet {
    pub(super) fn new(
        platform: Arc<Platform>,
        cgroups: CgroupVersion,
        actor: ActorRef<super::Msg>,
    ) -> Self {
        Self {
            platform,
            cgroups,
            actor,
            members: BTreeMap::new(),
            failing: BTreeMap::new(),
            resting: BTreeSet::new(),
            ended: BTreeSet::new(),
            found: None,
            looks: 0,
            early: BTreeMap::new(),
            ran: BTreeSet::new(),
            unclear: false,
            looks_again: false,
            last_address: None,
            tidied: false,
            started: Instant::now(),
        }
    }

    /// No allocation has anything left here.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.resting.is_empty()
    }

    /// The containers whose programs run, as far as is known.
    pub fn running(&self) -> Vec<(AllocId, ContainerId)> {
        let running = self.members.iter().filter(|(_, m)| m.runs());
        running.map(|(id, m)| (id.clone(), ContainerId::new(id, m.observed.attempt))).collect()
    }

    pub(super) fn id_of(&self, cell: &ActorCell) -> Option<AllocId> {
        let is_it = |member: &Member| member.actor.get_cell().get_id() == cell.get_id();
        self.members.iter().find(|(_, member)| is_it(member)).map(|(id, _)| id.clone())
    }

    /// An allocation's actor has failed: what to do about it.
    pub fn failed(&mut self, id: &AllocId) -> Decision {
        self.members.remove(id);
        self.resting.insert(id.clone());
        let now = Millis::from(self.started.elapsed());
        self.failing.entry(id.clone()).or_default().failed(now)
    }

    pub(super) fn revive(&mut self, id: &AllocId) {
        self.resting.remove(id);
        // Until the next look nobody knows what is there of it: it does not begin before.
        self.found = None;
    }

    pub(super) fn finished(&mut self, id: &AllocId) {
        self.members.remove(id);
        self.failing.remove(id);
        self.ended.insert(id.clone());
    }

    pub(super) fn observed(&mut self, id: &AllocId, observed: &AllocationStatus) {
        if let Some(member) = self.members.get_mut(id) {
            member.observed = observed.clone();
            member.told = true;
        }
    }

    /// What each of them said last.
    pub fn all_observed(&self) -> Vec<(AllocId, AllocationStatus)> {
        let told = self.members.iter().filter(|(_, member)| member.told);
        told.map(|(id, member)| (id.clone(), member.observed.clone())).collect()
    }

    pub(super) fn begin_look(&mut self) -> u64 {
        self.looks += 1;
        self.looks_again = false;
        self.early.clear();
        let running = self.members.iter().filter(|(_, m)| m.runs());
        self.ran = running.map(|(id, m)| (id.clone(), m.observed.attempt)).collect();
        self.looks
    }

    /// Whether nobody says how a container of it stands: until then nothing is done about it.
    fn is_unclear(&self, id: &AllocId) -> bool {
        let of = self.found.as_ref().and_then(|found| found.get(id));
        of.is_some_and(|of| of.values().any(|found| found.task == TaskState::Unknown))
    }

    /// Whether another look is due, told once: nobody said how something stands that ran or was
    /// found.
    pub fn must_look_again(&mut self) -> bool {
        let found = self.found.iter().flat_map(|found| found.keys());
        let due = self.unclear || found.into_iter().any(|id| self.is_unclear(id));
        due && !std::mem::replace(&mut self.looks_again, true)
    }

    /// containerd didn't list what there is.
    pub fn look_failed(&mut self, number: u64) {
        self.unclear |= number == self.looks;
    }

    /// Takes in what is there: ends that nobody told, and containers without an actor.
    pub fn on_look(&mut self, number: u64, found: Vec<Found>) {
        if number != self.looks {
            return;
        }
        let mut all: BTreeMap<AllocId, BTreeMap<Attempt, Found>> = BTreeMap::new();
        for mut container in found {
            if let Some((id, attempt)) = container.id.parts() {
                if let Some(exit) = self.early.get(&(id.clone(), attempt)) {
                    end(&mut container, *exit);
                }
                all.entry(id).or_default().insert(attempt, container);
            }
        }
        self.unclear = false;
        for (id, attempt) in std::mem::take(&mut self.ran) {
            let Some(member) = self.members.get(&id) else { continue };
            let task = all.get(&id).and_then(|of| of.get(&attempt)).map(|found| found.task);
            let message = match task {
                Some(TaskState::Running { .. } | TaskState::Created { .. }) => continue,
                // Nobody has said that it ended.
                Some(TaskState::Unknown) => {
                    self.unclear = true;
                    continue;
                }
                Some(TaskState::Stopped(exit)) => alloc::Msg::Exited(attempt, ended(exit)),
                Some(TaskState::None) | None => alloc::Msg::Gone(attempt),
            };
            // One that has ended is taken care of by its supervision.
            let _ = member.actor.cast(message);
        }
        all.retain(|id, _| !self.members.contains_key(id) && !self.ended.contains(id));
        self.found = Some(all);
    }

    pub(super) fn on_event(&mut self, event: TaskEvent) {
        let (id, message): (_, fn(Attempt, Option<Exit>) -> alloc::Msg) = match &event {
            TaskEvent::Exited(id, _) => (id, |attempt, exit| match exit {
                Some(exit) => alloc::Msg::Exited(attempt, ended(exit)),
                None => alloc::Msg::Gone(attempt),
            }),
            TaskEvent::OutOfMemory(id) => (id, |attempt, _| alloc::Msg::OutOfMemory(attempt)),
            TaskEvent::Subscribed => return,
        };
        let Some((alloc, attempt)) = id.parts() else { return };
        let exit = match event {
            TaskEvent::Exited(_, exit) => Some(exit),
            _ => None,
        };
        if let Some(member) = self.members.get(&alloc) {
            // One that has ended is taken care of by its supervision.
            let _ = member.actor.cast(message(attempt, exit));
        } else if let Some(exit) = exit {
            // Whoever takes it over finds that it has ended.
            let found = self.found.as_mut().and_then(|found| found.get_mut(&alloc));
            if let Some(container) = found.and_then(|of| of.get_mut(&attempt)) {
                end(container, exit);
            }
            self.early.insert((alloc, attempt), exit);
        }
    }

    /// Begins what must begin and tells the others what should be. Returns what has no allocation.
    pub async fn reconcile(
        &mut self,
        view: &View,
        myself: &ActorRef<super::Msg>,
    ) -> Result<Vec<Orphan>, SpawnErr> {
        if self.found.is_none() {
            return Ok(Vec::new());
        }
        let state = &view.state;
        // What an earlier life of this node said may still be on its way: only once the state knows
        // this life is what it shows the last word of that one.
        // While the cluster counts this node as lost, it has not decided yet what stays here.
        let current = view.removed || view.current && view.is_let_in();
        self.ended.retain(|id| state.allocations.get(id).is_some_and(|a| a.is_live()));
        for allocation in state.allocations_on(view.node).filter(|_| !view.removed) {
            let Some(assignment) = project::assignment(allocation) else { continue };
            let want = match assignment {
                Assignment::Run => Want::Run(allocation.attempt.max(Attempt(1))),
                Assignment::Stop => Want::Stop,
            };
            if let Some(member) = self.members.get_mut(&allocation.id) {
                if current && member.want != want {
                    member.want = want;
                    // One that has ended is taken care of by its supervision.
                    let _ = member.actor.cast(alloc::Msg::Want(want));
                }
                continue;
            }
            let id = &allocation.id;
            if self.ended.contains(id) || self.resting.contains(id) || self.is_unclear(id) {
                continue;
            }
            let is_there =
                self.found.as_ref().is_some_and(|found| found.contains_key(&allocation.id));
            // What was reported of a task decides whether it may have run: not from an old state.
            let is_service = allocation.kind != AllocKind::Task;
            if current || (is_there && want != Want::Stop && is_service) {
                self.begin(view, allocation, want, myself).await?;
            }
        }
        if !current {
            return Ok(Vec::new());
        }
        self.stop_strangers(view);
        Ok(self.orphans(view))
    }

    /// Stops what runs without being assigned.
    fn stop_strangers(&mut self, view: &View) {
        for (id, member) in &mut self.members {
            let allocation = view.state.allocations.get(id).filter(|a| a.node == view.node);
            let allocation = allocation.filter(|_| !view.removed);
            if allocation.and_then(|a| project::assignment(a)).is_none() {
                member.want = Want::Stop;
                // One that has ended is taken care of by its supervision.
                let _ = member.actor.cast(alloc::Msg::Want(Want::Stop));
            }
        }
    }

    /// Containers, namespaces and folders that belong to no allocation of this node.
    fn orphans(&mut self, view: &View) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        let waiting = &self.resting;
        if let Some(found) = &mut self.found {
            let live = |id: &AllocId| {
                let allocation = view.state.allocations.get(id);
                allocation.is_some_and(|a| !view.removed && a.node == view.node && a.is_live())
            };
            let keep = |id: &AllocId| waiting.contains(id) || live(id);
            let gone: Vec<AllocId> = found.keys().filter(|id| !keep(id)).cloned().collect();
            for id in gone {
                let attempts = found.remove(&id).unwrap_or_default();
                let containers = attempts.into_values().map(|found| found.id).collect();
                orphans.push(Orphan { id, containers, whole: true });
            }
        }
        if !self.tidied {
            self.tidied = true;
            let mut there: BTreeSet<AllocId> =
                self.platform.net.attached().unwrap_or_default().into_iter().collect();
            there.extend(alloc::folders(&self.platform));
            let is_known = |id: &AllocId| {
                let live = view.state.allocations.get(id).is_some_and(|a| a.is_live());
                self.members.contains_key(id)
                    || self.resting.contains(id)
                    || !view.removed && live
                    || orphans.iter().any(|orphan| orphan.id == *id)
            };
            let unknown: Vec<AllocId> = there.into_iter().filter(|id| !is_known(id)).collect();
            let bare = |id| Orphan { id, containers: Vec::new(), whole: true };
            orphans.extend(unknown.into_iter().map(bare));
        }
        orphans
    }

    async fn begin(
        &mut self,
        view: &View,
        allocation: &Allocation,
        want: Want,
        myself: &ActorRef<super::Msg>,
    ) -> Result<(), SpawnErr> {
        let Some(spec) = view.state.spec(&allocation.spec) else { return Ok(()) };
        let id = &allocation.id;
        let mut found = self.found.as_mut().and_then(|f| f.remove(id)).unwrap_or_default();
        let newest = found.pop_last();
        let address = newest.as_ref().and_then(|(_, f)| f.labels.get(label::ADDRESS)?.parse().ok());
        let address = address.or(allocation.observed.address);
        let Some(address) = address.or_else(|| self.pick(view)) else {
            tracing::error!(alloc = %id, "the node's subnet has no free address");
            return Ok(());
        };
        let job = Job {
            platform: Arc::clone(&self.platform),
            id: id.clone(),
            workload: allocation.workload.clone(),
            kind: allocation.kind,
            hash: allocation.spec.clone(),
            spec: Arc::clone(spec),
            address,
            node: view.state.nodes.get(&view.node).map(|n| n.name.clone()).unwrap_or_default(),
            cluster: view.state.cluster.as_ref().map(|c| c.id.clone()).unwrap_or_default(),
            cgroups: self.cgroups,
            surplus: found.into_values().map(|found| found.id).collect(),
        };
        let actor = self.actor.clone();
        let tell: alloc::Tell = Box::new(move |id, news| {
            let message = match news {
                News::Observed(observed) => super::Msg::Observed(id.clone(), observed),
                News::Finished => super::Msg::Finished(id.clone()),
            };
            // The parent outlives its children.
            let _ = actor.cast(message);
        });
        let args = alloc::Args {
            terms: alloc::terms(&spec.spec),
            job: Arc::new(job),
            want,
            reported: allocation.observed.clone(),
            found: self.taken_over(allocation, newest),
            tell,
        };
        let cell = myself.get_cell();
        let (spawned, _) = Alloc::spawn_linked(None, Alloc, args, cell).await?;
        let observed = allocation.observed.clone();
        let member = Member { actor: spawned, address, want, observed, told: false };
        self.members.insert(id.clone(), member);
        Ok(())
    }

    /// What is there of an allocation. A task's program is never started twice: where its log was
    /// begun and its container is gone, it has run. A reader that waits makes an empty folder.
    fn taken_over(
        &self,
        allocation: &Allocation,
        newest: Option<(Attempt, Found)>,
    ) -> Option<Adopted> {
        let log =
            crate::actors::platform::logs::directory(&self.platform.places.data, &allocation.id);
        let has_log = || std::fs::read_dir(&log).is_ok_and(|mut files| files.next().is_some());
        let has_run = || allocation.kind == AllocKind::Task && has_log();
        let has_task = newest.as_ref().is_some_and(|(_, found)| found.task != TaskState::None);
        if !has_task && let Some(end) = self.written_down(allocation) {
            return Some(end);
        }
        match newest {
            Some((attempt, found)) if has_task || !has_run() => Some(adopted(attempt, &found)),
            None if !has_run() => None,
            gone => {
                let attempt = gone.map_or(allocation.attempt, |(attempt, _)| attempt);
                Some(Adopted { attempt, task: FoundTask::Gone, signal: None })
            }
        }
    }

    /// An end that an earlier life wrote down and did not come to report.
    fn written_down(&self, allocation: &Allocation) -> Option<Adopted> {
        let (attempt, ended) = alloc::remembered(&self.platform, &allocation.id)?;
        let reported = &allocation.observed;
        let is_news = attempt > reported.attempt
            || attempt == reported.attempt && reported.phase <= Phase::Running;
        is_news.then_some(Adopted { attempt, task: FoundTask::Ended(ended), signal: None })
    }

    /// A free address of the node's subnet.
    fn pick(&mut self, view: &View) -> Option<Ipv4Addr> {
        let live = view.state.allocations_on(view.node).filter(|a| a.is_live());
        let reported = live.filter_map(|a| a.observed.address);
        let used: BTreeSet<Ipv4Addr> =
            reported.chain(self.members.values().map(|member| member.address)).collect();
        let after = self.last_address.or_else(|| used.last().copied());
        let address = self.platform.net.subnet().pick(&used, after);
        self.last_address = address;
        address
    }
}

fn adopted(attempt: Attempt, found: &Found) -> Adopted {
    let task = match found.task {
        TaskState::None | TaskState::Created { .. } => FoundTask::Unstarted,
        // Of what isn't known to have ended, a life begins as of what runs.
        TaskState::Running { .. } | TaskState::Unknown => FoundTask::Running,
        TaskState::Stopped(exit) => FoundTask::Ended(ended(exit)),
    };
    let signal = found.labels.get(label::SIGNAL).and_then(|signal| signal.parse().ok());
    Adopted { attempt, task, signal }
}

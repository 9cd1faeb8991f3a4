//! `apply`: the one door through which the state changes.
//!
//! Owns exactly-once effects, replicated time and dispatch. Never holds a rule of a single command.

use super::allocation::not_found;
use super::command::{GrantToken, Init, Report};
use super::model::{Ca, Condition, Node, NodeStatus, RaftRole};
use super::{Applied, Cluster, Command, Entry, Outcome, Rejection, Remembered, Session};
use super::{SessionStep, State, Touched};
use crate::bugs::{Bug, is_on};
use crate::id::{Attempt, BootId, Index, NodeId};
use crate::limits;
use crate::units::{Millis, Timestamp};
use std::sync::Arc;

/// Applies the entry at `index` to the state.
///
/// A rejected command changes nothing but the time and the index.
pub fn apply(state: &mut State, index: Index, entry: Entry) -> Applied {
    state.index = index;
    state.time = state.time.max(entry.time);
    if let Some(outcome) = remembered(state, &entry) {
        return Applied { outcome, touched: Touched::default() };
    }
    let (session, key) = (entry.session, entry.idempotency_key);
    let mut touched = Touched::default();
    let outcome = match entry.command {
        // By far the most frequent, and refused before it changes anything: it needs no copy.
        Command::Report(report) => state.report(report, &mut touched),
        command => state.carry_out_on_a_copy(command, &mut touched),
    };
    if session.seq > 0 {
        state.sessions.entry(session.node).or_default().note(session, outcome.clone());
    }
    if let Some(key) = key {
        state.remember(key, outcome.clone());
    }
    Applied { outcome, touched }
}

/// Applies a command as if it were the next entry, without a proposer: to a copy of the state, to
/// see what it would do.
pub fn apply_next(state: &mut State, time: Timestamp, command: Command) -> Applied {
    let (session, idempotency_key) = (SessionStep::default(), None);
    let index = Index(state.index.0 + 1);
    apply(state, index, Entry { time, session, idempotency_key, command })
}

impl Session {
    /// Keeps an outcome until its proposer has seen it.
    fn note(&mut self, step: SessionStep, outcome: Result<Outcome, Rejection>) {
        if self.boot != step.boot {
            let mut past = std::mem::take(&mut self.past);
            past.insert(0, self.boot);
            past.truncate(limits::SESSIONS_PAST);
            *self = Self { boot: step.boot, past, ..Self::default() };
        }
        self.low_water = self.low_water.max(step.low_water);
        while let Some(seen) = self.outcomes.get_min().map(|(seq, _)| *seq)
            && seen <= self.low_water
        {
            self.outcomes.remove(&seen);
        }
        self.outcomes.insert(step.seq, outcome);
    }

    /// The outcome of what was applied before; what its proposer no longer waits for is stale.
    fn remembered(&self, step: SessionStep) -> Option<Result<Outcome, Rejection>> {
        if self.past.contains(&step.boot) {
            return Some(Err(Rejection::Stale));
        }
        let known = self.outcomes.get(&step.seq).filter(|_| self.boot == step.boot);
        let is_past = self.boot == step.boot && step.seq <= self.low_water;
        known.cloned().or_else(|| is_past.then_some(Err(Rejection::Stale)))
    }
}

/// The outcome of an entry that was applied before.
fn remembered(state: &State, entry: &Entry) -> Option<Result<Outcome, Rejection>> {
    if entry.session.seq > 0
        && !is_on(Bug::ForgetOutcomes)
        && let Some(session) = state.sessions.get(&entry.session.node)
        && let Some(outcome) = session.remembered(entry.session)
    {
        return Some(outcome);
    }
    let key = entry.idempotency_key.as_ref()?;
    let found = state.idempotency.get(key)?;
    let ttl = Millis::from(limits::IDEMPOTENCY_TTL);
    (state.time < found.at.plus(ttl)).then(|| found.outcome.clone())
}

impl State {
    fn carry_out_on_a_copy(
        &mut self,
        command: Command,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let mut next = self.clone();
        let outcome = next.carry_out(command, touched);
        if outcome.is_ok() {
            next.give_addresses(touched);
            crate::fsm::events::record(self, &mut next, touched);
            *self = next;
        } else {
            *touched = Touched::default();
        }
        outcome
    }

    fn carry_out(&mut self, command: Command, touched: &mut Touched) -> Result<Outcome, Rejection> {
        match command {
            Command::Init(init) => self.init(init, touched),
            Command::Register(register) => self.register(register, touched),
            Command::Join(join) => self.join(join, touched),
            Command::Members(members) => self.set_members(&members, touched),
            Command::Label { node, labels } => self.label(node, labels, touched),
            Command::Drain { node, deadline } => self.drain(node, deadline, touched),
            Command::Undrain { node } => self.undrain(node, touched),
            Command::Remove { node } => self.remove_node(node, touched),
            Command::Raise { level } => self.raise(level, touched),
            Command::Rotate(rotate) => self.rotate(rotate, touched),
            Command::NodeDown { node, boot } => self.node_down(node, boot, touched),
            Command::Notice(notice) => self.notice(&notice, touched),
            Command::Standstill { from } => self.stood_still(from, touched),
            Command::Deploy(deploy) => self.deploy(deploy, touched),
            Command::Steps(steps) => self.take_steps(steps, touched),
            Command::Report(report) => self.report(report, touched),
            Command::Spawn(spawn) => self.spawn(spawn, touched),
            Command::Kill { run } => self.kill(&run, touched),
            Command::RestartService { service } => self.restart_service(&service, touched),
            Command::Move { allocations } => Ok(self.replace_each(&allocations, touched)),
            Command::RestartAllocation { allocation } => {
                let old = self
                    .allocations
                    .get(&allocation)
                    .filter(|a| a.is_live())
                    .ok_or_else(|| not_found("running allocation", allocation.as_str()))?;
                super::runs::may_restart(old)?;
                let mut new = (**old).clone();
                new.attempt = Attempt(new.observed.attempt.0.max(1) + 1);
                self.put_allocation(new, touched);
                Ok(Outcome::Done)
            }
            Command::CreateToken { id, role, hash, expires_at } => {
                let grant = GrantToken { id, role, hash, expires_at, uses: None };
                self.grant_token(grant, touched)
            }
            Command::GrantToken(grant) => self.grant_token(grant, touched),
            Command::RevokeToken { id } => self.revoke_token(id, touched),
            Command::SetLogin { registry, user, password } => {
                self.set_login(registry, (user, password), touched)
            }
            Command::RemoveLogin { registry } => self.remove_login(&registry, touched),
            Command::Images(change) => self.change_images(change, touched),
            Command::Mesh(place) => self.place_in_mesh(place, touched),
            Command::RotateMesh => self.rotate_mesh(touched),
            Command::Secrets(change) => self.change_secrets(change, touched),
            Command::Volumes(change) => self.change_volumes(change, touched),
            Command::Certificates(change) => self.change_certificates(change, touched),
            Command::Routes(change) => self.change_routes(change, touched),
            Command::Canary(end) => self.end_canaries(&end, touched),
            Command::Backups(change) => self.change_backups(change, touched),
            Command::Unreadable => {
                let what = "the entry holds no command of this version".to_owned();
                Err(Rejection::Illegal { what })
            }
        }
    }

    fn init(&mut self, init: Init, touched: &mut Touched) -> Result<Outcome, Rejection> {
        if self.cluster.is_some() {
            return Err(Rejection::Initialised);
        }
        let id = NodeId(1);
        self.last_node = id;
        let node = Node {
            id,
            name: init.node_name,
            address: init.address,
            subnet: init.subnet,
            labels: init.labels,
            cpu: crate::units::MilliCpu(0),
            memory: crate::units::Bytes(0),
            status: NodeStatus::Ready,
            peer_port: init.peer_port,
            down_since: None,
            drain: None,
            part: RaftRole::Voter,
            version: String::new(),
            feature_level: 1,
            public_key: init.public_key,
            keyring: init.keyring,
            mesh: None,
            boot: BootId(0),
            joined_at: self.time,
            condition: Condition::default(),
        };
        self.ca = init.ca_key.map(|key| Ca { cert: init.ca, key });
        self.nodes.insert(id, Arc::new(node));
        self.cluster = Some(Cluster {
            name: init.cluster,
            id: init.cluster_id,
            incarnation: init.incarnation,
            subnet: init.subnet,
            prefix: init.prefix,
        });
        touched.merge(&Touched::everything());
        Ok(Outcome::Done)
    }

    fn report(&mut self, report: Report, touched: &mut Touched) -> Result<Outcome, Rejection> {
        let last = self.reports.get(&report.node).copied().unwrap_or(0);
        let node = self.node(report.node)?;
        let is_down = node.status == NodeStatus::Down;
        if is_down || node.boot != report.boot || report.seq <= last {
            return Err(Rejection::Stale);
        }
        self.reports.insert(report.node, report.seq);
        assert!(!is_on(Bug::PanicInReport(report.seq)), "a report that can't be applied");
        for (id, seen) in report.allocations {
            let ours = self.allocations.get(&id).filter(|a| a.node == report.node);
            if let Some(old) = ours.cloned()
                && let Some(new) = self.observe(&old, seen, touched)
            {
                crate::fsm::events::record_observed(self, &old, &new);
            }
        }
        Ok(Outcome::Done)
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Arc<Node>, Rejection> {
        self.nodes.get(&id).ok_or_else(|| not_found("node", &id.to_string()))
    }

    fn remember(&mut self, key: String, outcome: Result<Outcome, Rejection>) {
        let at = self.time;
        let caller = key.split_once('/').map(|(caller, _)| caller.to_owned());
        self.idempotency.insert(key, Remembered { at, outcome });
        if let Some(caller) = caller.filter(|_| self.is_next())
            && self.keys_of(&caller).count() > limits::IDEMPOTENCY_EACH
        {
            let oldest = oldest(self.keys_of(&caller));
            oldest.and_then(|key| self.idempotency.remove(&key));
        }
        if self.idempotency.len() > limits::IDEMPOTENCY_MAX {
            let oldest = oldest(self.idempotency.iter());
            oldest.and_then(|key| self.idempotency.remove(&key));
        }
    }

    /// What is remembered of one caller: its keys begin with its name.
    fn keys_of(&self, caller: &str) -> impl Iterator<Item = (&String, &Remembered)> {
        // The character behind the slash.
        self.idempotency.range(format!("{caller}/")..format!("{caller}0"))
    }
}

fn oldest<'a>(keys: impl Iterator<Item = (&'a String, &'a Remembered)>) -> Option<String> {
    keys.min_by_key(|(_, remembered)| remembered.at).map(|(key, _)| key.clone())
}

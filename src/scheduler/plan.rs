//! The planner: from the state to the next commands.
//!
//! Owns what happens next to every service and deployment. Never waits, and remembers nothing
//! between calls: any leader, at any moment, finds the same next steps.

mod canary;
mod depart;
mod drain;
mod failing;
mod hold;
mod judge;
mod rollout;
mod tasks;
mod waiting;

#[cfg(test)]
mod tests;

pub use waiting::Unplaced;

use crate::bugs::{Bug, is_on};
use crate::fsm::command::{Action, Steps};
use crate::fsm::model::App;
use crate::fsm::{Command, State, Touched};
use crate::id::{AllocId, AppName, Index, NodeId, WorkloadName};
use crate::limits;
use crate::mix::{STEP, mixed};
use crate::scheduler::canary::Sample;
use crate::scheduler::place::Placer;
use crate::units::{Millis, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// What stands for the runs of all tasks, in a scope and in what a plan asks to be woken for. No
/// app has this name.
pub const TASKS: &str = "";

/// What the leader knows that is not in the log.
#[derive(Clone, Debug, Default)]
pub struct SettledIndexes {
    /// Up to which index each node has made its view true.
    pub settled: BTreeMap<NodeId, Index>,
    /// What is known of the requests of canaries.
    pub canaries: BTreeMap<WorkloadName, Sample>,
}

/// Which apps to plan.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Every one.
    All,
    /// Those that something touched or whose time has come; [`TASKS`] for the runs of tasks.
    Apps(BTreeSet<AppName>),
}

/// What to do next.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To propose, in order.
    pub commands: Vec<Command>,
    /// When each app should be looked at again if nothing happens to it before.
    pub wake: BTreeMap<AppName, Timestamp>,
    /// Replicas whose turn it is and that fit no node.
    pub unplaced: Vec<Unplaced>,
    /// Replicas that can't leave their draining node, for they fit no other.
    pub stuck: Vec<Unplaced>,
}

/// Says what comes next. `seed` makes the new allocations' ids; the same inputs give the same plan.
pub fn plan(
    state: &State,
    observed: &SettledIndexes,
    now: Timestamp,
    seed: u64,
    scope: &Scope,
) -> Plan {
    let mut plan = Plan::default();
    let mut placer = None;
    let apps = state.apps.values().filter(|app| match scope {
        Scope::All => true,
        Scope::Apps(some) => some.contains(&app.name),
    });
    let mut look = |name: AppName, version: Option<u64>, at: &dyn Fn(&mut Context<'_>)| {
        let mut context = Context {
            state,
            observed,
            now,
            seed,
            placer: &mut placer,
            actions: Vec::new(),
            wake: None,
            unplaced: Vec::new(),
            stuck: Vec::new(),
            made: BTreeSet::new(),
        };
        at(&mut context);
        let Context { mut actions, wake, unplaced, stuck, .. } = context;
        plan.unplaced.extend(unplaced);
        plan.stuck.extend(stuck);
        if !actions.is_empty() {
            actions.truncate(limits::ACTIONS_PER_STEP);
            let planned = version.map(|version| (name.clone(), version)).into_iter().collect();
            plan.commands.push(Command::Steps(Steps { planned, actions }));
        }
        if let Some(at) = wake {
            plan.wake.insert(name, at);
        }
    };
    for app in apps {
        look(app.name.clone(), Some(app.version), &|context| context.plan_app(app));
    }
    let tasks = AppName::from(TASKS);
    let with_tasks = match scope {
        Scope::All => true,
        Scope::Apps(some) => some.contains(&tasks),
    };
    if with_tasks {
        look(tasks, None, &|context| context.plan_runs());
    }
    plan
}

/// The planning of one app.
struct Context<'a> {
    state: &'a State,
    observed: &'a SettledIndexes,
    now: Timestamp,
    seed: u64,
    placer: &'a mut Option<Placer>,
    actions: Vec<Action>,
    wake: Option<Timestamp>,
    unplaced: Vec<Unplaced>,
    stuck: Vec<Unplaced>,
    /// Ids handed out in this plan.
    made: BTreeSet<AllocId>,
}

/// Where a service stands against its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RolloutStatus {
    /// All is as asked, and no traffic leads to anything else.
    converged: bool,
    /// Something that was asked to end hasn't yet.
    lingers: bool,
    /// Nothing fits: each node's refusal, for people.
    unplaced: Option<String>,
    /// What fits nowhere will, once what the deployment removes has gone.
    gets_room: bool,
    /// A canary is under way; whether all its replicas work.
    canary: Option<bool>,
}

impl Context<'_> {
    fn plan_app(&mut self, app: &App) {
        let mut rollouts: BTreeMap<&WorkloadName, RolloutStatus> = BTreeMap::new();
        let departing = self.departing(app);
        for (name, service) in app.services.iter().filter(|(name, _)| !departing.contains_key(name))
        {
            let rollout = if self.waits_for_tasks(app, name) {
                self.hold(name, service, true);
                RolloutStatus::default()
            } else if let Some(canary) = self.state.canary(&app.name, name) {
                self.roll_canary(name, service, canary)
            } else {
                self.roll(name, service)
            };
            rollouts.insert(name, rollout);
        }
        if !departing.is_empty() {
            self.depart(app, &departing, &mut rollouts);
        }
        self.judge(app, &rollouts);
    }

    /// What is free on the nodes, less what this plan gives away.
    fn placer(&mut self) -> &mut Placer {
        self.placer.get_or_insert_with(|| Placer::at(self.state, self.now))
    }

    /// A step takes no more actions: the rest is for the next.
    fn is_full(&self) -> bool {
        self.actions.len() >= limits::ACTIONS_PER_STEP
    }

    /// Looks again at this time at the latest.
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |before| before.min(at)));
    }

    /// Whether a moment has come; if not, the app is looked at again then.
    fn is_due(&mut self, at: Timestamp) -> bool {
        let due = self.now >= at;
        if !due {
            self.wake_at(at);
        }
        due
    }

    /// Whether a time that began then is over; what nobody led of it doesn't count.
    fn is_due_in(&mut self, since: Timestamp, bound: Millis) -> bool {
        let at = match is_on(Bug::CountStandstill) {
            true => since.plus(bound),
            false => self.state.due(since, bound),
        };
        self.is_due(at)
    }

    /// Every node that is there has made the view at that index true: one that drains still leads
    /// traffic to others.
    fn is_settled(&self, index: Index) -> bool {
        let mut there = self.state.nodes.values().filter(|node| node.is_up());
        there.all(|node| self.observed.settled.get(&node.id).is_some_and(|at| *at >= index))
    }

    /// A new replica's id.
    fn new_id(&mut self, service: &WorkloadName, replica: u32) -> AllocId {
        self.fresh_id(service, replica, |low| AllocId::service(service, replica, low))
    }

    /// A new id: from the seed, unlike any in the state.
    fn fresh_id(
        &mut self,
        name: &WorkloadName,
        number: u32,
        make: impl Fn(u32) -> AllocId,
    ) -> AllocId {
        let mut number = self.seed ^ (u64::from(number) << 32);
        for byte in name.as_str().bytes() {
            number = mixed((number ^ u64::from(byte)).wrapping_add(STEP));
        }
        loop {
            number = mixed(number.wrapping_add(STEP));
            let low = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
            let id = make(low);
            let is_known =
                self.state.allocations.contains_key(&id) || self.state.runs.contains_key(&id);
            if !is_known && self.made.insert(id.clone()) {
                return id;
            }
        }
    }
}

/// Whether runs of tasks may have something to do after a change: one of them has changed, or an
/// app, or room may have come free for one that waits.
#[must_use]
pub fn concerns_tasks(state: &State, touched: &Touched) -> bool {
    let is_run = |id: &AllocId| state.runs.contains_key(id);
    let has_room = !touched.allocations.is_empty() && !state.derived.waiting.is_empty();
    let has_changed = touched.all || touched.nodes || !touched.apps.is_empty();
    has_changed || has_room || touched.allocations.iter().any(is_run)
}

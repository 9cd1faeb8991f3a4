//! A deployment as a person reads it: from events to lines.
//!
//! Owns the looks of a deployment's progress. Never prints and never asks the daemon.

mod change;

use super::pull;
use crate::api::wire::DeploymentPhase as Phase;
use crate::api::wire::{
    AllocationView, DeploymentStatus, DoneEvent, FailedEvent, ProgressEvent, ServiceView,
};
use crate::cli::ui::{BAD, CHANGE, FAINT, GOOD, STRONG, Ui};
use crate::cli::{ps, table};
use crate::units::Bytes;
pub use change::{Change, between, changes};
pub(super) use change::{image, tag};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// A pull that takes longer than this, in seconds, is said also where lines can't move.
const SLOW_PULL: f64 = 3.0;

/// What an event says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Lines that stay.
    pub lines: Vec<String>,
    /// The allocation that it is about.
    pub allocation: Option<String>,
    /// What the allocation does right now; none: nothing more is expected of it.
    pub doing: Option<String>,
    /// Lines below that one: what it consists of.
    pub parts: Vec<String>,
    /// What it took the place of and is waited for, and what is said of that.
    pub ending: Option<(String, String)>,
}

/// The telling of one deployment.
#[derive(Clone, Debug)]
pub struct Story {
    ui: Ui,
    app: String,
    cluster: String,
    changes: Vec<Change>,
    /// The services that ran before or are there afterwards.
    services: BTreeSet<String>,
    /// Allocations that ran before, by service and replica: `web-0`.
    old: BTreeMap<String, String>,
    told: BTreeSet<String>,
    since: BTreeMap<String, f64>,
    nodes: BTreeMap<String, String>,
    failures: Vec<String>,
    width: usize,
}

impl Story {
    /// Before anything happened. `running`: what the app ran before.
    #[must_use]
    pub fn new(
        ui: Ui,
        app: &str,
        cluster: &str,
        changes: Vec<Change>,
        running: &[ServiceView],
    ) -> Self {
        let allocations = running.iter().flat_map(|service| &service.allocations);
        let old: BTreeMap<String, String> = allocations
            .filter(|one| !one.status.is_ended() && !ps::is_ending(one))
            .map(|one| (slot(&one.id).to_owned(), one.id.clone()))
            .collect();
        let width = old.values().map(String::len).max().unwrap_or_default();
        let before = running.iter().map(|service| &service.name);
        let services = before.chain(changes.iter().map(|change| &change.name)).cloned().collect();
        Self {
            services,
            ui,
            app: app.to_owned(),
            cluster: cluster.to_owned(),
            changes,
            old,
            told: BTreeSet::new(),
            since: BTreeMap::new(),
            nodes: BTreeMap::new(),
            failures: vec![],
            width,
        }
    }

    /// The first lines, once the revision is known.
    pub fn accepted(&mut self, revision: u64) -> Vec<String> {
        let head = format!("{} r{revision} → {}", self.app, self.cluster);
        let mut lines = vec![self.ui.paint(STRONG, &head)];
        let certain: Vec<String> =
            self.changes.iter().filter(|c| c.is_certain()).map(|c| c.name.clone()).collect();
        for name in certain {
            lines.extend(self.change(&name));
        }
        lines
    }

    /// The line of a service's change, the first time.
    fn change(&mut self, name: &str) -> Option<String> {
        if self.told.contains(name) {
            return None;
        }
        let width = self.changes.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
        let change = self.changes.iter().find(|change| change.name == name)?;
        let line = change.line(width, self.ui);
        self.told.insert(name.to_owned());
        Some(line)
    }

    /// The next event.
    pub fn progress(&mut self, event: &ProgressEvent) -> Said {
        let mut lines: Vec<String> = self.change(&event.service).into_iter().collect();
        let Some(id) = event.allocation.clone() else {
            match event.phase {
                Phase::Failed => lines.extend(self.failure(&event.service, event)),
                Phase::Retrying => lines.extend(self.waiting(event)),
                Phase::Canary => {
                    let said = event.message.as_deref().map(first_line).unwrap_or_default();
                    lines.push(format!("{}  {}", event.service, self.ui.paint(CHANGE, said)));
                }
                _ => {}
            }
            return Said { lines, ..Said::default() };
        };
        self.since.entry(id.clone()).or_insert(event.elapsed);
        if let Some(node) = &event.node {
            self.nodes.insert(id.clone(), node.clone());
        }
        let doing = match event.phase {
            Phase::Healthy => {
                lines.push(self.healthy(&id, event));
                None
            }
            // It is told to work; that it is found, too, goes without saying.
            Phase::Routed => None,
            Phase::Failed => {
                lines.extend(self.failure(&id, event));
                None
            }
            Phase::Stopped => {
                lines.extend(self.stopped(&id, event));
                self.told.insert(format!("{id} stopped"));
                None
            }
            Phase::Retrying => {
                let message = event.message.as_deref().unwrap_or_default();
                lines.push(self.line(&id, "retrying", CHANGE, first_line(message)));
                Some(self.doing(&id, event))
            }
            _ => {
                lines.extend(self.slow_pull(&id, event));
                Some(self.doing(&id, event))
            }
        };
        let ending = if event.phase == Phase::Healthy { self.ending(&id) } else { None };
        Said { lines, allocation: Some(id), doing, parts: pull::layers(event), ending }
    }

    /// The one before it, while that has not ended.
    fn ending(&self, id: &str) -> Option<(String, String)> {
        let old = self.old.get(slot(id)).filter(|old| *old != id)?;
        let lives = !self.told.contains(&format!("{old} stopped"));
        lives.then(|| (old.clone(), self.line(old, "stopping", CHANGE, "")))
    }

    /// Whether it is about to end, and of a service that this is about.
    #[must_use]
    pub fn is_ending(&self, one: &AllocationView) -> bool {
        ps::is_ending(one) && self.services.contains(&one.name)
    }

    /// A line for each that is about to end, and whether that wasn't told before.
    pub fn ends(&mut self, all: &[AllocationView]) -> Vec<(String, String, bool)> {
        let mut lines = Vec::new();
        let ending: Vec<_> = all.iter().filter(|one| self.is_ending(one)).collect();
        for one in ending {
            self.nodes.insert(one.id.clone(), one.node.clone());
            let is_new = self.told.insert(format!("{} stopping", one.id));
            lines.push((one.id.clone(), self.line(&one.id, "stopping", CHANGE, ""), is_new));
        }
        lines
    }

    /// Where nothing moves, a pull that takes long is said once.
    fn slow_pull(&mut self, id: &str, event: &ProgressEvent) -> Option<String> {
        let (Some(bytes), Some(total)) = (event.bytes, event.total) else { return None };
        let since = self.since.get(id).copied().unwrap_or_default();
        let is_slow = bytes < total && event.elapsed - since >= SLOW_PULL;
        if self.ui.live || !is_slow || !self.told.insert(format!("{id} pulling")) {
            return None;
        }
        let text = format!("{}/{}", Bytes(bytes), Bytes(total));
        Some(self.line(id, &event.phase.to_string(), CHANGE, &text))
    }

    fn healthy(&self, id: &str, event: &ProgressEvent) -> String {
        let since = self.since.get(id).copied().unwrap_or_default();
        let took = table::took(event.elapsed - since);
        let replaces = self.old.get(slot(id)).filter(|old| *old != id);
        let replaces = replaces.map(|old| format!("  replaces {old}")).unwrap_or_default();
        self.line(id, "healthy", GOOD, &format!("{took}{}", self.ui.paint(FAINT, &replaces)))
    }

    /// Why, and the program's last lines.
    fn failure(&mut self, who: &str, event: &ProgressEvent) -> Vec<String> {
        let message = event.message.clone().unwrap_or_default();
        let mut lines = vec![self.line(who, "failed", BAD, first_line(&message))];
        lines.extend(output(&message).map(|line| format!("  | {line}")));
        self.failures.push(message);
        lines
    }

    /// A replica that fits no node, the first time.
    fn waiting(&mut self, event: &ProgressEvent) -> Option<String> {
        let message = first_line(event.message.as_deref()?);
        let is_new = self.told.insert(format!("{} {message}", event.service));
        is_new.then(|| self.ui.paint(CHANGE, message))
    }

    /// Said only of what nothing takes over from.
    fn stopped(&self, id: &str, event: &ProgressEvent) -> Option<String> {
        if let Some(text) = event.message.as_deref() {
            let since = self.since.get(id).copied().unwrap_or_default();
            let took = table::took(event.elapsed - since);
            return Some(self.line(id, text, GOOD, &took));
        }
        let change = self.changes.iter().find(|change| change.name == event.service)?;
        let replica: u32 = slot(id).rsplit_once('-')?.1.parse().ok()?;
        let goes = replica >= change.after.unwrap_or_default();
        goes.then(|| self.line(id, "stopped", FAINT, ""))
    }

    fn doing(&self, id: &str, event: &ProgressEvent) -> String {
        let message = event.message.as_deref().map(first_line).unwrap_or_default();
        let what = pull::whole(event).unwrap_or_else(|| message.to_owned());
        self.line(id, &event.phase.to_string(), CHANGE, &what)
    }

    fn line(&self, id: &str, phase: &str, style: anstyle::Style, rest: &str) -> String {
        let node = self.nodes.get(id).map(String::as_str).unwrap_or(table::NONE);
        let phase = self.ui.paint(style, &format!("{phase:7}"));
        let width = self.width;
        format!("{id:width$}  {node}  {phase}  {rest}").trim_end().to_owned()
    }

    /// The last line of one that succeeded. `healthy` and `desired`: of the whole app now.
    #[must_use]
    pub fn done(&self, event: &DoneEvent, (healthy, desired): (u32, u32)) -> String {
        let revision = event.revision;
        let text = format!("✓ r{revision} done in {}", table::took(event.elapsed));
        let rest =
            if desired > 0 { format!(", {healthy}/{desired} healthy") } else { String::new() };
        self.ui.paint(GOOD, &text) + &rest
    }

    /// The reason that no event told: of an allocation where it begins with one's id.
    fn reason(&self, event: &FailedEvent) -> String {
        let reason = first_line(&event.reason);
        let who = event.service.as_deref().unwrap_or(&self.app);
        let (first, rest) = reason.split_once(' ').unwrap_or((reason, ""));
        let id = first.trim_end_matches(':');
        if self.nodes.contains_key(id) {
            return self.line(id, "failed", BAD, rest);
        }
        if reason.starts_with(who) { reason.to_owned() } else { format!("{who}: {reason}") }
    }

    /// The last lines of one that another took the place of.
    fn replaced(&self, event: &FailedEvent) -> Vec<String> {
        let text = format!("✗ r{} {}", event.revision, first_line(&event.reason));
        let took = format!(", {} after it began", table::took(event.elapsed));
        let output = output(&event.reason).map(|line| format!("  | {line}"));
        std::iter::once(self.ui.paint(BAD, &text) + &took).chain(output).collect()
    }

    /// The last lines of one that failed.
    #[must_use]
    pub fn failed(&self, event: &FailedEvent, (healthy, desired): (u32, u32)) -> Vec<String> {
        if matches!(event.status, DeploymentStatus::Superseded | DeploymentStatus::Aborted) {
            return self.replaced(event);
        }
        let mut lines = Vec::new();
        let known = |failure: &String| first_line(failure) == first_line(&event.reason);
        if !self.failures.iter().any(known) {
            lines.push(self.reason(event));
            lines.extend(output(&event.reason).map(|line| format!("  | {line}")));
        }
        let text = format!("✗ r{} failed after {}", event.revision, table::took(event.elapsed));
        let rest = match event.restored {
            Some(old) => format!("r{old} runs again, {healthy}/{desired} healthy"),
            None if healthy == 0 => "nothing of it runs".to_owned(),
            None => format!("{healthy}/{desired} healthy"),
        };
        lines.push(format!("{}; {rest}", self.ui.paint(BAD, &text)));
        lines
    }
}

/// `web-0` of `web-0-k3f9`.
fn slot(id: &str) -> &str {
    id.rsplit_once('-').map_or(id, |(slot, _)| slot)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn output(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip(1).filter(|line| !line.trim().is_empty())
}

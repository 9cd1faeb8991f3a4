//! Why a plan is past: what has changed since it was made.
//!
//! Owns the words for it. Never decides whether it is past: equal hashes do that.

use super::fields;
use crate::fsm::State;
use crate::fsm::command::Deploy;
use crate::fsm::model::{Deployment, WorkloadSpec};
use crate::fsm::plan_hash::{Base, hash_over};
use crate::id::{Digest, Revision, WorkloadName};
use std::collections::{BTreeMap, BTreeSet};

/// A plan as the node that made it remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub hash: String,
    /// What was to be proposed.
    pub deploy: Deploy,
}

/// What has changed since a plan was made, a sentence each. Without the plan itself only what the
/// app's kept revisions tell is known.
#[must_use]
pub fn changed_since(
    state: &State,
    planned: Option<&Planned>,
    hash: &str,
    now: &Deploy,
) -> Vec<String> {
    let base = match planned {
        Some(planned) => planned.deploy.base,
        None => earlier_base(state, hash, now),
    };
    let mut found = Vec::new();
    found.extend(base.and_then(|base| moved(state, now, base)));
    if let Some(planned) = planned {
        found.extend(differing(&planned.deploy.services, &now.services));
        found.extend(differing(&planned.deploy.tasks, &now.tasks));
        let other_app = planned.deploy.app != now.app;
        found.extend(other_app.then(|| format!("the file is app {} now", now.app)));
    }
    if found.is_empty() && planned.is_some() {
        // Its revision is the same: a failed deployment went back meanwhile.
        found.push(format!("what app {} should run has changed", now.app));
    }
    if found.is_empty() {
        let what = "the file, an image's digest or what runs is another than it was then";
        found.push(what.to_owned());
    }
    found
}

/// `shop is at r9 since 12:03, was r8`.
fn moved(state: &State, now: &Deploy, base: Revision) -> Option<String> {
    let app = &now.app;
    let current = state.apps.get(app).map_or(Revision(0), |app| app.revision);
    if current == base {
        return None;
    }
    let newest = state.deployments.get(&current);
    let since = newest.map(|d| format!(" since {}", clock(d))).unwrap_or_default();
    let was = if base.0 == 0 { "did not exist".to_owned() } else { format!("was r{base}") };
    Some(format!("{app} is at r{current}{since}, {was}"))
}

/// The time of day, in UTC.
fn clock(deployment: &Deployment) -> String {
    let text = deployment.started_at.to_string();
    text.get(11..16).unwrap_or_default().to_owned()
}

/// The revision that the app had when the plan was made, if only that has changed since.
fn earlier_base(state: &State, hash: &str, now: &Deploy) -> Option<Revision> {
    let of_app = state.deployments.values().filter(|d| d.app == now.app);
    let none = Base {
        app: &now.app,
        base: Revision(0),
        services: BTreeMap::new(),
        tasks: BTreeMap::new(),
    };
    let earlier = of_app.map(|d| Base {
        app: &now.app,
        base: d.revision,
        services: d.services.iter().map(|(n, h)| (n.clone(), (Some(h.clone()), false))).collect(),
        tasks: (*d.tasks).clone(),
    });
    let mut all = std::iter::once(none).chain(earlier);
    all.find(|base| hash_over(base, now) == hash).map(|base| base.base)
}

fn differing(
    planned: &BTreeMap<WorkloadName, WorkloadSpec>,
    now: &BTreeMap<WorkloadName, WorkloadSpec>,
) -> Vec<String> {
    let names: BTreeSet<&WorkloadName> = planned.keys().chain(now.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        match (planned.get(name), now.get(name)) {
            (Some(was), Some(is)) if was != is => found.extend(changed(name, was, is)),
            (Some(_), None) => found.push(format!("{name} is no longer in the file")),
            (None, Some(_)) => found.push(format!("{name} is new in the file")),
            _ => {}
        }
    }
    found
}

fn changed(name: &WorkloadName, was: &WorkloadSpec, is: &WorkloadSpec) -> Vec<String> {
    let mut found = Vec::new();
    let digest = |spec: &WorkloadSpec| spec.run().digest.as_ref().map(fields::short);
    let (old, new) = (was.run(), is.run());
    let is_moved = |a: &Option<Digest>, b: &Option<Digest>| old.image == new.image && a != b;
    if is_moved(&old.digest, &new.digest) {
        let image = new.image.rsplit('/').next().unwrap_or_default();
        let (leads, led) = (digest(is).unwrap_or_default(), digest(was).unwrap_or_default());
        found.push(format!("the tag {image} now leads to {leads}, was {led}"));
    }
    let others: BTreeSet<&str> = fields::diff(was, is)
        .into_iter()
        .map(|change| change.field)
        .filter(|field| *field != "image" || old.image != new.image)
        .collect();
    if !others.is_empty() {
        let others: Vec<&str> = others.into_iter().collect();
        found.push(format!("{name} has other values in the file: {}", others.join(", ")));
    }
    found
}

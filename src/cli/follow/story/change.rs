//! What a deployment changes, a line a service.
//!
//! Owns what is known of it beforehand and how it reads. Never follows anything.

use crate::api::wire::{DeploymentView, ServiceView};
use crate::cli::ui::{BAD, CHANGE, GOOD, Ui};
use crate::spec::Spec;
use crate::spec::model::{ServiceSpec, UpdateOrder};
use std::collections::BTreeMap;

/// What a deployment does to a service, as far as it can be told beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The service or task.
    pub name: String,
    /// Replicas before; none: it is new.
    pub before: Option<u32>,
    /// Replicas after; none: it is removed.
    pub after: Option<u32>,
    /// What is known to change: `image v1 → v2`.
    pub facts: Vec<String>,
    /// How it is replaced.
    pub order: Option<UpdateOrder>,
}

impl Change {
    /// Of a service that a file removes.
    #[must_use]
    pub fn removed(service: &ServiceView) -> Self {
        Self {
            name: service.name.clone(),
            before: Some(service.replicas.desired),
            after: None,
            facts: vec!["removed".to_owned()],
            order: None,
        }
    }

    /// Of a service that is scaled.
    #[must_use]
    pub fn scaled(service: &ServiceView, after: u32) -> Self {
        let before = service.replicas.desired;
        let facts = if before == after { vec![] } else { vec![replicas(before, after)] };
        let (name, order) = (service.name.clone(), None);
        Self { name, before: Some(before), after: Some(after), facts, order }
    }

    /// Of a service that is another one now.
    fn seen(old: Option<&ServiceView>, new: &ServiceView) -> Self {
        let after = new.replicas.desired;
        let mut facts = Vec::new();
        match old {
            Some(old) => {
                facts.extend(image(&old.image, &new.image));
                let before = old.replicas.desired;
                facts.extend((before != after).then(|| replicas(before, after)));
            }
            None => facts.push(format!("image {}", tag(&new.image))),
        }
        let before = old.map(|old| old.replicas.desired);
        Self { name: new.name.clone(), before, after: Some(after), facts, order: None }
    }

    fn of(name: &str, old: Option<&ServiceView>, new: &ServiceSpec) -> Self {
        let mut facts = Vec::new();
        match old {
            Some(old) => {
                facts.extend(image(&old.image, &new.run.image));
                let before = old.replicas.desired;
                facts.extend((before != new.replicas).then(|| replicas(before, new.replicas)));
            }
            None => facts.push(format!("image {}", tag(&new.run.image))),
        }
        Self {
            name: name.to_owned(),
            before: old.map(|old| old.replicas.desired),
            after: Some(new.replicas),
            facts,
            order: Some(new.update.order),
        }
    }

    /// Whether it is certain that something changes.
    pub(super) fn is_certain(&self) -> bool {
        self.before.is_none() || self.after.is_none() || !self.facts.is_empty()
    }

    pub(super) fn line(&self, width: usize, ui: Ui) -> String {
        let (sign, style) = match (self.before, self.after) {
            (None, _) => ("+", GOOD),
            (_, None) => ("-", BAD),
            _ => ("~", CHANGE),
        };
        let facts = self.facts.join(", ");
        let how = self.how();
        let parts: Vec<&str> =
            [facts.as_str(), how.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        let head = format!("{sign} {:width$}", self.name);
        format!("{}  {}", ui.paint(style, &head), parts.join("   ")).trim_end().to_owned()
    }

    fn how(&self) -> String {
        let Some(order) = self.order else { return String::new() };
        let after = self.after.unwrap_or_default();
        let count = format!("{after} replica{}", if after == 1 { "" } else { "s" });
        let order = match order {
            UpdateOrder::StartFirst => "start-first",
            UpdateOrder::StopFirst => "stop-first",
        };
        match self.before {
            Some(_) => format!("{count}, {order}"),
            None => count,
        }
    }
}

fn replicas(before: u32, after: u32) -> String {
    format!("replicas {before} → {after}")
}

/// What changes in an image reference: of the same repository only the tag is said.
pub(in crate::cli::follow) fn image(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let same = split(old).0 == split(new).0;
    let (old, new) = if same { (tag(old), tag(new)) } else { (old, new) };
    Some(format!("image {old} → {new}"))
}

/// Repository and tag of a reference.
fn split(reference: &str) -> (&str, Option<&str>) {
    let name = reference.rfind('/').map_or(0, |at| at + 1);
    match reference[name..].rfind([':', '@']) {
        Some(at) => (&reference[..name + at], Some(&reference[name + at + 1..])),
        None => (reference, None),
    }
}

/// A reference's tag; the whole where it has none.
pub(in crate::cli::follow) fn tag(reference: &str) -> &str {
    split(reference).1.unwrap_or(reference)
}

/// What a file changes in its app, by service.
#[must_use]
pub fn changes(spec: &Spec, running: &[ServiceView]) -> Vec<Change> {
    let app = spec.app.as_str();
    let own: BTreeMap<&str, &ServiceView> =
        running.iter().filter(|one| one.app == app).map(|one| (one.name.as_str(), one)).collect();
    let mut all: Vec<Change> = spec
        .services
        .iter()
        .map(|(name, new)| Change::of(name.as_str(), own.get(name.as_str()).copied(), new))
        .collect();
    let gone = own.values().filter(|old| !spec.services.keys().any(|n| n.as_str() == old.name));
    all.extend(gone.map(|old| Change::removed(old)));
    all
}

/// What a revision with these images makes of what ran before; `after` is seen once it is accepted.
#[must_use]
pub fn between(
    deployment: &DeploymentView,
    before: &[ServiceView],
    after: &[ServiceView],
) -> Vec<Change> {
    let of_app = |one: &&ServiceView| one.app == deployment.app;
    let is_kept = |one: &&ServiceView| deployment.images.contains_key(&one.name);
    let was = |name: &str| before.iter().filter(of_app).find(|one| one.name == name);
    let kept = after.iter().filter(of_app).filter(is_kept);
    let gone = before.iter().filter(of_app).filter(|one| !is_kept(one));
    kept.map(|new| Change::seen(was(&new.name), new)).chain(gone.map(Change::removed)).collect()
}

//! A preview as the API's document.
//!
//! Never judges it.

use super::{Change, Effect, FieldChange, Preview, Sign, fields};
use crate::api::wire::{
    NodeReasonView, PlanChangeView, PlanFieldView, PlanPlacementView, PlanView, ReplicaChange,
};
use crate::fsm::State;
use crate::fsm::model::WorkloadSpec;
use crate::id::NodeId;
use crate::scheduler::place::{self, Refusal};

/// A preview.
#[must_use]
pub fn view(state: &State, preview: &Preview, deploy: &crate::fsm::command::Deploy) -> PlanView {
    PlanView {
        hash: preview.hash.clone(),
        app: preview.app.to_string(),
        cluster: state.cluster.as_ref().map(|c| c.name.clone()).unwrap_or_default(),
        base: preview.base.map(|revision| revision.0),
        revision: preview.next.map(|revision| revision.0),
        changes: preview
            .changes
            .iter()
            .map(|change| {
                let spec = deploy.services.get(&change.name);
                one(state, change, spec)
            })
            .collect(),
    }
}

fn one(state: &State, change: &Change, spec: Option<&WorkloadSpec>) -> PlanChangeView {
    let placed = change.placements.iter().map(|(replica, node)| PlanPlacementView {
        replica: *replica,
        node: Some(name_of(state, *node)),
        waits: None,
        nodes: Vec::new(),
    });
    let need = spec.map(|spec| place::need(spec.run())).unwrap_or_default();
    let waiting = change.unplaced.iter().map(|one| PlanPlacementView {
        replica: one.replica,
        node: None,
        waits: Some(format!("no node fits {need}")),
        nodes: one.refusals.iter().map(|(id, why)| refusal(state, *id, why)).collect(),
    });
    let (before, after) = change.replicas;
    PlanChangeView {
        name: change.name.to_string(),
        kind: if change.is_task { "task" } else { "service" }.to_owned(),
        change: sign(change.sign).to_owned(),
        effect: match change.effect {
            Effect::Start => "start",
            Effect::Replace => "replace",
            Effect::Scale => "scale",
            Effect::Nothing => "none",
            Effect::Stop => "stop",
        }
        .to_owned(),
        replicas: ReplicaChange { before, after },
        order: change.order.map(|order| fields::order(order).to_owned()),
        fields: change.fields.iter().map(field).collect(),
        placements: placed.chain(waiting).collect(),
        volumes_kept: change.kept.clone(),
    }
}

pub(super) fn field(change: &FieldChange) -> PlanFieldView {
    PlanFieldView {
        field: change.field.to_owned(),
        change: sign(change.sign).to_owned(),
        key: change.key.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
        lines: change.lines.clone(),
    }
}

pub(super) fn sign(sign: Sign) -> &'static str {
    match sign {
        Sign::Add => "add",
        Sign::Change => "change",
        Sign::Remove => "remove",
    }
}

/// Why a node doesn't take a replica.
#[must_use]
pub fn refusal(state: &State, node: NodeId, why: &Refusal) -> NodeReasonView {
    let (reason, detail) = why.parts();
    NodeReasonView { node: name_of(state, node), reason: reason.to_owned(), detail }
}

fn name_of(state: &State, id: NodeId) -> String {
    state.nodes.get(&id).map_or_else(|| id.to_string(), |node| node.name.clone())
}

//! A preview as the API's document.
//!
//! Never judges it.

use super::node_name;
use crate::api::wire::{
    self, NodeReason, NodeReasonView, PlanChangeView, PlanFieldView, PlanPlacementView, PlanView,
    ReplicaChange, WorkloadKind,
};
use crate::fsm::State;
use crate::fsm::model::WorkloadSpec;
use crate::id::NodeId;
use crate::scheduler::place::{self, Refusal};
use crate::scheduler::preview::{Change, Effect, FieldChange, Preview, Sign};
use crate::spec::model::UpdateOrder;

/// A preview.
#[must_use]
pub fn plan(state: &State, preview: &Preview, deploy: &crate::fsm::command::Deploy) -> PlanView {
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
        node: Some(node_name(state, *node)),
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
        kind: if change.is_task { WorkloadKind::Task } else { WorkloadKind::Service },
        change: change.sign.into(),
        effect: match change.effect {
            Effect::Start => wire::Effect::Start,
            Effect::Replace => wire::Effect::Replace,
            Effect::Scale => wire::Effect::Scale,
            Effect::Nothing => wire::Effect::None,
            Effect::Stop => wire::Effect::Stop,
        },
        replicas: ReplicaChange { before, after },
        order: change.order.map(|order| match order {
            UpdateOrder::StartFirst => wire::UpdateOrder::StartFirst,
            UpdateOrder::StopFirst => wire::UpdateOrder::StopFirst,
        }),
        fields: change.fields.iter().map(field).collect(),
        placements: placed.chain(waiting).collect(),
        volumes_kept: change.kept.clone(),
    }
}

pub(super) fn field(change: &FieldChange) -> PlanFieldView {
    PlanFieldView {
        field: change.field.to_owned(),
        change: change.sign.into(),
        key: change.key.clone(),
        before: change.before.clone(),
        after: change.after.clone(),
        lines: change.lines.clone(),
    }
}

impl From<Sign> for wire::Change {
    fn from(sign: Sign) -> Self {
        match sign {
            Sign::Add => Self::Add,
            Sign::Change => Self::Change,
            Sign::Remove => Self::Remove,
        }
    }
}

impl From<&Refusal> for NodeReason {
    fn from(why: &Refusal) -> Self {
        match why {
            Refusal::Draining => Self::Draining,
            Refusal::Down => Self::Down,
            Refusal::Silent => Self::Silent,
            Refusal::Degraded => Self::Degraded,
            Refusal::Constraint { .. } => Self::Constraint,
            Refusal::Volume { .. } | Refusal::Moving { .. } | Refusal::Attached { .. } => {
                Self::Volume
            }
            Refusal::Cpu { .. } => Self::Cpu,
            Refusal::Memory { .. } => Self::Memory,
        }
    }
}

/// Why a node doesn't take a replica.
#[must_use]
pub fn refusal(state: &State, node: NodeId, why: &Refusal) -> NodeReasonView {
    NodeReasonView { node: node_name(state, node), reason: why.into(), detail: why.detail() }
}

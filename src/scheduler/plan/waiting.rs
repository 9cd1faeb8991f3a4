//! Replicas that fit no node: who waits, and that whoever follows the deployment is told, once.
//!
//! Never decides how long they may wait: that is `judge`.

use super::Context;
use crate::fsm::command::Action;
use crate::fsm::model::Deployment;
use crate::id::{NodeId, WorkloadName};
use crate::scheduler::place::{self, Refusal};

/// A replica whose turn it is and that fits no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    pub service: WorkloadName,
    pub replica: u32,
    /// Why each node doesn't take it.
    pub refusals: Vec<(NodeId, Refusal)>,
    /// It has a place as soon as what its deployment removes has made room.
    pub gets_room: bool,
}

impl Unplaced {
    pub(super) fn new(
        service: &WorkloadName,
        replica: u32,
        refusals: Vec<(NodeId, Refusal)>,
    ) -> Self {
        Self { service: service.clone(), replica, refusals, gets_room: false }
    }
}

impl Context<'_> {
    /// Tells it once a service and deployment.
    pub(super) fn tell_waiting(
        &mut self,
        deployment: &Deployment,
        service: &WorkloadName,
        refusals: &str,
        gets_room: bool,
    ) {
        let mut told = deployment.progress.values().filter(|step| step.is_waiting());
        if told.any(|step| step.service == *service) {
            return;
        }
        let who: Vec<String> = self
            .unplaced
            .iter()
            .filter(|one| one.service == *service)
            .map(|one| format!("{service}-{}", one.replica))
            .collect();
        let spec = self.state.apps.get(&deployment.app).and_then(|app| {
            let target = app.services.get(service)?.target.as_ref()?;
            self.state.spec(target)
        });
        let need = spec.map(|spec| place::need(spec.spec.run())).unwrap_or_default();
        let verb = if who.len() == 1 { "waits" } else { "wait" };
        let until = if gets_room { " until what is removed makes room" } else { "" };
        let who = who.join(", ");
        let message = format!("{who} {verb}{until}: no node fits {need}: {refusals}");
        let (revision, service) = (deployment.revision, service.clone());
        self.actions.push(Action::Wait { revision, service, message });
    }
}

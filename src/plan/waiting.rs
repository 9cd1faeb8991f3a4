//! Replicas that fit no node: who waits, and that whoever follows the deployment is told, once.
//!
//! Never decides how long they may wait: that is `judge`.

use super::Context;
use crate::fsm::command::Action;
use crate::fsm::model::Deployment;
use crate::id::{NodeId, WorkloadName};
use crate::place::{self, Refusal};

/// A replica whose turn it is and that fits no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// The service.
    pub service: WorkloadName,
    /// Which replica.
    pub replica: u32,
    /// Why each node doesn't take it.
    pub refusals: Vec<(NodeId, Refusal)>,
}

impl Context<'_> {
    /// Tells it once a service and deployment.
    pub(super) fn tell_waiting(
        &mut self,
        deployment: &Deployment,
        service: &WorkloadName,
        refusals: &str,
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
        let message = format!("{} {verb}: no node fits {need}: {refusals}", who.join(", "));
        let (revision, service) = (deployment.revision, service.clone());
        self.actions.push(Action::Wait { revision, service, message });
    }
}

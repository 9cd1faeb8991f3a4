//! Words of the state as words of documents.
//!
//! Never shows them.

use crate::api::wire::{
    AllocationHealth, AllocationStatus, CertificateSource, DeploymentKind, DeploymentPhase,
    DeploymentStatus, ExitReason, NodeStatus, Role, RunCause,
};
use crate::fsm::certificates::Source;
use crate::fsm::model::{self, DeployKind, DeployStatus, Health, HookWhen, Phase, ProgressPhase};

impl From<Phase> for AllocationStatus {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Pending => Self::Pending,
            Phase::Pulling => Self::Pulling,
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Backoff => Self::Backoff,
            Phase::Stopping => Self::Stopping,
            Phase::Stopped => Self::Stopped,
            Phase::Failed => Self::Failed,
            Phase::Lost => Self::Lost,
        }
    }
}

impl From<Health> for AllocationHealth {
    fn from(health: Health) -> Self {
        match health {
            Health::None => Self::None,
            Health::Checking => Self::Checking,
            Health::Healthy => Self::Healthy,
            Health::Unhealthy => Self::Unhealthy,
        }
    }
}

impl From<model::ExitReason> for ExitReason {
    fn from(reason: model::ExitReason) -> Self {
        match reason {
            model::ExitReason::Completed => Self::Completed,
            model::ExitReason::Error => Self::Error,
            model::ExitReason::Oom => Self::Oom,
            model::ExitReason::Timeout => Self::Timeout,
            model::ExitReason::Killed => Self::Killed,
            model::ExitReason::Lost => Self::Lost,
            model::ExitReason::StartFailed => Self::StartFailed,
            model::ExitReason::PullFailed => Self::PullFailed,
        }
    }
}

impl From<DeployKind> for DeploymentKind {
    fn from(kind: DeployKind) -> Self {
        match kind {
            DeployKind::Up => Self::Up,
            DeployKind::Down => Self::Down,
            DeployKind::Scale => Self::Scale,
            DeployKind::Rollback => Self::Rollback,
        }
    }
}

impl From<DeployStatus> for DeploymentStatus {
    fn from(status: DeployStatus) -> Self {
        match status {
            DeployStatus::Running => Self::Running,
            DeployStatus::Succeeded => Self::Succeeded,
            DeployStatus::Failed => Self::Failed,
            DeployStatus::Aborted => Self::Aborted,
            DeployStatus::Superseded => Self::Superseded,
        }
    }
}

impl From<ProgressPhase> for DeploymentPhase {
    fn from(phase: ProgressPhase) -> Self {
        match phase {
            ProgressPhase::Started => Self::Started,
            ProgressPhase::Pulling => Self::Pulling,
            ProgressPhase::Scheduled => Self::Scheduled,
            ProgressPhase::Starting => Self::Starting,
            ProgressPhase::Healthy => Self::Healthy,
            ProgressPhase::Unhealthy => Self::Unhealthy,
            ProgressPhase::Routed => Self::Routed,
            ProgressPhase::Retrying | ProgressPhase::Waiting => Self::Retrying,
            ProgressPhase::Stopped => Self::Stopped,
            ProgressPhase::Failed => Self::Failed,
            ProgressPhase::Canary => Self::Canary,
        }
    }
}

impl From<model::NodeStatus> for NodeStatus {
    fn from(status: model::NodeStatus) -> Self {
        match status {
            model::NodeStatus::Ready => Self::Ready,
            model::NodeStatus::Draining => Self::Draining,
            model::NodeStatus::Down => Self::Down,
        }
    }
}

impl From<HookWhen> for RunCause {
    fn from(when: HookWhen) -> Self {
        match when {
            HookWhen::Before => Self::BeforeDeploy,
            HookWhen::After => Self::AfterDeploy,
        }
    }
}

impl From<Source> for CertificateSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Acme => Self::Acme,
            Source::Import => Self::Import,
        }
    }
}

impl From<model::Role> for Role {
    fn from(role: model::Role) -> Self {
        match role {
            model::Role::Admin => Self::Admin,
            model::Role::Deploy => Self::Deploy,
            model::Role::Read => Self::Read,
            model::Role::Join => Self::Join,
        }
    }
}

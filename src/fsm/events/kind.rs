//! What can happen, by name.
//!
//! Owns the names that people and programs see; one that was given is never used for another thing.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A revision was accepted.
    DeploymentAccepted,
    /// A deployment waits: no node fits a replica.
    DeploymentWaiting,
    /// A deployment failed and its services are on their way back.
    DeploymentReverting,
    /// A deployment succeeded.
    DeploymentSucceeded,
    /// A deployment failed.
    DeploymentFailed,
    /// A newer revision took a deployment's place.
    DeploymentSuperseded,
    /// A rollback ended a deployment.
    DeploymentAborted,
    /// A canary's replicas work: from now on their requests are compared.
    CanaryStarted,
    /// A canary runs on, for it got too few requests.
    CanaryExtended,
    /// A canary was good, or a person said so: the rest is replaced.
    CanaryPromoted,
    /// A canary was worse than what it was to replace, or a person said so.
    CanaryTakenBack,
    /// A service is being replaced without a revision.
    ServiceRestarting,
    /// An allocation was given a node.
    AllocationPlaced,
    /// An allocation's program runs.
    AllocationRunning,
    /// An allocation is healthy.
    AllocationHealthy,
    /// An allocation's health check fails.
    AllocationUnhealthy,
    /// An allocation's program ended by itself.
    AllocationExited,
    /// An allocation's next attempt began.
    AllocationRestarting,
    /// An allocation ended as asked.
    AllocationStopped,
    /// An allocation failed and is not tried again.
    AllocationFailed,
    /// An allocation went with its node.
    AllocationLost,
    /// An allocation did not work where it was: another node is tried.
    AllocationGivenUp,
    /// A node did not settle a draining in time: the stop no longer waits for it.
    DrainUnsettled,
    /// A node became a member.
    NodeJoined,
    /// A node began a life.
    NodeRegistered,
    /// A node takes allocations again.
    NodeUp,
    /// A node gives its allocations away.
    NodeDraining,
    /// A node is lost: nothing was heard of it for too long.
    NodeDown,
    /// A node is silent and not taken for lost yet.
    NodeSilent,
    /// A silent node is heard again.
    NodeHeard,
    /// A node's containerd doesn't answer.
    NodeDegraded,
    /// A node's containerd answers again.
    NodeRecovered,
    /// A node's labels were changed.
    NodeLabelled,
    /// A node votes now.
    NodeVoter,
    /// A node receives the log and doesn't vote.
    NodeLearner,
    /// A node is no member any more.
    NodeRemoved,
    /// A token was made.
    TokenCreated,
    /// A token was taken back.
    TokenRevoked,
    /// A host has its first certificate.
    CertificateIssued,
    /// A host has its next certificate.
    CertificateRenewed,
    /// A person brought a host's certificate.
    CertificateImported,
    /// An order for a host has failed.
    CertificateFailed,
    /// A host was paused, or its message changed.
    RoutePaused,
    /// A host was resumed.
    RouteResumed,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

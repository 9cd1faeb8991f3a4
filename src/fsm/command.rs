//! What can be asked of the replicated machine, and what it answers.
//!
//! Owns the shapes of log entries' commands. Never carries out any.

mod canary;
mod node;
mod outcome;
mod spawn;

pub use canary::{CanaryEnd, CanaryStep};
pub use node::{Init, Join, Members, Notice, Reach, Register, Sign};
pub use outcome::{Outcome, Rejection};
pub use spawn::{Spawn, Spawned};

use super::backups::BackupChange;
use super::certificates::CertificateChange;
use super::keys::Rotate;
use super::loaded::ImageChange;
use super::mesh::MeshPlace;
use super::model::{
    AllocationStatus, DeployKind, DeployStatus, Exit, HookWhen, Role, WorkloadSpec,
};
use super::routes::RouteChange;
use super::secrets::SecretChange;
use super::volumes::VolumeChange;
use crate::id::{AllocId, AppName, BootId, NodeId, Revision, SpecHash, TokenId, WorkloadName};
use crate::secret::Sealed;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The feature level of what this version adds to the log and to `apply`.
pub const NEXT_LEVEL: u32 = 3;
/// The feature level of this build's commands: an entry that needs more halts an older node.
pub const FEATURE_LEVEL: u32 = NEXT_LEVEL;

/// A command with everything that `apply` may not look up itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The leader's time when it was proposed.
    pub time: Timestamp,
    /// Who proposed it, for effects exactly once. Sequence 0: no record is kept.
    pub session: SessionStep,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// What to do.
    pub command: Command,
}

/// A proposal's place in its proposer's sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStep {
    /// The proposing node.
    pub node: NodeId,
    /// Its life.
    pub boot: BootId,
    /// Number of the proposal, from 1; 0: no record.
    pub seq: u64,
    /// The proposer has seen the outcome of everything below.
    pub low_water: u64,
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first entry of a cluster.
    Init(Init),
    /// A node began a life: it says what it has.
    Register(Register),
    /// A node asks to become a member; its name may be that of one that is down, whose place it
    /// takes.
    Join(Join),
    /// The configuration of raft is this now. Rides as the context of the entry that changes it.
    Members(Members),
    /// Set labels of a node, or take them away.
    Label {
        node: NodeId,
        /// By label: its value, or none to take it away.
        labels: BTreeMap<String, Option<String>>,
    },
    /// Give a node's work to others.
    Drain {
        node: NodeId,
        /// When runs of tasks that are still on are ended; absent: they finish.
        deadline: Option<Timestamp>,
    },
    /// Let a node take work again.
    Undrain { node: NodeId },
    /// Make a node no member any more.
    Remove { node: NodeId },
    /// Let entries need a higher feature level, which every node knows.
    Raise { level: u32 },
    /// Change the keyring.
    Rotate(Rotate),
    /// A node is silent: what runs there is lost.
    NodeDown {
        node: NodeId,
        /// The life of it that is meant.
        boot: BootId,
    },
    /// Something is wrong with a node that is there, or no longer. Needs level 3.
    Notice(Notice),
    /// Nobody led since then: that counts for no deadline. Needs level 3.
    Standstill {
        /// The last moment of a leader.
        from: Timestamp,
    },
    /// A new revision of an app.
    Deploy(Deploy),
    /// Replace every replica of a service, within its update policy.
    RestartService { service: WorkloadName },
    /// Replace these replicas, within their services' update policies: the placer spreads them.
    /// Needs level 3.
    Move { allocations: BTreeSet<AllocId> },
    /// Start the next attempt of an allocation.
    RestartAllocation { allocation: AllocId },
    /// Run a task, or an image, once.
    Spawn(Spawn),
    /// End a task's run.
    Kill { run: AllocId },
    /// What plan found to do.
    Steps(Steps),
    /// What a node saw.
    Report(Report),
    /// Let a token in.
    CreateToken {
        /// Its public part.
        id: TokenId,
        /// What it may do.
        role: Role,
        /// SHA-256 of the whole, hexadecimal.
        hash: String,
        /// When it ends.
        expires_at: Option<Timestamp>,
    },
    /// Let a token in that may be used so often only. Needs [`NEXT_LEVEL`].
    GrantToken(GrantToken),
    /// Let a token in no more.
    RevokeToken { id: TokenId },
    /// Be somebody to a registry.
    SetLogin {
        /// Its host, perhaps with a port.
        registry: String,
        /// The name.
        user: String,
        /// The password, sealed for that registry.
        password: Sealed,
    },
    /// Be nobody to a registry.
    RemoveLogin {
        /// Its host, perhaps with a port.
        registry: String,
    },
    /// Change the loaded images. Needs level 2.
    Images(ImageChange),
    /// A node says where it is in the mesh. Needs level 3.
    Mesh(MeshPlace),
    /// Let every node change its key of the mesh. Needs level 3.
    RotateMesh,
    /// Change the secrets. Needs level 3.
    Secrets(SecretChange),
    /// Change the volumes. Needs level 3.
    Volumes(VolumeChange),
    /// Change the certificates of hosts. Needs level 3.
    Certificates(CertificateChange),
    /// Change the routes beside what files say. Needs level 3.
    Routes(RouteChange),
    /// A person ends the canaries of an app. Needs [`NEXT_LEVEL`].
    Canary(CanaryEnd),
    /// Change the backups on a schedule. Needs level 3.
    Backups(BackupChange),
    /// What an entry of the log holds that is no command: refused, the same on every node. Never
    /// written.
    #[serde(skip)]
    Unreadable,
}

impl Command {
    /// The feature level that every node must have for this command. The leader appends none that
    /// needs more than the cluster has: a node that doesn't know it could not go on.
    #[must_use]
    pub fn needs(&self) -> u32 {
        match self {
            Self::Images(_) => super::loaded::LOADED_LEVEL,
            Self::Secrets(_) => super::secrets::SECRETS_LEVEL,
            Self::Notice(_) | Self::Standstill { .. } | Self::Routes(_) | Self::Move { .. } => {
                NEXT_LEVEL
            }
            Self::Steps(steps) if steps.actions.iter().any(Action::is_next) => NEXT_LEVEL,
            Self::Deploy(deploy) if deploy.is_next() => NEXT_LEVEL,
            Self::Canary(_) => NEXT_LEVEL,
            Self::Mesh(_) | Self::RotateMesh => super::mesh::MESH_LEVEL,
            Self::Volumes(_) => super::volumes::VOLUMES_LEVEL,
            Self::Certificates(_) => super::certificates::CERTIFICATES_LEVEL,
            Self::Backups(_) => super::backups::BACKUPS_LEVEL,
            Self::GrantToken(_) | Self::Join(Join { token: Some(_), .. }) => NEXT_LEVEL,
            _ => 0,
        }
    }
}

/// A token that is let in from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantToken {
    /// Its public part.
    pub id: TokenId,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the whole, hexadecimal.
    pub hash: String,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How many nodes it lets in; absent: any number.
    pub uses: Option<u32>,
}

/// A new revision of an app: all of it, so that it needs no reading of what was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// Whose revision.
    pub app: AppName,
    /// How it came about.
    pub kind: DeployKind,
    /// The revision that the caller saw; another one now is a conflict. Absent: whatever is.
    pub base: Option<Revision>,
    /// Every service with its pinned image.
    pub services: BTreeMap<WorkloadName, WorkloadSpec>,
    /// Every task with its pinned image.
    pub tasks: BTreeMap<WorkloadName, WorkloadSpec>,
    /// The file, or the app's last one where none was given.
    pub file: String,
    /// It may share no name with what the app runs.
    pub replace: bool,
    /// The hash of the plan that it must be: anything else now is a conflict.
    #[serde(default)]
    pub plan: Option<String>,
}

impl Deploy {
    /// Whether a service says what earlier versions don't know.
    fn is_next(&self) -> bool {
        let mut services = self.services.values().filter_map(WorkloadSpec::service);
        services.any(|service| {
            let has_options = service.routes.iter().any(|route| !route.options.is_plain());
            has_options || service.update.canary.is_some() || service.health.host.is_some()
        })
    }
}

/// What plan found to do, all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// The version of each app that it was planned against; another one now makes it stale.
    pub planned: BTreeMap<AppName, u64>,
    /// In order.
    pub actions: Vec<Action>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Give a replica a node.
    Place(Place),
    /// Send nothing new to an allocation.
    Drain { allocation: AllocId },
    /// Every ready node has settled an allocation's draining.
    Settled { allocation: AllocId },
    /// Every ready node leads traffic to an allocation. Needs [`NEXT_LEVEL`].
    Routed { allocation: AllocId },
    /// End an allocation.
    Stop { allocation: AllocId },
    /// A replica does not work where it is: another node is tried. Needs level 3.
    GiveUp {
        allocation: AllocId,
        why: String,
        /// It may be the program's fault.
        is_program: bool,
    },
    /// Drop the record of an ended allocation.
    Forget { allocation: AllocId },
    /// A replica of a deployment's service fits no node: say so.
    Wait {
        /// Which deployment.
        revision: Revision,
        service: WorkloadName,
        /// Which replicas, and every node's reason.
        message: String,
    },
    /// A service's canary goes a step on. Needs [`NEXT_LEVEL`].
    Canary {
        /// Which deployment.
        revision: Revision,
        service: WorkloadName,
        step: CanaryStep,
    },
    /// A deployment failed: turn its services back to what was stable.
    Revert {
        /// Which deployment.
        revision: Revision,
        /// The service that failed.
        service: WorkloadName,
        reason: String,
    },
    /// A deployment has come to its end.
    Finish {
        revision: Revision,
        /// How.
        status: DeployStatus,
        /// Services whose way back failed too.
        degraded: Vec<WorkloadName>,
    },
    /// A step of a task's run or schedule.
    Run(RunAction),
}

impl Action {
    /// It came with [`NEXT_LEVEL`].
    fn is_next(&self) -> bool {
        matches!(self, Self::GiveUp { .. } | Self::Canary { .. } | Self::Routed { .. })
    }
}

/// One thing to do about tasks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunAction {
    /// Give a waiting run a node.
    Place { run: AllocId, node: NodeId },
    /// A waiting run can't be placed.
    Fail {
        run: AllocId,
        /// Why.
        exit: Exit,
    },
    /// A run has lost its purpose.
    Kill { run: AllocId },
    /// Drop the record of an ended run.
    Forget { run: AllocId },
    /// A schedule has come true.
    Fire {
        task: WorkloadName,
        /// When.
        due: Timestamp,
        /// The new run's id; absent: the last one is not over, so this one is skipped.
        run: Option<AllocId>,
    },
    /// A deployment's task begins.
    Hook {
        /// Which deployment.
        revision: Revision,
        /// Before or after the rollout.
        when: HookWhen,
        /// The service that names it.
        service: WorkloadName,
        task: WorkloadName,
        /// The new run's id.
        run: AllocId,
    },
}

/// A placement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The new id, made by the proposer.
    pub id: AllocId,
    /// The service.
    pub workload: WorkloadName,
    pub replica: u32,
    pub node: NodeId,
    pub spec: SpecHash,
    /// In whose place.
    pub replaces: Option<AllocId>,
}

/// A batch of what a node saw; the latest wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub node: NodeId,
    /// In which life.
    pub boot: BootId,
    /// Number of the batch in this life, from 1.
    pub seq: u64,
    /// By allocation.
    pub allocations: BTreeMap<AllocId, AllocationStatus>,
}

//! The root actor: its state is the replicated machine; it supervises everything else.
//!
//! Owns the lap: proposals down to raft, committed entries through `apply`, views out to the
//! children. Never does I/O, encodes or hashes: that would hold up the lap.

use crate::fsm::{Command, Outcome, Rejection, State, Touched};
use crate::id::{AllocId, BootId, Index, NodeId};
use crate::units::{Bytes, MilliCpu};
use ractor::{ActorRef, RpcReplyPort};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What root is told and asked.
pub enum Msg {
    /// Change the state: answered after the entry was applied, or with the reason why it was not.
    Propose(Proposal),
    /// A child has made true what it saw at this index.
    Settled {
        /// Which child.
        child: Child,
        /// Up to where.
        index: Index,
    },
    /// Usage of this node's allocations, answered by the container actor.
    Usage(RpcReplyPort<NodeUsage>),
    /// Confirm that this node's view is the newest: answered with the index to wait for.
    ReadIndex(RpcReplyPort<Option<Index>>),
}

/// A change that somebody wants.
pub struct Proposal {
    /// What to do.
    pub command: Command,
    /// The caller's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// For the answer.
    pub reply: RpcReplyPort<Result<Done, ProposeError>>,
}

/// A change that was carried out.
#[derive(Clone, Debug)]
pub struct Done {
    /// The entry's index.
    pub index: Index,
    /// What it answered.
    pub outcome: Outcome,
}

/// Why a change was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProposeError {
    /// The state does not allow it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No leader answers.
    #[error("no leader: changes are refused")]
    NoLeader,
    /// Too much is on its way.
    #[error("too many changes are on their way: try again")]
    Overloaded,
    /// The command is too large for the log.
    #[error("the change is too large for the log")]
    TooLarge,
    /// The node is about to end.
    #[error("the node is stopping")]
    Stopping,
}

/// The children of root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Child {
    /// Consensus.
    Raft,
    /// The HTTP API.
    Api,
    /// The planner's shell.
    Scheduler,
    /// The node's containers.
    Container,
}

/// The state as a child gets it.
#[derive(Clone, Debug)]
pub struct View {
    /// The last applied entry.
    pub index: Index,
    /// The whole state.
    pub state: Arc<State>,
    /// What changed since the last view that this child settled.
    pub touched: Arc<Touched>,
    /// The applied index has reached a commit index that a leader confirmed in this boot: only then
    /// may containers be created or removed.
    pub current: bool,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub boot: BootId,
}

/// What this node's allocations use.
#[derive(Clone, Debug, Default)]
pub struct NodeUsage {
    /// By allocation: cores and memory.
    pub allocations: BTreeMap<AllocId, (MilliCpu, Bytes)>,
    /// The whole machine.
    pub node: (MilliCpu, Bytes),
}

/// What a child holds: the way to root and nothing else.
pub type RootRef = ActorRef<Msg>;

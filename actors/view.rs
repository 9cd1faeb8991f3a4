//! The state as root hands it to its children.
//!
//! Owns what they are told with it. Never changes it.

use crate::fsm;
use crate::id::{BootId, Index, NodeId};
use crate::units::Timestamp;
use std::sync::Arc;
use std::time::Instant;

/// The state as a child gets it. Every child answers each with `Settled`.
#[derive(Clone, Debug)]
pub struct View {
    /// The last applied entry.
    pub index: Index,
    /// The whole state.
    pub state: Arc<fsm::State>,
    /// What changed since the last view that this child settled.
    pub touched: Arc<fsm::Touched>,
    /// The applied index has reached a commit index that a leader confirmed in this boot: only then
    /// may containers be created or removed.
    pub current: bool,
    /// Who leads, if that is known.
    pub leader: Option<NodeId>,
    /// This node.
    pub node: NodeId,
    /// This life of it.
    pub boot: BootId,
    /// Another member has said that this node was removed: what the state assigns to it counts no
    /// more.
    pub removed: bool,
    /// Replicated time and when it was read, while this node leads and may plan by it.
    pub time: Option<(Timestamp, Instant)>,
}

impl View {
    /// The cluster knows this life of the node and doesn't count it as lost.
    #[must_use]
    pub fn is_let_in(&self) -> bool {
        let node = self.state.nodes.get(&self.node);
        node.is_some_and(|node| node.boot == self.boot && node.is_up())
    }
}

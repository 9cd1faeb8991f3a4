//! The nodes' places in the mesh: their public keys and ports.
//!
//! Owns when the mesh begins. Never holds a private key.

use super::allocation::not_found;
use super::command::NEXT_LEVEL;
use super::model::Node;
use super::{Outcome, Rejection, State, Touched};
use crate::id::{BootId, NodeId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The feature level from which on nodes have keys of the mesh; before it their containers are
/// routed to as they are.
pub const MESH_LEVEL: u32 = NEXT_LEVEL;

/// A WireGuard public key; base64 where it is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MeshKey([u8; 32]);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of the mesh is 32 bytes in base64")]
pub struct NoMeshKey;

impl MeshKey {
    /// The key of these bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl TryFrom<String> for MeshKey {
    type Error = NoMeshKey;

    fn try_from(text: String) -> Result<Self, NoMeshKey> {
        let bytes = BASE64.decode(text).map_err(|_| NoMeshKey)?;
        bytes.try_into().map(Self).map_err(|_| NoMeshKey)
    }
}

impl From<MeshKey> for String {
    fn from(key: MeshKey) -> Self {
        BASE64.encode(key.0)
    }
}

impl fmt::Display for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from(*self))
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a node is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPart {
    /// Its public key; the private one never leaves the node.
    pub key: MeshKey,
    /// Its UDP port, at its address.
    pub port: u16,
    /// Which of the cluster's rotations of keys this key came with.
    #[serde(default, skip_serializing_if = "is_first")]
    pub rotation: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
pub(super) fn is_first(rotation: &u64) -> bool {
    *rotation == 0
}

/// A node says where it is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshPlace {
    pub node: NodeId,
    /// The life of it that says so.
    pub boot: BootId,
    /// Where it is.
    pub part: MeshPart,
}

impl State {
    /// Whether nodes say where they are in the mesh.
    #[must_use]
    pub fn knows_mesh(&self) -> bool {
        self.level() >= MESH_LEVEL
    }

    /// A node's place is this from now on. A key that another node has is refused: packets would
    /// go to either.
    pub(super) fn place_in_mesh(
        &mut self,
        place: MeshPlace,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let id = place.node;
        let old = self.nodes.get(&id).ok_or_else(|| not_found("node", &id.to_string()))?;
        let mut others = self.nodes.values().filter(|other| other.id != id);
        let is_taken = others.any(|other| other.mesh.is_some_and(|m| m.key == place.part.key));
        if !self.knows_mesh() || old.boot != place.boot || is_taken || place.part.port == 0 {
            return Err(Rejection::Stale);
        }
        let mut node = (**old).clone();
        node.mesh = Some(place.part);
        self.nodes.insert(id, Arc::new(node));
        self.begin_mesh();
        touched.nodes = true;
        Ok(Outcome::Done)
    }

    /// Every node is to make another key, and say so.
    pub(super) fn rotate_mesh(&mut self, touched: &mut Touched) -> Result<Outcome, Rejection> {
        if !self.meshed {
            let what = "not every node has had a key of the mesh yet".to_owned();
            return Err(Rejection::Illegal { what });
        }
        self.mesh_rotation += 1;
        touched.nodes = true;
        Ok(Outcome::Done)
    }

    /// The nodes that still have a key from before the last rotation.
    pub fn behind_in_mesh(&self) -> impl Iterator<Item = &Arc<Node>> {
        let behind = |node: &&Arc<Node>| {
            node.mesh.is_none_or(|part| part.rotation < self.mesh_rotation) && self.meshed
        };
        self.nodes.values().filter(behind)
    }

    /// Once every node has a key, containers of other nodes are reached through the mesh only. For
    /// good: a node that joins later has to bring its key before it is reached.
    pub(super) fn begin_mesh(&mut self) {
        let all = self.nodes.values().all(|node| node.mesh.is_some());
        self.meshed |= self.knows_mesh() && all && !self.nodes.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::{Command, Register};
    use crate::fsm::{Entry, SessionStep, apply, fixture};
    use crate::id::Index;
    use crate::units::Timestamp;

    struct Cluster(State);

    impl Cluster {
        fn new() -> Self {
            let mut cluster = Self(State::default());
            cluster.ok(Command::Init(fixture::init()));
            cluster.register(1);
            cluster.ok(Command::Join(fixture::join("n2", "k2")));
            cluster.register(2);
            cluster
        }

        fn register(&mut self, id: u64) {
            let boot = BootId(id);
            let node = Register { node: NodeId(id), boot, feature_level: 3, ..fixture::register() };
            self.ok(Command::Register(node));
        }

        fn run(&mut self, command: Command) -> Result<Outcome, Rejection> {
            let index = Index(self.0.index.0 + 1);
            let session = SessionStep::default();
            let entry = Entry { time: Timestamp(1), session, idempotency_key: None, command };
            apply(&mut self.0, index, entry).outcome
        }

        fn ok(&mut self, command: Command) {
            self.run(command).unwrap();
        }

        fn place(&mut self, id: u64, boot: u64, key: u8) -> Result<Outcome, Rejection> {
            let part = MeshPart { key: MeshKey::new([key; 32]), port: 51_820, rotation: 0 };
            self.run(Command::Mesh(MeshPlace { node: NodeId(id), boot: BootId(boot), part }))
        }
    }

    #[test]
    fn the_mesh_begins_when_every_node_has_a_key_and_never_ends() {
        let mut cluster = Cluster::new();
        assert_eq!(cluster.place(1, 1, 1), Err(Rejection::Stale), "the level is not raised");
        cluster.ok(Command::Raise { level: MESH_LEVEL });
        cluster.place(1, 1, 1).unwrap();
        assert!(!cluster.0.meshed);
        assert_eq!(cluster.place(2, 2, 1), Err(Rejection::Stale), "the key of another node");
        assert_eq!(cluster.place(2, 9, 2), Err(Rejection::Stale), "an earlier life");
        cluster.place(2, 2, 2).unwrap();
        assert!(cluster.0.meshed);
        cluster.ok(Command::Join(fixture::join("n3", "k3")));
        assert!(cluster.0.meshed && cluster.0.nodes[&NodeId(3)].mesh.is_none());
        let again = State::decode(&cluster.0.encode().unwrap()).unwrap();
        assert_eq!(again.hash(), cluster.0.hash());
        assert_eq!(again.nodes[&NodeId(2)].mesh.unwrap().key, MeshKey::new([2; 32]));
    }

    #[test]
    fn the_last_node_without_a_key_goes_and_the_mesh_begins() {
        let mut cluster = Cluster::new();
        cluster.ok(Command::Raise { level: MESH_LEVEL });
        cluster.place(1, 1, 1).unwrap();
        cluster.ok(Command::NodeDown { node: NodeId(2), boot: BootId(2) });
        cluster.ok(Command::Remove { node: NodeId(2) });
        assert!(cluster.0.meshed);
    }

    #[test]
    fn keys_are_changed_when_asked_for_and_when_a_node_goes() {
        let mut cluster = Cluster::new();
        let early = cluster.run(Command::RotateMesh).unwrap_err();
        assert!(early.to_string().contains("not every node"), "{early}");
        cluster.ok(Command::Raise { level: MESH_LEVEL });
        cluster.place(1, 1, 1).unwrap();
        cluster.place(2, 2, 2).unwrap();
        let behind = |cluster: &Cluster| -> Vec<u64> {
            cluster.0.behind_in_mesh().map(|node| node.id.0).collect()
        };
        assert_eq!(behind(&cluster), [0; 0]);
        cluster.ok(Command::RotateMesh);
        assert_eq!(behind(&cluster), [1, 2]);
        let part = MeshPart { key: MeshKey::new([11; 32]), port: 51_820, rotation: 1 };
        cluster.ok(Command::Mesh(MeshPlace { node: NodeId(1), boot: BootId(1), part }));
        assert_eq!(behind(&cluster), [2]);
        cluster.ok(Command::NodeDown { node: NodeId(2), boot: BootId(2) });
        cluster.ok(Command::Remove { node: NodeId(2) });
        assert_eq!((cluster.0.mesh_rotation, behind(&cluster)), (2, vec![1]));
    }

    #[test]
    fn a_key_is_32_bytes_in_base64() {
        let key = MeshKey::new([7; 32]);
        assert_eq!(MeshKey::try_from(key.to_string()), Ok(key));
        for bad in ["", "AAAA", "not base64!"] {
            assert_eq!(MeshKey::try_from(bad.to_owned()), Err(NoMeshKey));
        }
    }
}

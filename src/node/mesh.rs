//! The mesh as a node has to make it: its peers, and what is reached through it.
//!
//! Owns what the state says of it. Never knows a private key or an interface.

use crate::fsm::mesh::{MeshKey, MeshPart, MeshPlace};
use crate::fsm::model::Node;
use crate::fsm::{Command, State};
use crate::id::{BootId, NodeId};
use crate::limits::{MESH_MTU_MAX, MESH_MTU_MIN, MESH_OVERHEAD, MESH_SILENT};
use crate::network::Subnet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Another node in the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub node: NodeId,
    pub name: String,
    /// Where it is; none where its address is a name: then it calls.
    pub endpoint: Option<SocketAddr>,
    /// The addresses of its containers.
    pub range: Subnet,
}

/// How the containers of another node are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through the node at this address, as they are.
    Plain(Ipv4Addr),
    /// Through the mesh, to the node at this address if it has one of IPv4.
    Mesh(Option<Ipv4Addr>),
}

impl Way {
    /// The node's address.
    #[must_use]
    pub fn address(self) -> Option<Ipv4Addr> {
        match self {
            Self::Plain(address) => Some(address),
            Self::Mesh(address) => address,
        }
    }
}

/// How another node is heard in the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Seconds since the last handshake; none since this node's mesh is up.
    pub handshake: Option<u64>,
    /// Seconds since it was made a peer.
    pub known: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
    /// Packets that could not be sent, or were refused.
    pub dropped: u64,
}

impl Figures {
    /// Nothing was heard for longer than a session lasts.
    #[must_use]
    pub fn is_silent(self) -> bool {
        self.handshake.unwrap_or(self.known) >= MESH_SILENT.as_secs()
    }
}

/// The other nodes that have a key, by it.
#[must_use]
pub fn peers(state: &State, node: NodeId) -> BTreeMap<MeshKey, Peer> {
    let peer = |other: &Arc<Node>| {
        let part = other.mesh?;
        let address: Option<IpAddr> = other.address.parse().ok();
        let peer = Peer {
            node: other.id,
            name: other.name.clone(),
            endpoint: address.map(|address| SocketAddr::new(address, part.port)),
            range: Subnet::node(other.subnet),
        };
        Some((part.key, peer))
    };
    others(state, node).filter_map(peer).collect()
}

/// Where the other nodes' containers are. Until every node has had a key, each is reached as it
/// is; one that isn't reached by IPv4 is not. From then on nothing goes but through the mesh, and a
/// node without a key is not reached.
#[must_use]
pub fn ways(state: &State, node: NodeId) -> BTreeMap<Subnet, Way> {
    let way = |other: &Arc<Node>| {
        let address = other.address.parse().ok();
        let way = match state.meshed {
            true => other.mesh.map(|_| Way::Mesh(address))?,
            false => Way::Plain(address?),
        };
        Some((Subnet::node(other.subnet), way))
    };
    others(state, node).filter_map(way).collect()
}

/// What a node with that key has to say of its place in the mesh, if the state does not have it.
#[must_use]
pub fn place(
    state: &State,
    node: NodeId,
    boot: BootId,
    (key, port): (MeshKey, u16),
) -> Option<Command> {
    let own = state.nodes.get(&node).filter(|own| own.boot == boot)?;
    let known = own.mesh.filter(|part| part.key == key);
    let rotation = known.map_or(state.mesh_rotation, |part| part.rotation);
    let part = MeshPart { key, port, rotation };
    let is_due = state.knows_mesh() && own.mesh != Some(part);
    is_due.then_some(Command::Mesh(MeshPlace { node, boot, part }))
}

/// Whether a node is to make another key.
#[must_use]
pub fn is_behind(state: &State, node: NodeId) -> bool {
    // One that has never said its key says the newest anyhow.
    state.behind_in_mesh().any(|one| one.id == node && one.mesh.is_some())
}

/// The mesh's MTU over paths of that MTU.
#[must_use]
pub fn mtu_over(path: u32) -> u32 {
    path.saturating_sub(MESH_OVERHEAD).clamp(MESH_MTU_MIN, MESH_MTU_MAX)
}

fn others(state: &State, node: NodeId) -> impl Iterator<Item = &Arc<Node>> {
    state.nodes.values().filter(move |other| other.id != node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::fixture;
    use crate::fsm::{Entry, SessionStep, apply};
    use crate::id::Index;
    use crate::units::Timestamp;

    fn state() -> State {
        let mut state = State::default();
        let join = |name: &str, address: &str| {
            let join = fixture::join(name, name);
            Command::Join(crate::fsm::command::Join { address: address.to_owned(), ..join })
        };
        let all = [
            Command::Init(fixture::init()),
            Command::Register(fixture::register()),
            join("n2", "192.0.2.2"),
            join("n3", "2001:db8::3"),
        ];
        for (n, command) in (1..).zip(all) {
            let session = SessionStep::default();
            let entry = Entry { time: Timestamp(1), session, idempotency_key: None, command };
            apply(&mut state, Index(n), entry).outcome.unwrap();
        }
        state
    }

    fn give(state: &mut State, id: u64, key: u8) {
        let mut node = (*state.nodes[&NodeId(id)]).clone();
        let rotation = state.mesh_rotation;
        node.mesh = Some(MeshPart { key: MeshKey::new([key; 32]), port: 51_820, rotation });
        state.nodes.insert(node.id, Arc::new(node));
    }

    #[test]
    fn ways_are_plain_until_the_mesh_begins_and_never_again() {
        let mut state = state();
        let address = Ipv4Addr::new(192, 0, 2, 2);
        let of = |state: &State, id: u64| {
            let range = Subnet::node(state.nodes[&NodeId(id)].subnet);
            ways(state, NodeId(1)).get(&range).copied()
        };
        assert_eq!((of(&state, 2), of(&state, 3)), (Some(Way::Plain(address)), None));
        give(&mut state, 2, 2);
        assert_eq!(of(&state, 2), Some(Way::Plain(address)));
        state.meshed = true;
        assert_eq!((of(&state, 2), of(&state, 3)), (Some(Way::Mesh(Some(address))), None));
        give(&mut state, 3, 3);
        assert_eq!((of(&state, 1), of(&state, 3)), (None, Some(Way::Mesh(None))));
    }

    #[test]
    fn peers_are_the_others_that_have_a_key() {
        let mut state = state();
        give(&mut state, 1, 1);
        give(&mut state, 3, 3);
        let peers = peers(&state, NodeId(1));
        assert_eq!(peers.len(), 1);
        let peer = &peers[&MeshKey::new([3; 32])];
        assert_eq!(peer.endpoint.unwrap().to_string(), "[2001:db8::3]:51820");
        assert_eq!(
            (peer.node, peer.range),
            (NodeId(3), Subnet::node(state.nodes[&NodeId(3)].subnet))
        );
    }

    #[test]
    fn a_node_says_where_it_is_once_all_know_of_it() {
        let mut state = state();
        let own = (MeshKey::new([1; 32]), 51_820);
        let says = |state: &State, boot: u64| place(state, NodeId(1), BootId(boot), own);
        assert_eq!(says(&state, 1), None);
        state.feature_level = 3;
        assert!(says(&state, 1).is_some());
        assert_eq!(says(&state, 2), None, "the state shows another life");
        give(&mut state, 1, 1);
        assert_eq!(says(&state, 1), None);
        (state.meshed, state.mesh_rotation) = (true, 1);
        assert_eq!(says(&state, 1), None, "the old key stays what it was");
        assert!(is_behind(&state, NodeId(1)) && !is_behind(&state, NodeId(2)));
        let Some(Command::Mesh(told)) =
            place(&state, NodeId(1), BootId(1), (MeshKey::new([2; 32]), 51_820))
        else {
            panic!("another key is told");
        };
        assert_eq!(told.part.rotation, 1);
        give(&mut state, 1, 2);
        assert!(!is_behind(&state, NodeId(1)));
    }

    #[test]
    fn the_mtu_is_within_bounds() {
        let all = [0, 1_280, 1_400, 1_500, 9_000, 65_536].map(mtu_over);
        assert_eq!(all, [1_200, 1_200, 1_320, 1_420, 8_920, 8_920]);
    }
}

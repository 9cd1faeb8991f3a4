//! Which loaded images a node should have, and what it is to do about it.
//!
//! Owns the rule of how many nodes have one, and who can give it to another. Never fetches or
//! removes anything, and asks nobody: each node decides for itself from what all of them know.

#[cfg(test)]
mod tests;

use crate::fsm::State;
use crate::fsm::loaded::{Copies, LoadedImage, Pin};
use crate::fsm::model::{Allocation, Node, Phase};
use crate::id::{Digest, NodeId};
use crate::limits;
use crate::units::{Bytes, Millis};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A loaded image that a node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub pin: Pin,
    /// Compressed size.
    pub size: Bytes,
    /// The cluster that knows it, by its identity; absent: it was loaded when clusters knew of no
    /// such thing.
    pub cluster: Option<String>,
}

/// What a node is to do about loaded images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Duties {
    /// Forget it here: the cluster doesn't know it.
    pub drop: Vec<Pin>,
    /// Remember that the cluster knows it.
    pub mark: Vec<Pin>,
    /// Tell the cluster of it, which doesn't know it.
    pub tell: Vec<(Pin, Bytes)>,
    /// It has them, and the state doesn't say so.
    pub has: BTreeSet<Pin>,
    /// It lacks them, and the state says otherwise.
    pub lacks: BTreeSet<Pin>,
    /// Fetch them: too few nodes have them.
    pub fetch: Vec<Pin>,
}

/// What a node is to do, given what it has.
#[must_use]
pub fn duties(state: &State, me: NodeId, held: &[Held]) -> Duties {
    let mut duties = Duties::default();
    let ours = state.cluster.as_ref().map(|cluster| cluster.id.as_str());
    for Held { pin, size, cluster } in held {
        let image = state.loaded.get(&pin.reference);
        let copies = image.and_then(|image| image.copies.get(&pin.digest));
        let is_marked = cluster.as_deref() == ours;
        match copies {
            Some(copies) => {
                if !copies.nodes.contains(&me) {
                    duties.has.insert(pin.clone());
                }
                if !is_marked {
                    duties.mark.push(pin.clone());
                }
            }
            None if !is_marked && is_stray(state, pin, cluster.as_ref()) => {
                duties.tell.push((pin.clone(), *size));
            }
            None => duties.drop.push(pin.clone()),
        }
    }
    let has = |reference: &str, digest: &Digest| {
        held.iter().any(|one| one.pin.reference == reference && one.pin.digest == *digest)
    };
    for (reference, image) in &state.loaded {
        for (digest, copies) in &image.copies {
            if has(reference, digest) {
                continue;
            }
            let pin = Pin { reference: reference.clone(), digest: digest.clone() };
            if copies.nodes.contains(&me) {
                duties.lacks.insert(pin);
            } else if is_wanted(state, image, digest) && is_chosen(state, me, digest, copies) {
                duties.fetch.push(pin);
            }
        }
    }
    duties
}

/// Whether the cluster should know of an image that it doesn't: what was loaded when none did, or
/// what a machine that begins a cluster brings along. One that joins brings nothing: the others
/// would run what nobody of them has loaded.
fn is_stray(state: &State, pin: &Pin, cluster: Option<&String>) -> bool {
    let is_needed = !state.loaded.contains_key(&pin.reference) || state.pins(&pin.digest);
    is_needed && (cluster.is_none() || state.nodes.len() == 1)
}

/// Whether a node is among those that are to fetch an image, because too few have it.
fn is_chosen(state: &State, me: NodeId, digest: &Digest, copies: &Copies) -> bool {
    let lasts = |id: &&NodeId| state.nodes.get(*id).is_some_and(|node| lasts(state, node));
    let lasting = copies.nodes.iter().filter(lasts).count();
    let lends = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.is_up());
    if lasting >= limits::LOADED_COPIES || !copies.nodes.iter().any(lends) {
        return false;
    }
    let is_free = |node: &&Arc<Node>| node.is_ready() && !copies.nodes.contains(&node.id);
    let mut free: Vec<NodeId> = state.nodes.values().filter(is_free).map(|node| node.id).collect();
    // Not the same nodes for each image, and the same for all who ask.
    free.sort_by_key(|id| rank(digest, *id));
    free.iter().take(limits::LOADED_COPIES - lasting).any(|id| *id == me)
}

/// Whether a node has an image that no other node has yet, though one could.
#[must_use]
pub fn is_last(state: &State, node: NodeId) -> bool {
    let others = || state.nodes.values().filter(|other| other.id != node);
    if !others().any(|other| other.is_ready()) {
        return false;
    }
    let is_only = |copies: &Copies| {
        let other_has = others().any(|other| copies.nodes.contains(&other.id) && other.is_up());
        copies.nodes.contains(&node) && !other_has
    };
    let is_left = |image: &LoadedImage| {
        let mut copies = image.copies.iter();
        copies.any(|(digest, copies)| is_wanted(state, image, digest) && is_only(copies))
    };
    state.loaded.values().any(|image| is_left(image))
}

/// Whether copies of an image are to be had ready: its reference leads to it, or it runs.
fn is_wanted(state: &State, image: &LoadedImage, digest: &Digest) -> bool {
    image.digest.as_ref() == Some(digest) || state.user_of(digest).is_some()
}

/// Whether what a node has counts: it stays, and if it is silent then not for long.
fn lasts(state: &State, node: &Node) -> bool {
    match node.down_since {
        _ if node.drain.is_some() => false,
        Some(since) => state.time.since(since) < Millis::from(limits::LOADED_PATIENCE),
        None => true,
    }
}

/// A node, and whether it is there, takes allocations, and its copies count.
pub type CopyEligibility = (NodeId, [bool; 3]);

/// All that the duties depend on of the nodes.
#[must_use]
pub fn standings(state: &State) -> Vec<CopyEligibility> {
    let standing = |node: &Arc<Node>| [node.is_up(), node.is_ready(), lasts(state, node)];
    state.nodes.values().map(|node| (node.id, standing(node))).collect()
}

/// Who can lend an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lenders {
    /// The nodes that have it and are there.
    pub nodes: Vec<NodeId>,
    /// Where it is, if that is nowhere within reach: `was loaded on n2, which is down`.
    pub reason: String,
    /// Whether a node that has it may be back.
    pub may_return: bool,
}

/// Who can lend an image, to `me` if it is a node that asks; none if nobody has loaded it.
#[must_use]
pub fn lenders(state: &State, me: Option<NodeId>, digest: &Digest) -> Option<Lenders> {
    let origin = state.copies_of(digest).next()?.origin.clone();
    let all: BTreeSet<NodeId> =
        state.copies_of(digest).flat_map(|copies| copies.nodes.iter().copied()).collect();
    let holders = all.into_iter().filter(|id| Some(*id) != me);
    let holders: Vec<&Arc<Node>> = holders.filter_map(|id| state.nodes.get(&id)).collect();
    let there = holders.iter().filter(|node| node.is_up());
    let mut nodes: Vec<NodeId> = there.map(|node| node.id).collect();
    nodes.sort_by_key(|id| rank(digest, NodeId(id.0 ^ me.map_or(0, |me| me.0 << 32))));
    let names: Vec<&str> = holders.iter().map(|node| node.name.as_str()).collect();
    let reason = match names.as_slice() {
        [] => format!("was loaded on {origin}, and no node has it any more"),
        [one] => format!("was loaded on {one}, which is down"),
        several => format!("is on {}, which are down", several.join(", ")),
    };
    Some(Lenders { nodes, reason, may_return: !holders.is_empty() })
}

/// The nodes where an image runs, besides `me`: they have it, whatever its registry does.
#[must_use]
pub fn running(state: &State, me: NodeId, digest: &Digest) -> Vec<NodeId> {
    let is_it = |allocation: &&Arc<Allocation>| {
        let run = state.spec(&allocation.spec).map(|stored| stored.spec.run());
        allocation.observed.phase == Phase::Running
            && run.and_then(|run| run.digest.as_ref()) == Some(digest)
    };
    let all: BTreeSet<NodeId> = state.allocations.values().filter(is_it).map(|a| a.node).collect();
    let there = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.is_up());
    let mut nodes: Vec<NodeId> = all.into_iter().filter(|id| *id != me && there(id)).collect();
    nodes.sort_by_key(|id| rank(digest, NodeId(id.0 ^ (me.0 << 32))));
    nodes.truncate(limits::LENDERS_ASKED);
    nodes
}

/// FNV-1a (Fowler, Noll, Vo) over digest and node.
fn rank(digest: &Digest, node: NodeId) -> u64 {
    let bytes = digest.as_str().bytes().chain(node.0.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

//! Bounds and durations of the connections between nodes.
//!
//! Never holds a value that a person sets.

use super::{APPEND_MAX, ENTRY_MAX, HEARTBEAT_TICKS, LABEL_MAX, LABEL_VALUE_MAX, NODE_DOWN};
use super::{NODE_LABELS_MAX, RAFT_TICK};
use std::time::Duration;

/// How long a connection to another node may take to be there.
pub const PEER_CONNECT: Duration = Duration::from_secs(2);
/// First and longest pause before a link to another node is tried again.
pub const PEER_RETRY: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// And before one to a member that says that this node is none any more.
pub const PEER_EXPELLED: Duration = Duration::from_secs(10);
/// A link that was up for so long begins with the first pause again.
pub const PEER_SETTLED: Duration = Duration::from_secs(5);
/// The process at the other end of a connection to another node is asked for a sign of life so
/// often: a computer that is gone is noticed before, by the system.
pub const PEER_PING: Duration = Duration::from_secs(5);
/// And is given up after so long without one.
pub const PEER_SILENCE: Duration = Duration::from_secs(2);
/// The system asks the other end of an idle connection between nodes for a sign of life so often.
pub const PEER_PROBE: Duration = Duration::from_secs(2);
/// And gives up a connection on which one, or what was sent, is not acknowledged for so long.
pub const PEER_UNHEARD: Duration = Duration::from_secs(3);
const _: () = assert!(PEER_PROBE.as_secs() < PEER_UNHEARD.as_secs());
/// Bytes that another node may have sent before it waits.
pub const PEER_WINDOW: u32 = 8 << 20;
/// Messages that wait for another node.
pub const PEER_LETTERS: usize = 4096;
/// Bytes that wait for another node.
pub const PEER_BYTES: usize = 16 << 20;
/// What waits for another node goes in frames of about this size.
pub const PEER_FRAME: usize = 1 << 20;
/// Largest frame that is taken: one that was nearly full and the largest message with it.
pub const PEER_FRAME_MAX: usize = 16 << 20;
/// Proposals that were not taken and wait to be told to another node.
pub const PEER_ANSWERS: usize = 4096;
/// Connections from other nodes at once.
pub const PEER_CONNECTIONS: usize = 256;
/// Those that have shown no certificate, in all and of one source. Who comes on top takes the place
/// of another.
pub const PEER_STRANGERS: usize = 64;
/// See [`PEER_STRANGERS`].
pub const PEER_STRANGERS_EACH: usize = 16;
/// A connection that shows no certificate must ask for something in this time.
pub const PEER_STRANGER_IDLE: Duration = Duration::from_secs(3);
/// A connection that shows no certificate lasts so long at most: longer than joining takes.
pub const PEER_STRANGER: Duration = Duration::from_secs(60);
const _: () = assert!(PEER_STRANGERS < PEER_CONNECTIONS);
/// Calls at once on a connection of a member.
pub const PEER_STREAMS: u32 = 64;
/// Calls at once on a connection that shows no certificate.
pub const STRANGER_STREAMS: u32 = 4;
/// Bytes that one without a certificate may have sent before it waits.
pub const STRANGER_WINDOW: u32 = 64 << 10;
/// Largest request to join, with all labels and the request for a certificate.
pub const JOIN_MAX: usize = 64 << 10;
const _: () = assert!(NODE_LABELS_MAX * (LABEL_MAX + LABEL_VALUE_MAX) * 2 < JOIN_MAX);
/// What is large goes to another node in pieces of this size.
pub const PEER_PIECE: usize = 256 << 10;
/// How long a snapshot may take to another node.
pub const PEER_BULK: Duration = Duration::from_secs(120);
/// Largest snapshot that is taken from another node.
pub const PEER_SNAPSHOT_MAX: usize = 1 << 30;
/// A node lets itself be heard by the leader so often.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// It is heard so much sooner where something else goes to the leader anyway: an answer to each
/// heartbeat of raft does.
pub const HEARTBEAT_SOONER: Duration =
    Duration::from_millis(RAFT_TICK.as_millis() as u64 * HEARTBEAT_TICKS as u64);
/// What a node has newly settled is told after this long at the earliest.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
const _: () = assert!(HEARTBEAT.as_millis() * 4 < NODE_DOWN.as_millis());
const _: () = assert!(HEARTBEAT_SOONER.as_millis() * 2 < HEARTBEAT.as_millis());
const _: () = assert!(PEER_FRAME + APPEND_MAX as usize + ENTRY_MAX as usize * 2 <= PEER_FRAME_MAX);

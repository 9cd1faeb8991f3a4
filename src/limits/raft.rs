//! Bounds and durations of consensus and its log.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// Largest entry of the raft log, in bytes.
pub const ENTRY_MAX: u64 = 4 << 20;
/// Bytes of entries that may be appended and not yet applied, before proposals are refused.
pub const UNAPPLIED_MAX: u64 = 16 << 20;
/// Bytes of committed entries that root may be handed before it has applied them.
pub const HANDED_OUT_MAX: u64 = 4 << 20;
/// Bytes of committed entries handed out at once.
pub const READY_MAX: u64 = 1 << 20;
/// Bytes of entries in one message to a peer.
pub const APPEND_MAX: u64 = 1 << 20;
/// Messages with entries that may be on their way to one peer.
pub const APPENDS_IN_FLIGHT: usize = 64;
/// Bytes of durable entries kept in memory, for peers that are slightly behind.
pub const LOG_CACHE_MAX: u64 = 1 << 20;
/// Bytes that one write to the log may gather.
pub const WRITE_GROUP_MAX: u64 = 4 << 20;
/// Size to which a segment of the log is allocated in advance, in bytes.
pub const SEGMENT_SIZE: u64 = 4 << 20;
/// Applied entries after which a snapshot is taken.
pub const SNAPSHOT_ENTRIES: u64 = 10_000;
/// Bytes of applied entries after which a snapshot is taken.
pub const SNAPSHOT_BYTES: u64 = 8 << 20;
/// A disk is quick that made its last write durable in this time.
pub const WRITE_QUICK: Duration = Duration::from_millis(2);
/// A disk that usually takes so long for a write is slow, which is worth a warning.
pub const WRITE_SLOW: Duration = Duration::from_millis(100);
/// A leader gives the lead up whose disk has taken so long for one write.
pub const WRITE_LATE: Duration = Duration::from_secs(3);
/// And a process ends, whichever part it has, once a write has taken so long.
pub const WRITE_STUCK: Duration = Duration::from_secs(60);
/// A large write may take a second longer for each so many bytes.
pub const WRITE_LEAST: u64 = 8 << 20;
const _: () = assert!(WRITE_LATE.as_secs() * 10 < WRITE_STUCK.as_secs());
/// After a failure the parts of a node may take so long to stop in order.
pub const STOP_FAILED: Duration = Duration::from_secs(20);
/// How long what was begun on a thread of its own may take to end with the process.
pub const RUNTIME_STOP: Duration = Duration::from_secs(2);
/// Most bytes of entries that are written while heartbeats wait.
pub const WRITE_HERE_MAX: usize = 256 << 10;
/// Entries kept behind a snapshot for peers that are slightly behind.
pub const ENTRIES_KEPT: u64 = 1_000;
/// Length of raft's tick; there are none while a node is alone. Shorter ones cost an idle node more
/// processor time, longer ones leave a cluster longer without a leader that was cut off.
pub const RAFT_TICK: Duration = Duration::from_millis(66);
/// Ticks between heartbeats of the leader.
pub const HEARTBEAT_TICKS: usize = 3;
/// Ticks without a heartbeat after which an election starts. A multiple: the leader looks who has
/// answered when it is awake anyway.
pub const ELECTION_TICKS: usize = 9;
/// A message whose term is further ahead than this is none of a peer's.
pub const TERMS_AHEAD: u64 = 1 << 32;
/// The same where the disk is slow, at most: some six seconds.
pub const ELECTION_TICKS_MAX: usize = 90;
/// Who lacks no more entries than this at the log's end has caught up.
pub const CAUGHT_UP: u64 = 256;
/// Reads that may wait for a confirmation at once.
pub const READS_MAX: usize = 10_000;

const _: () = assert!(ENTRY_MAX <= UNAPPLIED_MAX && READY_MAX <= HANDED_OUT_MAX);
const _: () = assert!(ELECTION_TICKS == 3 * HEARTBEAT_TICKS);
const _: () = assert!(ELECTION_TICKS < ELECTION_TICKS_MAX);

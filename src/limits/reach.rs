//! Bounds and durations of what one node asks of another for its clients.
//!
//! Never holds a value that a person sets.

use super::USAGE_INTERVAL;
use std::time::Duration;

/// Connections of other members that wait to be answered.
pub const MEMBERS_WAITING: usize = 64;
/// Connections of other members that the API serves at once.
pub const API_MEMBER_CONNECTIONS: usize = 512;
/// How long another node may take until its answer begins.
pub const REACH_ANSWER: Duration = Duration::from_secs(10);
/// A connection on which another node has said nothing is asked for a sign of life after this long.
pub const REACH_IDLE: Duration = Duration::from_secs(3);
/// And again after this long.
pub const REACH_PROBE: Duration = Duration::from_secs(2);
/// And is given up after so many that were not answered.
pub const REACH_PROBES: u32 = 3;
/// What was sent and is not acknowledged for so long ends the connection.
pub const REACH_UNHEARD: Duration = Duration::from_secs(9);
/// Figures of use that are younger than this are not asked for again.
pub const USAGE_FRESH: Duration = Duration::from_millis(500);
/// Figures of a node that is slow to answer are shown until they are so old.
pub const USAGE_OLD: Duration = Duration::from_secs(20);
/// Largest answer with figures of use.
pub const USAGE_ANSWER_MAX: usize = 4 << 20;
/// First and longest pause before another node's lines are asked for again.
pub const LINES_AGAIN: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];
/// Lines that are followed are asked for again from so long before the last one: those of several
/// allocations are not in the order of their times. What was seen is left out.
pub const LINES_OVERLAP: Duration = Duration::from_secs(10);
/// Allocations whose last line the command line remembers.
pub const LINES_SEEN: usize = 10_000;
/// Events of another node that wait for a slow reader.
pub const LINES_WAITING: usize = 32;
/// Largest event with a line of another node: every byte of it may need six in JSON.
pub const LINES_EVENT_MAX: usize = 6 * super::LOG_LINE_MAX + (64 << 10);
/// What is said of nodes that can't be reached, and waits for a slow reader.
pub const NODE_NOTES: usize = 8;
/// Lines of another node that say nothing for so long have broken off: there is a comment
/// in every period of a stream.
pub const LINES_SILENCE: Duration = Duration::from_secs(35);
const _: () = assert!(LINES_SILENCE.as_secs() > 2 * super::SSE_COMMENT.as_secs());
const _: () = assert!(USAGE_OLD.as_secs() > USAGE_INTERVAL.as_secs());

/// A container's port takes a connection that is passed on within so long.
pub const FORWARD_CONNECT: Duration = Duration::from_secs(5);

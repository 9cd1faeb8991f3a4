//! Bounds and durations of nodes and replicas that don't work.
//!
//! Never holds a value that a person sets.

use super::{NODE_DOWN, PULL_LOOK, PULL_TOLD, UNPLACED_DEADLINE};
use std::time::Duration;

/// After a node is taken for down, the next one is so long after it.
pub const NODE_DOWN_PACE: Duration = Duration::from_secs(5);
/// Of the nodes that are there, at most one in [`NODE_DOWN_SHARE`] becomes down within this time.
pub const NODE_DOWN_WINDOW: Duration = Duration::from_secs(60);
/// That share.
pub const NODE_DOWN_SHARE: usize = 3;
/// A replica that failed to start so often in a row is tried on another node.
pub const STARTS_TRIED: u32 = 3;
/// A pull, or a start, that gets no further for so long is tried on another node.
pub const START_STALLED: Duration = Duration::from_secs(60);
/// A node where a service did not work is avoided for so long.
pub const NODE_AVOIDED: Duration = Duration::from_secs(600);
/// In a deployment a program that ends by itself is tried on so many nodes.
pub const NODES_FOR_CRASH: usize = 2;
/// And one that can't be started, or whose image can't be pulled, on so many.
pub const NODES_FOR_STALL: usize = 5;
/// Why a replica was given up, kept, in bytes.
pub const GIVEN_UP_MAX: usize = 300;
/// How often it is looked whether containerd answers.
pub const RUNTIME_LOOK: Duration = Duration::from_secs(10);
/// How long such an answer may take.
pub const RUNTIME_ANSWER: Duration = Duration::from_secs(4);
/// Pause before it is looked again where it did not answer.
pub const RUNTIME_AGAIN: Duration = Duration::from_secs(1);
/// Without an answer for so long its node gets nothing new.
pub const RUNTIME_SILENT: Duration = Duration::from_secs(10);
/// What is asked to end may take so much longer than its grace, before its deployment goes on
/// without it.
pub const END_PATIENCE: Duration = Duration::from_secs(60);

const _: () = assert!(NODE_DOWN_PACE.as_secs() >= NODE_DOWN.as_secs());
const _: () = assert!(NODE_DOWN_WINDOW.as_secs() > NODE_DOWN_PACE.as_secs());
const _: () = assert!(START_STALLED.as_secs() * 5 <= UNPLACED_DEADLINE.as_secs());
const _: () = assert!(
    2 * (PULL_TOLD.as_secs() + PULL_LOOK.as_secs()) <= START_STALLED.as_secs(),
    "a pull that gets further must be heard of in time"
);

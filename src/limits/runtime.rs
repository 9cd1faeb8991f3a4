//! Bounds and durations of the container runtime and of what the kernel is told for containers.
//!
//! Never holds a value that a person sets.

use super::{CHILD_STOP, CONTAINERD_CALL};
use std::time::Duration;

/// Containers that containerd is asked about at once.
pub const CONTAINERD_LOOKS: usize = 16;
/// What containerd didn't say is asked again after this long.
pub const CONTAINERD_LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often a process that nobody wants any more is ended where nobody says that it is gone.
pub const EXEC_END_TRIES: u32 = 10;
/// How long a node that stops waits for what is under way at containerd.
pub const CONTAINERD_SETTLE: Duration = Duration::from_secs(2);
/// How often the kernel's switches are looked at that containers' packets need.
pub const NET_LOOK: Duration = Duration::from_secs(10);
/// After a change of the kernel's rules by anybody, further ones are waited for so long.
pub const NET_CALM: Duration = Duration::from_millis(200);
/// That rules were made again is told for so long.
pub const NET_TOLD: Duration = Duration::from_secs(600);

const _: () = assert!(NET_CALM.as_millis() < NET_LOOK.as_millis());
const _: () = assert!(CONTAINERD_SETTLE.as_secs() < CHILD_STOP.as_secs());
const _: () = assert!(CONTAINERD_LOOK_AGAIN.as_secs() < CONTAINERD_CALL.as_secs());

//! Bounds and durations of replicated time.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// Without a leader for longer than this, nobody's deadline ran.
pub const STANDSTILL_MIN: Duration = Duration::from_secs(2);
/// Times without a leader that are remembered.
pub const STANDSTILLS: usize = 16;
/// Members' clocks agree if they are no further from each other than this.
pub const CLOCKS_AGREE: Duration = Duration::from_secs(5);
/// A member whose clock is further from the others' than this is warned of.
pub const CLOCK_WARNED: Duration = Duration::from_secs(10);
/// What a member said of its clock counts for so long.
pub const CLOCK_FRESH: Duration = Duration::from_secs(30);
/// After an election or a standstill the leader may step forward for so long.
pub const CLOCK_STEP: Duration = Duration::from_secs(60);

const _: () = assert!(CLOCKS_AGREE.as_millis() <= CLOCK_WARNED.as_millis());
const _: () = assert!(CLOCK_FRESH.as_millis() < CLOCK_STEP.as_millis());

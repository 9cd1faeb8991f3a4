//! Bounds of canaries and of what is known of their requests.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// A canary with too few requests runs on to so many times its length.
pub const CANARY_LONGEST: u64 = 3;
/// A node that has not told what it counted is waited for so long.
pub const CANARY_REPORTS: Duration = Duration::from_secs(10);
/// Most bytes of what a node tells of the requests of canaries.
pub const CANARY_REPORT_MAX: usize = 1 << 20;
/// Whose chance is below one in a hundred is no chance, at the end of a canary's time.
pub const CANARY_SURE: f64 = 2.33;
/// Before that, when it is looked at again and again: below one in two thousand.
pub const CANARY_SURE_EARLY: f64 = 3.29;
const _: () = assert!(CANARY_LONGEST > 1);
const _: () = assert!(CANARY_REPORT_MAX < super::PEER_FRAME_MAX);

//! Bounds of what is kept as it is wanted outside of the process.

use std::time::Duration;

/// First and longest pause before what could not be made true is tried again.
pub const CONVERGE_RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

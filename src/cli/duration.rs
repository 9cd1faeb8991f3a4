//! Durations as flags have them.
//!
//! Never guesses a unit.

use crate::units::Millis;
use std::str::FromStr;

/// A duration with its unit, such as `500ms`, `10s`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationArg(pub Millis);

impl FromStr for DurationArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = Millis::parse(text);
        parsed.map(Self).map_err(|_| "write it with its unit, such as 10s, 5m or 2h".to_owned())
    }
}

//! Quantities with their units: cores, bytes, durations, points in time.
//!
//! Owns parsing and printing of quantities. Never reads a clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Processor time in thousandths of a core.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MilliCpu(pub u64);

/// A size in bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// A duration in milliseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

/// A point in time: milliseconds since 1970-01-01 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl MilliCpu {
    /// The quantity in cores, for people and JSON.
    #[must_use]
    pub fn cores(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl fmt::Display for MilliCpu {
    /// Two digits after the point, as in `0.50`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.2}", self.cores()))
    }
}

impl fmt::Display for Bytes {
    /// Powers of 1000, as in `91M` and `2.1G`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        let text = match bytes {
            0..1_000 => format!("{bytes}B"),
            1_000..1_000_000 => format!("{}K", bytes / 1_000),
            1_000_000..1_000_000_000 => format!("{}M", bytes / 1_000_000),
            1_000_000_000..1_000_000_000_000 => format!("{:.1}G", bytes as f64 / 1e9),
            _ => format!("{:.1}T", bytes as f64 / 1e12),
        };
        f.pad(&text)
    }
}

impl Millis {
    /// From whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// As the standard library's duration.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    /// The largest unit that divides it, as in `500ms`, `90s`, `5m`, `2h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let text = match ms {
            0 => "0s".to_owned(),
            _ if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
            _ if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
            _ if ms % 1000 == 0 => format!("{}s", ms / 1000),
            _ => format!("{ms}ms"),
        };
        f.pad(&text)
    }
}

impl Timestamp {
    /// The time that passed since `earlier`, zero if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }

    /// This point plus a duration.
    #[must_use]
    pub fn plus(self, duration: Millis) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, as in `2026-03-01T12:04:01.220Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(ms) {
            Ok(time) => f.pad(&format!("{time:.3}")),
            Err(_) => f.pad("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_print_as_documented() {
        assert_eq!(MilliCpu(500).to_string(), "0.50");
        assert_eq!(Bytes(91_500_000).to_string(), "91M");
        assert_eq!(Bytes(2_100_000_000).to_string(), "2.1G");
        assert_eq!(Millis(300_000).to_string(), "5m");
        assert_eq!(Millis(1_500).to_string(), "1500ms");
        assert_eq!(Timestamp(1_772_366_641_220).to_string(), "2026-03-01T12:04:01.220Z");
    }
}

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

/// Why a text is not a size, duration or share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number followed by letters.
    #[error("not a number with a unit")]
    Malformed,
    /// A number alone.
    #[error("the unit is missing")]
    NoUnit,
    /// A unit that does not exist.
    #[error("unknown unit")]
    UnknownUnit,
    /// More than fits.
    #[error("too large")]
    TooLarge,
    /// Not a whole number of the smallest unit.
    #[error("too fine")]
    TooFine,
}

/// `1.5` and a unit's factor to a whole number; at most three decimals.
fn scaled(number: &str, factor: u64) -> Result<u64, QuantityError> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return Err(QuantityError::Malformed);
    }
    let decimals = decimals.trim_end_matches('0');
    if decimals.len() > 3 {
        return Err(QuantityError::TooFine);
    }
    let whole: u128 = whole.parse::<u64>().map_err(|_| QuantityError::TooLarge)?.into();
    let thousandths: u128 = format!("{decimals:0<3}").parse().unwrap_or(0);
    let product = (whole * 1000 + thousandths) * u128::from(factor);
    if !product.is_multiple_of(1000) {
        return Err(QuantityError::TooFine);
    }
    u64::try_from(product / 1000).map_err(|_| QuantityError::TooLarge)
}

/// Splits `512M` into `512` and `M`.
fn split_unit(text: &str) -> Result<(&str, &str), QuantityError> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    match text.split_at(at) {
        ("", _) => Err(QuantityError::Malformed),
        (_, "") => Err(QuantityError::NoUnit),
        parts => Ok(parts),
    }
}

impl Bytes {
    /// From a number with `K M G` (powers of 1000) or `Ki Mi Gi` (powers of 1024).
    ///
    /// # Errors
    /// When the unit is missing or unknown, or the size does not fit.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "K" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(QuantityError::UnknownUnit),
        };
        scaled(number, factor).map(Self)
    }

    /// Not rounded, and as [`Bytes::parse`] takes it: a whole number of the largest unit that
    /// divides it, as in `5Gi` and `16400K`, or else thousands with three decimals.
    #[must_use]
    pub fn exact(self) -> String {
        const UNITS: [(&str, u64); 6] = [
            ("G", 1_000_000_000),
            ("Gi", 1 << 30),
            ("M", 1_000_000),
            ("Mi", 1 << 20),
            ("K", 1_000),
            ("Ki", 1 << 10),
        ];
        let bytes = self.0;
        match UNITS.iter().find(|(_, factor)| bytes.is_multiple_of(*factor)) {
            Some((unit, factor)) => format!("{}{unit}", bytes / factor),
            None => format!("{}.{:03}K", bytes / 1_000, bytes % 1_000),
        }
    }
}

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
    /// From a number with `ms`, `s`, `m` or `h`.
    ///
    /// # Errors
    /// When the unit is missing or unknown, or the duration does not fit.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(QuantityError::UnknownUnit),
        };
        scaled(number, factor).map(Self)
    }

    /// From whole seconds.
    #[must_use]
    pub const fn secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// What passed since an earlier reading of the same clock.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// As the standard library's duration.
    #[must_use]
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl From<std::time::Duration> for Millis {
    /// Whole milliseconds; what does not fit becomes the longest there is.
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    /// The largest unit that divides it, as in `500ms`, `90s`, `5m`, `2h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let text = match ms {
            0 => "0s".to_owned(),
            _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
            _ if ms.is_multiple_of(1000) => format!("{}s", ms / 1000),
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

/// How long a server wants to be left alone, of `Retry-After`: seconds, or a date (RFC 9110,
/// section 10.2.3).
#[must_use]
pub fn retry_after(text: &str, now: Timestamp) -> Option<Millis> {
    let text = text.trim();
    let seconds = text.parse().ok().map(|seconds: u64| Millis(seconds.saturating_mul(1000)));
    seconds.or_else(|| {
        let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_millisecond();
        Some(Timestamp(u64::try_from(date).ok()?).since(now))
    })
}

/// Whole seconds as people say them: `48s`, `4m`, `1h`, `3d`.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        seconds = { "120", Some(120_000) },
        at_once = { " 0 ", Some(0) },
        date = { "Wed, 30 Jan 2030 10:00:30 GMT", Some(30_000) },
        past = { "Wed, 30 Jan 2030 09:00:00 GMT", Some(0) },
        endless = { "99999999999999999999", None },
        long = { "18446744073709551615", Some(u64::MAX) },
        negative = { "-1", None },
        nonsense = { "soon", None },
        nothing = { "", None },
    )]
    fn servers_say_how_long(text: &str, wait: Option<u64>) {
        let now = Timestamp(1_895_997_600_000);
        assert_eq!(retry_after(text, now), wait.map(Millis));
    }

    #[test]
    fn a_span_is_told_in_the_unit_that_fits() {
        assert_eq!([span(48), span(250), span(3700), span(200_000)], ["48s", "4m", "1h", "2d"]);
    }

    #[test]
    fn quantities_print_as_documented() {
        assert_eq!(MilliCpu(500).to_string(), "0.50");
        assert_eq!(Bytes(91_500_000).to_string(), "91M");
        assert_eq!(Bytes(2_100_000_000).to_string(), "2.1G");
        assert_eq!(Millis(300_000).to_string(), "5m");
        assert_eq!(Millis(1_500).to_string(), "1500ms");
        assert_eq!(Timestamp(1_772_366_641_220).to_string(), "2026-03-01T12:04:01.220Z");
    }

    #[test]
    fn sizes_and_durations_are_read() {
        assert_eq!(Bytes::parse("512M"), Ok(Bytes(512_000_000)));
        assert_eq!(Bytes::parse("5Gi"), Ok(Bytes(5 << 30)));
        assert_eq!(Bytes::parse("1.5K"), Ok(Bytes(1500)));
        assert_eq!(Millis::parse("500ms"), Ok(Millis(500)));
        assert_eq!(Millis::parse("1.5h"), Ok(Millis(5_400_000)));
        assert_eq!(Millis::parse("0s"), Ok(Millis(0)));
    }

    #[yare::parameterized(
        decimal = { 16_000_000, "16M" },
        finer = { 16_400_000, "16400K" },
        binary = { 5 << 30, "5Gi" },
        both = { 1_024_000, "1024K" },
        small = { 1 << 10, "1Ki" },
        odd = { 1_000_001, "1000.001K" },
        tiny = { 5, "0.005K" },
        nothing = { 0, "0G" },
        most = { u64::MAX, "18446744073709551.615K" },
    )]
    fn an_exact_size_is_read_as_the_same(bytes: u64, text: &str) {
        assert_eq!(Bytes(bytes).exact(), text);
        assert_eq!(Bytes::parse(text), Ok(Bytes(bytes)));
    }

    #[test]
    fn bad_quantities_say_why() {
        for (text, why) in [
            ("", QuantityError::Malformed),
            ("M", QuantityError::Malformed),
            ("-1M", QuantityError::Malformed),
            (".5M", QuantityError::Malformed),
            ("1.2.3M", QuantityError::Malformed),
            ("512", QuantityError::NoUnit),
            ("512MB", QuantityError::UnknownUnit),
            ("512m", QuantityError::UnknownUnit),
            ("1.0001K", QuantityError::TooFine),
            ("1.001Ki", QuantityError::TooFine),
            ("99999999999999999999G", QuantityError::TooLarge),
            ("99999999999999999G", QuantityError::TooLarge),
        ] {
            assert_eq!(Bytes::parse(text), Err(why), "{text}");
        }
        assert_eq!(Millis::parse("0.5ms"), Err(QuantityError::TooFine));
        assert_eq!(Millis::parse("5 s"), Err(QuantityError::UnknownUnit));
    }
}

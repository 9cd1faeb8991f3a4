//! Times of day as people write and read them, in this machine's zone or in UTC.
//!
//! Owns both directions. The daemon knows UTC only.

use super::error::CliError;
use crate::units::Millis;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, ZonedDateTime};

/// Today and the zone.
pub struct Clock {
    now: ZonedDateTime,
}

impl Clock {
    /// Of this machine, or in UTC.
    #[must_use]
    pub fn new(utc: bool) -> Self {
        let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
        Self::at(Timestamp::now(), zone)
    }

    /// At a time.
    #[must_use]
    pub fn at(now: Timestamp, zone: TimeZone) -> Self {
        Self { now: now.to_zoned_datetime(zone) }
    }

    /// The time of day of an RFC 3339 time, to milliseconds; with the date if that isn't today's.
    #[must_use]
    pub fn shown(&self, ts: &str) -> String {
        let Ok(time) = ts.parse::<Timestamp>() else { return ts.to_owned() };
        let time = time.to_zoned_datetime(self.now.time_zone().clone());
        let form = if time.date() == self.now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
        format!("{}.{:03}", time.strftime(form), time.millisecond())
    }

    /// What the API takes for how long ago (`10m`), a time (`14:30`, the last), a date, or both.
    ///
    /// # Errors
    /// It is none of them.
    pub fn since(&self, text: &str) -> Result<String, CliError> {
        let text = text.trim();
        if let Ok(ago) = Millis::parse(text) {
            return Ok(ago.to_string());
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(time.to_string());
        }
        let bad = || {
            let hint = "Write 10m, 14:30, 2026-03-01 or 2026-03-01T14:30";
            CliError::usage(format!("--since {text} is no time"), hint)
        };
        let civil = self.civil(text).ok_or_else(bad)?;
        let zoned = civil.to_zoned_datetime(self.now.time_zone().clone()).map_err(|_| bad())?;
        Ok(zoned.timestamp().to_string())
    }

    fn civil(&self, text: &str) -> Option<DateTime> {
        if text.contains('-') {
            let whole = text.replace(' ', "T").parse::<DateTime>().ok();
            return whole
                .or_else(|| Some(text.parse::<Date>().ok()?.to_datetime(Time::midnight())));
        }
        let time = text.contains(':').then(|| text.parse::<Time>().ok()).flatten()?;
        let today = self.now.date().to_datetime(time);
        // Later than now is yesterday's.
        if today > self.now.datetime() { today.checked_sub(1.day()).ok() } else { Some(today) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    fn clock(zone: TimeZone) -> Clock {
        Clock::at("2026-03-01T14:00:00Z".parse().unwrap(), zone)
    }

    #[parameterized(
        ago = { "10m", "10m" },
        today = { "12:30", "2026-03-01T12:30:00Z" },
        yesterday = { "18:30", "2026-02-28T18:30:00Z" },
        date = { "2026-02-27", "2026-02-27T00:00:00Z" },
        both = { "2026-02-27 08:00", "2026-02-27T08:00:00Z" },
        whole = { "2026-02-27T08:00:00+02:00", "2026-02-27T06:00:00Z" },
    )]
    fn times_are_written_in_several_ways(text: &str, expected: &str) {
        assert_eq!(clock(TimeZone::UTC).since(text).unwrap(), expected);
    }

    #[parameterized(
        word = { "noon" }, number = { "5" }, date = { "2026-13-01" }, hour = { "25:00" },
    )]
    fn what_is_no_time_is_refused(text: &str) {
        assert_eq!(clock(TimeZone::UTC).since(text).unwrap_err().code(), 2);
    }

    #[test]
    fn the_date_is_said_where_it_isnt_today() {
        let utc = clock(TimeZone::UTC);
        assert_eq!(utc.shown("2026-03-01T12:04:01.220Z"), "12:04:01.220");
        assert_eq!(utc.shown("2026-02-28T12:04:01.220Z"), "2026-02-28 12:04:01.220");
        let east = clock(TimeZone::fixed(jiff::tz::offset(11)));
        assert_eq!(east.shown("2026-03-01T13:30:00Z"), "00:30:00.000");
        assert_eq!(east.shown("2026-03-01T12:30:00Z"), "2026-03-01 23:30:00.000");
        assert_eq!(east.since("00:30").unwrap(), "2026-03-01T13:30:00Z");
    }
}

//! Schedules: cron expressions in UTC.
//!
//! Owns reading them and the next time they come true. Never reads a clock and starts nothing.

use crate::units::Timestamp;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use croner::time::{CivilDate, CivilDateTime, CivilTime, CronDateTime, Resolution, Weekday};
use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, tz::TimeZone};
use std::cmp::Ordering;

/// A cron expression: minute, hour, day, month, weekday.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

/// Why a text is not a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields.
    #[error("has {0} fields, not 5")]
    Fields(usize),
    /// A number that its field doesn't have.
    #[error("{field} {number} isn't between {least} and {most}")]
    Range {
        field: &'static str,
        number: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A field that can't be read.
    #[error("can't be read")]
    Malformed(#[source] CronError),
    /// Such as the 30th of February.
    #[error("never comes true")]
    Never,
}

/// A field with its bounds.
#[derive(Clone, Copy)]
struct Field(&'static str, u64, u64);

const FIELDS: [Field; 5] = [
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day", 1, 31),
    Field("month", 1, 12),
    Field("weekday", 0, 7),
];

impl Field {
    /// Whether the numbers of a text are within the bounds; steps have none.
    fn check(self, text: &str) -> Result<(), ScheduleError> {
        let Self(field, least, most) = self;
        let ranges = text.split(',').filter_map(|part| part.split('/').next());
        let numbers = ranges.flat_map(|range| range.split('-')).filter_map(|n| n.parse().ok());
        let outside = numbers.into_iter().find(|number| !(least..=most).contains(number));
        match outside {
            Some(number) => Err(ScheduleError::Range { field, number, least, most }),
            None => Ok(()),
        }
    }
}

impl Schedule {
    /// Reads five fields, or a nickname such as `@daily`.
    ///
    /// # Errors
    /// When the text is no cron expression, or one that never comes true.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fields = text.split_whitespace().count();
        let expected = if text.starts_with('@') { 1 } else { 5 };
        if fields != expected {
            return Err(ScheduleError::Fields(fields));
        }
        if expected == 5 {
            text.split_whitespace().zip(FIELDS).try_for_each(|(text, field)| field.check(text))?;
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let schedule = Self(parser.build().parse(text).map_err(ScheduleError::Malformed)?);
        // Any start shows whether it ever comes true: leap days come round.
        schedule.next(Timestamp(0)).ok_or(ScheduleError::Never)?;
        Ok(schedule)
    }

    /// The first time after this one.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let seconds = i64::try_from(after.0 / 1000).ok()?;
        let start = jiff::Timestamp::from_second(seconds).ok()?;
        let start = Utc(TimeZone::UTC.to_datetime(start));
        let found = self.0.find_next_occurrence(&start, false).ok()?;
        let found = TimeZone::UTC.to_timestamp(found.0).ok()?;
        u64::try_from(found.as_millisecond()).ok().map(Timestamp)
    }
}

/// A wall clock that shows UTC: no time is skipped and none comes twice.
#[derive(Clone, Copy)]
struct Utc(DateTime);

impl CronDateTime for Utc {
    fn to_civil(&self) -> CivilDateTime {
        let part = |part: i8| u32::from(part.unsigned_abs());
        let (date, time) = (self.0.date(), self.0.time());
        CivilDateTime::new(
            CivilDate::from_parts_unchecked(
                date.year().into(),
                part(date.month()),
                part(date.day()),
            ),
            CivilTime::from_parts_unchecked(
                part(time.hour()),
                part(time.minute()),
                part(time.second()),
            ),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(
            self.0.weekday().to_sunday_zero_offset().unsigned_abs().into(),
        )
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let part = |part: u32| i8::try_from(part).map_err(|_| CronError::InvalidTime);
        let year = i16::try_from(civil.year()).map_err(|_| CronError::InvalidDate)?;
        let date = Date::new(year, part(civil.month())?, part(civil.day())?)
            .map_err(|_| CronError::InvalidDate)?;
        let (hour, minute) = (part(civil.hour())?, part(civil.minute())?);
        let time = Time::new(hour, minute, part(civil.second())?, 0)
            .map_err(|_| CronError::InvalidTime)?;
        Ok(Resolution::Single(Self(date.to_datetime(time))))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let after: jiff::Timestamp = after.parse().unwrap();
        let after = Timestamp(after.as_millisecond().try_into().unwrap());
        Schedule::parse(schedule).unwrap().next(after).unwrap().to_string()
    }

    #[test]
    fn the_next_time_is_strictly_later_and_in_utc() {
        assert_eq!(next("0 3 * * *", "2026-03-28T02:59:59.900Z"), "2026-03-28T03:00:00.000Z");
        assert_eq!(next("0 3 * * *", "2026-03-28T03:00:00Z"), "2026-03-29T03:00:00.000Z");
        assert_eq!(next("*/15 * * * *", "2026-12-31T23:50:00Z"), "2027-01-01T00:00:00.000Z");
        assert_eq!(next("0 0 29 2 *", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00.000Z");
        assert_eq!(next("30 8 * * MON", "2026-11-23T12:00:00Z"), "2026-11-30T08:30:00.000Z");
        assert_eq!(next("@daily", "2026-11-23T12:00:00Z"), "2026-11-24T00:00:00.000Z");
    }

    #[test]
    fn bad_schedules_say_why() {
        for (text, why) in [
            ("* * * *", "has 4 fields, not 5"),
            ("0 0 3 * * *", "has 6 fields, not 5"),
            ("61 * * * *", "minute 61 isn't between 0 and 59"),
            ("0 9-24 * * *", "hour 24 isn't between 0 and 23"),
            ("0 0 0 * *", "day 0 isn't between 1 and 31"),
            ("0 0 1 1,13 *", "month 13 isn't between 1 and 12"),
            ("0 0 * * 8", "weekday 8 isn't between 0 and 7"),
            ("a b c d e", "can't be read"),
            ("@never", "can't be read"),
            ("0 0 30 2 *", "never comes true"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), why, "{text}");
        }
    }
}

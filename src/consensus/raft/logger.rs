//! raft-rs's log lines as tracing events.
//!
//! Never decides what is shown: that is the subscriber's filter.

use slog::{Drain, Level, Logger, OwnedKVList, Record};

struct Tracing;

impl Drain for Tracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), slog::Never> {
        let text = record.msg();
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{text}"),
            Level::Warning => tracing::warn!(target: "raft", "{text}"),
            _ => tracing::debug!(target: "raft", "{text}"),
        }
        Ok(())
    }
}

/// The logger that raft-rs is given.
pub(super) fn logger() -> Logger {
    Logger::root(Tracing, slog::o!())
}

//! Tasks.
//!
//! Owns a task's own fields. Never runs a clock: a schedule is only read.

use super::super::cron::{Schedule, ScheduleError};
use super::super::fields::{SERVICE_ONLY, TASK};
use super::super::model::TaskSpec;
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Known, Scope, run};
use crate::units::Millis;

const KNOWN: Known = Known { all: TASK, elsewhere: SERVICE_ONLY, only: "a task" };

/// Reads a task from its line.
pub(super) fn read(ctx: &mut Ctx, scope: &Scope, line: &Line) -> TaskSpec {
    let mut fields = Fields::read(ctx, scope, line.block, &KNOWN);
    fields.excuse(line);
    let run = run::read(ctx, scope, &mut fields, line.span);
    let timeout = fields
        .one("timeout")
        .and_then(|line| At::value(scope, &line, 0)?.duration(ctx, 1_000))
        .unwrap_or(Millis::secs(3600));
    let schedule = fields.one("schedule").and_then(|line| schedule(ctx, scope, &line));
    let stop = run::stop(ctx, scope, &mut fields);
    TaskSpec { run, timeout, schedule, stop }
}

fn schedule(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<String> {
    let at = At::value(scope, line, 0)?;
    let text = at.some_text(ctx)?;
    if let Err(why) = Schedule::parse(&text) {
        let hint =
            Some("write minute, hour, day, month, weekday: schedule \"0 3 * * *\"".to_owned());
        let message = match why {
            // The field says it all.
            ScheduleError::Range { .. } => why.to_string(),
            why => format!("the schedule {text:?} {why}"),
        };
        at.error(ctx, &message, hint);
        return None;
    }
    Some(text)
}

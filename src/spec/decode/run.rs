//! What services and tasks share: image, command, user, resources, environment, constraints.
//!
//! Owns the fields of `RunSpec`. Never asks a registry or a node.

use super::super::fields::example;
use super::super::image::{Reference, ReferenceError};
use super::super::model::{RunSpec, StopSpec};
use super::super::nearest::nearest;
use super::super::report::Span;
use super::super::slips::{quoted, shortened};
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Scope, env, storage};
use crate::limits::{CPU_MAX_MILLI, MEMORY_MIN};
use crate::units::{MilliCpu, Millis};
use kdl::KdlValue;
use std::collections::BTreeMap;

/// Signals that a container can be asked to end with.
const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGCONT",
    "SIGHUP",
    "SIGINT",
    "SIGIO",
    "SIGKILL",
    "SIGPIPE",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGTERM",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
];

/// Reads the shared fields; `header` is the service or task, for complaints about what is missing.
pub(super) fn read(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields, header: Span) -> RunSpec {
    let image = image(ctx, scope, fields, header);
    let command = words(ctx, scope, fields, "command");
    let (args_line, had_command) = (fields.has("args"), fields.has("command"));
    let args_span = fields.seen.get("args").copied().unwrap_or_default();
    let args = words(ctx, scope, fields, "args");
    if args_line && had_command {
        let hint = Some("append them to command, or leave command out".to_owned());
        ctx.error(scope, args_span, "command replaces args too", hint);
    }
    let user = fields.one("user").and_then(|line| user(ctx, scope, &line));
    let cpu = fields.one("cpu").and_then(|line| cpu(ctx, scope, &line));
    let memory = fields
        .one("memory")
        .and_then(|line| At::value(scope, &line, 0)?.size(ctx, MEMORY_MIN))
        .unwrap_or(RunSpec::DEFAULT_MEMORY);
    let env = fields.one("env").map(|line| env::read(ctx, scope, &line)).unwrap_or_default();
    let constraints = constraints(ctx, scope, fields);
    let (volumes, secret_files, files) = storage::read(ctx, scope, fields);
    RunSpec {
        image,
        digest: None,
        command,
        args,
        user,
        cpu,
        memory,
        env,
        volumes,
        secret_files,
        constraints,
        files,
    }
}

fn image(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields, header: Span) -> String {
    if !fields.has("image") {
        let hint = format!("add {}", example("image"));
        ctx.error(scope, header, "image is missing", Some(hint));
    }
    let Some(line) = fields.one("image") else { return String::new() };
    let Some(at) = At::value(scope, &line, 0) else { return String::new() };
    let Some(text) = at.some_text(ctx) else { return String::new() };
    if let Err(why) = Reference::parse(&text) {
        let hint = match why {
            ReferenceError::Scheme => {
                text.split_once("://").map(|(_, rest)| at.written(&quoted(rest)))
            }
            ReferenceError::UpperCase => Some(at.written(&quoted(&text.to_lowercase()))),
            _ => None,
        };
        let hint = hint.map(|written| format!("write {written}"));
        at.error(ctx, &format!("the image {:?}: {why}", shortened(&text)), hint);
    }
    text
}

fn words(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields, field: &'static str) -> Vec<String> {
    let Some(line) = fields.one(field) else { return Vec::new() };
    let words: Vec<String> =
        (0..line.values.len()).filter_map(|n| At::value(scope, &line, n)?.text(ctx)).collect();
    if field == "command" && words.first().is_some_and(String::is_empty) {
        ctx.error(scope, line.values[0].span, "the program to run is empty", None);
    }
    words
}

fn user(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<String> {
    let at = At::value(scope, line, 0)?;
    if let KdlValue::Integer(_) = at.value.value {
        at.text(ctx);
        return None;
    }
    let text = at.some_text(ctx)?;
    let part = |part: &str| {
        let number = part.bytes().all(|b| b.is_ascii_digit());
        // A name begins with none of these: -1 is no user.
        let begins = part.starts_with(['-', '+', '.']);
        let fits = !number || part.parse::<u32>().is_ok_and(|id| id < u32::MAX);
        !part.is_empty()
            && !begins
            && !part.contains(|c: char| c.is_whitespace() || c == '/')
            && fits
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 2 || !parts.iter().all(|p| part(p)) {
        let hint = Some("write user \"1000\", \"1000:1000\", \"app\" or \"app:staff\"".to_owned());
        at.error(ctx, &format!("{text:?} isn't a user"), hint);
        return None;
    }
    Some(text)
}

fn cpu(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<MilliCpu> {
    let at = At::value(scope, line, 0)?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52 where it matters")]
    let cores = match &at.value.value {
        KdlValue::Integer(cores) => *cores as f64,
        KdlValue::Float(cores) => *cores,
        other => {
            let hint = match other {
                KdlValue::String(text) => cores_of(text).map(|cores| format!("write cpu {cores}")),
                _ => None,
            };
            let hint = hint.or_else(|| Some("write cpu 0.5 for half a core".to_owned()));
            at.error(ctx, &format!("cpu is a number of cores, not {}", at.value.kind()), hint);
            return None;
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let most = CPU_MAX_MILLI as f64 / 1000.0;
    if !(cores >= 0.001 && cores <= most) {
        let text = ctx.source.slice(at.value.span).to_owned();
        at.error(ctx, &format!("cpu {text} isn't between 0.001 and {most}"), None);
        return None;
    }
    let milli = (cores * 1000.0).round();
    if (cores * 1000.0 - milli).abs() > 1e-6 {
        at.error(ctx, "cpu has at most three decimals", None);
        return None;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    Some(MilliCpu(milli as u64))
}

/// `0.5`, or Kubernetes' `500m`, as cores.
pub(in crate::spec) fn cores_of(text: &str) -> Option<f64> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 1000.0),
        None => (text, 1.0),
    };
    number.parse::<f64>().ok().map(|n| n / factor).filter(|n| n.is_finite() && *n >= 0.001)
}

fn constraints(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in fields.all("constraint") {
        let label = At::value(scope, &line, 0).and_then(|at| at.some_text(ctx));
        let value = At::value(scope, &line, 1).and_then(|at| at.some_text(ctx));
        let (Some(label), Some(value)) = (label, value) else { continue };
        ctx.keep(scope, &["constraint", &label], line.span);
        if found.contains_key(&label) {
            let text = format!("a second constraint on {label:?}: no node can meet both");
            ctx.error(scope, line.span, &text, None);
            continue;
        }
        found.insert(label, value);
    }
    found
}

/// How a container is asked to end.
pub(super) fn stop(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields) -> StopSpec {
    let mut stop = StopSpec { signal: None, grace: Millis::secs(10) };
    let Some(line) = fields.one("stop") else { return stop };
    if let Some(at) = At::property(scope, &line, "signal") {
        stop.signal = signal(ctx, at);
    }
    if let Some(grace) = At::property(scope, &line, "grace").and_then(|at| at.duration(ctx, 0)) {
        stop.grace = grace;
    }
    stop
}

/// Signals by their numbers on Linux.
const NUMBERS: &[(&str, &str)] = &[
    ("1", "SIGHUP"),
    ("2", "SIGINT"),
    ("3", "SIGQUIT"),
    ("6", "SIGABRT"),
    ("9", "SIGKILL"),
    ("10", "SIGUSR1"),
    ("12", "SIGUSR2"),
    ("13", "SIGPIPE"),
    ("14", "SIGALRM"),
    ("15", "SIGTERM"),
    ("18", "SIGCONT"),
    ("28", "SIGWINCH"),
];

fn signal(ctx: &mut Ctx, at: At) -> Option<String> {
    let number = ctx.source.slice(at.value.span).trim_matches('"');
    if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) {
        let name = NUMBERS.iter().find(|(one, _)| *one == number).map(|(_, name)| *name);
        let hint = format!("write signal=\"{}\"", name.unwrap_or("SIGTERM"));
        at.error(ctx, "a signal is given by its name", Some(hint));
        return None;
    }
    let text = at.text(ctx)?;
    let real_time = text
        .strip_prefix("SIGRTMIN+")
        .filter(|n| !n.starts_with('+'))
        .is_some_and(|n| n.parse::<u8>().is_ok_and(|n| (1..=30).contains(&n)));
    if real_time || SIGNALS.contains(&text.as_str()) {
        return Some(text);
    }
    let upper = text.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let near = SIGNALS.iter().copied().find(|known| *known == full);
    let near = near.or_else(|| {
        let lower: Vec<String> = SIGNALS.iter().map(|known| known.to_lowercase()).collect();
        let words: Vec<&str> = lower.iter().map(String::as_str).collect();
        let found = nearest(&full, &words)?;
        words.iter().position(|word| *word == found).map(|at| SIGNALS[at])
    });
    let hint = near.map(|near| format!("did you mean {near:?}?"));
    at.error(ctx, &format!("unknown signal {text:?}"), hint);
    None
}

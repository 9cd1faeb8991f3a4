//! Services.
//!
//! Owns a service's own fields and the rules between them. Never compares services with each other.

use super::super::fields::{SERVICE, TASK_ONLY};
use super::super::model::{CanarySpec, RunSpec, ServiceSpec, UpdateOrder, UpdateSpec};
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Known, Scope, health, network, route, run};
use crate::id::WorkloadName;
use crate::limits::{MIN_REQUESTS_MAX, REPLICAS_MAX};
use crate::units::Millis;
use kdl::KdlValue;

const KNOWN: Known = Known { all: SERVICE, elsewhere: TASK_ONLY, only: "a service" };

/// Reads a service from its line.
pub(super) fn read(ctx: &mut Ctx, scope: &Scope, line: &Line) -> ServiceSpec {
    let mut fields = Fields::read(ctx, scope, line.block, &KNOWN);
    fields.excuse(line);
    let run = run::read(ctx, scope, &mut fields, line.span);
    let ports = network::ports(ctx, scope, &mut fields);
    let replicas_line = fields.one("replicas");
    let replicas = replicas_line
        .as_ref()
        .and_then(|line| At::value(scope, line, 0)?.integer(ctx, 0, REPLICAS_MAX))
        .unwrap_or(1);
    let health = health::read(ctx, scope, &mut fields, &ports);
    let routes = route::read(ctx, scope, &mut fields, &ports);
    let publish = network::publish(ctx, scope, &mut fields, &ports);
    if let (Some(line), Some(volume)) = (&replicas_line, persistent(&run))
        && replicas > 1
    {
        let span = line.values.first().map_or(line.span, |value| value.span);
        let text = format!("the persistent volume {volume:?} allows one replica only");
        let hint = Some("write replicas 1, or ephemeral=#true at the volume".to_owned());
        ctx.error(scope, span, &text, hint);
    }
    let update = update(ctx, scope, &mut fields, &run, replicas);
    let before_deploy = hooks(ctx, scope, &mut fields, "before-deploy");
    let after_deploy = hooks(ctx, scope, &mut fields, "after-deploy");
    let stop = run::stop(ctx, scope, &mut fields);
    ServiceSpec {
        run,
        ports: ports.list,
        replicas,
        health,
        routes,
        publish,
        update,
        before_deploy,
        after_deploy,
        stop,
    }
}

/// A persistent volume of the container, if it has one.
fn persistent(run: &RunSpec) -> Option<&str> {
    run.volumes.iter().find(|volume| !volume.ephemeral).map(|volume| volume.name.as_str())
}

fn hooks(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
    field: &'static str,
) -> Vec<WorkloadName> {
    let mut tasks: Vec<WorkloadName> = Vec::new();
    for line in fields.all(field) {
        let Some(at) = At::value(scope, &line, 0) else { continue };
        let Some(name) = at.label(ctx, "the task's name") else { continue };
        ctx.keep(scope, &[field, &name], at.value.span);
        let name = WorkloadName::from(name);
        if tasks.contains(&name) {
            at.error(ctx, &format!("{field} {:?} is given twice", name.as_str()), None);
            continue;
        }
        tasks.push(name);
    }
    tasks
}

fn update(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
    run: &RunSpec,
    replicas: u32,
) -> UpdateSpec {
    let volume = persistent(run);
    let order = if volume.is_some() { UpdateOrder::StopFirst } else { UpdateOrder::StartFirst };
    let mut update =
        UpdateSpec { max_parallel: 1, order, healthy_deadline: Millis::secs(60), canary: None };
    let Some(line) = fields.one("update") else { return update };
    for property in &line.properties {
        ctx.keep(scope, &["update", &property.name], property.value.span);
    }
    if let Some(at) = At::property(scope, &line, "max-parallel") {
        update.max_parallel = at.integer(ctx, 1, REPLICAS_MAX).unwrap_or(1);
    }
    if let Some(at) = At::property(scope, &line, "healthy-deadline") {
        update.healthy_deadline = at.duration(ctx, 1_000).unwrap_or(update.healthy_deadline);
    }
    if let Some(at) = At::property(scope, &line, "order") {
        match (at.text(ctx).as_deref(), volume) {
            (Some("start-first"), Some(volume)) => {
                let text = format!("start-first would let two replicas write {volume:?}");
                at.error(ctx, &text, Some("write order=\"stop-first\"".to_owned()));
            }
            (Some("start-first"), None) => update.order = UpdateOrder::StartFirst,
            (Some("stop-first"), _) => update.order = UpdateOrder::StopFirst,
            (Some(text), _) => {
                let hint = Some("write order=\"start-first\" or order=\"stop-first\"".to_owned());
                at.error(ctx, &format!("unknown order {text:?}"), hint);
            }
            (None, _) => {}
        }
    }
    update.canary = canary(ctx, scope, &line, volume, replicas);
    update
}

/// What is said of a canary and nothing else.
const OF_CANARIES: [&str; 4] = ["for", "max-error-rate", "max-latency-ratio", "min-requests"];

fn canary(
    ctx: &mut Ctx,
    scope: &Scope,
    line: &Line,
    volume: Option<&str>,
    replicas: u32,
) -> Option<CanarySpec> {
    let Some(at) = At::property(scope, line, "canary") else {
        for name in OF_CANARIES {
            if let Some(at) = At::property(scope, line, name) {
                let hint = match line.get("for") {
                    Some(_) => "add canary=1",
                    None => "add canary=1 for=\"2m\"",
                };
                let hint = Some(hint.to_owned());
                at.error(ctx, &format!("{name} belongs to a canary"), hint);
            }
        }
        return None;
    };
    let count = at.integer(ctx, 1, REPLICAS_MAX);
    if let Some(volume) = volume {
        at.error(ctx, &format!("a canary would write {volume:?} beside the old replica"), None);
    } else if count.is_some_and(|count| count > replicas) {
        let text = format!("a canary of {}, but replicas {replicas}", count.unwrap_or_default());
        at.error(ctx, &text, None);
    }
    let duration = match At::property(scope, line, "for") {
        Some(at) => at.duration(ctx, 1_000),
        None => {
            let hint = Some("add for=\"2m\"".to_owned());
            at.error(ctx, "a canary needs a duration", hint);
            None
        }
    };
    let read = |name, ctx: &mut Ctx, by: fn(&mut Ctx, At) -> Option<u32>| {
        // Given and wrong is told, and counts as nothing for the rest.
        At::property(scope, line, name).map(|at| by(ctx, at))
    };
    let rate = read("max-error-rate", ctx, percentage);
    let ratio = read("max-latency-ratio", ctx, ratio);
    let least = read("min-requests", ctx, |ctx, at| at.integer(ctx, 1, MIN_REQUESTS_MAX));
    Some(CanarySpec {
        count: count?,
        duration: duration?,
        max_error_rate: rate.flatten(),
        max_latency_ratio: ratio.flatten(),
        min_requests: least.flatten().unwrap_or_else(CanarySpec::min_requests),
    })
}

/// `1.5` in thousandths: at least 1.
fn ratio(ctx: &mut Ctx, at: At) -> Option<u32> {
    let number = match &at.value.value {
        KdlValue::Integer(number) => u32::try_from(*number).ok().map(f64::from),
        KdlValue::Float(number) => Some(*number),
        KdlValue::String(text) => {
            let plain = text.trim().parse::<f64>().is_ok_and(f64::is_finite);
            let hint = format!("write {}", at.written(if plain { text.trim() } else { "1.5" }));
            at.error(ctx, "max-latency-ratio is a number, not text", Some(hint));
            return None;
        }
        _ => None,
    };
    let found = number.filter(|number| (1.0..=1000.0).contains(number));
    if found.is_none() {
        let hint = Some(format!("write {}", at.written("1.5")));
        at.error(ctx, "max-latency-ratio is a number from 1 to 1000", hint);
    }
    // Within the bounds it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1000")]
    found.map(|number| (number * 1000.0).round() as u32)
}

/// `1%` or `0.5%` in thousandths of a percent.
pub(super) fn share(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let fits = |t: &str| matches!(t.len(), 1..=3) && t.bytes().all(|b| b.is_ascii_digit());
    if !fits(whole) || !fits(decimals) {
        return None;
    }
    let thousandths: u32 = format!("{decimals:0<3}").parse().ok()?;
    let rate = whole.parse::<u32>().ok()? * 1000 + thousandths;
    (rate <= 100_000).then_some(rate)
}

fn percentage(ctx: &mut Ctx, at: At) -> Option<u32> {
    let text = at.text(ctx)?;
    let found = share(&text);
    if found.is_none() {
        let hint = Some(format!("write {}", at.written("\"1%\"")));
        at.error(ctx, &format!("{text:?} isn't a percentage"), hint);
    }
    found
}

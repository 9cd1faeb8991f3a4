//! A specification field by field, as the file has them, and what differs between two.
//!
//! Owns how a field's value reads. Never shows the value of an environment variable.

use crate::fsm::model::WorkloadSpec;
use crate::id::Digest;
use crate::limits::PLAN_LINES_MAX;
use crate::spec::model::{
    EnvPart, EnvValue, FileSpec, HealthProbe, HealthSpec, PortSpec, PublishSpec, RouteOptions,
    RouteSpec, RunSpec, ServiceSpec, StopSpec, TaskSpec, UpdateOrder, UpdateSpec, VolumeSpec,
};
use crate::units::Bytes;
use std::collections::BTreeMap;

/// How a field, or one of its values, changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It wasn't there.
    Add,
    /// It has another value.
    Change,
    /// It is gone.
    Remove,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Its name in the file.
    pub field: &'static str,
    /// How it changes.
    pub sign: Sign,
    /// Of a field with several: which, for example the variable's name.
    pub key: Option<String>,
    /// Its value before; never that of an environment variable.
    pub before: Option<String>,
    /// Its value after; never that of an environment variable.
    pub after: Option<String>,
    /// Of a config file: the lines that differ, each behind `+` or `-`.
    pub lines: Vec<String>,
}

/// What a field holds.
enum Value {
    /// An image with its digest.
    Image(String, Option<Digest>),
    /// One value; absent: the default.
    One(Option<String>),
    /// Values by key.
    Many(BTreeMap<String, String>),
    /// Values by key that nobody is shown.
    Hidden(BTreeMap<String, String>),
    /// Config files by path: their permissions and their text.
    Files(BTreeMap<String, (String, String)>),
}

type Fields = Vec<(&'static str, Value)>;

/// What differs between two specifications, in the order of the file's fields; of a new or removed
/// one nothing, since all of it does.
#[must_use]
pub fn diff(before: &WorkloadSpec, after: &WorkloadSpec) -> Vec<FieldChange> {
    let old: BTreeMap<&str, Value> = fields(before).into_iter().collect();
    let mut changes = Vec::new();
    for (field, new) in fields(after) {
        match (old.get(field), new) {
            (Some(Value::Image(a, b)), Value::Image(c, d)) => {
                changes.extend(image(field, (a, b.as_ref()), (&c, d.as_ref())));
            }
            (Some(Value::One(before)), Value::One(after)) if *before != after => {
                let (before, after) = (before.clone(), after);
                let (sign, key) = (Sign::Change, None);
                let lines = Vec::new();
                changes.push(FieldChange { field, sign, key, before, after, lines });
            }
            (Some(Value::Many(before)), Value::Many(after)) => {
                changes.extend(many(field, before, &after, false));
            }
            (Some(Value::Hidden(before)), Value::Hidden(after)) => {
                changes.extend(many(field, before, &after, true));
            }
            (Some(Value::Files(before)), Value::Files(after)) => {
                changes.extend(files(field, before, &after));
            }
            _ => {}
        }
    }
    changes
}

/// What differs between config files, line by line.
fn files(
    field: &'static str,
    before: &BTreeMap<String, (String, String)>,
    after: &BTreeMap<String, (String, String)>,
) -> Vec<FieldChange> {
    let modes = |all: &BTreeMap<String, (String, String)>| {
        all.iter().map(|(path, (mode, text))| (path.clone(), format!("{mode} {text}"))).collect()
    };
    let mut changes = many(field, &modes(before), &modes(after), true);
    for change in &mut changes {
        let of = |all: &BTreeMap<String, (String, String)>| {
            change.key.as_ref().and_then(|path| all.get(path)).cloned().unwrap_or_default()
        };
        let ((old_mode, old), (new_mode, new)) = (of(before), of(after));
        if change.sign == Sign::Change && old_mode != new_mode {
            (change.before, change.after) = (Some(old_mode), Some(new_mode));
        }
        if change.sign != Sign::Remove {
            change.lines = differing(&old, &new);
        }
    }
    changes
}

/// The lines that differ, bounded.
fn differing(old: &str, new: &str) -> Vec<String> {
    let diff = similar::TextDiff::from_lines(old, new);
    let changed = diff.iter_all_changes().filter_map(|change| {
        let sign = match change.tag() {
            similar::ChangeTag::Delete => '-',
            similar::ChangeTag::Insert => '+',
            similar::ChangeTag::Equal => return None,
        };
        Some(format!("{sign} {}", change.value().trim_end_matches(['\n', '\r'])))
    });
    let mut lines: Vec<String> = changed.collect();
    let more = lines.len().saturating_sub(PLAN_LINES_MAX);
    lines.truncate(PLAN_LINES_MAX);
    if more > 0 {
        lines.push(format!("… {more} more lines"));
    }
    lines
}

/// Of one repository only its last part is shown.
fn image(
    field: &'static str,
    before: (&str, Option<&Digest>),
    after: (&str, Option<&Digest>),
) -> Option<FieldChange> {
    if before == after {
        return None;
    }
    let is_same = repository(before.0) == repository(after.0);
    let show = |(reference, digest): (&str, Option<&Digest>)| {
        let name = if is_same { last_part(reference) } else { reference };
        let digest = digest.map(|digest| format!(" ({})", short(digest))).unwrap_or_default();
        Some(format!("{name}{digest}"))
    };
    let (before, after) = (show(before), show(after));
    Some(FieldChange { field, sign: Sign::Change, key: None, before, after, lines: Vec::new() })
}

/// A reference without its tag or digest.
fn repository(reference: &str) -> &str {
    let name = reference.rfind('/').map_or(0, |at| at + 1);
    let end = reference[name..].find([':', '@']).map_or(reference.len(), |at| name + at);
    &reference[..end]
}

/// `web:v1` of `registry.example.com/web:v1`.
fn last_part(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

/// `1aa0…` of `sha256:1aa0…`.
#[must_use]
pub fn short(digest: &Digest) -> String {
    let hex = digest.as_str().split(':').next_back().unwrap_or_default();
    format!("{}…", hex.chars().take(4).collect::<String>())
}

fn many(
    field: &'static str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
    hidden: bool,
) -> Vec<FieldChange> {
    let shown = |value: Option<&String>| value.filter(|_| !hidden).cloned();
    let change = |key: &String, sign, before, after| {
        let (before, after) = (shown(before), shown(after));
        let lines = Vec::new();
        FieldChange { field, sign, key: Some(key.clone()), before, after, lines }
    };
    let mut changes = Vec::new();
    for (key, new) in after {
        match before.get(key) {
            None => changes.push(change(key, Sign::Add, None, Some(new))),
            Some(old) if old != new => {
                changes.push(change(key, Sign::Change, Some(old), Some(new)));
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|(key, _)| !after.contains_key(*key));
    changes.extend(gone.map(|(key, old)| change(key, Sign::Remove, Some(old), None)));
    changes
}

fn fields(spec: &WorkloadSpec) -> Fields {
    match spec {
        WorkloadSpec::Service(service) => of_service(service),
        WorkloadSpec::Task(task) => of_task(task),
    }
}

// Both take their specification apart, so that a new field can't be forgotten here.
fn of_service(service: &ServiceSpec) -> Fields {
    let ServiceSpec {
        run,
        ports,
        replicas,
        health,
        routes,
        publish,
        update,
        before_deploy,
        after_deploy,
        stop,
    } = service;
    let mut all = of_run(run);
    // One after the other: their order counts.
    let names = |all: &[crate::id::WorkloadName]| {
        let all: Vec<&str> = all.iter().map(crate::id::WorkloadName::as_str).collect();
        Value::One((!all.is_empty()).then(|| all.join(", ")))
    };
    all.extend([
        ("replicas", Value::One(Some(replicas.to_string()))),
        ("port", Value::Many(ports.iter().map(port).collect())),
        ("publish", Value::Many(publish.iter().map(self::publish).collect())),
        ("health", Value::One(Some(self::health(health)))),
        ("route", Value::Many(routes.iter().map(route).collect())),
        ("update", Value::One(Some(self::update(update)))),
        ("before-deploy", names(before_deploy)),
        ("after-deploy", names(after_deploy)),
        ("stop", Value::One(Some(self::stop(stop)))),
    ]);
    all
}

fn of_task(task: &TaskSpec) -> Fields {
    let TaskSpec { run, timeout, schedule, stop } = task;
    let mut all = of_run(run);
    all.extend([
        ("timeout", Value::One(Some(timeout.to_string()))),
        ("schedule", Value::One(schedule.clone())),
        ("stop", Value::One(Some(self::stop(stop)))),
    ]);
    all
}

fn of_run(run: &RunSpec) -> Fields {
    let RunSpec {
        image,
        digest,
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
    } = run;
    let words = |words: &[String]| {
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        Value::One((!quoted.is_empty()).then(|| quoted.join(" ")))
    };
    let secret =
        |file: &crate::spec::model::SecretFileSpec| (file.path.clone(), file.secret.to_string());
    vec![
        ("image", Value::Image(image.clone(), digest.clone())),
        ("command", words(command)),
        ("args", words(args)),
        ("user", Value::One(user.clone())),
        ("cpu", Value::One(cpu.map(|cpu| cpu.cores().to_string()))),
        ("memory", Value::One(Some(memory.exact()))),
        ("env", Value::Hidden(env.iter().map(|(key, v)| (key.clone(), opaque(v))).collect())),
        ("volume", Value::Many(volumes.iter().map(volume).collect())),
        ("secret-file", Value::Many(secret_files.iter().map(secret).collect())),
        ("file", Value::Files(files.iter().map(file).collect())),
        ("constraint", Value::Many(constraints.clone())),
    ]
}

/// Its permissions, and its text with references as they are written.
fn file(file: &FileSpec) -> (String, (String, String)) {
    let part = |part: &EnvPart| match part {
        EnvPart::Text(text) => text.clone(),
        EnvPart::Service(name) => format!("${{service.{name}.address}}"),
        EnvPart::Secret(name) => format!("${{secret({name})}}"),
    };
    let text = file.content.0.iter().map(part).collect();
    (file.path.clone(), (format!("mode={:04o}", file.mode), text))
}

/// Only to tell whether two values differ.
fn opaque(value: &EnvValue) -> String {
    let part = |part: &EnvPart| match part {
        EnvPart::Text(text) => format!("text {text:?}"),
        EnvPart::Service(name) => format!("service {name}"),
        EnvPart::Secret(name) => format!("secret {name}"),
    };
    value.0.iter().map(part).collect::<Vec<_>>().join(" ")
}

fn port(port: &PortSpec) -> (String, String) {
    let name = port.name.as_ref().map(|name| format!("name={name:?}")).unwrap_or_default();
    (port.port.to_string(), name)
}

fn publish(publish: &PublishSpec) -> (String, String) {
    let port = publish.port.as_ref().map(|port| format!("port={port:?}"));
    let key = format!("{}{}", publish.host_port, if publish.udp { "/udp" } else { "" });
    (key, port.unwrap_or_default())
}

fn route(route: &RouteSpec) -> (String, String) {
    let path = if route.path == "/" { "" } else { &route.path };
    let mut how = Vec::new();
    how.extend(route.port.as_ref().map(|port| format!("port={port:?}")));
    how.extend(route.h2c.then(|| "upstream=\"h2c\"".to_owned()));
    how.extend((!route.redirect).then(|| "redirect=#false".to_owned()));
    how.extend(options(&route.options));
    (format!("{}{path}", route.host), how.join(" "))
}

/// What else a route says, as the file has it.
fn options(options: &RouteOptions) -> Vec<String> {
    let quoted = |name: &str, value: Option<String>| value.map(|v| format!("{name}={v:?}"));
    let flag = |name: &str, on: bool| on.then(|| format!("{name}=#true"));
    let allow: Vec<String> = options.allow.iter().map(ToString::to_string).collect();
    let each = [
        flag("strip", options.strip),
        quoted("to", options.to.clone()),
        quoted("timeout", options.timeout.map(|timeout| timeout.to_string())),
        quoted("body-max", options.body_max.map(Bytes::exact)),
        quoted("auth", options.auth.as_ref().map(ToString::to_string)),
        flag("sticky", options.sticky),
        flag("compress", options.compress),
        quoted("allow", (!allow.is_empty()).then(|| allow.join(" "))),
        quoted("limit", options.limit.map(|limit| limit.to_string())),
        flag("hsts", options.hsts),
        quoted("wait", options.wait.map(|wait| wait.to_string())),
        options.unlogged.then(|| "log=#false".to_owned()),
    ];
    let set = options.set.iter().map(|(name, value)| format!("set {name:?} {value:?}"));
    let removed = options.remove.iter().map(|name| format!("remove {name:?}"));
    each.into_iter().flatten().chain(set).chain(removed).collect()
}

fn volume(volume: &VolumeSpec) -> (String, String) {
    let size = volume.size.map(|size| format!(" size={}", size.exact())).unwrap_or_default();
    let ephemeral = if volume.ephemeral { " ephemeral" } else { "" };
    (volume.name.clone(), format!("{}{size}{ephemeral}", volume.path))
}

fn health(health: &HealthSpec) -> String {
    let probe = match &health.probe {
        HealthProbe::Uptime => "up for 2s".to_owned(),
        HealthProbe::Tcp => "tcp".to_owned(),
        HealthProbe::Http(path) => {
            let host = health.host.as_ref().map(|host| format!(" of {host}"));
            format!("GET {path}{}", host.unwrap_or_default())
        }
        HealthProbe::Exec(words) => format!("exec {}", words.join(" ")),
    };
    let HealthSpec { interval, timeout, grace, .. } = health;
    format!("{probe} every {interval}, timeout {timeout}, grace {grace}")
}

fn update(update: &UpdateSpec) -> String {
    let order = order(update.order);
    let canary = update.canary.as_ref().map(|canary| {
        let rate = canary
            .max_error_rate
            .map(|rate| format!(", at most {}% errors", f64::from(rate) / 1000.0));
        let ratio = canary
            .max_latency_ratio
            .map(|ratio| format!(", at most {}× the time", f64::from(ratio) / 1000.0));
        let (rate, ratio) = (rate.unwrap_or_default(), ratio.unwrap_or_default());
        let least = canary.min_requests;
        format!(
            ", canary {} for {}{rate}{ratio}, from {least} requests",
            canary.count, canary.duration
        )
    });
    let (parallel, deadline) = (update.max_parallel, update.healthy_deadline);
    format!("{parallel} at a time, {order}, {deadline}{}", canary.unwrap_or_default())
}

/// An order's name.
#[must_use]
pub fn order(order: UpdateOrder) -> &'static str {
    match order {
        UpdateOrder::StartFirst => "start-first",
        UpdateOrder::StopFirst => "stop-first",
    }
}

fn stop(stop: &StopSpec) -> String {
    format!("{}, {}", stop.signal.as_deref().unwrap_or("the image's signal"), stop.grace)
}

//! Health checks.
//!
//! Owns the fields of `health` and its default. Never probes anything.

use super::super::fields::example;
use super::super::model::{HealthProbe, HealthSpec};
use super::super::value::Line;
use super::network::{Ports, url_path};
use super::route::host;
use super::values::At;
use super::{Ctx, Fields, Scope};
use crate::units::Millis;

/// The shortest time between two probes.
const INTERVAL_MIN_MS: u64 = 100;

/// Reads the check, or gives the default.
pub(super) fn read(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields, ports: &Ports) -> HealthSpec {
    let has_port = ports.list.iter().any(|port| port.name.is_none());
    let probe = if has_port { HealthProbe::Tcp } else { HealthProbe::Uptime };
    let default = HealthSpec {
        explicit: false,
        probe,
        interval: Millis::secs(10),
        timeout: Millis::secs(2),
        grace: Millis::secs(30),
        host: None,
    };
    let Some(line) = fields.one("health") else { return default };
    let mut health = default.clone();
    if let Some(probe) = probe_of(ctx, scope, &line) {
        health.probe = probe;
    }
    if line.get("exec").is_none() && ports.lacks_main() {
        let hint = Some("add port 3000, or write health exec=\"…\"".to_owned());
        ctx.error(scope, line.name_span, "health needs a main port", hint);
    }
    let times = [
        ("interval", INTERVAL_MIN_MS, &mut health.interval),
        ("timeout", 1, &mut health.timeout),
        ("grace", 0, &mut health.grace),
    ];
    for (name, least, slot) in times {
        let found = At::property(scope, &line, name).and_then(|at| at.duration(ctx, least));
        *slot = found.unwrap_or(*slot);
    }
    if let Some(at) = At::property(scope, &line, "host") {
        if matches!(health.probe, HealthProbe::Http(_)) {
            health.host = host(ctx, at);
            if health.host.as_ref().is_some_and(|host| host.starts_with('*')) {
                at.error(ctx, "a health check asks for one host", None);
            }
        } else {
            let hint = Some("leave it out, or write health \"/healthz\"".to_owned());
            at.error(ctx, "host is for an HTTP health check", hint);
        }
    }
    // What says the default changes nothing.
    health.explicit = health != default;
    health
}

/// What is done, if the line says so.
fn probe_of(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<HealthProbe> {
    for name in ["interval", "timeout", "grace", "tcp", "exec", "host"] {
        if let Some(value) = line.get(name) {
            ctx.keep(scope, &["health", name], value.span);
        }
    }
    let path = At::value(scope, line, 0);
    let tcp = At::property(scope, line, "tcp");
    let exec = At::property(scope, line, "exec");
    let given: Vec<At> = [path, tcp, exec].into_iter().flatten().collect();
    if let [_, second, ..] = given.as_slice() {
        let hint = Some(format!("for example {}", example("health")));
        second.error(ctx, "health is a path, tcp=#true or exec=\"…\", one of them", hint);
    }
    if let Some(at) = path {
        let text = at.text(ctx)?;
        return url_path(ctx, at, &text, true).then_some(HealthProbe::Http(text));
    }
    if let Some(at) = tcp {
        if !at.flag(ctx)? {
            at.error(ctx, "tcp=#false says nothing", Some("leave it out".to_owned()));
        }
        return Some(HealthProbe::Tcp);
    }
    let text = exec?.some_text(ctx)?;
    Some(HealthProbe::Exec(text.split_whitespace().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use crate::spec::parse;

    #[yare::parameterized(
        tcp = { "port 80; health tcp=#true" },
        interval = { "port 80; health interval=\"10s\"" },
        whole = { "port 80; health tcp=#true interval=\"10s\" timeout=\"2s\" grace=\"30s\"" },
    )]
    fn what_says_the_default_is_the_default(fields: &str) {
        let health = |fields: &str| {
            let text = format!("service \"web\" {{ image \"x:1\"; {fields} }}");
            parse("file", &text).unwrap().services.into_values().next().unwrap().health
        };
        assert_eq!(health(fields), health("port 80"));
        assert_ne!(health("port 80; health interval=\"5s\""), health("port 80"));
    }
}

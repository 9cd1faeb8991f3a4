//! A specification as text, in any style that the format allows.
//!
//! Owns printing for tests. Never formats canonically: that is what is tested.

use super::dice::Dice;
use mill::spec::{Spec, model::*};
use mill::units::{Bytes, Millis};

/// Prints a specification; the dice decide on quotes, blanks, comments and line ends.
pub fn print(spec: &Spec, dice: &mut Dice) -> String {
    let mut fields: Vec<String> = Vec::new();
    fields.extend(spec.cluster.as_ref().map(|name| format!("cluster {}", text(name, dice))));
    fields.push(format!("app {}", text(spec.app.as_str(), dice)));
    for (name, task) in &spec.tasks {
        let mut inner = run(&task.run, dice);
        inner.push(format!("timeout {}", millis(task.timeout)));
        inner.extend(task.schedule.as_ref().map(|s| format!("schedule {}", text(s, dice))));
        inner.push(stop(&task.stop, dice));
        fields.push(format!("task {} {}", text(name.as_str(), dice), block(&inner, dice)));
    }
    for (name, service) in &spec.services {
        let inner = service_fields(service, dice);
        fields.push(format!("service {} {}", text(name.as_str(), dice), block(&inner, dice)));
    }
    lines(&fields, dice)
}

/// A text in one of the ways to write it.
fn text(text: &str, dice: &mut Dice) -> String {
    let way = dice.below(4);
    let bare = text.chars().all(|c| c.is_ascii_lowercase()) && text != "true" && !text.is_empty();
    if way == 0 && bare {
        return text.to_owned();
    }
    let plain = !text.contains(['\n', '\u{1}']) && !text.contains("\"##") && !text.starts_with('"');
    if way == 1 && plain {
        return format!("##\"{text}\"##");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\u{1}' => out.push_str("\\u{1}"),
            'a' if way == 2 => out.push_str("\\u{61}"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn millis(duration: Millis) -> String {
    format!("\"{duration}\"")
}

fn size(Bytes(size): Bytes) -> String {
    match size {
        _ if size % 1024 == 0 => format!("\"{}Ki\"", size / 1024),
        _ => format!("\"{}K\"", size / 1000),
    }
}

/// Fields one after another, with everything that may stand between them.
fn lines(fields: &[String], dice: &mut Dice) -> String {
    let mut out = String::new();
    for field in fields {
        match dice.below(10) {
            0 => out.push_str("// a comment { \"\n"),
            1 => out.push_str("\n\n\n"),
            2 => out.push_str("/* another\n one */ "),
            3 => out.push_str("/-image \"commented out\" { a \"}\" }\n"),
            4 => out.push_str("\t   "),
            _ => {}
        }
        out.push_str(field);
        out.push_str(dice.pick(&["\n", "\n", " \n", "; ", " // trailing\n", "\r\n", " /* x */\n"]));
    }
    out
}

fn block(fields: &[String], dice: &mut Dice) -> String {
    if dice.below(3) == 0 {
        return format!("{{ {} }}", fields.join("; "));
    }
    let open = dice.pick(&["{\n", "{ // first\n", "{", "{\n\n"]);
    format!("{open}{}}}", lines(fields, dice))
}

/// Values with blanks, comments or a continued line between them.
fn joined(values: Vec<String>, dice: &mut Dice) -> String {
    let mut out = String::new();
    for value in values {
        out.push_str(dice.pick(&[" ", " ", "  ", " \\\n   ", " /* c */ ", " \\ // c\n", " /-9 "]));
        out.push_str(&value);
    }
    out
}

fn run(run: &RunSpec, dice: &mut Dice) -> Vec<String> {
    let mut fields = vec![format!("image {}", text(&run.image, dice))];
    for (field, words) in [("command", &run.command), ("args", &run.args)] {
        if !words.is_empty() {
            let words = words.iter().map(|word| text(word, dice)).collect();
            fields.push(format!("{field}{}", joined(words, dice)));
        }
    }
    fields.extend(run.user.as_ref().map(|user| format!("user {}", text(user, dice))));
    let cpu = run.cpu.map(|cpu| format!("cpu {}.{:03}", cpu.0 / 1000, cpu.0 % 1000));
    fields.extend(cpu);
    fields.push(format!("memory {}", size(run.memory)));
    if !run.env.is_empty() {
        let one = |(name, value): (&String, &EnvValue)| {
            format!("{name} {}", text(&env_value(value), dice))
        };
        let inner: Vec<String> = run.env.iter().map(one).collect();
        fields.push(format!("env {}", block(&inner, dice)));
    }
    for volume in &run.volumes {
        let mut values =
            vec![text(&volume.name, dice), format!("path={}", text(&volume.path, dice))];
        values.extend(volume.ephemeral.then(|| "ephemeral=#true".to_owned()));
        values.extend(volume.size.map(|bytes| format!("size={}", size(bytes))));
        fields.push(format!("volume{}", joined(values, dice)));
    }
    for secret in &run.secret_files {
        let name = text(secret.secret.as_str(), dice);
        fields.push(format!("secret-file {name} path={}", text(&secret.path, dice)));
    }
    for (label, value) in &run.constraints {
        fields.push(format!("constraint {} {}", text(label, dice), text(value, dice)));
    }
    fields
}

fn env_value(value: &EnvValue) -> String {
    let part = |part: &EnvPart| match part {
        EnvPart::Text(text) => text.replace('$', "$$"),
        EnvPart::Service(name) => format!("${{service.{name}.address}}"),
        EnvPart::Secret(name) => format!("${{secret({name})}}"),
    };
    value.0.iter().map(part).collect()
}

fn stop(stop: &StopSpec, dice: &mut Dice) -> String {
    let signal = stop.signal.as_ref().map(|signal| format!(" signal={}", text(signal, dice)));
    format!("stop{} grace = {}", signal.unwrap_or_default(), millis(stop.grace))
}

fn service_fields(service: &ServiceSpec, dice: &mut Dice) -> Vec<String> {
    let mut fields = run(&service.run, dice);
    for port in &service.ports {
        let name = port.name.as_ref().map(|name| format!(" name={}", text(name, dice)));
        fields.push(format!("port {}{}", port.port, name.unwrap_or_default()));
    }
    fields.push(format!("replicas {}", service.replicas));
    let health = &service.health;
    if health.explicit {
        let mut values = vec![match &health.probe {
            HealthProbe::Http(path) => text(path, dice),
            HealthProbe::Exec(words) => format!("exec={}", text(&words.join(" "), dice)),
            _ => "tcp=#true".to_owned(),
        }];
        values.push(format!("interval={}", millis(health.interval)));
        values.push(format!("timeout={}", millis(health.timeout)));
        values.push(format!("grace={}", millis(health.grace)));
        values.extend(health.host.iter().map(|host| format!("host={}", text(host, dice))));
        fields.push(format!("health{}", joined(values, dice)));
    }
    let named = |port: &Option<String>, dice: &mut Dice| {
        port.as_ref().map(|name| format!("port={}", text(name, dice)))
    };
    for route in &service.routes {
        let mut values = vec![text(&route.host, dice), format!("path={}", text(&route.path, dice))];
        values.extend(named(&route.port, dice));
        values.extend(route.h2c.then(|| "upstream=\"h2c\"".to_owned()));
        values.extend((!route.redirect).then(|| "redirect=#false".to_owned()));
        values.extend(options(&route.options, dice));
        fields.push(format!("route{}{}", joined(values, dice), headers(&route.options, dice)));
    }
    for publish in &service.publish {
        let mut values = vec![publish.host_port.to_string()];
        values.extend(named(&publish.port, dice));
        values.extend(publish.udp.then(|| "udp=#true".to_owned()));
        fields.push(format!("publish{}", joined(values, dice)));
    }
    fields.push(format!("update{}", joined(update(&service.update), dice)));
    for (field, tasks) in
        [("before-deploy", &service.before_deploy), ("after-deploy", &service.after_deploy)]
    {
        let line = |task| format!("{field} {}", text(task, dice));
        fields.extend(tasks.iter().map(mill::id::WorkloadName::as_str).map(line));
    }
    fields.push(stop(&service.stop, dice));
    fields
}

fn options(options: &RouteOptions, dice: &mut Dice) -> Vec<String> {
    let allow: Vec<String> = options.allow.iter().map(ToString::to_string).collect();
    let mut values = Vec::new();
    values.extend(options.strip.then(|| "strip=#true".to_owned()));
    values.extend(options.to.as_ref().map(|to| format!("to={}", text(to, dice))));
    values.extend(options.timeout.map(|timeout| format!("timeout={}", millis(timeout))));
    values.extend(options.body_max.map(|most| format!("body-max=\"{}K\"", most.0 / 1_000)));
    values.extend(options.auth.as_ref().map(|auth| format!("auth={}", text(auth.as_str(), dice))));
    values.extend(options.sticky.then(|| "sticky=#true".to_owned()));
    values.extend(options.compress.then(|| "compress=#true".to_owned()));
    values.extend((!allow.is_empty()).then(|| format!("allow={}", text(&allow.join(" "), dice))));
    values.extend(options.limit.map(|limit| format!("limit=\"{limit}\"")));
    values.extend(options.hsts.then(|| "hsts=#true".to_owned()));
    values.extend(options.wait.map(|wait| format!("wait={}", millis(wait))));
    values.extend(options.unlogged.then(|| "log=#false".to_owned()));
    values
}

fn headers(options: &RouteOptions, dice: &mut Dice) -> String {
    let mut lines = Vec::new();
    for (name, value) in &options.set {
        lines.push(format!("set {} {}", text(name, dice), text(value, dice)));
    }
    lines.extend(options.remove.iter().map(|name| format!("remove {}", text(name, dice))));
    if lines.is_empty() { String::new() } else { format!(" {{ {} }}", lines.join("; ")) }
}

fn update(update: &UpdateSpec) -> Vec<String> {
    let order = match update.order {
        UpdateOrder::StartFirst => "start-first",
        UpdateOrder::StopFirst => "stop-first",
    };
    let mut values = vec![
        format!("max-parallel={}", update.max_parallel),
        format!("order=\"{order}\""),
        format!("healthy-deadline={}", millis(update.healthy_deadline)),
    ];
    if let Some(canary) = &update.canary {
        values.push(format!("canary={}", canary.count));
        values.push(format!("for={}", millis(canary.duration)));
        let rate = canary.max_error_rate;
        values.extend(rate.map(|r| format!("max-error-rate=\"{}.{:03}%\"", r / 1000, r % 1000)));
        let ratio = canary.max_latency_ratio;
        values.extend(ratio.map(|r| format!("max-latency-ratio={}.{:03}", r / 1000, r % 1000)));
        values.push(format!("min-requests={}", canary.min_requests));
    }
    values
}

//! The names of the format: fields and properties, with an example of each.
//!
//! Owns the lists that spelling is checked against. Never reads values.

/// Fields of the file itself.
pub(super) const FILE: &[&str] = &["cluster", "app", "service", "task"];
/// Fields of a service.
pub(super) const SERVICE: &[&str] = &[
    "image",
    "command",
    "args",
    "user",
    "port",
    "replicas",
    "cpu",
    "memory",
    "env",
    "health",
    "route",
    "publish",
    "volume",
    "secret-file",
    "file",
    "update",
    "before-deploy",
    "after-deploy",
    "stop",
    "constraint",
];
/// Fields of a task.
pub(super) const TASK: &[&str] = &[
    "image",
    "command",
    "args",
    "user",
    "cpu",
    "memory",
    "env",
    "file",
    "secret-file",
    "volume",
    "constraint",
    "timeout",
    "schedule",
    "stop",
];
/// Fields of a task that a service doesn't take.
pub(super) const TASK_ONLY: &[&str] = &["timeout", "schedule"];
/// Fields of a service that a task doesn't take.
pub(super) const SERVICE_ONLY: &[&str] =
    &["port", "replicas", "health", "route", "publish", "update", "before-deploy", "after-deploy"];
/// Fields that may stand more than once.
pub(super) const REPEATED: &[&str] = &[
    "port",
    "publish",
    "route",
    "volume",
    "secret-file",
    "file",
    "constraint",
    "before-deploy",
    "after-deploy",
    "service",
    "task",
];

/// The properties that a field takes.
pub(super) fn properties(field: &str) -> &'static [&'static str] {
    match field {
        "port" => &["name"],
        "health" => &["tcp", "exec", "interval", "timeout", "grace", "host"],
        "route" => &[
            "path", "port", "upstream", "redirect", "strip", "to", "timeout", "body-max", "auth",
            "sticky", "compress", "allow", "limit", "hsts", "wait", "log",
        ],
        "publish" => &["port", "udp"],
        "volume" => &["path", "size", "ephemeral"],
        "secret-file" => &["path"],
        "file" => &["path", "from", "content", "mode", "interpolate"],
        "update" => &[
            "max-parallel",
            "order",
            "healthy-deadline",
            "canary",
            "for",
            "max-error-rate",
            "max-latency-ratio",
            "min-requests",
        ],
        "stop" => &["signal", "grace"],
        _ => &[],
    }
}

/// How many values a field takes: at least and at most.
pub(super) fn values(field: &str) -> (usize, usize) {
    match field {
        "command" | "args" => (1, usize::MAX),
        "constraint" | "set" => (2, 2),
        "health" => (0, 1),
        "env" | "file" | "update" | "stop" => (0, 0),
        // Of env: it has its own words about too few or too many.
        "variable" => (0, usize::MAX),
        _ => (1, 1),
    }
}

/// A field as it is written.
pub(super) fn example(field: &str) -> &'static str {
    match field {
        "cluster" => "cluster \"prod\"",
        "app" => "app \"shop\"",
        "service" => "service \"web\" { … }",
        "task" => "task \"migrate\" { … }",
        "image" => "image \"nginx:1.27\"",
        "command" => "command \"/bin/server\" \"--port\" \"3000\"",
        "args" => "args \"--verbose\"",
        "user" => "user \"1000:1000\"",
        "port" => "port 3000",
        "replicas" => "replicas 2",
        "cpu" => "cpu 0.5",
        "memory" => "memory \"512M\"",
        "env" => "env { NAME \"value\" }",
        "health" => "health \"/healthz\" interval=\"10s\"",
        "route" => "route \"app.example.com\" path=\"/\"",
        "publish" => "publish 15432",
        "volume" => "volume \"data\" path=\"/data\" size=\"5Gi\"",
        "secret-file" => "secret-file \"web.tls-key\" path=\"/run/secrets/tls.key\"",
        "file" => "file path=\"/etc/web/web.toml\" from=\"web.toml\"",
        "update" => "update max-parallel=1 order=\"start-first\"",
        "before-deploy" => "before-deploy \"migrate\"",
        "after-deploy" => "after-deploy \"warm-up\"",
        "stop" => "stop signal=\"SIGTERM\" grace=\"10s\"",
        "constraint" => "constraint \"zone\" \"eu-1\"",
        "timeout" => "timeout \"5m\"",
        "set" => "set \"Cache-Control\" \"no-store\"",
        "remove" => "remove \"Server\"",
        _ => "schedule \"0 3 * * *\"",
    }
}

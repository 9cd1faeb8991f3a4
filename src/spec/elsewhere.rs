//! Fields of Compose, Nomad and Kubernetes files, and what to write instead.
//!
//! Owns the table. Never reads a value: whoever names the field writes it anew.

/// What stands for such a field here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// Another field, as it is written.
    Write(&'static str),
    /// Nothing: why it can be left out.
    Leave(&'static str),
}

use Instead::{Leave, Write};

const ENV: Instead = Write("env { NAME \"value\" }");
const HEALTH: Instead = Write("health \"/healthz\" interval=\"10s\"");
const COMMAND: Instead = Write("command \"/bin/server\" \"--port\" \"3000\"");
const PORT: Instead = Write("port 3000");
const REPLICAS: Instead = Write("replicas 2");
const CPU: Instead = Write("cpu 0.5");
const MEMORY: Instead = Write("memory \"512M\"");
const VOLUME: Instead = Write("volume \"data\" path=\"/data\" size=\"5Gi\"");
const SCRATCH: Instead = Write("volume \"scratch\" path=\"/tmp\" ephemeral=#true");
const ROUTE: Instead = Write("route \"app.example.com\"");
const UPDATE: Instead = Write("update max-parallel=1 order=\"start-first\"");
const STOP: Instead = Write("stop signal=\"SIGTERM\" grace=\"10s\"");
const CONSTRAINT: Instead = Write("constraint \"zone\" \"eu-1\"");
const USER: Instead = Write("user \"1000:1000\"");
const SECRET: Instead = Write("secret-file \"db.password\" path=\"/run/secrets/password\"");
const FILE: Instead = Write("file path=\"/etc/app.toml\" content=\"…\"");
const SCHEDULE: Instead = Write("schedule \"0 3 * * *\"");
const TIMEOUT: Instead = Write("timeout \"5m\"");
const IMAGE: Instead = Write("image \"nginx:1.27\"");

const RESTARTS: Instead = Leave("a service is restarted always, a task never");
const ORDER: Instead = Leave("services find each other by name, and are restarted until they work");
const NETWORK: Instead =
    Leave("services reach each other at NAME.mill without a network of their own");
const NAME: Instead = Leave("the name stands behind service");
const CLUSTER: Instead = Leave("the cluster is the one that mill up reaches");
const CONFINED: Instead = Leave("containers are confined, and that can't be changed");
const LOGS: Instead = Leave("mill keeps and shows a program's output: mill logs");
const PULLS: Instead = Leave("mill up resolves the tag; registries: mill image login");
const NESTED: Instead = Leave("its content stands in the service itself");
const TERMINAL: Instead = Leave("mill exec -it gives a terminal");

/// Fields of what runs.
const RUN: &[(&str, Instead)] = &[
    ("environment", ENV),
    ("env_file", ENV),
    ("envfrom", ENV),
    ("vars", ENV),
    ("variables", ENV),
    ("entrypoint", COMMAND),
    ("cmd", COMMAND),
    ("exec", COMMAND),
    ("healthcheck", HEALTH),
    ("health_check", HEALTH),
    ("check", HEALTH),
    ("probe", HEALTH),
    ("livenessprobe", HEALTH),
    ("readinessprobe", HEALTH),
    ("startupprobe", HEALTH),
    ("ports", PORT),
    ("expose", PORT),
    ("containerport", PORT),
    ("internal_port", PORT),
    ("publish_port", Write("publish 15432")),
    ("hostport", Write("publish 15432")),
    ("scale", REPLICAS),
    ("count", REPLICAS),
    ("instances", REPLICAS),
    ("deploy", REPLICAS),
    ("cpus", CPU),
    ("cpu_shares", CPU),
    ("cpu_quota", CPU),
    ("cores", CPU),
    ("resources", CPU),
    ("limits", MEMORY),
    ("requests", MEMORY),
    ("mem", MEMORY),
    ("mem_limit", MEMORY),
    ("mem_reservation", MEMORY),
    ("memory_max", MEMORY),
    ("ram", MEMORY),
    ("volumes", VOLUME),
    ("mount", VOLUME),
    ("mounts", VOLUME),
    ("volumemounts", VOLUME),
    ("volume_mount", VOLUME),
    ("disk", VOLUME),
    ("tmpfs", SCRATCH),
    ("ephemeral_disk", SCRATCH),
    ("shm_size", SCRATCH),
    ("domain", ROUTE),
    ("domains", ROUTE),
    ("host", ROUTE),
    ("hosts", ROUTE),
    ("ingress", ROUTE),
    ("http_service", ROUTE),
    ("update_config", UPDATE),
    ("strategy", UPDATE),
    ("updatestrategy", UPDATE),
    ("rolling_update", UPDATE),
    ("max_parallel", UPDATE),
    ("maxsurge", UPDATE),
    ("stop_grace_period", STOP),
    ("stop_signal", STOP),
    ("stopsignal", STOP),
    ("kill_timeout", STOP),
    ("kill_signal", STOP),
    ("terminationgraceperiodseconds", STOP),
    ("placement", CONSTRAINT),
    ("affinity", CONSTRAINT),
    ("spread", CONSTRAINT),
    ("nodeselector", CONSTRAINT),
    ("nodename", CONSTRAINT),
    ("runasuser", USER),
    ("uid", USER),
    ("secret", SECRET),
    ("secrets", SECRET),
    ("config", FILE),
    ("configs", FILE),
    ("template", FILE),
    ("files", FILE),
    ("cron", SCHEDULE),
    ("periodic", SCHEDULE),
    ("activedeadlineseconds", TIMEOUT),
    ("max_runtime", TIMEOUT),
    ("build", IMAGE),
    ("dockerfile", IMAGE),
    ("restart", RESTARTS),
    ("restart_policy", RESTARTS),
    ("restartpolicy", RESTARTS),
    ("reschedule", RESTARTS),
    ("retries", RESTARTS),
    ("attempts", RESTARTS),
    ("backofflimit", RESTARTS),
    ("depends_on", ORDER),
    ("dependson", ORDER),
    ("initcontainers", Leave("a task before each deploy is named by before-deploy")),
    ("network", NETWORK),
    ("networks", NETWORK),
    ("network_mode", NETWORK),
    ("hostnetwork", NETWORK),
    ("links", NETWORK),
    ("dns", NETWORK),
    ("extra_hosts", NETWORK),
    ("hostname", NAME),
    ("container_name", NAME),
    ("name", NAME),
    ("metadata", NAME),
    ("datacenters", CLUSTER),
    ("region", CLUSTER),
    ("namespace", CLUSTER),
    ("provider", CLUSTER),
    ("priority", CLUSTER),
    ("type", CLUSTER),
    ("driver", CLUSTER),
    ("privileged", CONFINED),
    ("cap_add", CONFINED),
    ("cap_drop", CONFINED),
    ("capabilities", CONFINED),
    ("security_opt", CONFINED),
    ("securitycontext", CONFINED),
    ("read_only", CONFINED),
    ("ulimits", CONFINED),
    ("sysctls", CONFINED),
    ("devices", CONFINED),
    ("pid", CONFINED),
    ("ipc", CONFINED),
    ("init", CONFINED),
    ("logging", LOGS),
    ("logs", LOGS),
    ("pull_policy", PULLS),
    ("imagepullpolicy", PULLS),
    ("imagepullsecrets", PULLS),
    ("platform", PULLS),
    ("spec", NESTED),
    ("containers", NESTED),
    ("group", NESTED),
    ("selector", NESTED),
    ("tty", TERMINAL),
    ("stdin_open", TERMINAL),
    ("working_dir", Leave("the image's folder is used; command \"sh\" \"-c\" \"cd /dir && …\"")),
    ("workdir", Leave("the image's folder is used; command \"sh\" \"-c\" \"cd /dir && …\"")),
    ("labels", Leave("nodes have labels: mill label NODE zone=eu-1, and constraint")),
    ("annotations", Leave("nothing reads them")),
    ("profiles", Leave("a file is one app: write two files")),
];

/// Fields of the file.
const FILE_FIELDS: &[(&str, Instead)] = &[
    ("services", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("deployment", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("group", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("container", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("containers", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("statefulset", Write("service \"web\" { image \"nginx:1.27\" }")),
    ("tasks", Write("task \"job\" { image \"busybox\" }")),
    ("cronjob", Write("task \"job\" { image \"busybox\"; schedule \"0 3 * * *\" }")),
    ("job", Write("app \"shop\"")),
    ("stack", Write("app \"shop\"")),
    ("project", Write("app \"shop\"")),
    ("namespace", Write("app \"shop\"")),
    ("name", Write("app \"shop\"")),
    ("version", Leave("the format has no versions")),
    ("apiversion", Leave("the format has no versions")),
    ("kind", Leave("a file has cluster, app, service, task")),
    ("networks", NETWORK),
    (
        "volumes",
        Leave("a volume stands in its service: volume \"data\" path=\"/data\" size=\"5Gi\""),
    ),
    ("secrets", Leave("a secret is kept by the cluster: mill secret set NAME")),
    ("configs", Leave("a config file stands in its service: file path=\"/etc/app.toml\" …")),
    ("variable", Leave("the file has no variables: write the value, or mill up --image NAME=REF")),
    ("provider", CLUSTER),
    ("datacenters", CLUSTER),
    ("region", CLUSTER),
];

/// What stands for a field of another program's file, in the file itself or in a service or task.
pub(super) fn instead(top: bool, name: &str) -> Option<Instead> {
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let table = if top { FILE_FIELDS } else { RUN };
    let name = plain(name);
    table.iter().find(|(other, _)| plain(other) == name).map(|(_, instead)| *instead)
}

/// Properties of other programs' files, by field.
pub(super) fn property(field: &str, name: &str) -> Option<&'static str> {
    Some(match (field, name.to_ascii_lowercase().replace(['-', '_'], "").as_str()) {
        ("health", "retries" | "failurethreshold" | "unhealthythreshold") => {
            "leave it out: three failures in a row make it unhealthy"
        }
        ("health", "startperiod" | "initialdelayseconds" | "starttime") => "write grace=\"30s\"",
        ("health", "periodseconds" | "every") => "write interval=\"10s\"",
        ("health", "timeoutseconds") => "write timeout=\"2s\"",
        ("health", "test" | "cmd" | "command") => "write exec=\"pg_isready -q\"",
        ("health", "path" | "url" | "http" | "httpget") => "write health \"/healthz\"",
        ("health", "port") => "leave it out: the main port is asked",
        ("volume", "target" | "mountpath" | "destination" | "mount") => "write path=\"/data\"",
        ("volume", "source" | "hostpath" | "src" | "from") => {
            "leave it out: the cluster keeps the data; its name stands behind volume"
        }
        ("volume", "readonly" | "ro") => "leave it out: a volume can be written",
        ("update", "parallelism" | "maxunavailable" | "batch") => "write max-parallel=1",
        ("update", "deadline" | "minhealthytime" | "progressdeadline") => {
            "write healthy-deadline=\"60s\""
        }
        ("stop", "timeout" | "period" | "graceperiod") => "write grace=\"10s\"",
        ("publish", "host" | "hostip" | "address") => "leave it out: every address is listened on",
        ("publish", "to" | "target" | "container" | "containerport") => "write port=\"admin\"",
        ("publish", "protocol" | "proto") => "write udp=#true",
        ("route", "tls" | "https" | "certresolver") => {
            "leave it out: each host gets its certificate"
        }
        ("route", "prefix" | "pathprefix") => "write path=\"/\"",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Report, parse};
    use super::*;

    /// What is told of a file with this line in a service, in a task, or at its top; the field is
    /// what the file doesn't have besides.
    fn told(place: &str, field: &str, line: &str) -> Vec<String> {
        let image = if field == "image" { "" } else { "image \"nginx\"" };
        let port = if field == "port" || place == "task" { "" } else { "port 80" };
        let file = match place {
            "top" => format!("{line}\n"),
            _ => format!("{place} \"web\" {{\n{image}\n{port}\n{line}\n}}\n"),
        };
        let texts = |report: Report| report.problems.iter().map(|one| one.text()).collect();
        parse("a", &file).map_err(texts).err().unwrap_or_default()
    }

    #[test]
    fn a_file_with_the_hint_applied_has_one_error_less() {
        let rows = RUN.iter().map(|row| ("service", row));
        for (place, (name, instead)) in rows.chain(FILE_FIELDS.iter().map(|row| ("top", row))) {
            let (good, expected) = match instead {
                Write(text) => (*text, format!("; write {text}")),
                Leave(why) => ("", format!("; leave it out: {why}")),
            };
            let place = if [SCHEDULE, TIMEOUT].contains(instead) { "task" } else { place };
            let field = good.split(' ').next().unwrap_or_default();
            let before = told(place, field, &format!("{name} \"x\""));
            assert!(before.len() == 1 && before[0].ends_with(&expected), "{name}: {before:?}");
            let after = told(place, field, good);
            assert!(after.is_empty(), "{name}: {good}: {after:?}");
        }
    }

    #[test]
    fn what_a_task_takes_is_not_offered_to_a_service() {
        let cron = told("service", "", "cron \"x\"");
        assert!(cron[0].ends_with("; write it in a task: schedule \"0 3 * * *\""), "{cron:?}");
        let ports = told("task", "", "ports \"x\"");
        assert!(ports[0].ends_with("; write it in a service: port 3000"), "{ports:?}");
    }

    /// Files with a mistake, and the same as their hints have it.
    #[test]
    fn hints_of_values_don_t_fail_again() {
        for (bad, good) in [
            ("health \"http://x/h\"", "health \"/h\""),
            ("stop signal=15", "stop signal=\"SIGTERM\""),
            ("stop signal=\"9\"", "stop signal=\"SIGKILL\""),
            ("publish \"8080:80\"", "publish 8080"),
            ("route \"a.example\" port=80", "route \"a.example\""),
            ("health \"/\" retries=3", "health \"/\""),
            ("health \"/\" start_period=\"30s\"", "health \"/\" grace=\"30s\""),
            ("cpu 500m", "cpu 0.5"),
            ("user \"-1\"", "user \"1000\""),
            (
                "volume \"v\" path=\"/proc\" ephemeral=#true",
                "volume \"v\" path=\"/x\" ephemeral=#true",
            ),
            ("env { A r#\"x\"# }", "env { A #\"x\"# }"),
        ] {
            let before = told("service", "", bad);
            assert_eq!(before.len(), 1, "{bad}: {before:?}");
            assert_eq!(told("service", "", good), [""; 0], "{bad}");
        }
        let port = told("service", "", "route \"a.example\" port=81");
        assert!(port[0].ends_with("; write port=\"admin\", and add port 81 name=\"admin\""));
        let both = "port 81 name=\"admin\"\nroute \"a.example\" port=\"admin\"";
        assert_eq!(told("service", "", both), [""; 0]);
        let top = told("top", "", "web \"a\"");
        assert!(top[0].ends_with("; a file has cluster, app, service, task"), "{top:?}");
    }

    #[test]
    fn names_are_the_same_however_they_are_written() {
        for name in ["livenessProbe", "liveness-probe", "liveness_probe"] {
            assert_eq!(instead(false, name), Some(HEALTH), "{name}");
        }
        assert_eq!(instead(false, "zebra"), None);
    }
}

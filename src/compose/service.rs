//! One service of a Compose file, as a service or a task.
//!
//! Owns which field becomes which. Never looks at other services but for what they wait for.

use super::mounts::{Mounts, Owners, field};
use super::quantity::{cores, duration, size, written};
use super::variables::{UNSET, dotenv, plain};
use super::write::{Notes, escaped, named};
use super::yaml::{Kind, Node};
use super::{Shared, health, ports};
use crate::spec::quoted;

/// What is said of fields that have no counterpart.
const WITHOUT: &[(&str, &str)] = &[
    ("build", "build and push it, or: docker save IMAGE | mill image load -"),
    ("container_name", "the id is made of the service's name"),
    ("dns", "the nodes' resolvers are asked"),
    ("extends", "put the other service's lines here"),
    ("hostname", "the allocation's id"),
    ("init", "programs run as the image has them"),
    ("links", "every service reaches every other by its name"),
    ("logging", "mill keeps a program's output: mill logs NAME"),
    ("network_mode", "a container has a network of its own: publish its ports"),
    ("networks", "every service reaches every other by its name"),
    ("platform", "each node takes the variant for its processor"),
    ("profiles", "it always runs; scale it to 0 to stop it"),
    ("pull_policy", "up resolves the tag to a digest"),
    ("stdin_open", "mill exec -it NAME -- sh"),
    ("tty", "mill exec -it NAME -- sh"),
    ("working_dir", "the image's folder; or command \"sh\" \"-c\" \"cd DIR && exec …\""),
];

/// A service that is read.
#[derive(Default)]
pub(super) struct Service {
    name: String,
    is_task: bool,
    image: Option<String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    /// `user`, `cpu`, `memory`, and fields without an order of their own.
    fields: Vec<String>,
    env: Vec<(String, String)>,
    ports: Vec<String>,
    routes: Vec<String>,
    replicas: Option<u32>,
    health: Option<String>,
    update: Vec<String>,
    stop: Vec<String>,
    mounts: Mounts,
    pub notes: Notes,
}

impl Service {
    pub(super) fn read(shared: &Shared, name: &str, node: &Node, owners: &mut Owners) -> Self {
        let is_task = shared.tasks.contains(name);
        let mut service = Self { is_task, ..Self::default() };
        service.name = shared.names.get(name).cloned().unwrap_or_else(|| named(name));
        if service.name != name {
            let text = format!("{name} is called {} here, also by other services", service.name);
            service.notes.add(node.line, text);
        }
        let ports = shared.ports.get(name).filter(|_| !is_task);
        let main = ports.and_then(ports::Ports::main);
        if let Some(ports) = ports {
            service.ports = ports.fields();
            service.notes.extend(&ports.notes);
        }
        service.files_of_variables(shared, node);
        for (field, node) in node.map().unwrap_or_default() {
            match field.as_str() {
                "volumes" => service.mounts.volumes(shared, (name, is_task), node, owners),
                "tmpfs" => {
                    for path in node.items().iter().filter_map(Node::text) {
                        service.mounts.empty(shared, name, &plain(path));
                    }
                }
                "secrets" => service.mounts.secrets(shared, node),
                "configs" => service.mounts.configs(shared, node),
                "healthcheck" if !is_task => {
                    service.health = health::field(node, main, &mut service.notes);
                }
                "labels" => service.labels(node, main.is_some()),
                "environment" => service.environment(shared, node),
                "depends_on" => service.depends(shared, node),
                _ => service.field(field, node),
            }
        }
        if service.image.is_none() {
            service.image = Some(format!("{}:latest", service.name));
            service.notes.add(node.line, "image: the name that you give to what you build");
        }
        service.notes.extend(&service.mounts.notes);
        service.settle(shared, node);
        service
    }

    /// What depends on the other fields.
    fn settle(&mut self, shared: &Shared, node: &Node) {
        if self.mounts.persistent && self.replicas.is_some_and(|replicas| replicas > 1) {
            self.replicas = None;
            self.notes.add(node.line, "replicas: one only, since it keeps a volume");
        }
        if self.mounts.persistent {
            self.update.retain(|part| part != "order=\"start-first\"");
        }
        for (name, value) in &mut self.env {
            if value.contains(UNSET.0) {
                let open = format!("${{secret({}.", shared.app);
                *value = marked(value, &open);
            }
            if name.starts_with("MILL_") {
                self.notes.add(node.line, format!("{name}: names with MILL_ are mill's own"));
            }
        }
        self.env.retain(|(name, _)| !name.starts_with("MILL_"));
    }

    /// A field that concerns nothing else.
    fn field(&mut self, name: &str, node: &Node) {
        let text = node.text().map(plain);
        match (name, text) {
            ("image", Some(text)) => self.image = Some(text),
            ("user", Some(text)) => self.fields.push(field("user", &text)),
            ("command", _) => self.command = self.words(name, node),
            ("entrypoint", _) => self.entrypoint = self.words(name, node),
            ("deploy", _) => self.deploy(node),
            ("scale", Some(text)) => self.replicas(&text, node.line),
            ("mem_limit", Some(text)) => self.memory(&text, node.line),
            ("cpus", Some(text)) => self.cpu(&text, node.line),
            ("stop_signal", Some(text)) => self.stop.push(format!("signal={}", quoted(&text))),
            ("stop_grace_period", Some(text)) => match duration(&text) {
                Some(grace) => self.stop.push(format!("grace=\"{}\"", written(grace))),
                None => self.notes.add(node.line, format!("stop_grace_period {text}: no duration")),
            },
            ("ports" | "expose" | "env_file" | "healthcheck", _) => {}
            ("restart", Some(text)) => self.restart(&text, node.line),
            (name, _) if name.starts_with("x-") => {}
            (name, text) => {
                let why = WITHOUT.iter().find(|(field, _)| *field == name).map(|(_, why)| *why);
                let text = text.map(|text| format!(" {text}")).unwrap_or_default();
                let why = why.unwrap_or("no counterpart");
                self.notes.add(node.line, format!("{name}{text}: {why}"));
            }
        }
    }

    fn restart(&mut self, text: &str, line: usize) {
        let why = match (self.is_task, text) {
            (false, "always" | "unless-stopped") => "as every service is",
            (false, _) => "a service is always started again; what runs once is a task",
            (true, _) => "a task is never started again by itself",
        };
        self.notes.add(line, format!("restart {text}: {why}"));
    }

    /// A list of words, or a text that is cut as a shell would.
    fn words(&mut self, name: &str, node: &Node) -> Vec<String> {
        match &node.kind {
            Kind::Scalar(text) => {
                let text = plain(text);
                shlex::split(&text).unwrap_or_else(|| vec![text])
            }
            Kind::List(items) => items.iter().filter_map(Node::text).map(plain).collect(),
            _ => {
                self.notes.add(node.line, format!("{name}: the image's"));
                Vec::new()
            }
        }
    }

    fn replicas(&mut self, text: &str, line: usize) {
        match text.parse() {
            Ok(_) if self.is_task => self.notes.add(line, "replicas: a task runs once"),
            Ok(replicas) => self.replicas = Some(replicas),
            Err(_) => self.notes.add(line, format!("replicas {text}: no number")),
        }
    }

    fn memory(&mut self, text: &str, line: usize) {
        match size(text) {
            Some(size) => self.set("memory", format!("memory \"{size}\"")),
            None => self.notes.add(line, format!("memory {text}: no size")),
        }
    }

    fn cpu(&mut self, text: &str, line: usize) {
        match cores(text) {
            Some(cores) => self.set("cpu", format!("cpu {cores}")),
            None => self.notes.add(line, format!("cpus {text}: no number of cores")),
        }
    }

    /// The last one counts.
    fn set(&mut self, name: &str, field: String) {
        self.fields.retain(|known| known.split(' ').next() != Some(name));
        self.fields.push(field);
    }

    fn deploy(&mut self, node: &Node) {
        for (name, part) in node.map().unwrap_or_default() {
            let line = part.line;
            match (name.as_str(), part.text()) {
                ("replicas", Some(text)) => self.replicas(&plain(text), line),
                ("mode", Some("replicated")) => {}
                ("resources", _) => self.resources(part),
                ("update_config", _) => self.update(part),
                ("placement", _) => self.placement(part),
                ("restart_policy", _) => {
                    self.notes.add(line, "restart_policy: it is started again after 1 s, 2 s, …");
                }
                (name, _) => self.notes.add(line, format!("deploy {name}: no counterpart")),
            }
        }
    }

    /// Limits are what is set aside, too; without them, what was to be set aside.
    fn resources(&mut self, node: &Node) {
        for part in ["reservations", "limits"].into_iter().filter_map(|name| node.get(name)) {
            for (name, value) in part.map().unwrap_or_default() {
                match (name.as_str(), value.text().map(plain)) {
                    ("cpus", Some(text)) => self.cpu(&text, value.line),
                    ("memory", Some(text)) => self.memory(&text, value.line),
                    (name, _) => {
                        self.notes.add(value.line, format!("resources {name}: no counterpart"));
                    }
                }
            }
        }
    }

    fn update(&mut self, node: &Node) {
        if self.is_task {
            return;
        }
        for (name, value) in node.map().unwrap_or_default() {
            match (name.as_str(), value.text().map(plain).unwrap_or_default()) {
                ("parallelism", text) if text.parse::<u32>().is_ok_and(|n| n > 0) => {
                    self.update.push(format!("max-parallel={text}"));
                }
                ("order", text) => self.update.push(format!("order={}", quoted(&text))),
                (name, _) => {
                    self.notes.add(value.line, format!("update_config {name}: no counterpart"));
                }
            }
        }
    }

    fn placement(&mut self, node: &Node) {
        for (name, part) in node.map().unwrap_or_default() {
            for item in part.items() {
                let text = item.text().map(plain).unwrap_or_default();
                let label = text.strip_prefix("node.labels.").and_then(|l| l.split_once("=="));
                match label.filter(|_| name == "constraints") {
                    Some((label, value)) => {
                        let (label, value) = (quoted(label.trim()), quoted(value.trim()));
                        self.fields.push(format!("constraint {label} {value}"));
                    }
                    None => {
                        self.notes.add(item.line, format!("placement {text}: no counterpart"));
                    }
                }
            }
        }
    }

    fn labels(&mut self, node: &Node, has_port: bool) {
        let pairs: Vec<(String, String)> = pairs(node);
        let mut others = Vec::new();
        for (name, value) in &pairs {
            match ports::route(name, value).filter(|_| has_port) {
                Some(route) => self.routes.push(route),
                None => others.push(name.as_str()),
            }
        }
        if !others.is_empty() {
            let text = format!("labels {}: no counterpart", others.join(", "));
            self.notes.add(node.line, text);
        }
    }

    /// Tasks that end before it starts have a counterpart; that others run doesn't.
    fn depends(&mut self, shared: &Shared, node: &Node) {
        let fields = node.map().into_iter().flatten().map(|(name, _)| name.as_str());
        let names = fields.chain(node.items().iter().filter_map(Node::text));
        let (tasks, others): (Vec<_>, Vec<_>) =
            names.partition(|name| shared.tasks.contains(*name) && !self.is_task);
        for task in tasks {
            let task = shared.names.get(task).cloned().unwrap_or_default();
            self.routes.push(field("before-deploy", &task));
        }
        if !others.is_empty() {
            let text = "all start together; a program tries again until the other is there";
            self.notes.add(node.line, format!("depends_on {}: {text}", others.join(", ")));
        }
    }

    /// The variables of `env_file`, which those of `environment` go before.
    fn files_of_variables(&mut self, shared: &Shared, node: &Node) {
        let Some(node) = node.get("env_file") else { return };
        for item in node.items() {
            let path = item.text().or_else(|| item.get("path").and_then(Node::text));
            let path = plain(path.unwrap_or_default());
            match (shared.given.beside)(path.trim_start_matches("./")) {
                Some(text) => {
                    for (name, value) in dotenv(&text) {
                        self.variable(name, escaped(&value));
                    }
                }
                None => {
                    let text = format!("env_file {path}: it isn't there, or no text");
                    self.notes.add(item.line, text);
                }
            }
        }
    }

    fn environment(&mut self, shared: &Shared, node: &Node) {
        for (name, value) in node.map().unwrap_or_default() {
            let given = shared.given.variables.get(name);
            match value.text().map(str::to_owned).or_else(|| given.cloned()) {
                Some(value) => self.variable(name.clone(), escaped(&value)),
                None => self.notes.add(value.line, format!("{name}: it has no value here")),
            }
        }
        for item in node.items() {
            let text = item.text().unwrap_or_default();
            let given = || shared.given.variables.get(text).map(|value| (text, value.as_str()));
            match text.split_once('=').or_else(given) {
                Some((name, value)) => self.variable(plain(name), escaped(value)),
                None => {
                    self.notes.add(item.line, format!("{}: it has no value here", plain(text)));
                }
            }
        }
    }

    fn variable(&mut self, name: String, value: String) {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value));
    }

    /// The whole block.
    pub(super) fn written(&self) -> String {
        let kind = if self.is_task { "task" } else { "service" };
        let mut lines = Vec::new();
        lines.extend(self.image.as_deref().map(|image| field("image", image)));
        let words = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>();
        if !self.entrypoint.is_empty() {
            let all = [words(&self.entrypoint), words(&self.command)].concat();
            lines.push(format!("command {}", all.join(" ")));
        } else if !self.command.is_empty() {
            lines.push(format!("args {}", words(&self.command).join(" ")));
        }
        lines.extend(self.fields.iter().cloned());
        lines.extend(self.ports.iter().cloned());
        if let Some(replicas) = self.replicas.filter(|replicas| *replicas != 1) {
            lines.push(format!("replicas {replicas}"));
        }
        if !self.env.is_empty() {
            lines.push("env {".to_owned());
            let variable = |(name, value): &(String, String)| {
                format!("    {} {}", quoted(name), quoted(value))
            };
            lines.extend(self.env.iter().map(variable));
            lines.push("}".to_owned());
        }
        lines.extend(self.health.clone());
        lines.extend(self.routes.iter().cloned());
        lines.extend(self.mounts.fields.iter().cloned());
        for (name, parts) in [("update", &self.update), ("stop", &self.stop)] {
            if !parts.is_empty() {
                lines.push(format!("{name} {}", parts.join(" ")));
            }
        }
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        format!("{kind} {} {{\n{}{lines}}}\n", quoted(&self.name), self.notes.lines("    "))
    }
}

/// Names with values, of a map or a list of `NAME=VALUE`.
fn pairs(node: &Node) -> Vec<(String, String)> {
    let map = node.map().into_iter().flatten();
    let mut all: Vec<(String, String)> =
        map.map(|(name, node)| (name.clone(), plain(node.text().unwrap_or_default()))).collect();
    for text in node.items().iter().filter_map(Node::text).map(plain) {
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        all.push((name.to_owned(), value.to_owned()));
    }
    all
}

/// A value in which each variable that isn't set is a secret.
fn marked(value: &str, open: &str) -> String {
    let mut out = String::new();
    for (at, part) in value.split([UNSET.0, UNSET.1]).enumerate() {
        if at % 2 == 0 {
            out.push_str(part);
        } else {
            out.push_str(&format!("{open}{})}}", named(part)));
        }
    }
    out
}

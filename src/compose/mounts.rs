//! Volumes, config files and secrets of services.
//!
//! Owns what becomes of each kind of mount. Never reads a file but by asking for its text.

use super::write::{Notes, named};
use super::yaml::Node;
use super::{Shared, variables};
use crate::limits::CONFIG_FILE_MAX;
use crate::spec::quoted;
use std::collections::BTreeMap;

/// What a volume of Compose, which has no size, gets.
const SIZE: &str = "10Gi";

/// Which service has a volume, by its name there.
pub(super) type Owners = BTreeMap<String, String>;

/// The mounts of one service, as fields.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub fields: Vec<String>,
    pub notes: Notes,
    /// At least one volume is kept.
    pub persistent: bool,
    /// Names of volumes that are not kept.
    ephemeral: Vec<String>,
}

/// A field with one text.
pub(super) fn field(name: &str, value: &str) -> String {
    format!("{name} {}", quoted(value))
}

/// The name of a secret here.
pub(super) fn secret(app: &str, name: &str) -> String {
    format!("{app}.{}", named(name))
}

/// A mount as both forms of Compose say it.
struct Mount {
    kind: String,
    source: Option<String>,
    target: String,
    read_only: bool,
}

fn mount(node: &Node) -> Option<Mount> {
    let text = |node: &Node, name: &str| node.get(name).and_then(Node::text).map(variables::plain);
    if node.map().is_some() {
        let read_only = node.get("read_only").is_some_and(Node::is_true);
        let (source, target) = (text(node, "source"), text(node, "target")?);
        return Some(Mount { kind: text(node, "type")?, source, target, read_only });
    }
    let whole = variables::plain(node.text()?);
    let mut parts = whole.split(':');
    let (first, second, mode) = (parts.next()?, parts.next(), parts.next().unwrap_or_default());
    let read_only = mode.split(',').any(|flag| flag == "ro");
    let Some(target) = second else {
        let (kind, source) = ("volume".to_owned(), None);
        return Some(Mount { kind, source, target: first.to_owned(), read_only });
    };
    let is_path = first.starts_with(['.', '/', '~']);
    let kind = if is_path { "bind" } else { "volume" }.to_owned();
    Some(Mount { kind, source: Some(first.to_owned()), target: target.to_owned(), read_only })
}

impl Mounts {
    /// Reads `volumes` and `tmpfs`.
    pub(super) fn volumes(
        &mut self,
        shared: &Shared,
        (service, is_task): (&str, bool),
        node: &Node,
        owners: &mut Owners,
    ) {
        for item in node.items() {
            let Some(mount) = mount(item) else {
                self.notes.add(item.line, "volumes: a mount that can't be read");
                continue;
            };
            match (mount.kind.as_str(), mount.source.as_deref()) {
                ("volume", Some(source)) if !is_task => {
                    self.persistent(shared, service, source, &mount, item.line, owners);
                }
                ("volume" | "tmpfs", source) => {
                    if let Some(source) = source {
                        let text = format!("volume {source}: a task keeps none, it begins empty");
                        self.notes.add(item.line, text);
                    }
                    self.empty(shared, service, &mount.target);
                }
                ("bind", Some(source)) => self.bind(shared, source, &mount, item.line),
                (kind, _) => self.notes.add(item.line, format!("volumes: no {kind} here")),
            }
        }
    }

    fn persistent(
        &mut self,
        shared: &Shared,
        service: &str,
        source: &str,
        mount: &Mount,
        line: usize,
        owners: &mut Owners,
    ) {
        if let Some(owner) = owners.get(source) {
            let text = format!(
                "volume {source} at {}: it is {owner}'s, and has one mount only",
                mount.target
            );
            self.notes.add(line, text);
            return;
        }
        owners.insert(source.to_owned(), service.to_owned());
        let own = shared.volumes.and_then(|all| all.get(source)?.get("name")?.text());
        let name = match own {
            Some(name) => named(&variables::plain(name)),
            None => named(&format!("{}-{source}", shared.app)),
        };
        self.notes.add(line, format!("volume {source}: the size is to be set"));
        if mount.read_only {
            self.notes.add(line, format!("volume {source}: it may be written"));
        }
        let (name, path) = (quoted(&name), quoted(&mount.target));
        self.fields.push(format!("volume {name} path={path} size=\"{SIZE}\""));
        self.persistent = true;
    }

    /// A volume that begins empty and is not kept.
    pub(super) fn empty(&mut self, shared: &Shared, service: &str, path: &str) {
        let path = path.split(':').next().unwrap_or_default();
        let base = named(&format!("{}-{service}-{}", shared.app, path.trim_start_matches('/')));
        let mut name = base.clone();
        while self.ephemeral.contains(&name) {
            name.push('x');
        }
        let (shown, path) = (quoted(&name), quoted(path));
        self.fields.push(format!("volume {shown} path={path} ephemeral=#true"));
        self.ephemeral.push(name);
    }

    /// A file beside the Compose file is a config file; all else of the host stays there.
    fn bind(&mut self, shared: &Shared, source: &str, mount: &Mount, line: usize) {
        let beside = source.strip_prefix("./").filter(|path| !path.starts_with("../"));
        let text = beside.and_then(|path| (shared.given.beside)(path));
        match (beside, text) {
            (Some(from), Some(text)) if text.len() <= CONFIG_FILE_MAX => {
                if !mount.read_only {
                    self.notes.add(line, format!("{source}: the container can't write it"));
                }
                self.from(&mount.target, from, "");
            }
            _ => {
                let text = format!("{source} of the host at {}: no counterpart", mount.target);
                self.notes.add(line, text);
            }
        }
    }

    fn from(&mut self, path: &str, from: &str, mode: &str) {
        self.fields.push(format!("file path={} from={}{mode}", quoted(path), quoted(from)));
    }

    /// Reads `secrets`: files on a tmpfs.
    pub(super) fn secrets(&mut self, shared: &Shared, node: &Node) {
        for item in node.items() {
            let text = |name| item.get(name).and_then(Node::text).map(variables::plain);
            let source = item.text().map(variables::plain).or_else(|| text("source"));
            let Some(source) = source else { continue };
            let target = text("target").unwrap_or_else(|| source.clone());
            let path = match target.starts_with('/') {
                true => target,
                false => format!("/run/secrets/{target}"),
            };
            if shared.secrets.is_none_or(|all| all.get(&source).is_none()) {
                self.notes.add(item.line, format!("secret {source} isn't among the file's"));
            }
            let name = secret(&shared.app, &source);
            self.fields.push(format!("secret-file {} path={}", quoted(&name), quoted(&path)));
        }
    }

    /// Reads `configs`: config files.
    pub(super) fn configs(&mut self, shared: &Shared, node: &Node) {
        for item in node.items() {
            let text = |name| item.get(name).and_then(Node::text).map(variables::plain);
            let source = item.text().map(variables::plain).or_else(|| text("source"));
            let Some(source) = source else { continue };
            let path = text("target").unwrap_or_else(|| format!("/{source}"));
            let octal = text("mode").map(|mode| mode.trim_start_matches("0o").to_owned());
            let octal = octal.filter(|mode| mode.starts_with('0') || mode.len() == 3);
            let mode = octal.map(|mode| format!(" mode={}", quoted(&format!("{mode:0>4}"))));
            let mode = mode.unwrap_or_default();
            let of = |name| shared.configs.and_then(|all| all.get(&source)?.get(name)?.text());
            let from = of("file").map(variables::plain);
            match (from, of("content")) {
                (Some(from), _) => self.from(&path, from.trim_start_matches("./"), &mode),
                (None, Some(content)) => {
                    let content = quoted(&variables::plain(content));
                    self.fields
                        .push(format!("file path={} content={content}{mode}", quoted(&path)));
                }
                (None, None) => {
                    let text = format!("config {source}: it isn't in the file");
                    self.notes.add(item.line, text);
                }
            }
        }
    }
}

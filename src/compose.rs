//! From a Compose file to a `.mill` file.
//!
//! Owns what has a counterpart, and the comment of what has none: nothing is dropped in silence.
//! Never reads a file by itself: what stands beside the Compose file is asked for.

mod health;
mod mounts;
mod ports;
mod quantity;
mod service;
mod variables;
mod write;
mod yaml;

use crate::spec::{self, Report};
use ports::Ports;
use service::Service;
use std::collections::{BTreeMap, BTreeSet};
use variables::Variables;
use write::{Notes, named};
use yaml::Node;

pub use variables::{dotenv, unquoted};

/// A Compose file and what it may refer to.
pub struct Given<'a> {
    /// Its name, for messages.
    pub file: &'a str,
    /// What is in it.
    pub text: &'a str,
    /// The app's name where the file says none.
    pub app: &'a str,
    /// That name counts whatever the file says.
    pub app_given: bool,
    /// Variables that it may use.
    pub variables: &'a BTreeMap<String, String>,
    /// The text of a file beside it, if it is there and is one.
    pub beside: &'a dyn Fn(&str) -> Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub struct Converted {
    /// The `.mill` file, valid and in canonical form.
    pub text: String,
    /// What has no counterpart, or is to be looked at: each is a comment of the file too.
    pub notes: Vec<String>,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// It isn't YAML.
    #[error("{file}:{line}:{column}: {message}")]
    Yaml {
        /// Its name.
        file: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        message: String,
    },
    /// It is no Compose file.
    #[error("{file} has no services: is it a Compose file?")]
    NoServices {
        /// Its name.
        file: String,
    },
    /// What came of it isn't valid.
    #[error("what comes of {file} isn't a valid file:\n{report}")]
    Unfit {
        /// Its name.
        file: String,
        /// What is wrong with it.
        report: Report,
    },
}

/// What all services of a file share.
struct Shared<'a> {
    given: &'a Given<'a>,
    app: String,
    /// The top-level parts that services refer to.
    volumes: Option<&'a Node>,
    secrets: Option<&'a Node>,
    configs: Option<&'a Node>,
    /// Their names there, and here.
    names: BTreeMap<String, String>,
    /// Those that run to their end before others start.
    tasks: BTreeSet<String>,
    ports: BTreeMap<String, Ports>,
}

/// Makes a `.mill` file of a Compose file.
///
/// # Errors
/// It isn't YAML, or no Compose file.
pub fn convert(given: &Given) -> Result<Converted, ComposeError> {
    let mut root = yaml::read(given.file, given.text)?;
    let mut head = Notes::default();
    Variables::new(given.variables).interpolate(&mut root, &mut head);
    let no_services = || ComposeError::NoServices { file: given.file.to_owned() };
    let services = root.get("services").and_then(Node::map).ok_or_else(no_services)?;
    if services.is_empty() {
        return Err(no_services());
    }
    let app = root.get("name").and_then(Node::text).map(variables::plain);
    let app = app.filter(|_| !given.app_given);
    let mut shared = Shared {
        given,
        app: named(app.as_deref().unwrap_or(given.app)),
        volumes: root.get("volumes"),
        secrets: root.get("secrets"),
        configs: root.get("configs"),
        names: services.iter().map(|(name, _)| (name.clone(), named(name))).collect(),
        tasks: tasks(services),
        ports: BTreeMap::new(),
    };
    shared.ports = ports::of_all(services);
    top_level(&root, &shared, &mut head);
    let (mut text, mut notes) = (head.lines(""), head.all());
    text.push_str(&format!("app {}\n", spec::quoted(&shared.app)));
    let mut volumes = BTreeMap::new();
    for (name, node) in services {
        let service = Service::read(&shared, name, node, &mut volumes);
        notes.extend(service.notes.all());
        text.push('\n');
        text.push_str(&service.written());
    }
    let text = write::passing(text)
        .map_err(|report| ComposeError::Unfit { file: given.file.to_owned(), report })?;
    Ok(Converted { text, notes })
}

/// The services that others wait for the end of.
fn tasks(services: &[(String, Node)]) -> BTreeSet<String> {
    let all = services.iter().filter_map(|(_, node)| node.get("depends_on")?.map());
    let waits = |node: &Node| {
        let condition = node.get("condition").and_then(Node::text);
        condition == Some("service_completed_successfully")
    };
    all.flatten().filter(|(_, node)| waits(node)).map(|(name, _)| name.clone()).collect()
}

/// What the file says besides its services.
fn top_level(root: &Node, shared: &Shared, notes: &mut Notes) {
    for (name, node) in root.map().unwrap_or_default() {
        let line = node.line;
        match name.as_str() {
            "services" | "version" | "name" | "configs" => {}
            "volumes" => volumes(node, notes),
            "secrets" => {
                for (name, node) in node.map().unwrap_or_default() {
                    let secret = mounts::secret(&shared.app, name);
                    let from = match node.get("file").and_then(Node::text) {
                        Some(file) => format!("@{}", variables::plain(file)),
                        None => "-".to_owned(),
                    };
                    let text = format!("secret {name}: mill secret set {secret} {from}");
                    notes.add(node.line, text);
                }
            }
            "networks" => notes.add(line, "networks: every service reaches every other"),
            "include" => notes.add(line, "include: import the other files too"),
            name if name.starts_with("x-") => {}
            name => notes.add(line, format!("{name}: no counterpart")),
        }
    }
}

fn volumes(node: &Node, notes: &mut Notes) {
    for (name, node) in node.map().unwrap_or_default() {
        for (field, value) in node.map().unwrap_or_default() {
            let is_said = matches!(field.as_str(), "driver" | "driver_opts" | "external");
            if is_said && value.text() != Some("local") {
                let text = format!("volume {name}: {field} has no counterpart");
                notes.add(value.line, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert_text(text: &str) -> Result<Converted, ComposeError> {
        let variables = BTreeMap::new();
        let (app, app_given, beside) = ("shop", false, &|_: &str| None);
        let given = Given { file: "c.yml", text, app, app_given, variables: &variables, beside };
        convert(&given)
    }

    #[yare::parameterized(
        no_yaml = { "services: [", "c.yml:2:1: " },
        empty = { "", "c.yml has no services" },
        list = { "- a", "c.yml has no services" },
        no_services = { "services: {}", "c.yml has no services" },
        two = { "a: 1\n---\nb: 2\n", "c.yml:2:1: one document" },
        twice = { "services:\n  a: {image: x}\n  a: {image: y}\n", "c.yml:3:3: a is given twice" },
        deep = { &"[".repeat(200), "c.yml:1:65: nested deeper than 64 levels" },
    )]
    fn what_is_no_compose_file_is_named(text: &str, expected: &str) {
        let error = convert_text(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn aliases_of_aliases_have_a_bound() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let of = format!("*a{}, ", n - 1).repeat(10);
            text.push_str(&format!("a{n}: &a{n} [{of}]\n"));
        }
        let error = convert_text(&text).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }
}

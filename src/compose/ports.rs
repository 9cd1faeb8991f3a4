//! Ports of services: those that are published, exposed, named by others, or the image's usual one.
//!
//! Owns which one is the main port. Never opens any.

use super::write::Notes;
use super::yaml::Node;
use super::{mounts, variables};
use std::collections::BTreeMap;

/// The port that programs of an image listen on, by the end of its name.
const USUAL: &[(&str, u16)] = &[
    ("mysql", 3306),
    ("mariadb", 3306),
    ("postgres", 5432),
    ("postgis", 5432),
    ("pgvector", 5432),
    ("timescaledb", 5432),
    ("redis", 6379),
    ("valkey", 6379),
    ("keydb", 6379),
    ("mongo", 27017),
    ("memcached", 11211),
    ("rabbitmq", 5672),
    ("nats", 4222),
    ("elasticsearch", 9200),
    ("opensearch", 9200),
    ("meilisearch", 7700),
    ("influxdb", 8086),
    ("clickhouse-server", 8123),
    ("minio", 9000),
    ("nginx", 80),
    ("httpd", 80),
    ("caddy", 80),
    ("wordpress", 80),
    ("nextcloud", 80),
    ("gitea", 3000),
    ("grafana", 3000),
    ("prometheus", 9090),
];

/// More of them in one range are left out.
const RANGE_MAX: u16 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Port {
    target: u16,
    published: Option<u16>,
    udp: bool,
}

/// The ports of one service.
#[derive(Debug, Default)]
pub(super) struct Ports {
    list: Vec<Port>,
    pub notes: Notes,
}

/// Those of every service.
pub(super) fn of_all(services: &[(String, Node)]) -> BTreeMap<String, Ports> {
    let texts: Vec<&str> = services.iter().flat_map(|(_, node)| texts(node)).collect();
    let of = |(name, node): &(String, Node)| {
        let mut ports = Ports::default();
        ports.read(node);
        if ports.main().is_none() {
            ports.guess(name, node, &texts);
        }
        (name.clone(), ports)
    };
    services.iter().map(of).collect()
}

/// Where other services are named: variables and command lines.
fn texts(node: &Node) -> Vec<&str> {
    let fields = ["environment", "command", "entrypoint"].into_iter();
    let mut found = Vec::new();
    for node in fields.filter_map(|field| node.get(field)) {
        found.extend(node.items().iter().filter_map(Node::text));
        found.extend(node.map().into_iter().flatten().filter_map(|(_, node)| node.text()));
    }
    found
}

impl Ports {
    /// The main port: the first over TCP.
    pub(super) fn main(&self) -> Option<u16> {
        self.list.iter().find(|port| !port.udp).map(|port| port.target)
    }

    fn read(&mut self, node: &Node) {
        for item in node.get("ports").map(Node::items).unwrap_or_default() {
            let shown = variables::plain(item.text().unwrap_or("a port"));
            let read = match item.text() {
                Some(_) => self.short(&shown, item.line),
                None => self.long(item),
            };
            if read.is_none() {
                self.notes.add(item.line, format!("ports: {shown} can't be read"));
            }
        }
        for item in node.get("expose").map(Node::items).unwrap_or_default() {
            let text = item.text().unwrap_or_default();
            let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            match number.parse() {
                Ok(target) => self.add(Port { target, published: None, udp: protocol == "udp" }),
                Err(_) => self.notes.add(item.line, format!("expose: {text} can't be read")),
            }
        }
    }

    /// `[[HOST:]PUBLISHED:]TARGET[/PROTOCOL]`, each perhaps a range.
    fn short(&mut self, text: &str, line: usize) -> Option<()> {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (rest, target) = match rest.rsplit_once(':') {
            Some((rest, target)) => (Some(rest), target),
            None => (None, rest),
        };
        let published = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
            Some((host, published)) => {
                self.host(host, line);
                Some(published).filter(|published| !published.is_empty())
            }
            None => None,
        };
        let targets = range(target)?;
        let published: Vec<Option<u16>> = match published {
            Some(published) => range(published)?.map(Some).collect(),
            None => targets.clone().map(|_| None).collect(),
        };
        if published.len() != targets.clone().count() {
            return None;
        }
        for (target, published) in targets.zip(published) {
            self.add(Port { target, published, udp: protocol == "udp" });
        }
        Some(())
    }

    fn long(&mut self, node: &Node) -> Option<()> {
        let text = |name| node.get(name).and_then(Node::text).map(variables::plain);
        self.host(&text("host_ip").unwrap_or_default(), node.line);
        let published = text("published").and_then(|text| text.parse().ok());
        let udp = text("protocol").as_deref() == Some("udp");
        self.add(Port { target: text("target")?.parse().ok()?, published, udp });
        Some(())
    }

    fn host(&mut self, host: &str, line: usize) {
        if !matches!(host, "" | "0.0.0.0" | "::" | "[::]") {
            let text = format!("ports: published on every address of the node, not on {host} only");
            self.notes.add(line, text);
        }
    }

    fn add(&mut self, port: Port) {
        if port.target > 0 && !self.list.contains(&port) {
            self.list.push(port);
        }
    }

    /// The port that others name, or that the image usually has: without one it has no address.
    fn guess(&mut self, name: &str, node: &Node, texts: &[&str]) {
        let named = texts.iter().find_map(|text| named_port(text, name));
        let image = variables::plain(node.get("image").and_then(Node::text).unwrap_or_default());
        let last = image.split('@').next().and_then(|image| image.rsplit('/').next());
        let last = last.and_then(|last| last.split(':').next()).unwrap_or_default();
        let usual = USUAL.iter().find(|(image, _)| *image == last).map(|(_, port)| *port);
        match named.or(usual) {
            Some(target) => {
                let from = if named.is_some() { "as others name it" } else { "the image's usual" };
                self.notes.add(node.line, format!("port {target}: {from}; without one no address"));
                self.add(Port { target, published: None, udp: false });
            }
            None if self.list.is_empty() => {
                let text = "no port is known: add one if other services are to reach it by name";
                self.notes.add(node.line, text);
            }
            None => {}
        }
    }

    /// The fields `port` and `publish`.
    pub(super) fn fields(&self) -> Vec<String> {
        let (mut fields, mut seen) = (Vec::new(), Vec::new());
        let main = self.main();
        let mut order: Vec<u16> = main.into_iter().collect();
        order.extend(self.list.iter().map(|port| port.target));
        for target in order {
            if !seen.contains(&target) {
                seen.push(target);
                let name = Some(target).filter(|_| main != Some(target)).map(label);
                let name = name.map(|name| format!(" name=\"{name}\"")).unwrap_or_default();
                fields.push(format!("port {target}{name}"));
            }
        }
        for port in &self.list {
            let Some(published) = port.published else { continue };
            let name = Some(port.target).filter(|target| main != Some(*target)).map(label);
            let name = name.map(|name| format!(" port=\"{name}\"")).unwrap_or_default();
            let udp = if port.udp { " udp=#true" } else { "" };
            fields.push(format!("publish {published}{name}{udp}"));
        }
        fields
    }
}

/// The name of a further port.
fn label(port: u16) -> String {
    match port {
        22 => "ssh".to_owned(),
        53 => "dns".to_owned(),
        443 => "https".to_owned(),
        port => format!("p{port}"),
    }
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first <= last && last - first < RANGE_MAX).then_some(first..=last)
}

/// The port in the first `NAME:PORT` of a text.
fn named_port(text: &str, name: &str) -> Option<u16> {
    let is_inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    text.match_indices(name).find_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let is_begin = before.is_none_or(|c| !is_inside(c)) || text[..at].ends_with("//");
        let digits = text[at + name.len()..].strip_prefix(':')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let port = digits[..end].parse().ok().filter(|port| *port > 0)?;
        is_begin.then_some(port)
    })
}

/// A label that routes a host to the service, as Traefik reads it.
pub(super) fn route(name: &str, value: &str) -> Option<String> {
    let is_rule = name.starts_with("traefik.http.routers.") && name.ends_with(".rule");
    let host = value.trim().strip_prefix("Host(`")?.strip_suffix("`)")?;
    let is_host = !host.contains(['`', ',', ' ', '"', '\\']);
    (is_rule && is_host).then(|| mounts::field("route", host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        url = { "postgres://u:p@db:5432/x", Some(5432) },
        bare = { "db:3306", Some(3306) },
        other = { "mydb:3306,db:1", Some(1) },
        path = { "x/db:3306", None },
        http = { "http://db:80", Some(80) },
        none = { "db", None },
    )]
    fn others_name_a_port(text: &str, expected: Option<u16>) {
        assert_eq!(named_port(text, "db"), expected);
    }

    #[yare::parameterized(
        target = { "80", &["port 80"] },
        both = { "8080:80", &["port 80", "publish 8080"] },
        host = { "127.0.0.1:8080:80", &["port 80", "publish 8080"] },
        udp = { "53:53/udp", &["port 53 name=\"dns\"", "publish 53 port=\"dns\" udp=#true"] },
        range = { "8000-8001:90-91", &[
            "port 90", "port 91 name=\"p91\"", "publish 8000", "publish 8001 port=\"p91\"",
        ] },
        v6 = { "[::1]:80:80", &["port 80", "publish 80"] },
    )]
    fn short_forms_are_read(text: &str, expected: &[&str]) {
        let mut ports = Ports::default();
        assert!(ports.short(text, 1).is_some());
        assert_eq!(ports.fields(), expected);
    }

    #[test]
    fn what_is_no_port_is_told() {
        for text in ["x", "80:x", "1-3:80", "70000"] {
            assert!(Ports::default().short(text, 1).is_none(), "{text}");
        }
    }
}

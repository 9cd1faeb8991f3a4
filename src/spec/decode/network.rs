//! Ports and published ports.
//!
//! Owns their fields within one service. Never compares services with each other.

use super::super::model::{PortSpec, PublishSpec};
use super::super::nearest::nearest;
use super::super::slips::quoted;
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Scope};
use kdl::KdlValue;

/// The ports of a service.
pub(super) struct Ports {
    /// The main one first.
    pub list: Vec<PortSpec>,
    /// One of them could not be read: what seems to be missing is perhaps there.
    pub doubtful: bool,
}

impl Ports {
    /// Whether there is no main port for certain.
    pub(super) fn lacks_main(&self) -> bool {
        !self.doubtful && self.list.iter().all(|port| port.name.is_some())
    }
}

/// Reads the ports.
pub(super) fn ports(ctx: &mut Ctx, scope: &Scope, fields: &mut Fields) -> Ports {
    let mut ports: Vec<PortSpec> = Vec::new();
    let mut doubtful = fields.has("port");
    let lines = fields.all("port");
    doubtful &= lines.is_empty();
    for line in lines {
        let port = At::value(scope, &line, 0).and_then(|at| at.port(ctx));
        let name = At::property(scope, &line, "name").map(|at| at.label(ctx, "the port's name"));
        let (Some(port), name @ (None | Some(Some(_)))) = (port, name) else {
            doubtful = true;
            continue;
        };
        let name = name.flatten();
        ctx.keep(scope, &["port", name.as_deref().unwrap_or_default()], line.span);
        if let Some(other) = ports.iter().find(|other| other.name == name) {
            let text = match &name {
                Some(name) => format!("the port {name:?} is given twice"),
                None => format!("{} is the main port already", other.port),
            };
            let hint = name.is_none().then(|| format!("name it: port {port} name=\"admin\""));
            ctx.error(scope, line.span, &text, hint);
            continue;
        }
        if ports.iter().any(|other| other.port == port) {
            ctx.error(scope, line.span, &format!("port {port} is given twice"), None);
            continue;
        }
        ports.push(PortSpec { port, name });
    }
    ports.sort_by_key(|port| port.name.is_some());
    Ports { list: ports, doubtful }
}

/// The named port of a route or published port, checked; without a name there must be a main port.
pub(super) fn target(
    ctx: &mut Ctx,
    scope: &Scope,
    line: &Line,
    ports: &Ports,
) -> Result<Option<String>, ()> {
    let Some(at) = At::property(scope, line, "port") else {
        if !ports.lacks_main() {
            return Ok(None);
        }
        let text = format!("{} needs a main port", line.field);
        ctx.error(scope, line.name_span, &text, Some("add port 3000".to_owned()));
        return Err(());
    };
    if let KdlValue::Integer(number) = at.value.value {
        let known = ports.list.iter().find(|port| i128::from(port.port) == number);
        let hint = match known.map(|port| port.name.as_deref()) {
            Some(Some(name)) => format!("write port={}", quoted(name)),
            Some(None) => "leave it out: that is the main port".to_owned(),
            None => format!("write port=\"admin\", and add port {number} name=\"admin\""),
        };
        at.error(ctx, "a port is given by its name", Some(hint));
        return Err(());
    }
    let name = at.text(ctx).ok_or(())?;
    if ports.doubtful || ports.list.iter().any(|port| port.name.as_ref() == Some(&name)) {
        return Ok(Some(name));
    }
    let names: Vec<&str> = ports.list.iter().filter_map(|port| port.name.as_deref()).collect();
    let hint = match nearest(&name, &names) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("add port 9000 name={}", quoted(&name)),
    };
    at.error(ctx, &format!("no port is named {name:?}"), Some(hint));
    Err(())
}

/// Whether a text is the path of a URL; `query`: it may have a query.
pub(super) fn url_path(ctx: &mut Ctx, at: At, text: &str, query: bool) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '#' || (c == '?' && !query);
    let (why, hint) = if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').map_or("/", |slash| &rest[slash..]);
        let written = at.written(&quoted(path));
        ("is a whole address".to_owned(), Some(format!("write {written}")))
    } else if !text.starts_with('/') {
        let written = at.written(&quoted(&format!("/{text}")));
        ("must begin with /".to_owned(), Some(format!("write {written}")))
    } else if let Some(c) = text.chars().find(|c| bad(*c)) {
        (format!("can't have {c:?} in it"), None)
    } else if !text.is_ascii() {
        ("takes ASCII only".to_owned(), Some("write %XX for other characters".to_owned()))
    } else {
        return true;
    };
    at.error(ctx, &format!("the path {text:?} {why}"), hint);
    false
}

/// Reads the published ports.
pub(super) fn publish(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
    ports: &Ports,
) -> Vec<PublishSpec> {
    let mut published: Vec<PublishSpec> = Vec::new();
    for line in fields.all("publish") {
        let host_port = At::value(scope, &line, 0).and_then(|at| at.port(ctx));
        let port = target(ctx, scope, &line, ports);
        let udp = At::property(scope, &line, "udp").map(|at| at.flag(ctx));
        let (Some(host_port), Ok(port)) = (host_port, port) else { continue };
        let udp = udp == Some(Some(true));
        let protocol = if udp { "udp" } else { "tcp" };
        if published.iter().any(|other| (other.host_port, other.udp) == (host_port, udp)) {
            ctx.error(scope, line.span, &format!("port {host_port} is published twice"), None);
            continue;
        }
        ctx.keep(scope, &["publish", &format!("{host_port}/{protocol}")], line.span);
        published.push(PublishSpec { host_port, port, udp });
    }
    published
}

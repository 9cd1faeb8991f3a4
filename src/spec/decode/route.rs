//! Routes.
//!
//! Owns their fields within one service. Never compares routes with each other.

use super::super::model::{RateLimit, RouteOptions, RouteSpec};
use super::super::outline::Block;
use super::super::parsed::{Reference, Target};
use super::super::report::Span;
use super::super::slips::quoted;
use super::super::value::{self, Line};
use super::network::{Ports, target, url_path};
use super::values::{At, check_secret};
use super::{Ctx, Fields, Scope};
use crate::cidr::Cidr;
use crate::id::{SecretName, WorkloadName};
use std::collections::BTreeMap;

/// Headers that frame an answer or belong to one connection: no file changes them.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Reads the routes.
pub(super) fn read(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
    ports: &Ports,
) -> Vec<RouteSpec> {
    let mut routes: Vec<RouteSpec> = Vec::new();
    for line in fields.all("route") {
        let index = routes.len().to_string();
        ctx.keep(scope, &["route", &index], line.span);
        for property in &line.properties {
            ctx.keep(scope, &["route", &index, &property.name], property.value.span);
        }
        let host = At::value(scope, &line, 0).and_then(|at| host(ctx, at));
        let path = match At::property(scope, &line, "path") {
            Some(at) => prefix(ctx, at),
            None => Some("/".to_owned()),
        };
        let redirects = line.get("to").is_some();
        let port = if redirects && line.get("port").is_none() {
            Ok(None)
        } else {
            target(ctx, scope, &line, ports)
        };
        let h2c = At::property(scope, &line, "upstream").map(|at| upstream(ctx, at));
        let redirect = At::property(scope, &line, "redirect").map(|at| at.flag(ctx));
        let options = Box::new(options(ctx, scope, &line));
        if let (Some(host), Some(path), Ok(port)) = (host, path, port) {
            let (h2c, redirect) = (h2c == Some(Some(true)), redirect.flatten().unwrap_or(true));
            routes.push(RouteSpec { host, path, port, h2c, redirect, options });
        }
    }
    routes
}

fn options(ctx: &mut Ctx, scope: &Scope, line: &Line) -> RouteOptions {
    let at = |name| At::property(scope, line, name);
    let mut flag = |name| at(name).and_then(|at| at.flag(ctx));
    let (strip, sticky, compress) = (flag("strip"), flag("sticky"), flag("compress"));
    let (hsts, log) = (flag("hsts"), flag("log"));
    let mut options = RouteOptions {
        strip: strip.unwrap_or_default(),
        to: at("to").and_then(|at| redirect_to(ctx, at)),
        timeout: at("timeout").and_then(|at| at.duration(ctx, 1_000)),
        body_max: at("body-max").and_then(|at| at.size(ctx, 0)),
        auth: at("auth").and_then(|at| secret(ctx, scope, at)),
        sticky: sticky.unwrap_or_default(),
        compress: compress.unwrap_or_default(),
        allow: at("allow").map(|at| ranges(ctx, at)).unwrap_or_default(),
        limit: at("limit").and_then(|at| limit(ctx, at)),
        hsts: hsts.unwrap_or_default(),
        wait: at("wait").and_then(|at| at.duration(ctx, 1)),
        unlogged: log == Some(false),
        ..RouteOptions::default()
    };
    headers(ctx, scope, line.block, &mut options);
    options
}

/// The block of a route: headers of the answer that are set or removed.
fn headers(ctx: &mut Ctx, scope: &Scope, block: Option<&Block>, options: &mut RouteOptions) {
    let mut seen: BTreeMap<(&str, String), Span> = BTreeMap::new();
    for node in block.into_iter().flat_map(Block::nodes) {
        let name = value::name(ctx.source, node.name);
        let field = match name.as_str() {
            "set" => "set",
            "remove" => "remove",
            _ => {
                let hint = "write set \"NAME\" \"value\" or remove \"NAME\"".to_owned();
                let text = format!("route: unknown field {name:?}");
                ctx.error(scope, node.name.span, &text, Some(hint));
                continue;
            }
        };
        let Some(line) = Line::read(ctx, scope, node, field) else { continue };
        let Some(at) = At::value(scope, &line, 0) else { continue };
        let Some(name) = header_name(ctx, at) else { continue };
        let key = (field, name.to_ascii_lowercase());
        if let Some(first) = seen.get(&key) {
            let hint = format!("the first is on line {}", ctx.line_of(*first));
            at.error(ctx, &format!("{field} {name:?} is given twice"), Some(hint));
            continue;
        }
        seen.insert(key, at.value.span);
        if field == "remove" {
            options.remove.push(name);
        } else if let Some(value) = At::value(scope, &line, 1).and_then(|at| field_value(ctx, at)) {
            options.set.insert(name, value);
        }
    }
}

fn header_name(ctx: &mut Ctx, at: At) -> Option<String> {
    let text = at.some_text(ctx)?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.bytes().all(token) {
        at.error(ctx, &format!("{text:?} isn't the name of a header"), None);
        return None;
    }
    if OWN_HEADERS.contains(&text.to_ascii_lowercase().as_str()) {
        at.error(ctx, &format!("the header {text} belongs to the connection"), None);
        return None;
    }
    Some(text)
}

fn field_value(ctx: &mut Ctx, at: At) -> Option<String> {
    let text = at.text(ctx)?;
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text {
        return Some(text);
    }
    at.error(ctx, &format!("{text:?} can't be the value of a header"), None);
    None
}

fn redirect_to(ctx: &mut Ctx, at: At) -> Option<String> {
    let text = at.some_text(ctx)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let printable = text.bytes().all(|b| (b'!'..=b'~').contains(&b));
    if printable && rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return Some(text);
    }
    let hint = Some("write to=\"https://www.example.com\"".to_owned());
    at.error(ctx, &format!("{text:?} isn't the address of a page"), hint);
    None
}

fn secret(ctx: &mut Ctx, scope: &Scope, at: At) -> Option<SecretName> {
    let text = at.text(ctx)?;
    match check_secret(&text) {
        Ok(()) => {
            let name = SecretName::from(text);
            ctx.references.push(Reference {
                target: Target::Secret(name.clone()),
                workload: WorkloadName::from(scope.name.as_str()),
                kind: scope.kind,
                span: at.value.span,
            });
            Some(name)
        }
        Err(why) => {
            at.error(ctx, &format!("the secret's name {text:?} {why}"), None);
            None
        }
    }
}

/// One or more ranges of addresses, with blanks or commas between them.
fn ranges(ctx: &mut Ctx, at: At) -> Vec<Cidr> {
    let Some(text) = at.some_text(ctx) else { return Vec::new() };
    let hint = || Some("write allow=\"10.0.0.0/8 192.0.2.7\"".to_owned());
    let parts: Vec<&str> = text.split([' ', ',']).filter(|one| !one.is_empty()).collect();
    if parts.is_empty() {
        at.error(ctx, "allow names no address", hint());
    }
    let mut found = Vec::new();
    for one in parts {
        match Cidr::parse(one) {
            Some(range) => found.push(range),
            None => at.error(ctx, &format!("{one:?} isn't a range of addresses"), hint()),
        }
    }
    found
}

fn limit(ctx: &mut Ctx, at: At) -> Option<RateLimit> {
    let text = at.text(ctx)?;
    let found = RateLimit::parse(&text);
    if found.is_none() {
        let hint = Some("write limit=\"100/s\" or limit=\"600/m\"".to_owned());
        at.error(ctx, &format!("{text:?} isn't a number of requests"), hint);
    }
    found
}

fn upstream(ctx: &mut Ctx, at: At) -> Option<bool> {
    let text = at.text(ctx)?;
    if text == "h2c" {
        return Some(true);
    }
    let hint = Some("the only one is upstream=\"h2c\"; leave it out for HTTP/1.1".to_owned());
    at.error(ctx, &format!("unknown upstream {text:?}"), hint);
    None
}

/// A host name in lower case; its first label may be `*`.
pub(super) fn host(ctx: &mut Ctx, at: At) -> Option<String> {
    let text = at.some_text(ctx)?;
    let plain = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    let end = plain.find(['/', ':']).unwrap_or(plain.len());
    let bare = plain[..end].to_lowercase();
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        matches!(label.len(), 1..=63)
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let valid = bare.len() <= 253 && bare.strip_prefix("*.").unwrap_or(&bare).split('.').all(label);
    if valid && bare == text {
        return Some(text);
    }
    let hint = if !valid && text.contains('*') {
        Some("* stands for the first label only: route \"*.example.com\"".to_owned())
    } else {
        valid.then(|| match &plain[end..] {
            rest if rest.starts_with('/') && rest.len() > 1 && at.property.is_none() => {
                format!("write {} path={}", at.written(&quoted(&bare)), quoted(rest))
            }
            _ => format!("write {}", at.written(&quoted(&bare))),
        })
    };
    at.error(ctx, &format!("{text:?} isn't a host name"), hint);
    None
}

/// The path prefix of a route.
fn prefix(ctx: &mut Ctx, at: At) -> Option<String> {
    let text = at.text(ctx)?;
    if !url_path(ctx, at, &text, false) {
        return None;
    }
    let plain = crate::spec::path::normal(&text);
    if plain.as_deref() == Some(text.as_str()) {
        return Some(text);
    }
    let hint = plain.map(|plain| format!("write {}", at.written(&quoted(&plain))));
    at.error(ctx, &format!("the path {text:?} isn't as requests are compared"), hint);
    None
}

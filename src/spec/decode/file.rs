//! The file itself: cluster, app, services, tasks, and the rules between them.
//!
//! Owns what only the whole file shows: names, equal routes and ports, shared volumes, references.

use super::super::fields::FILE;
use super::super::model::Spec;
use super::super::nearest::nearest;
use super::super::outline::Outline;
use super::super::parsed::Target;
use super::super::report::{Source, Span};
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Known, Scope, service, task};
use crate::id::{AppName, WorkloadName};
use std::collections::BTreeMap;

const KNOWN: Known =
    Known { all: FILE, elsewhere: super::super::fields::SERVICE, only: "the file" };

/// Reads a file from its outline.
pub(in crate::spec) fn decode<'s>(source: &'s Source, outline: &Outline) -> (Spec, Ctx<'s>) {
    let mut ctx = Ctx {
        source,
        problems: Vec::new(),
        dropped: 0,
        positions: BTreeMap::new(),
        references: Vec::new(),
        from_files: Vec::new(),
    };
    let top = Scope { kind: "", name: String::new() };
    let mut fields = Fields::read(&mut ctx, &top, Some(&outline.root), &KNOWN);
    let mut label = |ctx: &mut Ctx, field: &'static str| {
        let line = fields.one(field)?;
        At::value(&top, &line, 0)?.label(ctx, &format!("the {field}'s name"))
    };
    let cluster = label(&mut ctx, "cluster");
    let app = AppName::from(label(&mut ctx, "app").unwrap_or_else(|| "default".to_owned()));
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let services = fields.all("service");
    let services = named(&mut ctx, &mut seen, &services, "service", service::read);
    let tasks = fields.all("task");
    let tasks = named(&mut ctx, &mut seen, &tasks, "task", task::read);
    let spec = Spec { cluster, app, services, tasks };
    routes(&mut ctx, &spec);
    published(&mut ctx, &spec);
    volumes(&mut ctx, &spec);
    hooks(&mut ctx, &spec);
    addresses(&mut ctx, &spec);
    (spec, ctx)
}

/// Reads all services or all tasks; a name stands for one of them only.
fn named<T>(
    ctx: &mut Ctx,
    seen: &mut BTreeMap<String, Span>,
    lines: &[Line],
    kind: &'static str,
    read: impl Fn(&mut Ctx, &Scope, &Line) -> T,
) -> BTreeMap<WorkloadName, T> {
    let mut found = BTreeMap::new();
    let top = Scope { kind: "", name: String::new() };
    for line in lines {
        let Some(at) = At::value(&top, line, 0) else { continue };
        let name = at.label(ctx, &format!("the {kind}'s name"));
        // A service with a bad name is still read, for what else is wrong.
        let shown = name.clone().or_else(|| at.value.value.as_string().map(str::to_owned));
        let scope = Scope { kind, name: shown.unwrap_or_default() };
        let Some(name) = name else {
            read(ctx, &scope, line);
            continue;
        };
        if let Some(first) = seen.get(&name) {
            let text = format!("the name {name:?} is given twice");
            let hint = format!("the first is on line {}", ctx.line_of(*first));
            at.error(ctx, &text, Some(hint));
            read(ctx, &Scope { kind, name: name.clone() }, line);
            continue;
        }
        seen.insert(name.clone(), at.value.span);
        ctx.keep(&scope, &[], line.span);
        let spec = read(ctx, &scope, line);
        found.insert(WorkloadName::from(name), spec);
    }
    found
}

fn scope(kind: &'static str, name: &WorkloadName) -> Scope {
    Scope { kind, name: name.as_str().to_owned() }
}

fn position(ctx: &Ctx, scope: &Scope, path: &[&str]) -> Span {
    ctx.positions.get(&scope.path(path)).copied().unwrap_or_default()
}

/// Something that only one service or task can have, with its place.
struct Claim<K> {
    key: K,
    scope: Scope,
    span: Span,
}

/// Complains about every claim whose key an earlier line of the file has.
fn exclusive<K: Ord>(
    ctx: &mut Ctx,
    mut claims: Vec<Claim<K>>,
    text: impl Fn(&K, &Scope) -> String,
) {
    claims.sort_by_key(|claim| claim.span);
    let mut taken: BTreeMap<K, Scope> = BTreeMap::new();
    for claim in claims {
        match taken.get(&claim.key) {
            Some(owner) => ctx.error(&claim.scope, claim.span, &text(&claim.key, owner), None),
            None => drop(taken.insert(claim.key, claim.scope)),
        }
    }
}

/// Two routes can't have the same host and path.
fn routes(ctx: &mut Ctx, spec: &Spec) {
    let mut claims = Vec::new();
    for (name, service) in &spec.services {
        let scope = scope("service", name);
        for (index, route) in service.routes.iter().enumerate() {
            let key = route.key();
            let span = position(ctx, &scope, &["route", &index.to_string()]);
            claims.push(Claim { key, scope: scope.clone(), span });
        }
    }
    exclusive(ctx, claims, |route, owner| {
        format!("the route {route} is taken by {:?}", owner.name)
    });
}

/// Two services can't publish one port.
fn published(ctx: &mut Ctx, spec: &Spec) {
    let mut claims = Vec::new();
    for (name, service) in &spec.services {
        for publish in &service.publish {
            let scope = scope("service", name);
            let protocol = if publish.udp { "udp" } else { "tcp" };
            let path = format!("{}/{protocol}", publish.host_port);
            let span = position(ctx, &scope, &["publish", &path]);
            claims.push(Claim { key: (publish.host_port, publish.udp), scope, span });
        }
    }
    exclusive(ctx, claims, |(port, _), owner| {
        format!("port {port} is published by {:?}", owner.name)
    });
}

/// A volume belongs to one service or task.
fn volumes(ctx: &mut Ctx, spec: &Spec) {
    let services = spec.services.iter().map(|(name, s)| (scope("service", name), &s.run));
    let tasks = spec.tasks.iter().map(|(name, t)| (scope("task", name), &t.run));
    let mut claims = Vec::new();
    for (scope, run) in services.chain(tasks) {
        for volume in &run.volumes {
            let span = position(ctx, &scope, &["volume", &volume.name]);
            claims.push(Claim { key: volume.name.clone(), scope: scope.clone(), span });
        }
    }
    exclusive(ctx, claims, |volume, owner| {
        format!("the volume {volume:?} belongs to {} {:?}", owner.kind, owner.name)
    });
}

/// Hooks lead to tasks of the file.
fn hooks(ctx: &mut Ctx, spec: &Spec) {
    let names: Vec<&str> = spec.tasks.keys().map(WorkloadName::as_str).collect();
    for (name, service) in &spec.services {
        let scope = scope("service", name);
        let before = service.before_deploy.iter().map(|task| ("before-deploy", task));
        let after = service.after_deploy.iter().map(|task| ("after-deploy", task));
        for (field, task) in before.chain(after) {
            if spec.tasks.contains_key(task) {
                continue;
            }
            let span = position(ctx, &scope, &[field, task.as_str()]);
            if spec.services.contains_key(task) {
                let text = format!("{:?} is a service; {field} takes a task", task.as_str());
                ctx.error(&scope, span, &text, None);
                continue;
            }
            let hint = match nearest(task.as_str(), &names) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("add task {:?} {{ … }}", task.as_str()),
            };
            let text = format!("the file has no task {:?}", task.as_str());
            ctx.error(&scope, span, &text, Some(hint));
        }
    }
}

/// Addresses of services of the file: they need a port. Those of other apps the cluster checks.
fn addresses(ctx: &mut Ctx, spec: &Spec) {
    ctx.references.sort_by_key(|reference| reference.span);
    for reference in ctx.references.clone() {
        let Target::Service(name) = &reference.target else { continue };
        let scope = scope(reference.kind, &reference.workload);
        if spec.tasks.contains_key(name) {
            let text = format!("{:?} is a task; only services have addresses", name.as_str());
            ctx.error(&scope, reference.span, &text, None);
        } else if spec.services.get(name).is_some_and(|s| s.main_port().is_none()) {
            let text = format!("service {:?} has no main port, so no address", name.as_str());
            ctx.error(&scope, reference.span, &text, Some("add port 3000 to it".to_owned()));
        }
    }
}

//! Volumes, secret files and config files.
//!
//! Owns their fields and that their paths fit each other. Never knows where they lie on a node.

use super::super::model::{FileSpec, SecretFileSpec, VolumeSpec};
use super::super::parsed::{Reference, Target};
use super::super::report::Span;
use super::super::value::Line;
use super::values::{At, check_secret};
use super::{Ctx, Fields, Scope, config_file};
use crate::id::{SecretName, WorkloadName};
use std::collections::BTreeMap;

/// The least size of a volume: below it no file system fits.
const VOLUME_MIN: u64 = 1_000_000;

/// Something that has a path.
struct Mount {
    span: Span,
    /// Nothing can be below it.
    is_file: bool,
}

/// Reads all volumes, secret files and config files of a service or task.
pub(super) fn read(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
) -> (Vec<VolumeSpec>, Vec<SecretFileSpec>, Vec<FileSpec>) {
    let mut paths: BTreeMap<String, Mount> = BTreeMap::new();
    let mut volumes: Vec<VolumeSpec> = Vec::new();
    for line in fields.all("volume") {
        let Some(volume) = volume(ctx, scope, &line) else { continue };
        if volumes.iter().any(|other| other.name == volume.name) {
            let text = format!("the volume {:?} is mounted twice", volume.name);
            ctx.error(scope, line.span, &text, None);
            continue;
        }
        mounted(ctx, scope, &mut paths, &volume.path, &line);
        volumes.push(volume);
    }
    let mut secrets = Vec::new();
    for line in fields.all("secret-file") {
        let Some(secret) = secret_file(ctx, scope, &line) else { continue };
        mounted(ctx, scope, &mut paths, &secret.path, &line);
        secrets.push(secret);
    }
    let files = config_file::read(ctx, scope, fields, |ctx, path, line| {
        mounted(ctx, scope, &mut paths, path, line);
    });
    (volumes, secrets, files)
}

/// Complains if something else has the path, or a file has something below it.
fn mounted(
    ctx: &mut Ctx,
    scope: &Scope,
    paths: &mut BTreeMap<String, Mount>,
    path: &str,
    line: &Line,
) {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let path = format!("/{}", parts.join("/"));
    let span = line.get("path").map_or(line.span, |value| value.span);
    let is_file = line.field != "volume";
    let inside = format!("{path}/");
    let mut folders = path.match_indices('/').map(|(end, _)| &path[..end]);
    let above = folders.find_map(|folder| paths.get(folder).filter(|mount| mount.is_file));
    let below = paths.range(inside.clone()..).next();
    let below = below.filter(|(inner, _)| is_file && inner.starts_with(&inside));
    let (text, which, other) = match (paths.get(&path), above, below) {
        (Some(first), ..) => (format!("the path {path:?} is taken"), "the first", first.span),
        (_, Some(file), _) => (format!("the path {path:?} is below a file"), "that", file.span),
        (.., Some((inner, mount))) => {
            (format!("the path {path:?} is a file, but {inner:?} is below it"), "that", mount.span)
        }
        _ => {
            paths.insert(path, Mount { span, is_file });
            return;
        }
    };
    let hint = format!("{which} is on line {}", ctx.line_of(other));
    ctx.error(scope, span, &text, Some(hint));
}

/// The path of a volume or secret file, which both need.
fn path(ctx: &mut Ctx, scope: &Scope, line: &Line, what: &str) -> Option<String> {
    if let Some(at) = At::property(scope, line, "path") {
        return at.path(ctx);
    }
    let hint = Some("add path=\"/…\"".to_owned());
    ctx.error(scope, line.span, &format!("{what} has no path"), hint);
    None
}

fn volume(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<VolumeSpec> {
    let name = At::value(scope, line, 0).and_then(|at| at.label(ctx, "the volume's name"));
    let what = name.as_ref().map_or("the volume".to_owned(), |n| format!("the volume {n:?}"));
    let path = path(ctx, scope, line, &what);
    let ephemeral = At::property(scope, line, "ephemeral").map(|at| at.flag(ctx));
    let size = At::property(scope, line, "size").map(|at| at.size(ctx, VOLUME_MIN));
    if let Some(name) = &name {
        ctx.keep(scope, &["volume", name], line.span);
    }
    let is_ephemeral = ephemeral == Some(Some(true));
    if ephemeral == Some(None) {
        return None;
    }
    if is_ephemeral && size.is_some() {
        let span = line.get("size").map_or(line.span, |value| value.span);
        ctx.error(scope, span, "an ephemeral volume takes no size", None);
    }
    if !is_ephemeral && scope.kind == "task" {
        let hint = match line.get("size") {
            Some(_) => "write ephemeral=#true in the place of size",
            None => "add ephemeral=#true",
        };
        let hint = Some(hint.to_owned());
        ctx.error(scope, line.span, "a task takes ephemeral volumes only", hint);
    } else if !is_ephemeral && size.is_none() {
        let hint = "add size=\"5Gi\", or ephemeral=#true if it may be lost".to_owned();
        ctx.error(scope, line.span, &format!("{what} has no size"), Some(hint));
    }
    let size = size.flatten().filter(|_| !is_ephemeral);
    Some(VolumeSpec { name: name?, path: path?, ephemeral: is_ephemeral, size })
}

fn secret_file(ctx: &mut Ctx, scope: &Scope, line: &Line) -> Option<SecretFileSpec> {
    let at = At::value(scope, line, 0)?;
    let name = at.text(ctx);
    let path = path(ctx, scope, line, "the secret file");
    let name = name?;
    if let Err(why) = check_secret(&name) {
        at.error(ctx, &format!("the secret's name {name:?} {why}"), None);
        return None;
    }
    ctx.keep(scope, &["secret-file", &name], line.span);
    let secret = SecretName::from(name);
    ctx.references.push(Reference {
        target: Target::Secret(secret.clone()),
        workload: WorkloadName::from(scope.name.as_str()),
        kind: scope.kind,
        span: at.value.span,
    });
    path.map(|path| SecretFileSpec { secret, path })
}

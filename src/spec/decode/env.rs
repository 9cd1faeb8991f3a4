//! Environment variables and what is put into their values.
//!
//! Owns `${service.NAME.address}`, `${secret(NAME)}` and `$$`. Never looks up what they lead to.

use super::super::model::{EnvPart, EnvValue};
use super::super::outline::Block;
use super::super::parsed::{Reference, Target};
use super::super::report::Span;
use super::super::slips::quoted;
use super::super::value::{self, Line, Value};
use super::values::{At, check_name, check_secret};
use super::{Ctx, Scope};
use crate::id::{SecretName, WorkloadName};
use crate::limits::ARG_MAX;
use std::collections::BTreeMap;

const KNOWN: &str = "write ${service.NAME.address}, ${secret(NAME)}, or $${ for a plain ${";

/// Reads a block of variables.
pub(super) fn read(ctx: &mut Ctx, scope: &Scope, line: &Line) -> BTreeMap<String, EnvValue> {
    let mut env = BTreeMap::new();
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let block = line.block;
    if block.is_none() && !line.refused {
        let hint = Some("write env { NAME \"value\" }".to_owned());
        ctx.error(scope, line.name_span, "env needs a block", hint);
    }
    for node in block.into_iter().flat_map(Block::nodes) {
        let name = value::name(ctx.source, node.name);
        let span = node.name.span;
        if let Some(first) = seen.get(&name) {
            let hint = format!("the first is on line {}", ctx.line_of(*first));
            ctx.error(scope, span, &format!("env: {name} is given twice"), Some(hint));
            continue;
        }
        seen.insert(name.clone(), span);
        if name.starts_with("MILL_") {
            let text = format!("env: {name} is set by mill; names with MILL_ are its own");
            ctx.error(scope, span, &text, None);
        } else if name.is_empty() || name.contains(|c: char| c == '=' || c.is_whitespace()) {
            let text = format!("env: {name:?} can't be the name of a variable");
            ctx.error(scope, span, &text, None);
        } else if name.contains('\0') {
            ctx.error(scope, span, "env: a name contains a NUL character", None);
        }
        let Some(found) = variable(ctx, scope, node, &name) else { continue };
        ctx.keep(scope, &["env", &name], found.span);
        if let Some(value) = value_of(ctx, scope, &name, &found) {
            let text = |part: &EnvPart| match part {
                EnvPart::Text(text) => text.len(),
                EnvPart::Service(_) | EnvPart::Secret(_) => 0,
            };
            // As the program gets it: NAME=value.
            let whole = name.len() + 1 + value.0.iter().map(text).sum::<usize>();
            if whole > ARG_MAX {
                let most = ARG_MAX.saturating_sub(name.len() + 1);
                let text = format!("env: {name} is longer than {most} bytes");
                let hint = Some("give it as a file: file path=\"…\" from=\"…\"".to_owned());
                ctx.error(scope, found.span, &text, hint);
            }
            env.insert(name, value);
        }
    }
    env
}

/// The one value of a variable.
fn variable(
    ctx: &mut Ctx,
    scope: &Scope,
    node: &super::super::outline::Node,
    name: &str,
) -> Option<Value> {
    let line = Line::read(ctx, scope, node, "variable")?;
    let written = |value: &str| format!("{name} {}", quoted(value));
    match line.values.as_slice() {
        [value] => Some(value.clone()),
        [] if line.refused => None,
        [] => {
            let hint = format!("write {}", written("value"));
            ctx.error(scope, node.name.span, &format!("env: {name} has no value"), Some(hint));
            None
        }
        [first, .., last] => {
            let whole = ctx.source.slice(Span::new(first.span.start, last.span.end));
            let hint = format!("quote the whole: {}", written(&whole.replace('"', "")));
            let text = format!("env: {name} is one text");
            ctx.error(scope, line.values[1].span, &text, Some(hint));
            None
        }
    }
}

fn value_of(ctx: &mut Ctx, scope: &Scope, name: &str, value: &Value) -> Option<EnvValue> {
    let Some(text) = value.value.as_string() else {
        let plain = ctx.source.slice(value.span).trim_start_matches('#').to_owned();
        let text = format!("env: {name} is a text, not {}", value.kind());
        let hint = Some(format!("quote it: {name} {}", quoted(&plain)));
        ctx.error(scope, value.span, &text, hint);
        return None;
    };
    let line = Line::of("the value", value.clone());
    let text = At::value(scope, &line, 0).and_then(|at| at.text(ctx)).filter(|t| t == text)?;
    interpolate(ctx, scope, value.span, &text)
}

/// Cuts a value into its parts.
pub(super) fn interpolate(
    ctx: &mut Ctx,
    scope: &Scope,
    span: Span,
    text: &str,
) -> Option<EnvValue> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut sound = true;
    let mut rest = text;
    // Where the search for the next reference in the source goes on.
    let mut from = span.start;
    while let Some(at) = rest.find('$') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            plain.push('$');
            rest = after;
        } else if rest.starts_with("${") {
            let whole = &rest[..rest.find('}').map_or(rest.len(), |end| end + 1)];
            let place = place(ctx, span, &mut from, whole);
            match reference(whole) {
                Ok(part) => {
                    push(&mut parts, &mut plain);
                    refer(ctx, scope, &part, place);
                    parts.push(part);
                }
                Err(why) => {
                    let hint = why.ends_with("known") || why.ends_with("closed");
                    ctx.error(scope, place, &why, hint.then(|| KNOWN.to_owned()));
                    sound = false;
                }
            }
            rest = &rest[whole.len()..];
        } else {
            plain.push('$');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    push(&mut parts, &mut plain);
    sound.then_some(EnvValue(parts))
}

fn push(parts: &mut Vec<EnvPart>, plain: &mut String) {
    if !plain.is_empty() {
        parts.push(EnvPart::Text(std::mem::take(plain)));
    }
}

/// Where a reference stands in the source; the whole value if escapes hide it.
fn place(ctx: &Ctx, span: Span, from: &mut usize, whole: &str) -> Span {
    let source = ctx.source.text().get(*from..span.end).unwrap_or_default();
    match source.find(whole) {
        Some(at) => {
            let start = *from + at;
            *from = start + whole.len();
            Span::new(start, *from)
        }
        None => {
            // Nor will the next be found; a long value must not be searched again and again.
            *from = span.end;
            span
        }
    }
}

fn reference(whole: &str) -> Result<EnvPart, String> {
    let Some(inner) = whole.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Err("this ${ isn't closed".to_owned());
    };
    if let Some(name) = inner.strip_prefix("secret(").and_then(|rest| rest.strip_suffix(')')) {
        return match check_secret(name) {
            Ok(()) => Ok(EnvPart::Secret(SecretName::from(name))),
            Err(why) => Err(format!("the secret's name {name:?} {why}")),
        };
    }
    if let Some(name) = inner.strip_prefix("service.").and_then(|r| r.strip_suffix(".address")) {
        return match check_name(name) {
            Ok(()) => Ok(EnvPart::Service(WorkloadName::from(name))),
            Err(why) => Err(format!("the service's name {name:?} {why}")),
        };
    }
    Err(format!("{whole} isn't known"))
}

fn refer(ctx: &mut Ctx, scope: &Scope, part: &EnvPart, span: Span) {
    let target = match part {
        EnvPart::Text(_) => return,
        EnvPart::Service(name) => Target::Service(name.clone()),
        EnvPart::Secret(name) => Target::Secret(name.clone()),
    };
    let workload = WorkloadName::from(scope.name.as_str());
    ctx.references.push(Reference { target, workload, kind: scope.kind, span });
}

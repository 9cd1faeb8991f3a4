//! Outline to specification: every field read, everything wrong collected.
//!
//! Owns the walk over the fields and how a field is read. Never stops at the first problem and
//! never looks outside the file.

mod config_file;
mod env;
mod file;
mod health;
mod network;
mod route;
mod run;
mod service;
mod storage;
mod task;
mod values;

pub(super) use file::decode;
pub(super) use run::cores_of;
pub(super) use values::check_secret;

use super::elsewhere::{Instead, instead};
use super::fields::example;
use super::nearest::nearest;
use super::outline::{Block, Node};
use super::parsed::{FromFile, Positions, Reference};
use super::report::{Problem, Source, Span};
use super::value::{self, Line};
use crate::limits::FILE_PROBLEMS_MAX;
use std::collections::BTreeMap;

/// What decoding collects.
pub(super) struct Ctx<'s> {
    pub source: &'s Source,
    pub problems: Vec<Problem>,
    /// Further problems that were not kept.
    pub dropped: usize,
    pub positions: Positions,
    pub references: Vec<Reference>,
    pub from_files: Vec<FromFile>,
}

/// A service or task, or the file itself: what messages begin with and positions are kept under.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    /// `service`, `task` or nothing.
    pub kind: &'static str,
    pub name: String,
}

impl Scope {
    fn path(&self, rest: &[&str]) -> Vec<String> {
        let own = [self.kind, &self.name];
        let own = own.into_iter().filter(|_| !self.kind.is_empty());
        own.chain(rest.iter().copied()).map(str::to_owned).collect()
    }

    fn message(&self, text: &str) -> String {
        if self.kind.is_empty() {
            return text.to_owned();
        }
        format!("{} {:?}: {text}", self.kind, self.name)
    }
}

impl Ctx<'_> {
    pub(super) fn error(&mut self, scope: &Scope, span: Span, text: &str, hint: Option<String>) {
        if self.problems.len() < FILE_PROBLEMS_MAX {
            self.problems.push(self.source.problem(span, scope.message(text), hint));
        } else {
            self.dropped += 1;
        }
    }

    fn keep(&mut self, scope: &Scope, path: &[&str], span: Span) {
        self.positions.entry(scope.path(path)).or_insert(span);
    }

    pub(super) fn line_of(&self, span: Span) -> usize {
        self.source.line(span.start)
    }
}

/// The fields of a block, sorted by name, each in the order of the file.
struct Fields<'o> {
    lines: BTreeMap<&'static str, Vec<Line<'o>>>,
    seen: BTreeMap<&'static str, Span>,
}

/// Which fields a block takes.
struct Known {
    all: &'static [&'static str],
    /// Fields that another kind of block takes, and what to say of them.
    elsewhere: &'static [&'static str],
    only: &'static str,
}

impl<'o> Fields<'o> {
    /// Reads every field of a block, with complaints about unknown ones and repeated ones.
    fn read(ctx: &mut Ctx, scope: &Scope, block: Option<&'o Block>, known: &Known) -> Self {
        let mut fields = Self { lines: BTreeMap::new(), seen: BTreeMap::new() };
        for node in block.into_iter().flat_map(Block::nodes) {
            let name = value::name(ctx.source, node.name);
            let Some(field) = known.all.iter().copied().find(|field| *field == name) else {
                // What was meant by it isn't missing.
                if let Some(meant) = unknown(ctx, scope, node, &name, known) {
                    fields.seen.entry(meant).or_insert(node.name.span);
                }
                continue;
            };
            if let Some(first) = fields.seen.get(field).copied()
                && !super::fields::REPEATED.contains(&field)
            {
                let text = format!("{field} is given twice");
                let hint = format!("the first is on line {}", ctx.line_of(first));
                ctx.error(scope, node.name.span, &text, Some(hint));
                continue;
            }
            fields.seen.insert(field, node.name.span);
            match Line::read(ctx, scope, node, field) {
                Some(line) => {
                    ctx.keep(scope, &[field], line.span);
                    fields.lines.entry(field).or_default().push(line);
                }
                None => fields.excuse_all(ctx, node, known),
            }
        }
        fields
    }

    /// Fields that were written as properties are not missing too.
    fn excuse(&mut self, line: &Line) {
        if line.refused {
            self.seen.entry("image").or_insert(line.span);
        }
    }

    /// Fields that stand in the line of another are not missing too.
    fn excuse_all(&mut self, ctx: &Ctx, node: &Node, known: &Known) {
        for entry in node.entries().filter(|entry| entry.name.is_none()) {
            let word = ctx.source.slice(entry.value.span);
            if let Some(field) = known.all.iter().copied().find(|field| *field == word) {
                self.seen.entry(field).or_insert(entry.value.span);
            }
        }
    }

    fn has(&self, field: &str) -> bool {
        self.seen.contains_key(field)
    }

    fn one(&mut self, field: &str) -> Option<Line<'o>> {
        self.lines.get_mut(field).and_then(Vec::pop)
    }

    fn all(&mut self, field: &str) -> Vec<Line<'o>> {
        self.lines.remove(field).unwrap_or_default()
    }
}

/// Complains about an unknown field; what was perhaps meant.
fn unknown(
    ctx: &mut Ctx,
    scope: &Scope,
    node: &Node,
    name: &str,
    known: &Known,
) -> Option<&'static str> {
    let span = node.name.span;
    let bare = name.trim_end_matches([':', ',']);
    if known.elsewhere.contains(&bare) {
        let text = format!("{} takes no field {bare:?}", known.only);
        let inside = scope.kind.is_empty().then(|| "it belongs between { and }".to_owned());
        ctx.error(scope, span, &text, inside.map(|hint| format!("{hint} of a service")));
        return None;
    }
    let is_top = scope.kind.is_empty();
    let foreign = instead(is_top, bare);
    // A name of its own goes before one that is merely near.
    let near = nearest(bare, known.all).filter(|_| foreign.is_none());
    let told = foreign.map(|instead| match instead {
        Instead::Write(text) => match text.split(' ').next() {
            Some(field) if is_top || known.all.contains(&field) => format!("write {text}"),
            _ if scope.kind == "task" => format!("write it in a service: {text}"),
            _ => format!("write it in a task: {text}"),
        },
        Instead::Leave(why) => format!("leave it out: {why}"),
    });
    let hint = match near {
        None if told.is_some() => told,
        Some(field) if field == bare => Some(format!("write {}", example(field))),
        Some(field) => Some(format!("did you mean {field:?}?")),
        None if name.ends_with(':') => Some("a field is a name and values, no colon".to_owned()),
        None if is_top => Some(format!("a file has {}", known.all.join(", "))),
        None => None,
    };
    ctx.error(scope, span, &format!("unknown field {name:?}"), hint);
    // What it stands for isn't missing.
    let meant = foreign.and_then(|instead| match instead {
        Instead::Write(text) => text.split(' ').next(),
        Instead::Leave(_) => None,
    });
    near.or_else(|| known.all.iter().copied().find(|field| Some(*field) == meant))
}

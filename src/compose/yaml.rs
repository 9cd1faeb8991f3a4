//! A YAML document as a tree that keeps every scalar as it was written.
//!
//! Owns aliases, merge keys and the bounds of both. Never guesses a scalar's type: Compose's own
//! rules differ from YAML's.

use super::ComposeError;
use crate::limits::{COMPOSE_DEPTH, COMPOSE_NODES};
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use std::collections::BTreeMap;

/// A part of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it stands, from 1.
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Nothing.
    Null,
    /// A text, a number, a flag.
    Scalar(String),
    List(Vec<Node>),
    /// Fields in their order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// A scalar's text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is `true`, in any of YAML's words for that.
    pub(super) fn is_true(&self) -> bool {
        matches!(self.text(), Some("true" | "True" | "TRUE" | "yes" | "on"))
    }

    /// A map's fields.
    pub(super) fn map(&self) -> Option<&[(String, Node)]> {
        match &self.kind {
            Kind::Map(fields) => Some(fields),
            _ => None,
        }
    }

    /// A map's field.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.map()?.iter().find(|(field, _)| field == name).map(|(_, node)| node)
    }

    /// A list's items; a scalar is a list of one.
    pub(super) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            Kind::Scalar(_) => std::slice::from_ref(self),
            _ => &[],
        }
    }

    fn size(&self) -> usize {
        let below: usize = match &self.kind {
            Kind::Null | Kind::Scalar(_) => 0,
            Kind::List(items) => items.iter().map(Node::size).sum(),
            Kind::Map(fields) => fields.iter().map(|(_, node)| node.size()).sum(),
        };
        below + 1
    }
}

/// A list or map that is being read.
struct Open {
    anchor: usize,
    node: Node,
    /// Of a map: the name of the field that comes next.
    name: Option<String>,
}

struct Reader<'a> {
    file: &'a str,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    /// Nodes so far, those of aliases counted each time.
    nodes: usize,
    root: Option<Node>,
}

/// Reads the one document of a text.
pub(super) fn read(file: &str, text: &str) -> Result<Node, ComposeError> {
    let mut reader =
        Reader { file, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, root: None };
    let mut parser = Parser::new_from_str(text.trim_start_matches('\u{feff}'));
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| reader.broken(&error))?;
        reader.take(event, span)?;
    }
    Ok(reader.root.unwrap_or(Node { line: 1, kind: Kind::Null }))
}

impl Reader<'_> {
    fn broken(&self, error: &ScanError) -> ComposeError {
        let at = error.marker();
        self.error(at.line(), at.col() + 1, error.info())
    }

    fn error(&self, line: usize, column: usize, message: &str) -> ComposeError {
        let message = message.to_owned();
        ComposeError::Yaml { file: self.file.to_owned(), line, column, message }
    }

    fn at(&self, span: Span, message: &str) -> ComposeError {
        self.error(span.start.line(), span.start.col() + 1, message)
    }

    fn take(&mut self, event: Event, span: Span) -> Result<(), ComposeError> {
        let line = span.start.line();
        match event {
            Event::Alias(anchor) => {
                let found = self.anchors.get(&anchor).cloned();
                let found = found.ok_or_else(|| self.at(span, "the anchor isn't known here"))?;
                self.put(found, span)
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_plain = style == ScalarStyle::Plain;
                let is_null = is_plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let kind = if is_null { Kind::Null } else { Kind::Scalar(text.into_owned()) };
                let node = Node { line, kind };
                self.keep(anchor, &node);
                self.put(node, span)
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, Kind::List(Vec::new()), span),
            Event::MappingStart(anchor, _) => self.begin(anchor, Kind::Map(Vec::new()), span),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, mut node, .. }) = self.open.pop() else { return Ok(()) };
                if let Kind::Map(fields) = &mut node.kind {
                    merge(fields);
                }
                self.keep(anchor, &node);
                self.put(node, span)
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(self.at(span, "one document is read, and here begins another"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, anchor: usize, kind: Kind, span: Span) -> Result<(), ComposeError> {
        if self.open.len() >= COMPOSE_DEPTH {
            return Err(self.at(span, &format!("nested deeper than {COMPOSE_DEPTH} levels")));
        }
        let node = Node { line: span.start.line(), kind };
        self.open.push(Open { anchor, node, name: None });
        Ok(())
    }

    fn keep(&mut self, anchor: usize, node: &Node) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }

    /// Puts a node where it belongs.
    fn put(&mut self, node: Node, span: Span) -> Result<(), ComposeError> {
        self.nodes += node.size();
        if self.nodes > COMPOSE_NODES {
            return Err(self.at(span, "the document is too large with all that it repeats"));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.kind, open.name.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(fields), Some(name)) => fields.push((name, node)),
            (kind, _) => match node.kind {
                Kind::Scalar(name) => {
                    let is_known = matches!(kind, Kind::Map(fields)
                        if fields.iter().any(|(known, _)| *known == name));
                    if is_known && name != MERGE {
                        return Err(self.at(span, &format!("{name} is given twice")));
                    }
                    open.name = Some(name);
                }
                Kind::Null => open.name = Some(String::new()),
                _ => return Err(self.at(span, "a field's name must be a text")),
            },
        }
        Ok(())
    }
}

/// The field that brings the fields of other maps.
const MERGE: &str = "<<";

/// Puts in the fields of the maps that a map is merged with, as far as it has none of that name.
fn merge(fields: &mut Vec<(String, Node)>) {
    if !fields.iter().any(|(name, _)| name == MERGE) {
        return;
    }
    let (merged, own): (Vec<_>, Vec<_>) =
        std::mem::take(fields).into_iter().partition(|(name, _)| name == MERGE);
    *fields = own;
    let maps = merged.into_iter().flat_map(|(_, node)| match node.kind {
        Kind::List(items) => items,
        _ => vec![node],
    });
    for (name, node) in maps.filter_map(|map| map.map().map(<[_]>::to_vec)).flatten() {
        if !fields.iter().any(|(known, _)| *known == name) {
            fields.push((name, node));
        }
    }
}

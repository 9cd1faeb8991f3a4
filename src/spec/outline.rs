//! Tokens to an outline: blocks, fields, values and comments, with the problems of form.
//!
//! Owns which token belongs to which field and what is said about slips. Never knows a field's
//! meaning and never decodes a value.

mod line;
mod reader;

pub(super) use reader::outline;

use super::report::{Problem, Span};
use super::scan::Token;

/// A file's form.
#[derive(Debug)]
pub(super) struct Outline {
    pub root: Block,
    /// What is wrong with the form, in the order of the text.
    pub problems: Vec<Problem>,
    /// Further problems that were not kept.
    pub dropped: usize,
    /// Where a second complaint would only follow from one of them.
    pub shadows: Vec<Span>,
    /// The form is so wrong that the fields can't be trusted.
    pub broken: bool,
}

/// What is between two braces.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub items: Vec<Item>,
    /// With its braces.
    pub span: Span,
}

#[derive(Debug)]
pub(super) enum Item {
    Node(Node),
    /// Alone on its line, or else after what came before.
    Comment {
        span: Span,
        alone: bool,
    },
    /// One or more empty lines.
    Blank,
}

/// A field: a name, values, perhaps a block.
#[derive(Debug)]
pub(super) struct Node {
    /// After `/-`.
    pub skipped: bool,
    pub annotation: Option<Span>,
    pub name: Token,
    pub parts: Vec<Part>,
    pub block: Option<Block>,
    /// The comment at the line's end.
    pub comment: Option<Span>,
    /// The name and the values.
    pub span: Span,
    /// Its punctuation was complained about: its values can't be trusted.
    pub slipped: bool,
}

#[derive(Debug)]
pub(super) enum Part {
    Entry(Entry),
    Comment(Span),
    /// A backslash and the next line, perhaps with a comment between them.
    Break(Option<Span>),
    /// A block after `/-`.
    Skipped(Block),
}

/// A value, perhaps with a property's name.
#[derive(Debug)]
pub(super) struct Entry {
    pub skipped: bool,
    pub annotation: Option<Span>,
    pub name: Option<Token>,
    pub value: Token,
}

impl Block {
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.items.iter().filter_map(|item| match item {
            Item::Node(node) if !node.skipped => Some(node),
            _ => None,
        })
    }
}

impl Node {
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().filter_map(|part| match part {
            Part::Entry(entry) if !entry.skipped => Some(entry),
            _ => None,
        })
    }
}

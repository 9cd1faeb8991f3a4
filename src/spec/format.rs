//! Canonical formatting: the same file with one look.
//!
//! Owns indentation, blanks, quotes and line ends. Never moves, adds or drops a field, and keeps
//! every comment.
//!
//! Four blanks a level, one blank between values, at most one empty line, quotes around every text
//! value and around no name that does without, a block on one line only where it was on one and
//! fits.

use super::outline::{Block, Entry, Item, Node, Outline, Part};
use super::report::{Source, Span};
use super::scan::{Kind, Token};
use super::{slips, value, words};
use crate::limits::FILE_LINE_WIDTH;

const INDENT: &str = "    ";
/// Marks that become blanks at the end; KDL forbids them in any text.
const BEFORE_VALUE: char = '\u{1}';
const BEFORE_COMMENT: char = '\u{2}';
/// Lines that differ more than this in width are not aligned.
const VALUE_SPREAD: usize = 24;
const COMMENT_SPREAD: usize = 40;

/// Formats a file of sound form.
pub(super) fn format(source: &Source, outline: &Outline) -> String {
    let mut writer =
        Writer { source, out: String::with_capacity(source.text().len()), inline: false };
    writer.items(&outline.root, 0, false);
    let out = align(&writer.out, BEFORE_VALUE, VALUE_SPREAD);
    align(&out, BEFORE_COMMENT, COMMENT_SPREAD)
}

/// Replaces a mark by blanks so that what follows it stands in one column on neighbouring lines;
/// by one blank where their widths differ by more than `spread`.
fn align(text: &str, mark: char, spread: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut group: Vec<(&str, &str)> = Vec::new();
    let flush = |group: &mut Vec<(&str, &str)>, out: &mut String| {
        let width = |part: &(&str, &str)| part.0.chars().count();
        let widest = group.iter().map(width).max().unwrap_or(0);
        let narrowest = group.iter().map(width).min().unwrap_or(0);
        for part in group.drain(..) {
            let pad = if widest - narrowest > spread { 1 } else { widest - width(&part) + 1 };
            out.push_str(part.0);
            out.extend(std::iter::repeat_n(' ', pad));
            out.push_str(part.1);
        }
    };
    for line in text.split_inclusive('\n') {
        match line.split_once(mark) {
            Some(parts) => group.push(parts),
            None => {
                flush(&mut group, &mut out);
                out.push_str(line);
            }
        }
    }
    flush(&mut group, &mut out);
    out
}

struct Writer<'s> {
    source: &'s Source,
    out: String,
    /// Within a block that is tried on one line.
    inline: bool,
}

impl Writer<'_> {
    /// The fields of a block, a line each; `aligned`: their values stand in one column.
    fn items(&mut self, block: &Block, depth: usize, aligned: bool) {
        for item in &block.items {
            match item {
                Item::Blank => self.out.push('\n'),
                Item::Comment { span, alone: true } => {
                    self.indent(depth);
                    self.comment(*span);
                    self.out.push('\n');
                }
                Item::Comment { span, alone: false } => {
                    self.out.pop();
                    let plain = self.out.ends_with(['{', '}']) || !self.is_line(*span);
                    self.out.push(if plain { ' ' } else { BEFORE_COMMENT });
                    self.comment(*span);
                    self.out.push('\n');
                }
                Item::Node(node) => {
                    self.indent(depth);
                    self.node(node, depth, aligned);
                    self.out.push('\n');
                }
            }
        }
    }

    fn indent(&mut self, depth: usize) {
        (0..depth).for_each(|_| self.out.push_str(INDENT));
    }

    fn comment(&mut self, span: Span) {
        let text = self.source.slice(span).trim_end().replace("\r\n", "\n");
        self.out.push_str(&text);
    }

    /// A comment that ends with its line; only these are aligned.
    fn is_line(&self, span: Span) -> bool {
        self.source.slice(span).starts_with("//")
    }

    fn node(&mut self, node: &Node, depth: usize, aligned: bool) {
        if node.skipped {
            self.out.push_str("/-");
        }
        self.annotation(node.annotation);
        self.name(node.name);
        let mut fresh_line = false;
        for (index, part) in node.parts.iter().enumerate() {
            if !fresh_line {
                let value = aligned && index == 0 && matches!(part, Part::Entry(_));
                self.out.push(if value { BEFORE_VALUE } else { ' ' });
            }
            fresh_line = false;
            match part {
                Part::Entry(entry) => self.entry(entry),
                Part::Comment(span) => self.comment(*span),
                Part::Break(comment) => {
                    self.out.push('\\');
                    if let Some(span) = comment {
                        self.out.push(' ');
                        self.comment(*span);
                    }
                    self.out.push('\n');
                    self.indent(depth + 1);
                    fresh_line = true;
                }
                Part::Skipped(block) => {
                    self.out.push_str("/-");
                    self.block(block, depth, false);
                }
            }
        }
        if let Some(block) = &node.block {
            self.out.push(' ');
            self.block(block, depth, value::name(self.source, node.name) == "env");
        }
        if let Some(span) = node.comment {
            let plain = node.block.is_some() || !self.is_line(span);
            self.out.push(if plain { ' ' } else { BEFORE_COMMENT });
            self.comment(span);
        }
    }

    fn block(&mut self, block: &Block, depth: usize, aligned: bool) {
        if block.items.is_empty() {
            return self.out.push_str("{}");
        }
        let start = self.out.len();
        if self.inline || self.is_inline(block) {
            // Blocks within go along, so that each is tried once a level and not twice.
            let outermost = !std::mem::replace(&mut self.inline, true);
            self.out.push_str("{ ");
            for (index, node) in block.items.iter().enumerate() {
                if index > 0 {
                    self.out.push_str("; ");
                }
                if let Item::Node(node) = node {
                    self.node(node, depth, false);
                }
            }
            self.out.push_str(" }");
            if !outermost {
                return;
            }
            self.inline = false;
            let line = self.out.rfind('\n').map_or(0, |at| at + 1);
            if line <= start && self.out[line..].chars().count() <= FILE_LINE_WIDTH {
                return;
            }
            self.out.truncate(start);
        }
        self.out.push_str("{\n");
        self.items(block, depth + 1, aligned);
        self.indent(depth);
        self.out.push('}');
    }

    /// On one line, with nothing but fields in it.
    fn is_inline(&self, block: &Block) -> bool {
        let text = self.source.slice(block.span);
        words::line_length(text) == text.len()
            && block.items.iter().all(|item| matches!(item, Item::Node(_)))
    }

    fn annotation(&mut self, span: Option<Span>) {
        if let Some(span) = span {
            self.out.push_str(self.source.slice(span));
        }
    }

    fn entry(&mut self, entry: &Entry) {
        if entry.skipped {
            self.out.push_str("/-");
        }
        if let Some(name) = entry.name {
            self.name(name);
            self.out.push('=');
        }
        self.annotation(entry.annotation);
        self.value(entry.value);
    }

    /// A name, without quotes where it does without.
    fn name(&mut self, token: Token) {
        let name = value::name(self.source, token);
        if words::is_bare(&name) {
            self.out.push_str(&name);
        } else {
            self.verbatim(token);
        }
    }

    fn value(&mut self, token: Token) {
        let text = self.source.slice(token.span);
        match token.kind {
            Kind::Ident => self.out.push_str(&slips::quoted(text)),
            Kind::Raw => {
                let inner = text.trim_matches('#');
                let inner = inner.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
                match inner {
                    Some(plain) if !plain.contains(['"', '\\']) && !is_multiline(text) => {
                        self.out.push('"');
                        self.out.push_str(plain);
                        self.out.push('"');
                    }
                    _ => self.verbatim(token),
                }
            }
            _ => self.verbatim(token),
        }
    }

    fn verbatim(&mut self, token: Token) {
        let text = self.source.slice(token.span);
        // KDL reads both line ends as the same.
        self.out.push_str(&text.replace("\r\n", "\n"));
    }
}

fn is_multiline(token: &str) -> bool {
    token.trim_start_matches('#').starts_with("\"\"\"")
}

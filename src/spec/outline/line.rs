//! A field's line: annotations, values, properties, comments, the block at its end.
//!
//! Owns which token is a value and which a property's. Never judges a value.

use super::super::report::Span;
use super::super::scan::{Kind, Slip, Token};
use super::super::slips;
use super::reader::Reader;
use super::{Entry, Node, Part};
use crate::limits::FILE_LINE_VALUES_MAX;

impl Reader<'_> {
    /// `(type)`, if that is what follows.
    pub(super) fn annotation(&mut self) -> Option<Span> {
        let open = self.peek().filter(|token| token.kind == Kind::ParenOpen)?;
        let closing = |t: &Token| {
            matches!(t.kind, Kind::ParenClose | Kind::Newline | Kind::Semi | Kind::Open)
        };
        let rest = &self.tokens[self.at..];
        let Some(close) = rest.iter().take(16).position(closing) else {
            self.give_up(open.span, "this ( isn't closed", None);
            return None;
        };
        let name = |kind| matches!(kind, Kind::Ident | Kind::Quoted | Kind::Raw);
        let inner = rest[1..close].iter().map(|token| token.kind);
        let mut inner = inner.filter(|kind| !matches!(kind, Kind::Space | Kind::BlockComment));
        let sound = inner.next().is_some_and(name) && inner.next().is_none();
        if rest[close].kind == Kind::ParenClose && !sound {
            let span = Span::new(open.span.start, rest[close].span.end);
            self.give_up(span, "text in ( ) needs quotes", None);
            return None;
        }
        if rest[close].kind != Kind::ParenClose {
            let hint = Some("quote text that contains it");
            self.give_up(open.span, "this ( isn't closed", hint);
            return None;
        }
        let span = Span::new(open.span.start, rest[close].span.end);
        self.at += close + 1;
        self.skip_blank(false);
        Some(span)
    }

    /// The rest of a field: values, comments, a block, up to the end of its line.
    pub(super) fn parts(&mut self, node: &mut Node) {
        let mut spaced = false;
        let mut values = 0;
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Newline | Kind::Close => return,
                Kind::Semi => {
                    self.at += 1;
                    return;
                }
                Kind::Space => self.at += 1,
                Kind::Continuation | Kind::BlockComment => {
                    self.at += 1;
                    node.parts.push(match token.kind {
                        Kind::Continuation => Part::Break(self.comment_in(token.span)),
                        _ => Part::Comment(token.span),
                    });
                }
                Kind::LineComment | Kind::Slip(Slip::HashComment) => {
                    self.at += 1;
                    if token.kind == Kind::LineComment {
                        node.comment = Some(token.span);
                    } else {
                        self.complain(token.span, slips::HASH_COMMENT, None);
                        self.shadows.push(node.span);
                    }
                }
                Kind::Open => {
                    node.block = Some(self.open(token.span));
                    return self.after_block(node);
                }
                _ => {
                    values += 1;
                    self.part(token, node, spaced, values);
                }
            }
            spaced = !is_value(token.kind) && token.kind != Kind::ParenOpen;
        }
    }

    fn part(&mut self, token: Token, node: &mut Node, spaced: bool, values: usize) {
        if values > FILE_LINE_VALUES_MAX {
            let message = format!("more than {FILE_LINE_VALUES_MAX} values in one line");
            return self.give_up(token.span, message, None);
        }
        match token.kind {
            Kind::Equals => {
                self.at += 1;
                if node.entries().next().is_some() {
                    let message = "this = isn't after a property's name";
                    return self.once(node, token.span, message, None);
                }
                match slips::equals(self.source, self.tokens, self.at, node) {
                    Some((message, mended)) => {
                        self.complain(token.span, message, None);
                        self.shadows.extend(mended);
                        self.mended = mended;
                    }
                    None => {
                        let message = format!("nothing follows {}=", self.source.slice(node.span));
                        self.complain(token.span, message, None);
                        self.shadows.push(node.span);
                    }
                }
            }
            Kind::Slip(Slip::Comma) => {
                self.at += 1;
                self.once(node, token.span, "values are parted by blanks, not commas", None);
            }
            Kind::Slip(Slip::Bracket) => {
                self.at += 1;
                self.once(node, token.span, "a list is written without [ ]", slips::list_hint());
            }
            Kind::ParenClose => {
                self.at += 1;
                self.once(node, token.span, "this ) closes nothing", Some("quote the text"));
            }
            Kind::SlashDash => {
                self.at += 1;
                self.skip_blank(true);
                match self.peek() {
                    Some(open) if open.kind == Kind::Open => {
                        let block = self.open(open.span);
                        node.parts.push(Part::Skipped(block));
                    }
                    _ => self.entry(node, true),
                }
            }
            _ => {
                if !spaced && self.source.slice(token.span).starts_with(':') {
                    self.complain(token.span, "drop the colon", None);
                } else if !spaced {
                    self.complain(token.span, "a blank is missing before this", None);
                } else if node.parts.iter().any(|part| matches!(part, Part::Skipped(_))) {
                    self.complain(token.span, "values come before the {", None);
                }
                self.entry(node, false);
            }
        }
    }

    /// Complains about the punctuation of a line, but once.
    fn once(&mut self, node: &mut Node, span: Span, message: &str, hint: Option<&str>) {
        if !node.slipped {
            self.complain(span, message, hint);
        }
        node.slipped = true;
    }

    fn entry(&mut self, node: &mut Node, skipped: bool) {
        let outer = self.annotation();
        let Some(first) = self.peek().filter(|token| is_value(token.kind)) else { return };
        self.at += 1;
        let (back, strays) = (self.at, self.strays.len());
        self.skip_blank(false);
        let mut entry = Entry { skipped, annotation: outer, name: None, value: first };
        if self.kind() == Some(Kind::Equals) && first.kind != Kind::Number {
            self.at += 1;
            self.skip_blank(false);
            entry.annotation = self.annotation().or(outer);
            entry.name = Some(first);
            match self.peek().filter(|token| is_value(token.kind)) {
                Some(value) => {
                    self.at += 1;
                    entry.value = value;
                }
                None => {
                    let name = self.source.slice(first.span);
                    let message = format!("the value is missing after {name}=");
                    return self.once(node, first.span, &message, None);
                }
            }
        } else {
            self.at = back;
            self.strays.truncate(strays);
        }
        let is_first = node.entries().next().is_none();
        if self.mended != Some(entry.value.span)
            && let Some(message) = slips::value(self.source, node.name, is_first, &entry)
        {
            self.complain(entry.value.span, message, None);
        }
        node.span.end = entry.value.span.end;
        node.parts.push(Part::Entry(entry));
    }

    /// After a block only comments may stand on its line.
    fn after_block(&mut self, node: &mut Node) {
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Space => self.at += 1,
                Kind::BlockComment | Kind::LineComment if node.comment.is_none() => {
                    self.at += 1;
                    node.comment = Some(token.span);
                }
                Kind::Semi => {
                    self.at += 1;
                    return;
                }
                Kind::Newline | Kind::Close | Kind::LineComment | Kind::BlockComment => return,
                Kind::Continuation => self.at += 1,
                Kind::SlashDash => {
                    self.at += 1;
                    self.skip_blank(true);
                    match self.peek() {
                        Some(open) if open.kind == Kind::Open => {
                            let block = self.open(open.span);
                            node.parts.push(Part::Skipped(block));
                        }
                        _ => self.complain(token.span, "nothing follows this /-", None),
                    }
                }
                _ => {
                    let hint = Some("values come before the {");
                    self.complain(token.span, "a new line is missing after }", hint);
                    return;
                }
            }
        }
    }
}

fn is_value(kind: Kind) -> bool {
    match kind {
        Kind::Ident | Kind::Quoted | Kind::Raw | Kind::Number | Kind::Keyword => true,
        Kind::Slip(slip) => !matches!(slip, Slip::HashComment | Slip::Comma | Slip::Bracket),
        _ => false,
    }
}

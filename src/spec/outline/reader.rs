//! The walk over tokens: blocks, the fields in them, comments between them.
//!
//! Owns where a block begins and ends. Never looks into a field's line: that is in `line.rs`.

use super::super::report::{Problem, Source, Span};
use super::super::scan::{Kind, Slip, Token, scan, too_deep};
use super::super::slips;
use super::{Block, Item, Node, Outline, Part};
use crate::limits::{FILE_DEPTH_MAX, FILE_PROBLEMS_MAX};

/// Reads the form of a whole text.
pub(in crate::spec) fn outline(source: &Source) -> Outline {
    let scan = scan(source.text());
    let mut reader = Reader {
        source,
        tokens: &scan.tokens,
        at: 0,
        depth: 0,
        problems: Vec::new(),
        shadows: Vec::new(),
        dropped: 0,
        broken: scan.fault.is_some(),
        strays: Vec::new(),
        mended: None,
    };
    let mut root = reader.block(None);
    root.span = Span::new(0, source.text().len());
    if let Some(fault) = scan.fault {
        reader.problems.push(source.problem(fault.span, fault.message, fault.hint));
    }
    let Reader { problems, dropped, shadows, broken, .. } = reader;
    Outline { root, problems, dropped, shadows, broken }
}

/// Where reading stands.
pub(super) struct Reader<'s> {
    pub(super) source: &'s Source,
    pub(super) tokens: &'s [Token],
    pub(super) at: usize,
    depth: usize,
    problems: Vec<Problem>,
    dropped: usize,
    pub(super) shadows: Vec<Span>,
    broken: bool,
    /// Comments in places where none can be written: they go before the field.
    pub(super) strays: Vec<Span>,
    /// The value that the last complaint about a `=` mends, too.
    pub(super) mended: Option<Span>,
}

impl Reader<'_> {
    pub(super) fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        self.peek().map(|token| token.kind)
    }

    pub(super) fn complain(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
        if self.problems.len() < FILE_PROBLEMS_MAX {
            self.problems.push(self.source.problem(span, message, hint.map(str::to_owned)));
        } else {
            self.dropped += 1;
        }
        self.shadows.push(span);
    }

    /// Like `complain`, and nothing after this place is understood.
    pub(super) fn give_up(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
        if !self.broken {
            self.complain(span, message, hint);
        }
        self.broken = true;
        self.at = self.tokens.len();
    }

    /// Everything up to the closing brace, which is taken too; recursion is bounded by `open`.
    fn block(&mut self, opened: Option<Span>) -> Block {
        let mut block = Block { items: Vec::new(), span: opened.unwrap_or_default() };
        // A comment right after the brace belongs to its line.
        let mut newlines = usize::from(opened.is_none());
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Space => self.at += 1,
                Kind::Continuation => {
                    self.at += 1;
                    let comment = self.comment_in(token.span);
                    let item = |span| Item::Comment { span, alone: true };
                    block.items.extend(comment.map(item));
                }
                Kind::Newline => {
                    newlines += 1;
                    self.at += 1;
                }
                Kind::Close if opened.is_some() => {
                    self.at += 1;
                    block.span.end = token.span.end;
                    return block;
                }
                Kind::Close => self.give_up(token.span, "this } closes nothing", None),
                _ => {
                    let begun = !matches!(
                        block.items.as_slice(),
                        [] | [Item::Comment { alone: false, .. }]
                    );
                    if newlines > 1 && begun {
                        block.items.push(Item::Blank);
                    }
                    self.item(token, &mut block, newlines > 0);
                    newlines = 0;
                }
            }
        }
        if let Some(open) = opened {
            block.span.end = self.source.text().len();
            if !self.broken {
                let open = slips::unclosed_block(self.source, self.tokens, open);
                self.give_up(open, "this { isn't closed", Some("add a }"));
            }
        }
        block
    }

    fn item(&mut self, token: Token, block: &mut Block, alone: bool) {
        match token.kind {
            Kind::LineComment | Kind::BlockComment => {
                self.at += 1;
                block.items.push(Item::Comment { span: token.span, alone });
            }
            Kind::Slip(Slip::HashComment) => {
                self.at += 1;
                self.complain(token.span, slips::HASH_COMMENT, None);
            }
            Kind::Open if block.nodes().next().is_none() => {
                let hint = Some("a file reads like: service \"web\" { image \"nginx\" }");
                self.give_up(token.span, "a name is missing before this {", hint);
            }
            Kind::Open => {
                let last = block.items.iter_mut().rev().find_map(|item| match item {
                    Item::Node(node) => Some(node),
                    _ => None,
                });
                let hint = Some("put it at the end of the line of its field");
                self.complain(token.span, "this { begins a line", hint);
                let inner = self.open(token.span);
                match last {
                    Some(node) if node.block.is_none() => node.block = Some(inner),
                    _ => self.broken = true,
                }
            }
            Kind::SlashDash => {
                self.at += 1;
                self.skip_blank(true);
                match self.kind() {
                    None | Some(Kind::Close) => {
                        self.complain(token.span, "nothing follows this /-", None);
                    }
                    _ => self.node(block, true),
                }
            }
            _ => self.node(block, false),
        }
    }

    /// A block from its opening brace.
    pub(super) fn open(&mut self, span: Span) -> Block {
        self.at += 1;
        if self.depth >= FILE_DEPTH_MAX {
            let fault = too_deep(span.start, span.end);
            self.give_up(fault.span, fault.message, None);
            return Block { items: Vec::new(), span };
        }
        self.depth += 1;
        let strays = std::mem::take(&mut self.strays);
        let block = self.block(Some(span));
        self.strays = strays;
        self.depth -= 1;
        block
    }

    /// Skips blanks and comments, and with `lines` also line ends.
    pub(super) fn skip_blank(&mut self, lines: bool) {
        while let Some(token) = self.peek() {
            match token.kind {
                Kind::Space => {}
                Kind::Continuation => self.strays.extend(self.comment_in(token.span)),
                Kind::BlockComment => self.strays.push(token.span),
                Kind::LineComment if lines => self.strays.push(token.span),
                Kind::Newline if lines => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    /// The comment after a backslash.
    pub(super) fn comment_in(&self, continuation: Span) -> Option<Span> {
        let text = self.source.slice(continuation);
        let at = text.find('/')?;
        let end = continuation.start + text.trim_end().len();
        Some(Span::new(continuation.start + at, end))
    }

    fn node(&mut self, block: &mut Block, skipped: bool) {
        let annotation = self.annotation();
        let Some(name) = self.peek().filter(|token| self.is_name(*token)) else {
            self.no_name();
            return;
        };
        self.at += 1;
        if let Kind::Slip(_) = name.kind {
            let fixed = slips::fixed(self.source, name);
            self.complain(name.span, format!("quote the name: {fixed}"), None);
        }
        let span = Span::new(annotation.unwrap_or(name.span).start, name.span.end);
        let (parts, comment, slipped) = (Vec::new(), None, false);
        let mut node =
            Node { skipped, annotation, name, parts, block: None, comment, span, slipped };
        self.parts(&mut node);
        if node.slipped {
            self.shadows.push(node.span);
        }
        self.join(&mut node);
        for span in std::mem::take(&mut self.strays) {
            block.items.push(Item::Comment { span, alone: true });
        }
        block.items.push(Item::Node(node));
    }

    /// Drops breaks that part nothing.
    fn join(&mut self, node: &mut Node) {
        let mut parts: Vec<Part> = Vec::with_capacity(node.parts.len());
        for part in node.parts.drain(..) {
            if let (Part::Break(_), Some(Part::Break(comment))) = (&part, parts.last()) {
                self.strays.extend(*comment);
                parts.pop();
            }
            parts.push(part);
        }
        while let Some(Part::Break(comment)) = parts.last() {
            self.strays.extend(*comment);
            parts.pop();
        }
        node.parts = parts;
    }

    fn is_name(&self, token: Token) -> bool {
        let text = self.source.slice(token.span);
        match token.kind {
            Kind::Ident | Kind::Quoted | Kind::Raw => true,
            Kind::Slip(Slip::Unquoted) => {
                !text.starts_with(|c: char| c.is_ascii_digit() || c == '[')
            }
            Kind::Slip(Slip::BareKeyword | Slip::WrongQuotes | Slip::Escape | Slip::OldRaw) => true,
            _ => false,
        }
    }

    /// Complains once about a line that doesn't begin with a name.
    fn no_name(&mut self) {
        let Some(token) = self.peek() else { return };
        let what = match token.kind {
            Kind::Semi => "this ; ends nothing",
            _ => "a line begins with the name of a field",
        };
        self.complain(token.span, what, None);
        self.at += 1;
        while !matches!(
            self.kind(),
            None | Some(Kind::Newline | Kind::Semi | Kind::Open | Kind::Close)
        ) {
            self.at += 1;
        }
        match self.peek() {
            Some(token) if token.kind == Kind::Open => drop(self.open(token.span)),
            Some(token) if token.kind == Kind::Semi => self.at += 1,
            _ => {}
        }
    }
}

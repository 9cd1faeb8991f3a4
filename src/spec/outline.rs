//! Tokens to an outline: blocks, fields, values and comments, with the problems of form.
//!
//! Owns which token belongs to which field and what is said about slips. Never knows a field's
//! meaning and never decodes a value.

use super::report::{Problem, Source, Span};
use super::scan::{Kind, Slip, Token, scan, too_deep};
use super::slips;
use crate::limits::{FILE_DEPTH_MAX, FILE_LINE_VALUES_MAX, FILE_PROBLEMS_MAX};

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

/// Reads the form of a whole text.
pub(super) fn outline(source: &Source) -> Outline {
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
        listed: None,
    };
    let mut root = reader.block(None);
    root.span = Span::new(0, source.text().len());
    if let Some(fault) = scan.fault {
        reader.problems.push(source.problem(fault.span, fault.message, fault.hint));
    }
    let Reader { problems, dropped, shadows, broken, .. } = reader;
    Outline { root, problems, dropped, shadows, broken }
}

struct Reader<'s> {
    source: &'s Source,
    tokens: &'s [Token],
    at: usize,
    depth: usize,
    problems: Vec<Problem>,
    dropped: usize,
    shadows: Vec<Span>,
    broken: bool,
    /// Comments in places where none can be written: they go before the field.
    strays: Vec<Span>,
    /// The last field whose punctuation was complained about.
    listed: Option<Span>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<Token> {
        self.tokens.get(self.at).copied()
    }

    fn kind(&self) -> Option<Kind> {
        self.peek().map(|token| token.kind)
    }

    fn complain(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
        if self.problems.len() < FILE_PROBLEMS_MAX {
            self.problems.push(self.source.problem(span, message, hint.map(str::to_owned)));
        } else {
            self.dropped += 1;
        }
        self.shadows.push(span);
    }

    /// Like `complain`, and nothing after this place is understood.
    fn give_up(&mut self, span: Span, message: impl Into<String>, hint: Option<&str>) {
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
                    let begun = match block.items.as_slice() {
                        [] | [Item::Comment { alone: false, .. }] => false,
                        _ => true,
                    };
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
    fn open(&mut self, span: Span) -> Block {
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
    fn skip_blank(&mut self, lines: bool) {
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
    fn comment_in(&self, continuation: Span) -> Option<Span> {
        let text = self.source.slice(continuation);
        let at = text.find('/')?;
        let end = continuation.start + text.trim_end().len();
        Some(Span::new(continuation.start + at, end))
    }

    /// `(type)`, if that is what follows.
    fn annotation(&mut self) -> Option<Span> {
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
        let (parts, comment) = (Vec::new(), None);
        let mut node = Node { skipped, annotation, name, parts, block: None, comment, span };
        self.parts(&mut node);
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
            Kind::Slip(Slip::BareKeyword | Slip::WrongQuotes | Slip::Escape) => true,
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

    /// The rest of a field: values, comments, a block, up to the end of its line.
    fn parts(&mut self, node: &mut Node) {
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
                let first = node.entries().next().is_none();
                match slips::equals(self.source, self.tokens, self.at, node, first) {
                    Some(message) => self.complain(token.span, message, None),
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
                self.complain(token.span, "this ) closes nothing", Some("quote the text"));
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
    fn once(&mut self, node: &Node, span: Span, message: &str, hint: Option<&str>) {
        if self.listed != Some(node.name.span) {
            self.complain(span, message, hint);
        }
        self.listed = Some(node.name.span);
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
                    return self.complain(first.span, message, None);
                }
            }
        } else {
            self.at = back;
            self.strays.truncate(strays);
        }
        let is_first = node.entries().next().is_none();
        if let Some(message) = slips::value(self.source, node.name, is_first, &entry) {
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

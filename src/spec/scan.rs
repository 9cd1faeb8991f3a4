//! Text to tokens, after the grammar of KDL 2, going on after the usual slips.
//!
//! Owns where a token starts and ends and which slip it is. Never knows what a token stands for and
//! never recurses: any text is safe, and each byte is looked at a bounded number of times.

use super::report::Span;
use super::words;
use crate::limits::{FILE_DEPTH_MAX, FILE_ITEMS_MAX};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Blanks and tabs.
    Space,
    /// The end of a line.
    Newline,
    /// A backslash at a line's end, with the comment after it.
    Continuation,
    /// `// …` without the line's end.
    LineComment,
    /// `/* … */`.
    BlockComment,
    /// `/-`.
    SlashDash,
    /// `;`
    Semi,
    /// `{`
    Open,
    /// `}`
    Close,
    /// `(`
    ParenOpen,
    /// `)`
    ParenClose,
    /// `=`
    Equals,
    /// A string without quotes.
    Ident,
    /// `"…"` or `"""…"""`.
    Quoted,
    /// `#"…"#` and the like.
    Raw,
    /// Any number.
    Number,
    /// `#true` and the like.
    Keyword,
    /// Not KDL, but what was meant can be told.
    Slip(Slip),
}

/// A usual slip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slip {
    /// `10s`, `/healthz`: neither a number nor a bare string.
    Unquoted,
    /// `true` without `#`.
    BareKeyword,
    /// `#True`.
    KeywordCase,
    /// `# …`.
    HashComment,
    /// `'…'` or typographic quotes.
    WrongQuotes,
    /// `r#"…"#`, as KDL 1 has it.
    OldRaw,
    /// `nginx"`.
    OpeningQuote,
    /// `"\d"`.
    Escape,
    /// `,` between values.
    Comma,
    /// `[` or `]` around values.
    Bracket,
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// Why nothing after a place can be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub span: Span,
    pub message: String,
    pub hint: Option<String>,
}

/// All tokens up to the end or to a fault.
#[derive(Debug)]
pub(super) struct Scan {
    pub tokens: Vec<Token>,
    pub fault: Option<Fault>,
}

/// Cuts a text into tokens.
pub(super) fn scan(text: &str) -> Scan {
    let mut scanner = Scanner { text, at: 0, tokens: Vec::new(), items: 0 };
    let mut fault = None;
    while scanner.at < text.len() && fault.is_none() {
        fault = scanner.token().err();
    }
    Scan { tokens: scanner.tokens, fault }
}

struct Scanner<'t> {
    text: &'t str,
    at: usize,
    tokens: Vec<Token>,
    items: usize,
}

type Step = Result<(), Fault>;

fn fault(start: usize, end: usize, message: &str, hint: Option<&str>) -> Fault {
    let hint = hint.map(str::to_owned);
    Fault { span: Span::new(start, end), message: message.to_owned(), hint }
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: Kind, length: usize) -> Step {
        let span = Span::new(self.at, self.at + length);
        self.tokens.push(Token { kind, span });
        self.at = span.end;
        let item = !matches!(kind, Kind::Space | Kind::Newline | Kind::Open | Kind::Close);
        self.items += usize::from(item);
        if self.items > FILE_ITEMS_MAX {
            let message = format!("the file has more than {FILE_ITEMS_MAX} names and values");
            return Err(fault(span.start, span.end, &message, None));
        }
        Ok(())
    }

    fn token(&mut self) -> Step {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(()) };
        let newline = words::newline(rest);
        if newline > 0 {
            return self.push(Kind::Newline, newline);
        }
        if words::is_space(first) || first == '\u{feff}' && self.at == 0 {
            let end = rest.find(|c| c != '\u{feff}' && !words::is_space(c)).unwrap_or(rest.len());
            return self.push(Kind::Space, end.max(first.len_utf8()));
        }
        if words::is_disallowed(first) {
            return Err(self.disallowed(self.at, first));
        }
        match first {
            ';' => self.push(Kind::Semi, 1),
            '{' => self.push(Kind::Open, 1),
            '}' => self.push(Kind::Close, 1),
            '(' => self.push(Kind::ParenOpen, 1),
            ')' => self.push(Kind::ParenClose, 1),
            '=' => self.push(Kind::Equals, 1),
            ',' => self.push(Kind::Slip(Slip::Comma), 1),
            '/' if rest.starts_with("//") => {
                let length = words::line_length(rest);
                self.checked(length)?;
                self.push(Kind::LineComment, length)
            }
            '/' if rest.starts_with("/*") => {
                let length = self.block_comment(self.at)?;
                self.push(Kind::BlockComment, length)
            }
            '/' if rest.starts_with("/-") => self.push(Kind::SlashDash, 2),
            '"' => self.quoted(),
            '#' => self.hash(),
            '\\' if self.continuation()? => Ok(()),
            _ => self.word(first),
        }
    }

    /// No character in the next bytes may be one that KDL forbids everywhere.
    fn checked(&self, length: usize) -> Step {
        let part = &self.rest()[..length];
        match part.char_indices().find(|(_, c)| words::is_disallowed(*c)) {
            Some((i, c)) => Err(self.disallowed(self.at + i, c)),
            None => Ok(()),
        }
    }

    fn disallowed(&self, at: usize, c: char) -> Fault {
        let message = format!("the character U+{:04X} isn't allowed", u32::from(c));
        let binary = c < ' ' || c == '\u{7f}';
        let hint = if binary { "is this a text file?" } else { "delete it; it is invisible" };
        fault(at, at + c.len_utf8(), &message, Some(hint))
    }

    /// The length of a comment that starts here; comments nest.
    fn block_comment(&self, start: usize) -> Result<usize, Fault> {
        let bytes = &self.text.as_bytes()[start..];
        let (mut depth, mut i) = (0_usize, 0);
        while i < bytes.len() {
            match &bytes[i..bytes.len().min(i + 2)] {
                b"/*" => (depth, i) = (depth + 1, i + 2),
                b"*/" => (depth, i) = (depth - 1, i + 2),
                _ => i += 1,
            }
            if depth > FILE_DEPTH_MAX {
                return Err(too_deep(start + i - 2, start + i));
            }
            if depth == 0 {
                let text = &self.text[start..start + i];
                let bad = text.char_indices().find(|(_, c)| words::is_disallowed(*c));
                return bad.map_or(Ok(i), |(at, c)| Err(self.disallowed(start + at, c)));
            }
        }
        Err(fault(start, start + 2, "this comment isn't closed", Some("end it with */")))
    }

    /// A backslash and the end of its line, if that is what follows.
    fn continuation(&mut self) -> Result<bool, Fault> {
        let mut end = self.at + 1;
        loop {
            let rest = &self.text[end..];
            let Some(next) = rest.chars().next() else { break };
            if words::is_space(next) {
                end += next.len_utf8();
            } else if rest.starts_with("//") {
                end += words::line_length(rest);
                end += words::newline(&self.text[end..]);
                break;
            } else if rest.starts_with("/*") {
                end += self.block_comment(end)?;
            } else if words::newline(rest) > 0 {
                end += words::newline(rest);
                break;
            } else {
                return Ok(false);
            }
        }
        self.checked(end - self.at)?;
        self.push(Kind::Continuation, end - self.at).map(|()| true)
    }

    fn quoted(&mut self) -> Step {
        let rest = self.rest();
        if let Some(body) = rest.strip_prefix("\"\"\"") {
            if words::newline(body) == 0 {
                let (end, hint) = (self.at + 3, "or write \"…\" for a single line");
                let message = "the text of \"\"\" starts on the next line";
                return Err(fault(self.at, end, message, Some(hint)));
            }
            let Some(text) = words::until_quotes(body, true) else {
                let hint = Some("end it with \"\"\" on a line of its own");
                return Err(fault(self.at, self.at + 3, "this text isn't closed", hint));
            };
            return self.string(Kind::Quoted, 3 + text + 3);
        }
        let line = words::until_quotes(&rest[1..], false);
        let Some(length) = line else { return Err(self.unclosed("\"")) };
        self.string(Kind::Quoted, 1 + length + 1)
    }

    /// A whole string: checked for forbidden characters and, with quotes, for its escapes.
    fn string(&mut self, kind: Kind, length: usize) -> Step {
        self.checked(length)?;
        let bad = kind == Kind::Quoted && words::bad_escape(&self.rest()[..length]).is_some();
        self.push(if bad { Kind::Slip(Slip::Escape) } else { kind }, length)
    }

    fn unclosed(&self, quote: &str) -> Fault {
        let length = words::line_length(self.rest());
        let shown = self.rest()[..length].trim_end().len().max(1);
        let message = format!("the closing quote {quote} is missing");
        fault(self.at, self.at + shown, &message, None)
    }

    fn hash(&mut self) -> Step {
        let rest = self.rest();
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let body = &rest[hashes..];
        if body.starts_with('"') {
            return self.raw(hashes);
        }
        let word = words::run_length(&rest[1..]) + 1;
        if words::is_keyword(&rest[..word]) {
            return self.push(Kind::Keyword, word);
        }
        if words::is_keyword(&rest[..word].to_ascii_lowercase()) {
            return self.push(Kind::Slip(Slip::KeywordCase), word);
        }
        let length = words::line_length(rest);
        self.checked(length)?;
        self.push(Kind::Slip(Slip::HashComment), length)
    }

    fn raw(&mut self, hashes: usize) -> Step {
        let rest = self.rest();
        let body = &rest[hashes..];
        let mark = "#".repeat(hashes);
        if let Some(text) = body.strip_prefix("\"\"\"") {
            let close = format!("\"\"\"{mark}");
            if words::newline(text) == 0 {
                let message = "the text of \"\"\" starts on the next line";
                return Err(fault(self.at, self.at + hashes + 3, message, None));
            }
            return match text.find(&close) {
                Some(at) => self.string(Kind::Raw, hashes + 3 + at + close.len()),
                None => Err(self.unclosed(&close)),
            };
        }
        let close = format!("\"{mark}");
        // Not the line first: that would look at a long line again for each of its texts.
        let end = body[1..].find(&close).filter(|at| {
            let text = &body[1..][..*at];
            words::line_length(text) == text.len()
        });
        match end {
            Some(at) => self.string(Kind::Raw, hashes + 1 + at + close.len()),
            None => Err(self.unclosed(&close)),
        }
    }

    fn word(&mut self, first: char) -> Step {
        let rest = self.rest();
        if let Some(length) = words::old_raw(rest) {
            self.checked(length)?;
            return self.push(Kind::Slip(Slip::OldRaw), length);
        }
        if let Some(length) = words::wrong_quotes(rest) {
            self.checked(length)?;
            return self.push(Kind::Slip(Slip::WrongQuotes), length);
        }
        if matches!(first, '[' | ']') && !rest[1..].starts_with(words::is_name_char) {
            return self.push(Kind::Slip(Slip::Bracket), 1);
        }
        let length = words::run_length(rest).max(first.len_utf8());
        self.checked(length)?;
        let line = words::near(&rest[length..]);
        if line.starts_with('"') && line.bytes().filter(|b| *b == b'"').count() % 2 == 1 {
            return self.push(Kind::Slip(Slip::OpeningQuote), length + 1);
        }
        // A list's end belongs to the list: `[80, 81]`.
        let word = rest[..length].trim_end_matches(']');
        let kind = words::classify(if word.is_empty() { &rest[..length] } else { word });
        self.push(kind, word.len().max(1))
    }
}

/// The fault of a block or comment that nests too deep.
pub(super) fn too_deep(start: usize, end: usize) -> Fault {
    fault(start, end, &format!("blocks nest deeper than {FILE_DEPTH_MAX}"), None)
}

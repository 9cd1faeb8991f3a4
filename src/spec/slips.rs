//! What is said about the usual slips, and what was meant.
//!
//! Owns the wording for text that isn't KDL and its repair. Never moves through tokens on its own.

use super::decode;
use super::outline::{Entry, Node};
use super::report::{Source, Span};
use super::scan::{Kind, Slip, Token};
use super::words;
use crate::units::{Bytes, Millis, QuantityError};
use std::borrow::Cow;

pub(super) const HASH_COMMENT: &str = "comments start with //, not #";

/// Fields whose values are numbers.
const NUMBERS: [&str; 4] = ["port", "publish", "replicas", "cpu"];

/// Longest value repeated in a message.
const SHOWN: usize = 60;

pub(super) const fn list_hint() -> Option<&'static str> {
    Some("write the values one after another: command \"/bin/sh\" \"-c\"")
}

/// A token as KDL would have it.
pub(super) fn fixed(source: &Source, token: Token) -> Cow<'_, str> {
    let text = source.slice(token.span);
    let Kind::Slip(slip) = token.kind else { return Cow::Borrowed(text) };
    match slip {
        Slip::BareKeyword => Cow::Owned(format!("#{text}")),
        Slip::KeywordCase => Cow::Owned(text.to_ascii_lowercase()),
        Slip::Escape => Cow::Owned(fixed_escapes(text)),
        Slip::OldRaw => Cow::Borrowed(&text[1..]),
        Slip::OpeningQuote => Cow::Owned(quoted(text.strip_suffix('"').unwrap_or(text))),
        Slip::WrongQuotes => {
            let quote = |c: char| c == '"' || c == '»' || words::QUOTES.contains(c);
            Cow::Owned(quoted(text.trim_matches(quote)))
        }
        _ => Cow::Owned(quoted(text)),
    }
}

/// The same for a value that is no property's: its field takes numbers or texts.
fn mended(source: &Source, field: Token, value: Token) -> Cow<'_, str> {
    let text = source.slice(value.span);
    match value.kind {
        Kind::Ident
        | Kind::Number
        | Kind::Keyword
        | Kind::Slip(Slip::Unquoted | Slip::BareKeyword | Slip::KeywordCase) => {
            if NUMBERS.contains(&source.slice(field.span)) {
                return Cow::Borrowed(text);
            }
            Cow::Owned(quoted(text.trim_start_matches('#')))
        }
        _ => fixed(source, value),
    }
}

/// A text in quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if words::is_disallowed(c) || words::newline(c.encode_utf8(&mut [0; 4])) > 0 => {
                out.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn fixed_escapes(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((at, _)) = words::bad_escape(rest) {
        out.push_str(&rest[..at]);
        out.push_str("\\\\");
        rest = &rest[at + 1..];
    }
    out + rest
}

/// What is wrong with the form of a value; `first` if it is its field's first.
pub(super) fn value(source: &Source, field: Token, first: bool, entry: &Entry) -> Option<String> {
    let name = entry.name.unwrap_or(field);
    let text = source.slice(entry.value.span);
    if let Some(name) = entry.name.filter(|name| matches!(name.kind, Kind::Slip(_))) {
        return Some(format!("quote the name: {}={text}", fixed(source, name)));
    }
    let Kind::Slip(slip) = entry.value.kind else { return None };
    let fixed = match entry.name {
        Some(_) => fixed(source, entry.value),
        None => mended(source, field, entry.value),
    };
    let whole = match entry.name {
        Some(name) => format!("{}={fixed}", source.slice(name.span)),
        None if first => format!("{} {fixed}", source.slice(field.span)),
        None => fixed.clone().into_owned(),
    };
    let whole = shortened(&whole);
    Some(match slip {
        Slip::Unquoted if source.slice(name.span) == "cpu" => match decode::cores_of(text) {
            Some(cores) => format!("write cpu {cores}"),
            None => format!("{} isn't a number", shortened(text)),
        },
        Slip::Unquoted if NUMBERS.contains(&source.slice(name.span)) => {
            format!("{} isn't a number", shortened(text))
        }
        // A flag is a property: a value alone is a number or a text.
        Slip::BareKeyword | Slip::KeywordCase if entry.name.is_none() => {
            if NUMBERS.contains(&source.slice(field.span)) {
                format!("{} isn't a number", shortened(text))
            } else {
                format!("quote it: {whole}")
            }
        }
        Slip::Unquoted => format!("quote the {}: {whole}", noun(text)),
        Slip::BareKeyword | Slip::KeywordCase => format!("write {fixed}: {whole}"),
        Slip::WrongQuotes => format!("use double quotes: {whole}"),
        Slip::OldRaw => format!("a raw text begins with # alone: {whole}"),
        Slip::OpeningQuote => format!("the opening quote is missing: {whole}"),
        Slip::Escape => {
            let escape = words::bad_escape(text).map_or("\\", |(at, n)| &text[at..at + n]);
            format!("unknown escape {escape}: write \\\\ for a backslash, or a raw text #\"…\"#")
        }
        _ => return None,
    })
}

/// A text as a message shows it.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}

/// What an unquoted word seems to be.
fn noun(text: &str) -> &'static str {
    let known = |error: QuantityError| error != QuantityError::UnknownUnit;
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    if !digit {
        return "text";
    }
    match (Millis::parse(text), Bytes::parse(text)) {
        (Ok(_), _) => "duration",
        (_, Ok(_)) => "size",
        _ if text.ends_with('%') => "percentage",
        (Err(e), _) if known(e) && e != QuantityError::Malformed => "text",
        _ if text.to_ascii_lowercase().trim_end_matches('b').ends_with(['k', 'm', 'g']) => "size",
        _ => "text",
    }
}

/// What to say about a `=` that stands after a field's name, and the value that is mended besides;
/// `at` is behind it. None: it ends the line.
pub(super) fn equals(
    source: &Source,
    tokens: &[Token],
    at: usize,
    node: &Node,
) -> Option<(String, Option<Span>)> {
    let name = source.slice(node.name.span);
    let next = tokens[at.min(tokens.len())..].iter().find(|t| t.kind != Kind::Space);
    match next.map(|token| (token, token.kind)) {
        None | Some((_, Kind::Newline | Kind::Semi | Kind::Close)) => None,
        Some((_, Kind::Open)) => Some((format!("drop the =: {name} {{"), None)),
        Some((token, _)) => {
            let value = mended(source, node.name, *token);
            let differs = value != source.slice(token.span);
            let message = format!("drop the =: {name} {}", shortened(&value));
            Some((message, differs.then_some(token.span)))
        }
    }
}

/// The brace that most likely misses its partner: one whose partner stands further left than it.
pub(super) fn unclosed_block(source: &Source, tokens: &[Token], innermost: Span) -> Span {
    let mut open: Vec<(Span, usize)> = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Open => open.push((token.span, source.indent(token.span.start))),
            Kind::Close => match open.pop() {
                Some((span, left)) if source.indent(token.span.start) < left => return span,
                _ => {}
            },
            _ => {}
        }
    }
    innermost
}

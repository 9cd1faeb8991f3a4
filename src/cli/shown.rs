//! Control characters as text: what programs and images say can't act on a terminal.
//!
//! Owns which characters those are. Never changes a document that is asked for as JSON, nor what
//! goes into a pipe as a program wrote it.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal does something else with a character than show it; line ends and tabs aside.
fn acts(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && !matches!(c, '\n' | '\t')
}

fn push(out: &mut String, c: char) {
    let number = u32::from(c);
    // A string grows without fail.
    let _ = if number < 0x100 {
        write!(out, "\\x{number:02x}")
    } else {
        write!(out, "\\u{{{number:x}}}")
    };
}

/// An answer of the API for a person, or as it is.
#[must_use]
pub fn answer(bytes: Bytes, verbatim: bool) -> Bytes {
    match std::str::from_utf8(&bytes).map(written_out) {
        Ok(Cow::Owned(text)) if !verbatim => text.into(),
        _ => bytes,
    }
}

/// A JSON document in whose texts control characters are written out: `\x1b`.
#[must_use]
pub fn written_out(json: &str) -> Cow<'_, str> {
    if !json.contains(|c| c == '\\' || acts(c)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut text = String::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let (length, c) =
            if first == '\\' { escape(rest) } else { (first.len_utf8(), Some(first)) };
        let (piece, after) = rest.split_at(length);
        rest = after;
        match c.filter(|c| acts(*c) && !(*c == '\r' && rest.starts_with("\\n"))) {
            Some(c) => {
                text.clear();
                push(&mut text, c);
                // In a document the backslash stands twice.
                out.push('\\');
                out.push_str(&text);
            }
            None => out.push_str(piece),
        }
    }
    Cow::Owned(out)
}

/// How long an escape at the beginning of a text is, and the character it stands for if that may
/// be one that acts.
fn escape(text: &str) -> (usize, Option<char>) {
    let short = match text.as_bytes().get(1) {
        Some(b'b') => Some('\u{8}'),
        Some(b'f') => Some('\u{c}'),
        Some(b'r') => Some('\r'),
        Some(b'u') => {
            let number = text.get(2..6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let Some(number) = number else { return (2, None) };
            return (6, char::from_u32(number));
        }
        _ => None,
    };
    // A backslash that nothing follows is no document, and is left to who reads it.
    let length = text.chars().take(2).map(char::len_utf8).sum();
    (length, short)
}

/// The same document with every character escaped that acts: JSON leaves some as they are.
#[must_use]
pub fn document(json: &str) -> Cow<'_, str> {
    let bare = |c: char| acts(c) && !c.is_ascii_whitespace();
    if !json.contains(bare) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if bare(c) {
            // A string grows without fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// A program's line for a terminal: its colours stay, and end with the line.
#[must_use]
pub fn line(text: &str) -> Cow<'_, str> {
    let text = text.trim_end_matches('\r');
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest, mut colored) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        let length = color(rest).unwrap_or(first.len_utf8());
        let (piece, after) = rest.split_at(length);
        rest = after;
        if length > first.len_utf8() {
            colored = true;
            out.push_str(piece);
        } else if acts(first) {
            push(&mut out, first);
        } else {
            out.push(first);
        }
    }
    if colored {
        out.push_str("\u{1b}[0m");
    }
    Cow::Owned(out)
}

/// The length of a sequence at the beginning that sets colours (ECMA-48, SGR).
fn color(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    body[end..].starts_with('m').then_some(end + 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_document_are_written_out_and_the_rest_stays() {
        let said = "a\u{1b}]0;owned\u{7}\r\u{9b}31m\u{7f}\u{8}é\\x\"\n\tb\u{202e}c\r\nd";
        let json = serde_json::to_string(&serde_json::json!({ "message": said })).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&written_out(&json)).unwrap();
        let expected = "a\\x1b]0;owned\\x07\\x0d\\x9b31m\\x7f\\x08é\\x\"\n\tb\\u{202e}c\r\nd";
        assert_eq!(shown["message"], expected);
        let plain = r#"{"a": "b\\u001b \\", "c": "\u00e9\/"}"#;
        assert_eq!(written_out(plain), plain, "a backslash that was one stays one");
        assert_eq!(written_out("{\"a\": \"b\\"), "{\"a\": \"b\\");
        assert_eq!(written_out("\"\\u00\""), "\"\\u00\"");
    }

    #[test]
    fn a_document_says_the_same_without_a_bare_control_character() {
        let json = serde_json::to_string("a\u{1b}\u{9b}\u{7f}\u{2066}\n").unwrap();
        let escaped = document(&json);
        assert!(!escaped.contains(acts), "{escaped:?}");
        let again: String = serde_json::from_str(&escaped).unwrap();
        assert_eq!(again, "a\u{1b}\u{9b}\u{7f}\u{2066}\n");
    }

    #[test]
    fn a_line_keeps_its_colours_and_nothing_else_that_acts() {
        assert_eq!(line("plain\ttext"), "plain\ttext");
        assert_eq!(line("50%\r"), "50%");
        let colored = line("\u{1b}[1;31mred\u{1b}[0m \u{1b}[2J\u{1b}]0;x\u{7}");
        assert_eq!(colored, "\u{1b}[1;31mred\u{1b}[0m \\x1b[2J\\x1b]0;x\\x07\u{1b}[0m");
        assert_eq!(line("\u{1b}[31"), "\\x1b[31");
    }
}

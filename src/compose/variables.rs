//! `${NAME}` in a Compose file, and dotenv files.
//!
//! Owns Compose's forms of interpolation. A variable that nobody gives stays in the text as a mark,
//! so that it becomes a secret where the format takes one. Never reads the process's environment.

use super::write::Notes;
use super::yaml::{Kind, Node};
use std::collections::{BTreeMap, BTreeSet};

/// Around the name of a variable that isn't set.
pub(super) const UNSET: (char, char) = ('\u{1}', '\u{2}');

/// The variables of an import.
pub(super) struct Variables<'a> {
    known: &'a BTreeMap<String, String>,
    told: BTreeSet<String>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(known: &'a BTreeMap<String, String>) -> Self {
        Self { known, told: BTreeSet::new() }
    }

    /// Puts values in everywhere but in names.
    pub(super) fn interpolate(&mut self, node: &mut Node, notes: &mut Notes) {
        match &mut node.kind {
            Kind::Null => {}
            Kind::Scalar(text) => {
                if text.contains(['$', UNSET.0, UNSET.1]) {
                    let plain = text.replace([UNSET.0, UNSET.1], "");
                    *text = self.text(&plain, node.line, notes);
                }
            }
            Kind::List(items) => {
                items.iter_mut().for_each(|item| self.interpolate(item, notes));
            }
            Kind::Map(fields) => {
                fields.iter_mut().for_each(|(_, node)| self.interpolate(node, notes));
            }
        }
    }

    fn text(&mut self, text: &str, line: usize, notes: &mut Notes) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((inner, after)) = rest.strip_prefix('{').and_then(braced) {
                out.push_str(&self.braced(inner, line, notes));
                rest = after;
            } else {
                let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
                match &rest[..end] {
                    "" => out.push('$'),
                    name => out.push_str(&self.value(name, line, notes)),
                }
                rest = &rest[end..];
            }
        }
        out.push_str(rest);
        out
    }

    /// What stands between braces: a name, perhaps with what counts without it.
    fn braced(&mut self, inner: &str, line: usize, notes: &mut Notes) -> String {
        let end = inner.find(|c: char| !is_of_name(c)).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let known = self.known.get(name).cloned();
        let filled = known.clone().filter(|value| !value.is_empty());
        let cut = |prefix: &str| rest.strip_prefix(prefix);
        let (value, other) = if let Some(other) = cut(":-") {
            (filled, Some(other))
        } else if let Some(other) = cut("-") {
            (known, Some(other))
        } else if let Some(other) = cut(":+") {
            return filled.map(|_| self.text(other, line, notes)).unwrap_or_default();
        } else if let Some(other) = cut("+") {
            return known.map(|_| self.text(other, line, notes)).unwrap_or_default();
        } else if rest.starts_with(":?") {
            (filled, None)
        } else {
            (known, None)
        };
        match (value, other) {
            (Some(value), _) => value,
            (None, Some(other)) => self.text(other, line, notes),
            (None, None) => self.value(name, line, notes),
        }
    }

    fn value(&mut self, name: &str, line: usize, notes: &mut Notes) -> String {
        if let Some(value) = self.known.get(name).filter(|value| !value.is_empty()) {
            return value.clone();
        }
        if self.told.insert(name.to_owned()) {
            notes.add(line, format!("${{{name}}} isn't set: a secret in env, else nothing"));
        }
        format!("{}{name}{}", UNSET.0, UNSET.1)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The text up to the brace that closes it, and what follows.
fn braced(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// A text without the marks of variables that aren't set.
pub(super) fn plain(text: &str) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for c in text.chars() {
        match c {
            c if c == UNSET.0 => inside = true,
            c if c == UNSET.1 => inside = false,
            c if !inside => out.push(c),
            _ => {}
        }
    }
    out
}

/// The variables of a dotenv file; lines that are none are left out.
#[must_use]
pub fn dotenv(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let pairs =
        lines.filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim()))).collect()
}

/// A value without its quotes; within double ones `\n`, `\"` and `\\` are what they stand for.
#[must_use]
pub fn unquoted(value: &str) -> String {
    let inside = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(plain) = inside('\'') {
        return plain.to_owned();
    }
    let Some(escaped) = inside('"') else {
        let end = value.find(" #").unwrap_or(value.len());
        return value[..end].trim_end().to_owned();
    };
    let (mut out, mut chars) = (String::new(), escaped.chars());
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        plain = { "a $X b", "a 1 b" },
        braces = { "${X}y", "1y" },
        dollar = { "$$X $", "$X $" },
        default = { "${N:-d}", "d" },
        default_of_empty = { "${E:-d}|${E-d}", "d|" },
        nested = { "${N:-${M:-deep}}", "deep" },
        other_if_set = { "${X:+yes}${N:+no}${E+set}", "yesset" },
        required = { "${X:?must}", "1" },
        unset = { "<${N}>", "<\u{1}N\u{2}>" },
        unclosed = { "${X", "${X" },
    )]
    fn variables_are_put_in(text: &str, expected: &str) {
        let known = [("X", "1"), ("E", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let mut notes = Notes::default();
        assert_eq!(Variables::new(&known).text(text, 1, &mut notes), expected);
        assert_eq!(notes.all().len(), usize::from(expected.contains('\u{1}')));
    }

    #[test]
    fn a_dotenv_file_is_read() {
        let text = "# c\nA=1\nexport B = 'x y'\n\nC=\"a\\nb\" \nD=x # c\nbroken\n";
        let expected = [("A", "1"), ("B", "x y"), ("C", "a\nb"), ("D", "x")];
        assert_eq!(dotenv(text), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}

//! Characters and words of KDL 2: what is a blank, a name, a number, a keyword, an escape.
//!
//! Owns the character classes of <https://kdl.dev/spec/>. Never moves through a whole file.

use super::scan::{Kind, Slip};

const KEYWORDS: [&str; 6] = ["#true", "#false", "#null", "#inf", "#-inf", "#nan"];

/// Quotes that aren't KDL's.
pub(super) const QUOTES: &str = "'‘’“”„«";

/// How far a slip is followed.
const NEAR: usize = 256;

/// Horizontal white space.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}')
        || matches!(c, '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// The length of the line end that the text starts with; 0 if it doesn't.
pub(super) fn newline(text: &str) -> usize {
    match text.chars().next() {
        Some('\r') if text[1..].starts_with('\n') => 2,
        Some(c) if is_newline(c) => c.len_utf8(),
        _ => 0,
    }
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The bytes up to the line's end.
pub(super) fn line_length(text: &str) -> usize {
    text.find(is_newline).unwrap_or(text.len())
}

/// Characters that may stand nowhere, not even in a comment.
pub(super) fn is_disallowed(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Characters of a string without quotes.
pub(super) fn is_name_char(c: char) -> bool {
    !is_space(c) && !is_newline(c) && !is_disallowed(c) && !"\\/(){};[]\"#=".contains(c)
}

/// Whether the text can stand as a string without quotes.
pub(super) fn is_bare(text: &str) -> bool {
    classify(text) == Kind::Ident && !text.starts_with(',')
}

/// Whether the text is a keyword, with its `#`.
pub(super) fn is_keyword(text: &str) -> bool {
    KEYWORDS.contains(&text)
}

/// The bytes that a person would take for one word, more generous than KDL is.
pub(super) fn run_length(text: &str) -> usize {
    let mut at = 0;
    let mut before = ' ';
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let within = match c {
            '{' if before == '$' => near(rest).find('}'),
            '(' if at > 0 => near(rest).find(')'),
            '/' if rest.starts_with("//") => (before == ':').then_some(1),
            '/' if rest.starts_with("/*") => None,
            '\\' => (!ends_line(&rest[1..])).then_some(0),
            '/' | '[' | ']' | '#' => Some(0),
            _ => is_name_char(c).then_some(c.len_utf8() - 1),
        };
        let Some(within) = within else { break };
        at += within + 1;
        before = c;
    }
    at
}

/// The next bytes of the line: enough to judge a word, and bounded, so that no text makes the
/// scanner look at a long line again and again.
pub(super) fn near(text: &str) -> &str {
    let end = text.floor_char_boundary(NEAR.min(text.len()));
    &text[..line_length(&text[..end])]
}

fn ends_line(text: &str) -> bool {
    let rest = text.trim_start_matches(is_space);
    rest.is_empty() || newline(rest) > 0 || rest.starts_with("//")
}

/// What a word is.
pub(super) fn classify(word: &str) -> Kind {
    if matches!(word, "true" | "false" | "null" | "inf" | "-inf" | "nan") {
        return Kind::Slip(Slip::BareKeyword);
    }
    if word.starts_with(|c| QUOTES.contains(c)) {
        // Unclosed ones too: formatting the line could close them.
        return Kind::Slip(Slip::WrongQuotes);
    }
    if !like_number(word) {
        let bare = !word.is_empty() && word.chars().all(is_name_char);
        return if bare { Kind::Ident } else { Kind::Slip(Slip::Unquoted) };
    }
    if is_number(word) { Kind::Number } else { Kind::Slip(Slip::Unquoted) }
}

/// Whether KDL takes the word for a number, be it one or not.
fn like_number(word: &str) -> bool {
    let word = word.strip_prefix(['+', '-']).unwrap_or(word);
    let word = word.strip_prefix('.').unwrap_or(word);
    word.starts_with(|c: char| c.is_ascii_digit())
}

fn is_number(word: &str) -> bool {
    let word = word.strip_prefix(['+', '-']).unwrap_or(word);
    let digits = |text: &str, radix: u32| {
        text.starts_with(|c: char| c.is_digit(radix))
            && text.chars().all(|c| c.is_digit(radix) || c == '_')
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(rest) = word.strip_prefix(prefix) {
            return digits(rest, radix);
        }
    }
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (word, None),
    };
    let exponent_fits =
        exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text), 10));
    let mantissa_fits = match mantissa.split_once('.') {
        Some((whole, decimals)) => digits(whole, 10) && digits(decimals, 10),
        None => digits(mantissa, 10),
    };
    mantissa_fits && exponent_fits
}

/// The length of a raw text of KDL 1 that starts here: `r#"…"#`.
pub(super) fn old_raw(text: &str) -> Option<usize> {
    let line = near(text);
    let rest = line.strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let body = rest[hashes..].strip_prefix('"').filter(|_| hashes > 0)?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(1 + hashes + 1 + body.find(&close)? + close.len())
}

/// The length of a text in single or typographic quotes that starts here.
pub(super) fn wrong_quotes(text: &str) -> Option<usize> {
    let first = text.chars().next().filter(|c| QUOTES.contains(*c))?;
    let line = near(text);
    let body = &line[first.len_utf8()..];
    let (at, last) = body.char_indices().find(|(_, c)| match first {
        '\'' => *c == '\'',
        '‘' | '’' => "’‘'".contains(*c),
        _ => "“”\"»".contains(*c),
    })?;
    Some(first.len_utf8() + at + last.len_utf8())
}

/// The bytes before the closing quotes; none if they are missing.
pub(super) fn until_quotes(text: &str, multiline: bool) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        match c {
            '"' if !multiline || rest.starts_with("\"\"\"") => return Some(at),
            '\\' => at += 1 + escape_length(&rest[1..]),
            _ if !multiline && newline(rest) > 0 => return None,
            _ => at += c.len_utf8(),
        }
    }
    None
}

/// What a backslash swallows: blanks and line ends, or one character.
fn escape_length(text: &str) -> usize {
    let blank = text.find(|c| !is_space(c) && !is_newline(c)).unwrap_or(text.len());
    if blank > 0 { blank } else { text.chars().next().map_or(0, char::len_utf8) }
}

/// The first escape in a quoted string that KDL doesn't know: its offset and length.
pub(super) fn bad_escape(token: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(found) = token[at..].find('\\') {
        let start = at + found;
        let rest = &token[start + 1..];
        let blank = escape_length(rest);
        at = start + 1 + blank;
        match rest.chars().next() {
            Some('n' | 'r' | 't' | '\\' | '"' | 'b' | 'f' | 's') => {}
            Some('u') => {
                let code = near(&rest[1..]).strip_prefix('{').and_then(|r| r.split_once('}'));
                let valid = code.is_some_and(|(hex, _)| {
                    matches!(hex.len(), 1..=6)
                        && hex.bytes().all(|b| b.is_ascii_hexdigit())
                        && u32::from_str_radix(hex, 16).is_ok_and(|n| char::from_u32(n).is_some())
                });
                if !valid {
                    return Some((start, 2));
                }
            }
            Some(c) if is_space(c) || is_newline(c) => {}
            _ => return Some((start, 1 + blank)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        for word in ["nginx", "nginx:latest", "-c", "--verbose", "-", ".", "a,b", "_1", "ü"] {
            assert_eq!(classify(word), Kind::Ident, "{word}");
        }
        for word in ["1", "-1", "+1", "1_000", "0x1f", "0o7", "0b1", "1.5", "1e10", "1.5e-3"] {
            assert_eq!(classify(word), Kind::Number, "{word}");
        }
        for word in ["10s", "512M", "1.", ".5", "0x", "1000:1000", "1.2.3", "/a", "a/b", "0b12"] {
            assert_eq!(classify(word), Kind::Slip(Slip::Unquoted), "{word}");
        }
        assert_eq!(classify("true"), Kind::Slip(Slip::BareKeyword));
    }

    #[test]
    fn runs_end_where_a_person_would_end_them() {
        for (text, length) in [
            ("a b", 1),
            ("http://x/y z", 10),
            ("a//b", 1),
            ("a/*b*/", 1),
            ("${secret(a)}x", 13),
            ("${secret", 1),
            ("a{", 1),
            ("f(x)y", 5),
            ("C:\\x", 4),
            ("a\\\n", 1),
            ("a=b", 1),
            ("a;", 1),
        ] {
            assert_eq!(run_length(text), length, "{text}");
        }
    }

    #[test]
    fn escapes_are_checked() {
        assert_eq!(bad_escape(r#""\n\"\\\s\u{1F600}""#), None);
        assert_eq!(bad_escape(r#""a\d""#), Some((2, 2)));
        assert_eq!(bad_escape(r#""\u{110000}""#), Some((1, 2)));
        assert_eq!(bad_escape(r#""\u12""#), Some((1, 2)));
        assert_eq!(bad_escape("\"a\\  \n b\""), None);
    }
}

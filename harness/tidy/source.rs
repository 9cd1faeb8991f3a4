//! Rust source as the style rules see it: lines, what is code, what is test, where functions are.
//!
//! Owns a lexer just good enough to tell code from strings and comments. Never parses further.

use std::ops::Range;

/// One file.
pub struct Source {
    /// Path from the project's root.
    pub path: String,
    /// The lines as they are.
    pub lines: Vec<String>,
    /// The same lines with the insides of strings and comments blanked.
    pub code: Vec<String>,
    tests: Vec<Range<usize>>,
}

/// A function with a body.
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub length: usize,
}

impl Source {
    /// Reads a file's text.
    pub fn new(path: &str, text: &str) -> Self {
        let masked = if path.ends_with(".rs") { mask(text) } else { text.to_owned() };
        let code: Vec<String> = masked.lines().map(str::to_owned).collect();
        let lines = text.lines().map(str::to_owned).collect();
        let tests = test_modules(&code);
        Self { path: path.to_owned(), lines, code, tests }
    }

    /// Whether the whole file is for tests.
    pub fn is_test_file(&self) -> bool {
        let path = self.path.as_str();
        path.starts_with("harness/")
            || path.starts_with("smoke/")
            || path.ends_with("/tests.rs")
            || path.ends_with("_tests.rs")
            || path.contains("/tests/")
    }

    /// Whether a line (from 1) is test code.
    pub fn is_test(&self, line: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&line))
    }

    /// The functions with bodies, in order; closures and declarations left out.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            if let Some(end) = body_end(&self.code, at) {
                found.push(Function { name, line: at + 1, length: end - at + 1 });
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    while let Some((word, after)) = rest.split_once(' ') {
        match word {
            "fn" => {
                let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
                return Some(after[..end].to_owned());
            }
            "pub" | "async" | "const" | "unsafe" | "extern" | "pub(crate)" | "pub(super)" => {
                rest = after.trim_start();
            }
            _ => return None,
        }
    }
    None
}

/// The line index where the block that opens at or after `from` closes; none for a declaration.
fn body_end(code: &[String], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_i32;
    for (at, line) in code.iter().enumerate().skip(from) {
        for c in line.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                ';' if depth == 0 && brackets == 0 => return None,
                '{' => depth += 1,
                '}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 && brackets == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
    }
    None
}

/// Line ranges (from 1) of what stands under `#[cfg(test)]`.
fn test_modules(code: &[String]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, line) in code.iter().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") {
            let end = body_end(code, at + 1).unwrap_or(at + 1);
            found.push(at + 1..end + 2);
        }
    }
    found
}

/// Blanks the insides of strings, characters and comments; every line break stays.
pub fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => comment_end(&chars, at),
            'r' if !follows_word(&chars, at) && raw_hashes(&chars, at).is_some() => {
                raw_end(&chars, at)
            }
            '"' => string_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at,
        };
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn follows_word(chars: &[char], at: usize) -> bool {
    // `br"…"` and `cr"…"` are strings as well.
    let prefix = at.checked_sub(1).map(|i| chars[i]);
    prefix.is_some_and(|c| (c.is_alphanumeric() && c != 'b' && c != 'c') || c == '_')
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).unwrap_or(0);
    let mut i = at + hashes + 2;
    while i < chars.len() {
        let closing = chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count();
        if chars[i] == '"' && closing == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    chars.len()
}

/// The end of a character literal; `at` itself for a lifetime.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), Some(_)) => {
            let close = (at + 3..chars.len()).find(|&i| chars[i] == '\'');
            close.map_or(at, |i| i + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_are_not_code() {
        let text = "let a = \"x{\\\"y\"; // {\nlet b = r#\"}\"{\"#; /* { /* */ } */ let c = '{';";
        let code = mask(text);
        assert!(!code.contains(['{', '}', 'x', 'y']), "{code}");
        assert!(code.contains("let c ="), "{code}");
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn lifetimes_are_code() {
        let text = "fn f<'a>(x: &'a str) -> &'a str { x }";
        assert_eq!(mask(text), text);
    }

    #[test]
    fn functions_are_measured() {
        let text = "pub async fn one(\n    x: [u8; 2],\n) -> u8 {\n    \"}\";\n}\nfn two();\n";
        let source = Source::new("src/a.rs", text);
        let functions = source.functions();
        assert_eq!(functions.len(), 1);
        assert_eq!((functions[0].name.as_str(), functions[0].length), ("one", 5));
    }

    #[test]
    fn test_modules_are_told_apart() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("src/a.rs", text);
        let tests: Vec<usize> = (1..=6).filter(|&line| source.is_test(line)).collect();
        assert_eq!(tests, [2, 3, 4, 5]);
    }
}

//! What documents and doc comments have to say: paths that exist, and a word on every public item.
//!
//! Never judges how it is said.

use super::Finding;
use super::source::Source;

/// The folders whose files documents name.
const FOLDERS: [&str; 7] = ["actors", "docs", "examples", "harness", "proto", "smoke", "src"];

/// Every path in a document, and every Rust file in its backticks, is one of the project's.
pub fn paths(source: &Source, files: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && !"_-./*".contains(c));
        let gone = words.filter(|word| is_path(word) && !is_there(word, files));
        let names = line.split('`').skip(1).step_by(2);
        let lost = names.filter(|name| is_file_name(name) && !has_name(name, files));
        found.extend(gone.chain(lost).map(|name| Finding {
            path: source.path.clone(),
            line: at + 1,
            message: format!("{name} is not there: name what took its place"),
        }));
    }
    found
}

fn is_path(word: &str) -> bool {
    word.split_once('/').is_some_and(|(top, _)| FOLDERS.contains(&top))
}

/// A part in capitals or with an asterisk stands for any: what is before it must be there.
fn is_there(path: &str, files: &[String]) -> bool {
    let parts = path.trim_end_matches('.').split('/');
    let sure =
        |part: &&str| !part.is_empty() && !part.contains(|c: char| c == '*' || c.is_uppercase());
    let sure: Vec<&str> = parts.take_while(sure).collect();
    let sure = sure.join("/");
    let is_it = |file: &String| {
        file.strip_prefix(&sure).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    files.iter().any(is_it)
}

fn is_file_name(name: &str) -> bool {
    let stem = name.strip_suffix(".rs");
    stem.is_some_and(|stem| stem.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
}

fn has_name(name: &str, files: &[String]) -> bool {
    files.iter().any(|file| file.rsplit('/').next() == Some(name))
}

/// Every public item has a doc comment. Fields and variants whose names say all need none.
pub fn documented(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    if !source.path.starts_with("src/") && !source.path.starts_with("actors/") {
        return found;
    }
    let (mut is_said, mut brackets) = (false, 0_usize);
    // The indentation of the public trait whose items these are.
    let mut of_trait: Option<usize> = None;
    for (at, line) in source.lines.iter().enumerate() {
        let code = source.code[at].trim();
        if brackets > 0 || code.starts_with("#[") || code.starts_with("$(#[") {
            is_said |= code.starts_with("$(#[");
            brackets += code.matches('[').count();
            brackets = brackets.saturating_sub(code.matches(']').count());
            continue;
        }
        let trimmed = line.trim_start();
        if trimmed.starts_with("///") {
            is_said = true;
        }
        if code.is_empty() {
            continue;
        }
        let indent = line.len() - trimmed.len();
        if of_trait == Some(indent) {
            of_trait = None;
        }
        let own = code.strip_prefix("pub ");
        let item = match of_trait {
            Some(outer) if indent == outer + 4 => Some(code),
            _ => own,
        };
        if item.is_some_and(is_item) && !is_said && !source.is_test(at + 1) {
            let message = format!("say what it is, in a doc comment: {trimmed}");
            found.push(Finding { path: source.path.clone(), line: at + 1, message });
        }
        if own.is_some_and(|own| own.starts_with("trait ")) && !code.ends_with('}') {
            of_trait = Some(indent);
        }
        is_said = false;
    }
    found
}

fn is_item(code: &str) -> bool {
    const BEGINS: [&str; 9] =
        ["fn ", "async ", "const ", "unsafe ", "struct ", "enum ", "trait ", "type ", "static "];
    BEGINS.iter().any(|begin| code.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let files = ["src/fsm/events.rs", "smoke/disks.rs", "docs/cli.md"].map(str::to_owned);
        let source = Source::new(path, text);
        let all = if path.ends_with(".md") { paths(&source, &files) } else { documented(&source) };
        all.into_iter().map(|finding| format!("{} {}", finding.line, finding.message)).collect()
    }

    #[test]
    fn a_document_names_what_is_there() {
        let none: [String; 0] = [];
        let good = "`src/fsm/events.rs`, `src/fsm/`, (`smoke/NAME.rs`), see smoke/disks.rs.\n\
                    `events.rs`; `DATA/raft/x` and /usr/src/x are not ours; `src/*/x.rs`\n";
        assert_eq!(found("docs/a.md", good), none);
        let bad = "fine\n`src/fsm/event.rs` and src/gone/NAME.rs\n`other.rs`, `smoke/disk`\n";
        let lost =
            |name: &str, line: u32| format!("{line} {name} is not there: name what took its place");
        let all = [
            lost("src/fsm/event.rs", 2),
            lost("src/gone/NAME.rs", 2),
            lost("smoke/disk", 3),
            lost("other.rs", 3),
        ];
        assert_eq!(found("docs/a.md", bad), all);
    }

    #[test]
    fn public_items_say_what_they_are() {
        let none: [String; 0] = [];
        let good = "/// One.\n#[derive(\n    Debug,\n)]\npub struct A {\n    pub field: u8,\n}\n\
                    pub use x;\npub(crate) fn b() {}\nfn c() {}\n#[cfg(test)]\nmod tests {\n    \
                    pub fn d() {}\n}\n";
        assert_eq!(found("src/a.rs", good), none);
        assert_eq!(found("harness/a.rs", "pub fn a() {}\n"), none);
        let bad = "/// One.\npub trait A {\n    fn a();\n    /// Said.\n    fn b() {\n        \
                   const X: u8 = 1;\n    }\n}\n#[must_use]\npub const fn c() {}\n";
        assert_eq!(
            found("actors/a.rs", bad),
            [
                "3 say what it is, in a doc comment: fn a();",
                "10 say what it is, in a doc comment: pub const fn c() {}",
            ]
        );
    }
}

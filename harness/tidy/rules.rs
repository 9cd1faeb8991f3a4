//! The style rules, each a function from a file to its findings.
//!
//! Owns what is wanted of a file. Never reads one: `tidy.rs` does.

use super::Finding;
use super::source::Source;

/// Longest file, in lines; split by noun long before.
const FILE_LINES_MAX: usize = 450;
/// A function is shorter than this.
const FUNCTION_LINES: usize = 70;
/// Longest line, in characters.
const COLUMNS_MAX: usize = 100;

fn finding(source: &Source, line: usize, message: impl Into<String>) -> Finding {
    Finding { path: source.path.clone(), line, message: message.into() }
}

/// A file says first what it owns and what it never does.
pub fn header(source: &Source) -> Vec<Finding> {
    match source.lines.first() {
        Some(line) if line.starts_with("//! ") => vec![],
        _ => vec![finding(source, 1, "open with `//!`: what it owns, what it never does")],
    }
}

/// Files, functions and lines have bounds.
pub fn lengths(source: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let lines = source.lines.len();
    if lines > FILE_LINES_MAX {
        let text = format!("{lines} lines, at most {FILE_LINES_MAX}: split by noun");
        found.push(finding(source, lines, text));
    }
    for (at, line) in source.lines.iter().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let text = format!("{columns} columns, at most {COLUMNS_MAX}");
            found.push(finding(source, at + 1, text));
        }
    }
    for function in source.functions() {
        if function.length >= FUNCTION_LINES {
            let text = format!("fn {}: {} lines, fewer than 70", function.name, function.length);
            found.push(finding(source, function.line, text));
        }
    }
    found
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Core,
    Cli,
    Actors,
    Other,
}

fn part(path: &str) -> Part {
    match path {
        "src/main.rs" | "src/lib.rs" | "src/daemon.rs" => Part::Other,
        _ if path.starts_with("src/daemon/") => Part::Other,
        _ if path.starts_with("src/cli/") => Part::Cli,
        _ if path.starts_with("src/") => Part::Core,
        _ if path.starts_with("actors/") => Part::Actors,
        _ => Part::Other,
    }
}

fn code_with<'a>(
    source: &'a Source,
    words: &'a [&'a str],
) -> impl Iterator<Item = (usize, &'a str)> + 'a {
    source.code.iter().enumerate().flat_map(move |(at, line)| {
        words.iter().filter(move |word| has_word(line, word)).map(move |word| (at + 1, *word))
    })
}

/// Whether `word` stands in the line and is no part of a longer name before it.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_') || word.starts_with('.')
    })
}

/// `main → daemon → actors → core` and `main → cli → core`, never back.
pub fn direction(source: &Source) -> Vec<Finding> {
    let forbidden: &[&str] = match part(&source.path) {
        Part::Core => &["crate::actors", "crate::cli", "crate::daemon"],
        Part::Actors => &["crate::cli", "crate::daemon"],
        Part::Cli | Part::Other => &[],
    };
    code_with(source, forbidden)
        .map(|(line, word)| finding(source, line, format!("{word} points back")))
        .collect()
}

/// The core gets time, nonces and ids as inputs, and does nothing but compute.
pub fn pure_core(source: &Source) -> Vec<Finding> {
    const IMPURE: [&str; 15] = [
        "tokio::",
        "std::fs",
        "env::var",
        "env::args",
        "env::current",
        "env::temp",
        "std::process",
        "UdpSocket",
        "TcpStream",
        "Instant::now",
        "SystemTime::now",
        "Timestamp::now",
        "rand::",
        ".await",
        "async fn",
    ];
    if part(&source.path) != Part::Core {
        return vec![];
    }
    code_with(source, &IMPURE)
        .filter(|&(line, _)| !source.is_test(line))
        .map(|(line, word)| finding(source, line, format!("{word} in the core: make it an input")))
        .collect()
}

/// A test waits on a condition with a deadline.
pub fn no_sleep(source: &Source) -> Vec<Finding> {
    const SLEEPS: [&str; 5] =
        ["thread::sleep", "time::sleep", "sleep(", "sleep_ms", "sleep_until("];
    let mut lines: Vec<usize> = code_with(source, &SLEEPS).map(|(line, _)| line).collect();
    lines.dedup();
    lines
        .into_iter()
        .filter(|&line| source.is_test(line))
        .map(|line| finding(source, line, "a sleep in a test: `poll` a condition instead"))
        .collect()
}

/// A failure is a value, except where an invariant can't fail and the line says why.
pub fn no_panic(source: &Source) -> Vec<Finding> {
    const PANICS: [&str; 6] =
        [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];
    code_with(source, &PANICS)
        .filter(|&(line, _)| !source.is_test(line) && !allowed_near(source, line))
        .map(|(line, word)| finding(source, line, format!("{word} outside tests: return an error")))
        .collect()
}

/// Whether one of the lines just before (a statement may be broken up) allows it.
fn allowed_near(source: &Source, line: usize) -> bool {
    let from = line.saturating_sub(8);
    source.code[from..line].iter().any(|line| line.contains("allow(clippy::"))
}

/// Whoever switches a lint off says why, in the attribute or in a comment at it.
pub fn allowed_with_reason(source: &Source) -> Vec<Finding> {
    let attribute = |line: &str| line.contains("[allow(") || line.contains("[expect(");
    let mut found = Vec::new();
    for (at, line) in source.code.iter().enumerate().filter(|(_, line)| attribute(line)) {
        let close = (at..source.code.len()).find(|&i| source.code[i].contains(")]")).unwrap_or(at);
        let reasoned = source.code[at..=close].iter().any(|line| line.contains("reason"));
        let before = at > 0 && source.lines[at - 1].trim_start().starts_with("//");
        let beside = source.lines[close].contains("//");
        if !reasoned && !before && !beside {
            let text = format!("say why: {}", line.trim());
            found.push(finding(source, at + 1, text));
        }
    }
    found
}

/// The project's text is the same wherever it was made.
pub fn no_workplace(source: &Source) -> Vec<Finding> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("crates", ".io"),
        concat!("deb.debian", ".org"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!(".lib", "rary"),
    ];
    let mut found = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        for word in words.iter().filter(|word| line.contains(**word)) {
            found.push(finding(source, at + 1, format!("names {word}")));
        }
        if names_issue(line) {
            found.push(finding(source, at + 1, "names an issue by number: say what it was"));
        }
    }
    found
}

fn names_issue(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.match_indices("issue").any(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches([' ', '#']);
        rest.len() < lower.len() - at - word.len() && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: fn(&Source) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn header_is_wanted() {
        assert_eq!(lines(header, "src/a.rs", "use x;\n"), [1]);
        assert_eq!(lines(header, "src/a.rs", ""), [1]);
        assert_eq!(lines(header, "src/a.rs", "//! Owns it.\n"), [0usize; 0]);
    }

    #[test]
    fn lengths_have_bounds() {
        let long_line = "x".repeat(101);
        assert_eq!(lines(lengths, "src/a.rs", &format!("ok\n{long_line}\n")), [2]);
        assert_eq!(lines(lengths, "src/a.rs", &"\n".repeat(451)), [451]);
        assert_eq!(lines(lengths, "src/a.rs", &"\n".repeat(450)), [0usize; 0]);
        let body = |lines: usize| format!("//! A.\nfn f() {{\n{}}}\n", "    x();\n".repeat(lines));
        assert_eq!(lines(lengths, "src/a.rs", &body(68)), [2]);
        assert_eq!(lines(lengths, "src/a.rs", &body(67)), [0usize; 0]);
    }

    #[test]
    fn the_core_knows_nothing_of_the_shell() {
        let bad = "use crate::actors::root;\nuse crate::cli;\n// crate::daemon\n";
        assert_eq!(lines(direction, "src/scheduler/plan.rs", bad), [1, 2]);
        assert_eq!(lines(direction, "actors/api.rs", bad), [2]);
        assert_eq!(lines(direction, "src/daemon.rs", bad), [0usize; 0]);
    }

    #[test]
    fn the_core_computes_only() {
        let bad = "let t = Instant::now();\nlet x = f().await;\nuse std::net::Ipv4Addr;\n";
        assert_eq!(lines(pure_core, "src/fsm/apply.rs", bad), [1, 2]);
        assert_eq!(lines(pure_core, "src/cli/up.rs", bad), [0usize; 0]);
        assert_eq!(lines(pure_core, "src/fsm/a.rs", "let operand::X = 1;\n"), [0usize; 0]);
    }

    #[test]
    fn sleeping_tests_are_found() {
        let bad = "fn a() {\n    tokio::time::sleep(d).await;\n    // sleep(x)\n}\n";
        assert_eq!(lines(no_sleep, "smoke/a.rs", bad), [2]);
        assert_eq!(lines(no_sleep, "actors/a.rs", bad), [0usize; 0]);
        let inner = format!("#[cfg(test)]\nmod tests {{\n{bad}}}\n");
        assert_eq!(lines(no_sleep, "actors/a.rs", &inner), [4]);
    }

    #[test]
    fn panics_need_leave() {
        let bad = "x.unwrap();\ny.unwrap_or(1);\nz.expect(\"\");\nlet s = \".unwrap()\";\n";
        assert_eq!(lines(no_panic, "src/a.rs", bad), [1, 3]);
        assert_eq!(lines(no_panic, "harness/a.rs", bad), [0usize; 0]);
        let allowed = "#[allow(clippy::expect_used)] // never empty\nx.expect(\"never empty\");\n";
        assert_eq!(lines(no_panic, "src/a.rs", allowed), [0usize; 0]);
    }

    #[test]
    fn allowances_need_a_reason() {
        let bare = "#[allow(clippy::expect_used)]\nx.y();\n";
        assert_eq!(lines(allowed_with_reason, "src/a.rs", bare), [1]);
        let said = "#[allow(unused, reason = \"shared\")]\n// Never empty.\n#[allow(dead_code)]\n";
        assert_eq!(lines(allowed_with_reason, "src/a.rs", said), [0usize; 0]);
    }

    #[test]
    fn the_workplace_stays_out() {
        let bad = concat!("see /wo", "rk/main\nfixes iss", "ue #12\nIss", "ue 3\nissues of 2\n");
        assert_eq!(lines(no_workplace, "README.md", bad), [1, 2, 3]);
    }
}

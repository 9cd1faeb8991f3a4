//! Texts made to hurt: nothing panics, aborts, or takes long.
//!
//! Owns hostile inputs and the comparison with the KDL parser. Never looks at the wording of
//! reports.

use kdl::{KdlDocument, KdlNode, KdlValue};
use mill::spec;
use proptest::prelude::*;
use std::time::Duration;

const PIECES: &[&str] = &[
    " ",
    " ",
    "\n",
    "\t",
    ";",
    "{",
    "}",
    "{",
    "}",
    "(",
    ")",
    "=",
    "\"",
    "\"a\"",
    "\"\"\"",
    "\\",
    "\\\n",
    "/-",
    "//",
    "/*",
    "*/",
    "#",
    "#\"",
    "\"#",
    "#true",
    "#null",
    "true",
    "a",
    "b",
    "service",
    "task",
    "image",
    "env",
    "health",
    "port",
    "update",
    "interval=",
    "\"10s\"",
    "10s",
    "1",
    "-1",
    "1.5",
    "0x1",
    "'",
    "“",
    ",",
    "[",
    "]",
    ":",
    "$",
    "${",
    "${secret(a)}",
    "$$",
    "\r\n",
    "\u{feff}",
    "\u{0}",
    "ü",
    "name",
    "\"web\"",
    "\"nginx\"",
    "replicas 2\n",
    "image \"x\"\n",
    "service \"a\" {\n",
    "}\n",
];

/// Reads and formats; what is formatted must be stable and mean the same to the KDL parser.
fn survive(text: &str) {
    let read = spec::read("hostile.mill", text);
    if let Err(report) = &read {
        assert!(!report.problems.is_empty());
        assert!(!report.to_string().is_empty());
    }
    if let Ok(parsed) = &read {
        let _ = spec::unsupported(parsed);
    }
    let Ok(formatted) = spec::format("hostile.mill", text) else { return };
    assert_eq!(spec::format("hostile.mill", &formatted).as_deref(), Ok(formatted.as_str()));
    if let Ok(parsed) = &read {
        let again = spec::parse("hostile.mill", &formatted);
        assert_eq!(again.as_ref(), Ok(&parsed.spec), "{text:?}\n{formatted}");
    }
    if text.len() < 10_000 {
        let (text, formatted) = (text.to_owned(), formatted.clone());
        // The KDL parser alone needs a large stack.
        let compare = move || {
            let after = meaning(&formatted).unwrap_or_else(|| panic!("not KDL: {formatted:?}"));
            // A number beyond 128 bits is KDL but not for the parser.
            if let Some(before) = meaning(&text) {
                assert_eq!(before, after, "{text:?}\n{formatted:?}");
            }
        };
        let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(compare);
        thread.expect("a thread").join().expect("the same meaning");
    }
}

type Entry = (Option<String>, Option<String>, String);
#[derive(Debug, PartialEq)]
struct Field(Option<String>, String, Vec<Entry>, Option<Vec<Field>>);

/// What a text says, without how it looks.
fn meaning(text: &str) -> Option<Vec<Field>> {
    let fields = |document: &KdlDocument| document.nodes().iter().map(field).collect();
    KdlDocument::parse_v2(text).ok().map(|document| fields(&document))
}

fn field(node: &KdlNode) -> Field {
    let value = |value: &KdlValue| format!("{value:?}");
    let text = |name: &kdl::KdlIdentifier| name.value().to_owned();
    let entries = node.entries().iter();
    let entries = entries.map(|e| (e.name().map(text), e.ty().map(text), value(e.value())));
    let children = node.children().filter(|c| !c.nodes().is_empty());
    let children = children.map(|c| c.nodes().iter().map(field).collect());
    Field(node.ty().map(text), text(node.name()), entries.collect(), children)
}

/// What takes too long.
fn too_slow(text: &str) -> Option<Duration> {
    let bound = Duration::from_secs(1);
    let start = processor_time();
    let _ = spec::read("hostile.mill", text);
    let read = processor_time() - start;
    let start = processor_time();
    let _ = spec::format("hostile.mill", text);
    let slowest = read.max(processor_time() - start);
    (slowest > bound).then_some(slowest)
}

proptest! {
    #![proptest_config(super::cases_of(500))]

    #[test]
    fn random_bytes_survive(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survive(&String::from_utf8_lossy(&bytes));
        if let Err(report) = spec::text("hostile.mill", bytes) {
            prop_assert_eq!(report.problems.len(), 1);
        }
    }

    #[test]
    fn random_pieces_survive(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)) {
        survive(&pieces.concat());
    }

    #[test]
    fn damaged_files_survive(
        at in any::<prop::sample::Index>(),
        cut in 0..40_usize,
        piece in prop::sample::select(PIECES),
    ) {
        let whole = include_str!("../../examples/shop.mill");
        let mut start = at.index(whole.len());
        while !whole.is_char_boundary(start) { start -= 1; }
        let mut end = (start + cut).min(whole.len());
        while !whole.is_char_boundary(end) { end -= 1; }
        let end = end.max(start);
        survive(&format!("{}{piece}{}", &whole[..start], &whole[end..]));
    }
}

/// Beginning, what is repeated, and end.
const HUGE: &[(&str, &str, &str)] = &[
    ("", "a=\n", ""),
    ("", "a\n", ""),
    ("", "a {}\n", ""),
    ("", "a \"x\"y\"", ""),
    ("", "\"\\u{", ""),
    ("", "a(a(", ""),
    ("", "a${", ""),
    ("", "a {b {c \"d\"}}\n", ""),
    ("a", " /-1", ""),
    ("a", " /-{}", ""),
    ("a \"\"\"\n", "x\n", "\"\"\""),
    ("a \"\"\"\n", "\\\n", "\"\"\""),
    ("a #\"", "\"##", "\"#"),
    ("service \"web\" {\n image \"x\"\n env {\n", "A \"${service.b.address}\"\n", "}\n}"),
    ("service \"web\" {\n image \"x\"\n env {\n A \"", "\\u{24}{secret(a)}", "\"\n}\n}"),
    ("service \"web\" {\n image \"x\"\n env {\n A \"", "${", "\"\n}\n}"),
    ("service \"web\" {\n image \"x\"\n", "route \"a.example\"\n", "}"),
    ("service \"web\" {\n image \"x\"\n", "publish 80 port=\"x\"\n", "}"),
    ("service \"web\" {\n image \"x\"\n", "volume \"v\" path=\"/v\" ephemeral=#true\n", "}"),
    ("service \"web\" {\n image \"x\"\n args", " a", "\n}"),
    ("service \"web\" {\n image \"x\"\n", "before-deploy \"t\"\n", "}"),
    ("service \"web\" {\n image \"x\"\n", "constraint a b\n", "}"),
];

/// As many copies as fit in the largest file, between a head and a tail.
fn filled(head: &str, piece: &str, tail: &str) -> String {
    // Without optimisation a part has to do; what grows too fast still shows.
    let size = mill::limits::FILE_MAX / if cfg!(debug_assertions) { 32 } else { 1 };
    let room = size - head.len() - tail.len();
    format!("{head}{}{tail}", piece.repeat(room / piece.len()))
}

#[test]
fn the_largest_files_are_answered_in_time() {
    let pieces: Vec<&str> = PIECES.iter().copied().filter(|piece| *piece != "\u{0}").collect();
    let mut texts: Vec<(&str, String, &str)> = Vec::new();
    for piece in pieces {
        texts.push(("", piece.to_owned(), ""));
        texts.push(("a ", format!("{piece} "), ""));
        texts.push(("a \"", piece.to_owned(), "\""));
    }
    texts.extend(HUGE.iter().map(|(head, piece, tail)| (*head, (*piece).to_owned(), *tail)));
    let mut slow = String::new();
    for (head, piece, tail) in texts {
        if let Some(took) = too_slow(&filled(head, &piece, tail)) {
            slow.push_str(&format!("{head:?} {piece:?} {tail:?} took {took:?}\n"));
        }
    }
    assert!(slow.is_empty(), "{slow}");
}

#[test]
fn files_beyond_the_bounds_are_refused_in_a_word() {
    let two = "a".repeat(2 << 20);
    let report = spec::read("big.mill", &two).expect_err("too large");
    assert_eq!(report.problems[0].text(), "the file is larger than 1 MiB");
    for (open, close) in [("a {", "}"), ("a {\n", "}\n"), ("/*", "*/"), ("{", "}"), ("(", ")")] {
        for depth in [31, 32, 33, 100, 5_000, 100_000] {
            survive(&format!("{}{}", open.repeat(depth), close.repeat(depth)));
            survive(&open.repeat(depth));
        }
    }
    survive(&"a=\n".repeat(4_000));
    survive(&format!("{}b 1{}", "a { ".repeat(32), " }".repeat(32)));
}

#[test]
fn a_valid_file_of_a_megabyte_is_read_in_time() {
    let mut text = String::new();
    for n in 0.. {
        let service = format!(
            "service \"web-{n}\" {{\n    image \"registry.example.com/web:v1\"\n    port 3000\n    \
             replicas 2\n    env {{\n        A \"b\"\n        C \"${{secret(a.b)}}\"\n    }}\n    \
             health \"/healthz\" interval=\"10s\" timeout=\"2s\"\n}}\n"
        );
        if text.len() + service.len() > mill::limits::FILE_MAX {
            break;
        }
        text.push_str(&service);
    }
    let start = processor_time();
    let parsed = spec::parse("big.mill", &text).expect("a valid file");
    let took = processor_time() - start;
    assert!(parsed.services.len() > 4_000);
    let bound = if cfg!(debug_assertions) { 30 } else { 1 };
    assert!(took < Duration::from_secs(bound), "took {took:?}");
    let formatted = spec::format("big.mill", &text).expect("a valid file");
    assert_eq!(formatted, text);
}

/// Processor time of this thread: other work on the machine doesn't count.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    Duration::from(nix::time::clock_gettime(clock).expect("a clock"))
}

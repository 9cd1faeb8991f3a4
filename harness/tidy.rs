//! The style rules that a machine can check, run over every file of the project.
//!
//! Owns which files are looked at and how findings are shown. Never changes a file. What each rule
//! wants of a file is in `tidy/rules.rs`, of imports in `tidy/circles.rs`, of documents in
//! `tidy/docs.rs`.

mod circles;
mod docs;
mod rules;
mod source;

use source::Source;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a rule found wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the project's root.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "actors",
    "docs",
    "examples",
    "harness",
    "proto",
];
const TOP_LEVEL_MORE: [&str; 2] = ["smoke", "src"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the project, as paths from its root; build output and dotted entries left out.
fn project_files() -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = folder.join(&name);
            if name.starts_with('.') || path == Path::new("target") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                files.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files
}

fn check_tree(findings_of: impl Fn(&Source) -> Vec<Finding>, wanted: impl Fn(&str) -> bool) {
    let mut report = Vec::new();
    let mut looked_at = 0;
    for path in project_files().into_iter().filter(|path| wanted(path)) {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
            continue; // not text: a picture, a binary case file
        };
        looked_at += 1;
        report.extend(findings_of(&Source::new(&path, &text)));
    }
    assert!(looked_at > 0, "no file looked at");
    let lines: Vec<String> = report.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} to tidy:\n{}", lines.len(), lines.join("\n"));
}

fn rust(path: &str) -> bool {
    path.ends_with(".rs")
}

#[test]
fn top_level_entries_are_the_known_ones() {
    let unknown: Vec<String> = std::fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !TOP_LEVEL.contains(&name.as_str()))
        .filter(|name| !TOP_LEVEL_MORE.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "put these into a folder that is there: {unknown:?}");
}

#[test]
fn files_open_with_what_they_own() {
    check_tree(rules::header, rust);
}

#[test]
fn files_functions_and_lines_are_short() {
    check_tree(rules::lengths, rust);
}

#[test]
fn imports_point_from_shell_to_core() {
    check_tree(rules::direction, rust);
}

#[test]
fn no_room_imports_what_imports_it() {
    let files = project_files().into_iter().filter(|path| rust(path));
    let source = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        Source::new(&path, &text)
    };
    let sources: Vec<Source> = files.map(source).collect();
    let lines: Vec<String> = circles::circles(&sources).iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} to tidy:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn documents_name_files_that_are_there() {
    let files = project_files();
    let is_document =
        |path: &str| path == "README.md" || path.starts_with("docs/") && path.ends_with(".md");
    check_tree(|source| docs::paths(source, &files), is_document);
}

#[test]
fn public_items_are_documented() {
    check_tree(docs::documented, rust);
}

#[test]
fn the_core_does_no_input_or_output() {
    check_tree(rules::pure_core, rust);
}

#[test]
fn tests_never_sleep() {
    check_tree(rules::no_sleep, rust);
}

#[test]
fn nothing_panics_outside_tests() {
    check_tree(rules::no_panic, rust);
}

#[test]
fn no_lint_is_allowed_without_a_reason() {
    check_tree(rules::allowed_with_reason, rust);
}

#[test]
fn text_names_nothing_of_the_workplace() {
    check_tree(rules::no_workplace, |path| path != "Cargo.lock");
}

/// What makes a mistake in the program harder to use for an attack.
#[test]
fn the_release_checks_overflow_and_lies_anywhere() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let release = manifest.split("[profile.release]").nth(1).expect("a profile of the release");
    let release = release.split("\n[").next().unwrap();
    assert!(release.contains("overflow-checks = true"), "{release}");
    assert!(!read("proto/build.rs").contains("no-pie"), "the program would be at one address");
}

#[test]
fn every_example_parses() {
    let example = |path: &String| path.starts_with("examples/") && path.ends_with(".mill");
    let examples: Vec<String> = project_files().into_iter().filter(example).collect();
    assert!(!examples.is_empty(), "no example found");
    for path in examples {
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let read = mill::spec::parse(&path, &text);
        assert!(
            read.is_ok(),
            "{}",
            read.err().map_or_else(String::new, |report| format!("{report:?}"))
        );
    }
}

#[test]
fn each_workflow_page_has_its_test() {
    let root = root();
    let mut pages = 0;
    for entry in std::fs::read_dir(root.join("docs/workflows")).unwrap() {
        let page = entry.unwrap().path();
        let name = page.file_stem().unwrap().to_str().unwrap().replace('-', "_");
        let test = format!("smoke/{name}.rs");
        assert!(root.join(&test).exists(), "{} needs {test}", page.display());
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains(&test), "{} doesn't name {test}", page.display());
        pages += 1;
    }
    assert!(pages > 0);
}

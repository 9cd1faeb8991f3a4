//! The file format by examples: `harness/spec/bad`, `good` and `compose`, a file a case.
//!
//! Owns running the cases and the properties of the format. Never talks to a daemon.
//!
//! A case is a `.mill` text, a line `=====`, and what comes of it: for a bad one the whole report,
//! for a good one the canonical form; a Compose file with the `.mill` file that is made of it.
//! `MILL_BLESS=1` writes what comes of it now; read the diff.

use mill::{compose, spec};
use std::fs;
use std::path::{Path, PathBuf};

mod dice;
mod generated;
mod hints;
mod hostile;
mod printer;

const SEPARATOR: &str = "=====\n";

/// So many cases of a property, or as many as `MILL_CASES` says; failures are shown, not kept.
fn cases_of(cases: u32) -> proptest::test_runner::Config {
    let wanted = std::env::var("MILL_CASES").ok().and_then(|text| text.parse().ok());
    let cases = wanted.unwrap_or(cases);
    proptest::test_runner::Config {
        failure_persistence: None,
        ..proptest::test_runner::Config::with_cases(cases)
    }
}

fn cases(kind: &str) -> Vec<PathBuf> {
    let folder = root().join("harness/spec").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|why| panic!("{}: {why}", folder.display()))
        .map(|entry| entry.expect("a folder that can be listed").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "case"))
        .collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a function over every case of a kind; all differences are shown at once.
fn run(kind: &str, outcome: impl Fn(&str) -> String) -> usize {
    let (cases, bless) = (cases(kind), std::env::var_os("MILL_BLESS").is_some());
    let mut wrong = String::new();
    for path in &cases {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let content = fs::read_to_string(path).expect("a readable case");
        let (text, expected) = match content.split_once(SEPARATOR) {
            Some(parts) => parts,
            None if bless => (content.as_str(), ""),
            None => panic!("{name} has no line ====="),
        };
        let found = outcome(text);
        if bless {
            bless_case(path, text, &found);
        } else if found != expected {
            wrong.push_str(&format!("--- {name}: expected\n{expected}+++ found\n{found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    cases.len()
}

fn bless_case(path: &Path, text: &str, found: &str) {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    fs::write(path, format!("{text}{newline}{SEPARATOR}{found}")).expect("a writable case");
}

#[test]
fn bad_files_get_exactly_these_reports() {
    let found = run("bad", |text| match spec::read("shop.mill", text) {
        Ok(_) => "the file is valid\n".to_owned(),
        Err(report) => format!("{report}\n"),
    });
    assert!(found >= 60, "only {found} bad cases");
}

#[test]
fn good_files_are_read_and_formatted_like_this() {
    let found = run("good", |text| {
        let parsed = match spec::parse("shop.mill", text) {
            Ok(parsed) => parsed,
            Err(report) => return format!("{report}\n"),
        };
        let formatted = spec::format("shop.mill", text).expect("a valid file");
        assert_eq!(spec::parse("shop.mill", &formatted).as_ref(), Ok(&parsed), "{formatted}");
        assert_eq!(spec::format("shop.mill", &formatted).as_ref(), Ok(&formatted));
        formatted
    });
    assert!(found >= 10, "only {found} good cases");
}

#[test]
fn compose_files_become_valid_files_like_these() {
    let variables = [("MYSQL_PASSWORD", "of the environment")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let beside = |path: &str| match path {
        "prometheus.yml" => Some("scrape_configs: []".to_owned()),
        "db.env" => Some("MYSQL_DATABASE=nextcloud\nMYSQL_HOST=overridden\n".to_owned()),
        _ => None,
    };
    let found = run("compose", |text| {
        let (file, app, app_given) = ("compose.yml", "shop", false);
        let (variables, beside) = (&variables, &beside);
        let given = compose::Given { file, text, app, app_given, variables, beside };
        let made = compose::convert(&given).unwrap_or_else(|error| panic!("{error}"));
        spec::parse("shop.mill", &made.text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(spec::format("shop.mill", &made.text).as_ref(), Ok(&made.text));
        made.text
    });
    assert!(found >= 6, "only {found} Compose files");
}

#[test]
fn every_example_is_valid_and_canonical() {
    let folder = root().join("examples");
    let mut found = 0;
    for entry in fs::read_dir(folder).expect("examples").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ext| ext != "mill") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a readable example");
        let name = path.display().to_string();
        spec::parse(&name, &text).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(spec::format(&name, &text).as_deref(), Ok(text.as_str()), "mill fmt {name}");
        found += 1;
    }
    assert!(found >= 2, "only {found} examples");
}

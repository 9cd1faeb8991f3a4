//! Circles of imports between rooms: the folders right under `src/` and `actors/`.
//!
//! Owns which room a file belongs to, and what its code names of others. What files of one room
//! make of each other is theirs.

use super::Finding;
use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// Rooms by what they import, with the first place that does.
type Imports = BTreeMap<String, BTreeMap<String, (String, usize)>>;

/// Starts its children and holds their addresses, and they hold its own.
const ROOT: &str = "actors/root";

/// No room imports one that imports it, if only by way of others.
pub fn circles(sources: &[Source]) -> Vec<Finding> {
    let all: BTreeSet<String> = sources.iter().filter_map(|source| room(&source.path)).collect();
    let mut imports = Imports::new();
    for source in sources {
        let Some(from) = room(&source.path) else { continue };
        for (line, to) in named(source) {
            let to_child = from == ROOT && to.starts_with("actors/");
            if to != from && all.contains(&to) && !to_child {
                let places = imports.entry(from.clone()).or_default();
                places.entry(to).or_insert_with(|| (source.path.clone(), line));
            }
        }
    }
    let mut found = Vec::new();
    for (from, places) in &imports {
        for (to, (path, line)) in places {
            if let Some(way) = way(&imports, to, from) {
                let message = format!("{from} → {}: open the circle", way.join(" → "));
                found.push(Finding { path: path.clone(), line: *line, message });
            }
        }
    }
    found
}

/// `src/fsm` of `src/fsm.rs`, `src/fsm/mod.rs` and `src/fsm/model/node.rs`.
fn room(path: &str) -> Option<String> {
    let (top, rest) = path.split_once('/')?;
    let name = rest.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    let is_room = matches!(top, "src" | "actors") && !matches!(name, "lib" | "main" | "mod");
    is_room.then(|| format!("{top}/{name}"))
}

/// The rooms that the code of a file names, with their lines.
fn named(source: &Source) -> Vec<(usize, String)> {
    let mut text = String::new();
    for (at, line) in source.code.iter().enumerate() {
        text.push_str(if source.is_test(at + 1) { "" } else { line });
        text.push('\n');
    }
    let mut found = Vec::new();
    for (at, word) in text.match_indices("crate::") {
        let line = text[..at].matches('\n').count() + 1;
        let mut names = Vec::new();
        heads(&text[at + word.len()..], "src/", &mut names);
        found.extend(names.into_iter().map(|name| (line, name)));
    }
    found
}

/// What a path begins with, behind `crate::`; several where it goes on in braces.
fn heads(text: &str, under: &str, found: &mut Vec<String>) {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        let mut depth = 0_usize;
        let mut begins = true;
        for (at, letter) in group.char_indices() {
            if begins && !letter.is_whitespace() && letter != '}' {
                heads(&group[at..], under, found);
                begins = false;
            }
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => return,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                _ => {}
            }
        }
        return;
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    match (&text[..end], text[end..].strip_prefix("::")) {
        ("actors", Some(rest)) => heads(rest, "actors/", found),
        (name, _) => found.push(format!("{under}{name}")),
    }
}

/// The shortest way from one room to another.
fn way(imports: &Imports, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![from.to_owned()]];
    let mut seen = BTreeSet::from([from.to_owned()]);
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way.last()?;
            if last == to {
                return Some(way);
            }
            for next in imports.get(last).into_iter().flat_map(BTreeMap::keys) {
                if seen.insert(next.clone()) {
                    longer.push(way.iter().cloned().chain([next.clone()]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&sources).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_circle_is_found_by_whatever_way_it_goes() {
        let seen = found(&[
            ("src/a/x.rs", "use std::fmt;\nuse crate::b::{y, z};\n"),
            ("src/b.rs", "fn f() { crate::c::g(); }\n"),
            ("src/c/mod.rs", "use crate::{\n    id::Id,\n    a::{X, Y},\n};\n"),
            ("src/id.rs", "//! Own.\n"),
        ]);
        assert_eq!(
            seen,
            [
                "src/a/x.rs:2: src/a → src/b → src/c → src/a: open the circle",
                "src/b.rs:1: src/b → src/c → src/a → src/b: open the circle",
                "src/c/mod.rs:1: src/c → src/a → src/b → src/c: open the circle",
            ]
        );
    }

    #[test]
    fn within_a_room_in_tests_and_from_root_to_its_children_all_is_well() {
        let none: [String; 0] = [];
        let own = [("src/a/x.rs", "use crate::a::y;\n"), ("src/a/y.rs", "use crate::a::x;\n")];
        assert_eq!(found(&own), none);
        let test = "use crate::b;\n#[cfg(test)]\nmod tests {\n    use crate::c;\n}\n";
        let tests = [("src/a.rs", test), ("src/c.rs", "use crate::a;\n"), ("src/b.rs", "")];
        assert_eq!(found(&tests), none);
        let root = [
            ("actors/root.rs", "use crate::actors::api::Msg;\n"),
            ("actors/api.rs", "use crate::actors::root::Handle;\n"),
        ];
        assert_eq!(found(&root), none);
        let back = [
            ("actors/root.rs", "use crate::fsm;\n"),
            ("src/fsm/mod.rs", "use crate::actors::root;\n"),
        ];
        assert_eq!(found(&back).len(), 2);
    }
}

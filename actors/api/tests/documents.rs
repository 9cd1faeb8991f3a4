//! That the form of what routes take and give is recorded, and documented.

use crate::actors::api::openapi;
use crate::actors::api::routes::{Gives, MEMBER_ROUTES, ROUTES, Route, Shape, Takes};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn every_document_of_a_route_has_a_sample() {
    let samples = include_str!("../../../src/api/wire/documents.txt");
    let known: BTreeSet<&str> = samples.lines().filter_map(|line| line.split(' ').next()).collect();
    for route in ROUTES.iter().chain(MEMBER_ROUTES) {
        for shape in shapes(route) {
            let name = (shape.name)();
            assert!(known.contains(&*name), "{}: {name} isn't in documents.txt", route.path);
        }
    }
}

/// The documents that a route takes and gives.
fn shapes(route: &Route) -> impl Iterator<Item = &Shape> {
    let taken = match &route.body {
        Takes::Json(shape) => Some(shape),
        Takes::Nothing | Takes::File | Takes::Archive => None,
    };
    let given: Vec<&Shape> = match &route.answer {
        Gives::Json(shape) | Gives::List(shape) | Gives::Feed(shape) => vec![shape],
        Gives::Events(all, whole) => all.iter().map(|(_, shape)| shape).chain(whole).collect(),
        Gives::Nothing | Gives::Archive | Gives::Bytes | Gives::Text | Gives::OpenApi => vec![],
    };
    taken.into_iter().chain(given)
}

#[test]
fn the_document_lists_the_words_of_a_field() {
    let schemas = openapi::document().unwrap()["components"]["schemas"].take();
    let words = ["none", "checking", "healthy", "unhealthy", "unknown"];
    assert_eq!(schemas["AllocationHealth"]["enum"], serde_json::json!(words));
    let health = &schemas["AllocationView"]["properties"]["health"];
    assert!(health.to_string().contains("#/components/schemas/AllocationHealth"), "{health}");
    let events = schemas["EventName"]["enum"].as_array().unwrap();
    assert!(events.contains(&"node-joined".into()) && events.contains(&"events-missed".into()));
}

/// Between these two lines of a section of `docs/api.md` stands what the table of routes says.
const OPEN: &str = "<!-- as the table of routes says -->\n";
const CLOSE: &str = "<!-- the rest is by hand -->\n";

fn named(shape: &Shape) -> String {
    format!("`{}`", (shape.name)())
}

/// A route as a row: what is asked, who may, what is taken and given.
fn row(route: &Route) -> String {
    let query: Vec<&str> = route.query.iter().map(|one| one.name).collect();
    let query = if query.is_empty() { String::new() } else { format!(" `?{}`", query.join(" ")) };
    let who = match route.role {
        _ if route.local => "the socket",
        Some(role) => role.name(),
        None => "anybody",
    };
    let taken = match &route.body {
        Takes::Nothing => String::new(),
        Takes::File => "the file".to_owned(),
        Takes::Archive => "an archive".to_owned(),
        Takes::Json(shape) => named(shape),
    };
    let given = match &route.answer {
        Gives::Nothing => String::new(),
        Gives::Json(shape) => named(shape),
        Gives::List(shape) => format!("a list of {}", named(shape)),
        Gives::Feed(shape) => format!("a list or stream of {}", named(shape)),
        Gives::Events(events, whole) => {
            let or = whole.iter().map(|shape| format!(" or {}", named(shape)));
            let all = events.iter().map(|(name, shape)| format!("{name} {}", named(shape)));
            format!("events: {}{}", all.collect::<Vec<_>>().join(", "), or.collect::<String>())
        }
        Gives::Archive => "an archive".to_owned(),
        Gives::Bytes => "bytes".to_owned(),
        Gives::Text => "text".to_owned(),
        Gives::OpenApi => "an OpenAPI document".to_owned(),
    };
    let Route { status, summary, path, .. } = route;
    let method = route.method.method();
    format!("| `{method} {path}`{query} | {who} | {taken} | {status} {given} | {summary} |\n")
}

/// A sample with a line for each of its fields.
fn spread(json: &str) -> String {
    let (mut out, mut depth, mut is_text, mut escaped) = (String::new(), 0, false, false);
    for letter in json.chars() {
        let ends = !is_text && letter == '}' && depth == 1;
        out.push_str(if ends { "\n" } else { "" });
        out.push(letter);
        match letter {
            '"' if !escaped => is_text = !is_text,
            _ if is_text => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ':' => out.push(' '),
            ',' if depth > 1 => out.push(' '),
            _ => {}
        }
        let breaks = !is_text && depth == 1 && matches!(letter, '{' | ',');
        out.push_str(if breaks { "\n  " } else { "" });
        escaped = letter == '\\' && !escaped;
    }
    out
}

#[test]
fn the_document_for_people_says_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");
    let text = std::fs::read_to_string(path).unwrap();
    let samples = include_str!("../../../src/api/wire/documents.txt");
    let mut sections: BTreeMap<&str, (String, Vec<String>)> = BTreeMap::new();
    for route in ROUTES {
        let resource = route.path.trim_start_matches("/v1/").split('/').next().unwrap();
        let (rows, named) = sections.entry(resource).or_default();
        rows.push_str(&row(route));
        named.extend(shapes(route).map(|shape| (shape.name)().into_owned()));
    }
    let (mut wanted, mut shown) = (text.clone(), BTreeSet::new());
    for (resource, (rows, named)) in &sections {
        let mut section = "| request | who | body | answer | |\n|---|---|---|---|---|\n".to_owned();
        section.push_str(rows);
        for name in named.iter().filter(|name| shown.insert((*name).clone())) {
            let sample = samples.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            section
                .push_str(&format!("\n`{name}`:\n\n```json\n{}\n```\n", spread(sample.unwrap())));
        }
        let head = format!(": `/v1/{resource}`\n\n{OPEN}");
        let begin = wanted.find(&head).expect(&head) + head.len();
        let end = begin + wanted[begin..].find(CLOSE).expect(CLOSE);
        wanted.replace_range(begin..end, &section);
    }
    for line in text.lines().filter_map(|line| line.split_once(": `/v1/")) {
        let resource = line.1.trim_end_matches('`');
        assert!(!line.0.starts_with("## ") || sections.contains_key(resource), "no {resource}");
    }
    if std::env::var_os("MILL_BLESS").is_some() {
        return std::fs::write(path, &wanted).unwrap();
    }
    assert!(text == wanted, "docs/api.md is another than the routes: MILL_BLESS=1 writes it anew");
}

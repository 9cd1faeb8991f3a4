//! That the form of what routes take and give is recorded, and documented.

use crate::actors::api::openapi;
use crate::actors::api::routes::{Gives, MEMBER_ROUTES, ROUTES, Shape, Takes};
use std::collections::BTreeSet;

#[test]
fn every_document_of_a_route_has_a_sample() {
    let samples = include_str!("../../../src/api/wire/documents.txt");
    let known: BTreeSet<&str> = samples.lines().filter_map(|line| line.split(' ').next()).collect();
    for route in ROUTES.iter().chain(MEMBER_ROUTES) {
        let taken = match &route.body {
            Takes::Json(shape) => vec![shape],
            Takes::Nothing | Takes::File | Takes::Archive => vec![],
        };
        let given: Vec<&Shape> = match &route.answer {
            Gives::Json(shape) | Gives::List(shape) | Gives::Feed(shape) => vec![shape],
            Gives::Events(all, whole) => all.iter().map(|(_, shape)| shape).chain(whole).collect(),
            Gives::Nothing | Gives::Archive | Gives::Bytes | Gives::Text | Gives::OpenApi => vec![],
        };
        for shape in taken.into_iter().chain(given) {
            let name = (shape.name)();
            assert!(known.contains(&*name), "{}: {name} isn't in documents.txt", route.path);
        }
    }
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

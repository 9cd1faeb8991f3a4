//! What bodies take beyond the types of their fields: names, and fields that exclude each other.
//!
//! Owns that the document accepts nothing that is refused for its form. Never reads a request.

use serde_json::{Map, Value, json};

/// Names of nodes' labels, of variables, of secrets.
const LABEL: &str = "^[A-Za-z0-9._/]{1,63}$";
const VARIABLE: &str = "^[A-LN-Z_][A-Z0-9_]{0,30}$";
const SECRET: &str = "^[a-z0-9]+([.-][a-z0-9]+)*$";

/// Puts it into the document.
pub(super) fn refine(document: &mut Value) {
    let refined: [(&str, fn(&Value) -> Value); 3] =
        [("SpawnRequest", spawn), ("TokenRequest", token), ("SecretRequest", secret)];
    for (name, schema) in refined {
        if let Some(found) = document.pointer_mut(&format!("/components/schemas/{name}")) {
            *found = schema(found);
        }
    }
    let texts = json!({ "type": "string", "minLength": 1, "maxLength": 1000 });
    let labels = json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9._/-]{1,253}$" });
    let maps = [
        ("SecretsRequest/properties/secrets", names(SECRET, texts)),
        ("LabelsRequest/properties/labels", names(LABEL, labels)),
    ];
    for (place, schema) in maps {
        if let Some(found) = document.pointer_mut(&format!("/components/schemas/{place}")) {
            *found = schema;
        }
    }
}

/// By name.
fn names(pattern: &str, value: Value) -> Value {
    json!({
        "type": "object",
        "propertyNames": { "type": "string", "pattern": pattern },
        "additionalProperties": value,
    })
}

/// The same with some of its fields only, of which the first ones are needed.
fn part(of: &Value, needed: &[&str], others: &[&str]) -> Map<String, Value> {
    let all = needed.iter().chain(others);
    let fields = all.map(|name| ((*name).to_owned(), of["properties"][*name].clone()));
    let mut part = Map::new();
    part.insert("type".to_owned(), "object".into());
    part.insert("properties".to_owned(), Value::Object(fields.collect()));
    part.insert("required".to_owned(), needed.into());
    part.insert("additionalProperties".to_owned(), false.into());
    part
}

fn either(of: &Value, parts: [Map<String, Value>; 2]) -> Value {
    json!({ "description": of["description"], "oneOf": parts })
}

fn set(part: &mut Map<String, Value>, field: &str, schema: Value) {
    part["properties"][field] = schema;
}

/// A task, or an image with what it needs.
fn spawn(of: &Value) -> Value {
    let variables = names(VARIABLE, json!({ "type": "string", "pattern": "^[^\\x00]*$" }));
    let mut task = part(of, &["task"], &["env"]);
    let of_image = ["command", "cpu", "memory", "timeout", "env"];
    let mut image = part(of, &["image"], &of_image);
    set(&mut task, "task", json!({ "type": "string", "minLength": 1 }));
    set(&mut image, "image", json!({ "type": "string", "format": "image" }));
    for part in [&mut task, &mut image] {
        set(part, "env", variables.clone());
    }
    let words = json!({ "type": "string", "pattern": "^[^\\x00]+$" });
    set(&mut image, "command", json!({ "type": ["array", "null"], "items": words }));
    let number = |least: f64, most: f64| {
        let kind = ["number", "null"];
        json!({ "type": kind, "minimum": least, "maximum": most })
    };
    set(&mut image, "cpu", number(0.001, 1024.0));
    set(&mut image, "timeout", number(1.0, 86_400.0));
    let memory =
        json!({ "type": ["integer", "null"], "minimum": 4_000_000, "maximum": 1u64 << 40 });
    set(&mut image, "memory", memory);
    either(of, [task, image])
}

/// Only a join token counts its uses.
fn token(of: &Value) -> Value {
    let role = |roles: &[&str]| json!({ "type": "string", "enum": roles });
    let number = || json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000 });
    let mut join = part(of, &["role"], &["ttl", "uses"]);
    let mut other = part(of, &["role"], &["ttl"]);
    set(&mut join, "role", role(&["join"]));
    set(&mut join, "uses", number());
    set(&mut other, "role", role(&["admin", "deploy", "read"]));
    set(&mut join, "ttl", number());
    set(&mut other, "ttl", number());
    either(of, [join, other])
}

/// A text, or bytes in base64.
fn secret(of: &Value) -> Value {
    let plain = part(of, &["value"], &[]);
    let mut coded = part(of, &["value", "encoding"], &[]);
    set(&mut coded, "value", json!({ "type": "string", "pattern": "^([A-Za-z0-9+/]{4})+$" }));
    set(&mut coded, "encoding", json!({ "type": "string", "enum": ["base64"] }));
    either(of, [plain, coded])
}

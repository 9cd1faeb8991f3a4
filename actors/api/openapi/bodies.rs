//! What bodies take beyond the types of their fields: names, and fields that exclude each other.
//!
//! Owns that the document accepts nothing that is refused for its form. Never reads a request.

use crate::limits;
use serde_json::{Map, Value, json};

/// Names of nodes' labels, of variables, of secrets.
const LABEL: &str = "^[A-Za-z0-9._/]{1,63}$";
const VARIABLE: &str = "^[A-LN-Z_][A-Z0-9_]{0,30}$";
const SECRET: &str = "^[a-z0-9]+([.-][a-z0-9]+)*$";

/// The longest time that a task may take, in seconds.
const SPAN_MAX: f64 = 366.0 * 86_400.0;

/// Says more of a schema.
type Refine = fn(&Value) -> Value;

/// Puts it into the document.
pub(super) fn refine(document: &mut Value) {
    let refined: [(&str, Refine); 8] = [
        ("SpawnRequest", spawn),
        ("TokenRequest", token),
        ("SecretRequest", secret),
        ("AcmeRequest", acme),
        ("ScheduleRequest", schedule),
        ("CertificateRequest", certificate),
        ("PauseRequest", pause),
        ("ProviderRequest", provider),
    ];
    for (name, schema) in refined {
        if let Some(found) = document.pointer_mut(&format!("/components/schemas/{name}")) {
            *found = schema(found);
        }
    }
    let texts = json!({ "type": "string", "minLength": 1, "maxLength": limits::SECRET_MAX });
    let labels = json!({ "type": ["string", "null"], "pattern": "^[A-Za-z0-9._/-]{1,253}$" });
    let mut secrets = names(SECRET, texts);
    secrets["minProperties"] = 1.into();
    let maps = [
        ("SecretsRequest/properties/secrets", secrets),
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

fn either<const N: usize>(of: &Value, parts: [Map<String, Value>; N]) -> Value {
    json!({ "description": of["description"], "oneOf": parts.as_slice() })
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
    let words = json!({
        "type": ["array", "null"],
        "prefixItems": [{ "type": "string", "pattern": "^[^\\x00]+$" }],
        "items": { "type": "string", "pattern": "^[^\\x00]*$" },
    });
    set(&mut image, "command", words);
    let number = |least: f64, most: f64| {
        let kind = ["number", "null"];
        json!({ "type": kind, "minimum": least, "maximum": most })
    };
    set(&mut image, "cpu", number(0.001, 1024.0));
    set(&mut image, "timeout", number(1.0, SPAN_MAX));
    let memory =
        json!({ "type": ["integer", "null"], "minimum": 4_000_000, "maximum": 1u64 << 40 });
    set(&mut image, "memory", memory);
    either(of, [task, image])
}

/// Only a join token counts its uses.
fn token(of: &Value) -> Value {
    let role = |roles: &[&str]| json!({ "type": "string", "enum": roles });
    let number = |most: u64| {
        let kind = ["integer", "null"];
        json!({ "type": kind, "minimum": 1, "maximum": most })
    };
    let mut join = part(of, &["role"], &["ttl", "uses"]);
    let mut other = part(of, &["role"], &["ttl"]);
    set(&mut join, "role", role(&["join"]));
    set(&mut join, "uses", number(limits::TOKEN_USES_MAX));
    set(&mut other, "role", role(&["admin", "deploy", "read"]));
    set(&mut join, "ttl", number(limits::TOKEN_TTL_MAX));
    set(&mut other, "ttl", number(limits::TOKEN_TTL_MAX));
    either(of, [join, other])
}

/// A text, or bytes in base64.
fn secret(of: &Value) -> Value {
    let mut plain = part(of, &["value"], &["encoding"]);
    set(&mut plain, "encoding", json!({ "type": "null" }));
    let mut coded = part(of, &["value", "encoding"], &[]);
    set(&mut coded, "value", json!({ "type": "string", "pattern": "^([A-Za-z0-9+/]{4})+$" }));
    set(&mut coded, "encoding", json!({ "type": "string", "enum": ["base64"] }));
    either(of, [plain, coded])
}

/// A directory, Let's Encrypt's for tries, or Let's Encrypt's own with somebody to write to.
fn acme(of: &Value) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let perhaps = |pattern: &str| json!({ "type": ["string", "null"], "pattern": pattern });
    let (email, eab) = ("^[a-z0-9]+@[a-z0-9.]+$", "^[a-z0-9]+:([A-Za-z0-9_-]{4})+$");
    let (nothing, never) =
        (json!({ "type": "null" }), json!({ "type": "boolean", "enum": [false] }));
    let base = |needed: &str| {
        let all = ["directory", "staging", "email", "eab"];
        let others: Vec<&str> = all.into_iter().filter(|name| *name != needed).collect();
        let mut part = part(of, &[needed], &others);
        for (name, schema) in [
            ("directory", nothing.clone()),
            ("staging", never.clone()),
            ("email", perhaps(email)),
            ("eab", perhaps(eab)),
        ] {
            set(&mut part, name, schema);
        }
        part
    };
    let (mut named, mut tries) = (base("directory"), base("staging"));
    let (mut usual, mut account) = (base("email"), base("eab"));
    set(&mut named, "directory", text("^https://[a-z0-9.]+/[a-z0-9/]*$"));
    set(&mut tries, "staging", json!({ "type": "boolean", "enum": [true] }));
    set(&mut usual, "email", text(email));
    set(&mut account, "email", nothing.clone());
    set(&mut account, "eab", text(eab));
    either(of, [named, tries, usual, account])
}

/// Backups that can be taken.
fn schedule(of: &Value) -> Value {
    let mut whole = part(of, &["cron", "to", "keep", "recipients"], &[]);
    let recipients = json!({
        "type": "array",
        "items": { "type": "string", "format": "age" },
        "minItems": 1,
        "maxItems": limits::BACKUP_RECIPIENTS,
    });
    let keep = json!({ "type": "integer", "minimum": 1, "maximum": limits::BACKUP_KEEP_MAX });
    set(&mut whole, "cron", json!({ "type": "string", "format": "cron" }));
    set(&mut whole, "to", json!({ "type": "string", "pattern": "^/[a-z0-9/]*$" }));
    set(&mut whole, "keep", keep);
    set(&mut whole, "recipients", recipients);
    whole.insert("description".to_owned(), of["description"].clone());
    Value::Object(whole)
}

/// A provider that there is, and where its API can be.
fn provider(of: &Value) -> Value {
    let mut whole = part(of, &["name", "token"], &["api"]);
    let token = format!("^[!-~]{{1,{}}}$", limits::PROVIDER_TOKEN_MAX);
    // As `ProviderRequest::is_address`: any letter of ASCII, and a host.
    let api = "^https?://[!-\"$-.0->@-~][!-~]*$";
    set(&mut whole, "name", json!({ "type": "string", "enum": ["digitalocean"] }));
    set(&mut whole, "token", json!({ "type": "string", "pattern": token }));
    set(&mut whole, "api", json!({ "type": ["string", "null"], "pattern": api }));
    whole.insert("description".to_owned(), of["description"].clone());
    Value::Object(whole)
}

/// A certificate with its key, in PEM.
fn certificate(of: &Value) -> Value {
    let mut whole = part(of, &["certificate", "key"], &[]);
    set(&mut whole, "certificate", json!({ "type": "string", "format": "pem-certificate" }));
    set(&mut whole, "key", json!({ "type": "string", "format": "pem-key" }));
    whole.insert("description".to_owned(), of["description"].clone());
    Value::Object(whole)
}

/// A line for people.
fn pause(of: &Value) -> Value {
    let mut whole = part(of, &[], &["message"]);
    set(&mut whole, "message", json!({ "type": ["string", "null"], "format": "line" }));
    whole.insert("description".to_owned(), of["description"].clone());
    Value::Object(whole)
}

//! What parameters take, for the OpenAPI document.
//!
//! Owns that one name means the same on every route. Never reads a request.

use crate::limits::NUMBER_MAX;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Required, Schema};

/// A part of the hosts that there can be.
const HOST: &str = "^([*][.])?[a-z0-9]{1,31}(-[a-z0-9]{1,31})?\
                    ([.][a-z0-9]{1,31}(-[a-z0-9]{1,31})?)*$";

/// A part of the references that there can be: without hosts, digests and marks in names.
const REFERENCE: &str = "^[a-z0-9]+(/[a-z0-9]+)*(:[a-z0-9]+)?$";

/// A query parameter.
pub(super) fn schema(name: &str) -> RefOr<Schema> {
    let number = |least: usize, most: usize| {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number.minimum(Some(least)).maximum(Some(most)).into()
    };
    match name {
        "access" | "all" | "follow" | "force" | "previous" | "replace" | "tty" => {
            ObjectBuilder::new().schema_type(Type::Boolean).into()
        }
        "before" | "from" | "limit" | "tail" => {
            number(0, usize::try_from(NUMBER_MAX).unwrap_or(usize::MAX))
        }
        "height" | "width" => number(0, 65_535),
        "port" => pattern("^([1-9][0-9]{0,3}|[1-5][0-9]{4}|[a-z]([a-z0-9-]{0,48}[a-z0-9])?)$"),
        "plan" => pattern("^[0-9a-f]{8}$"),
        "recipient" => formatted("age"),
        "reference" => pattern(REFERENCE),
        "to" => pattern("^r?[0-9]{1,15}$"),
        "since" => pattern("^[0-9]{1,6}([.][0-9]{1,3}|ms|s|m|h)?$"),
        "path" => pattern("^/[a-z0-9/]*$"),
        "image" => list(pattern("^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?=[a-z0-9]+(:[a-z0-9]+)?$")),
        "cmd" => list(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).into()),
        _ => ObjectBuilder::new().schema_type(Type::String).into(),
    }
}

/// Whether a route can't do without it, on whichever it is.
pub(super) fn required(name: &str) -> Required {
    match name {
        "cmd" | "path" | "recipient" | "reference" => Required::True,
        _ => Required::False,
    }
}

/// A part of a path.
pub(super) fn in_path(name: &str) -> RefOr<Schema> {
    match name {
        "revision" => pattern("^r?[0-9]{1,15}$"),
        "host" => {
            let host = ObjectBuilder::new().schema_type(Type::String);
            host.pattern(Some(HOST)).max_length(Some(253)).into()
        }
        "registry" => pattern("^[a-z0-9]+([.][a-z0-9]+)+(:[1-9][0-9]{0,3})?$"),
        "reference" => pattern(REFERENCE),
        _ => ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).into(),
    }
}

/// A text of a form that no pattern describes.
pub(super) fn formatted(format: &str) -> RefOr<Schema> {
    let format = match format {
        "archive" => SchemaFormat::KnownFormat(KnownFormat::Binary),
        other => SchemaFormat::Custom(other.to_owned()),
    };
    ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
}

fn pattern(pattern: &str) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
}

/// A parameter that may repeat.
fn list(items: RefOr<Schema>) -> RefOr<Schema> {
    RefOr::T(Schema::Array(ArrayBuilder::new().items(items).build()))
}

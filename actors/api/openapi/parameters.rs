//! What parameters take, for the OpenAPI document.
//!
//! Owns that one name means the same on every route. Never reads a request.

use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Required, Schema};

/// The largest number that every client can write exactly.
const EXACT: usize = 9_007_199_254_740_991;

/// A part of the references that there can be: without hosts, digests and marks in names.
const REFERENCE: &str = "^[a-z0-9]+(/[a-z0-9]+)*(:[a-z0-9]+)?$";

/// A query parameter.
pub(super) fn schema(name: &str) -> RefOr<Schema> {
    let number = |least: usize, most: usize| {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        number.minimum(Some(least)).maximum(Some(most)).into()
    };
    match name {
        "all" | "follow" | "force" | "previous" | "replace" | "tty" => {
            ObjectBuilder::new().schema_type(Type::Boolean).into()
        }
        "before" | "from" | "limit" | "tail" => number(0, EXACT),
        "height" | "width" => number(0, 65_535),
        "port" => pattern("^([1-9][0-9]{0,3}|[1-5][0-9]{4}|[a-z]([a-z0-9-]{0,48}[a-z0-9])?)$"),
        "plan" => pattern("^[0-9a-f]{8}$"),
        "reference" => pattern(REFERENCE),
        "since" => pattern("^[0-9]{1,6}(ms|s|m|h)?$"),
        "path" => pattern("^/[a-z0-9/]*$"),
        "image" => list(pattern("^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?=[a-z0-9]+(:[a-z0-9]+)?$")),
        "cmd" => list(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).into()),
        _ => ObjectBuilder::new().schema_type(Type::String).into(),
    }
}

/// Whether a route can't do without it, on whichever it is.
pub(super) fn required(name: &str) -> Required {
    match name {
        "cmd" | "path" | "reference" => Required::True,
        _ => Required::False,
    }
}

/// A part of a path.
pub(super) fn in_path(name: &str) -> RefOr<Schema> {
    match name {
        "revision" => pattern("^r?[0-9]{1,18}$"),
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

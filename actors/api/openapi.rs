//! The OpenAPI document, made of the table of routes and the wire types.
//!
//! Never lists a route or a field by hand.

mod bodies;
mod parameters;

use super::context::Context;
use super::error::ApiError;
use super::request::{Request, json};
use super::routes::{Gives, ROUTES, Route, Shape, Takes, Verb};
use crate::api::wire::ErrorDocument;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::openapi::path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, HttpMethod, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Paths, Ref, RefOr,
    Required, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema, ToSchema};
use warp::http::StatusCode;
use warp::reply::Response;

/// `GET /v1/openapi.json`.
pub async fn serve(_context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    json(StatusCode::OK, &document()?)
}

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// The document of all routes of this build.
///
/// # Errors
/// None that is known: it has nothing in it that JSON can't hold.
pub fn document() -> Result<Value, ApiError> {
    let failed = |error: serde_json::Error| ApiError::Internal {
        doing: "writing the document",
        reason: error.to_string(),
    };
    let mut document = serde_json::to_value(routes()).map_err(failed)?;
    bodies::refine(&mut document);
    Ok(document)
}

fn routes() -> OpenApi {
    let mut schemas = Schemas::new();
    let mut paths = Paths::new();
    collect(&ERROR, &mut schemas);
    for route in ROUTES {
        let item = PathItem::new(method(route.method), operation(route, &mut schemas));
        // Of equal paths, the methods are put together.
        match paths.paths.get_mut(&path(route)) {
            Some(known) => known.merge_operations(item),
            None => drop(paths.paths.insert(path(route), item)),
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme("token", SecurityScheme::Http(bearer))
        .build();
    let info = InfoBuilder::new()
        .title("mill")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("The HTTP API of a mill node. On the UNIX socket no token is needed."))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

const ERROR: Shape = Shape {
    name: ErrorDocument::name,
    schema: <ErrorDocument as PartialSchema>::schema,
    parts: ErrorDocument::schemas,
};

/// The path as OpenAPI writes it.
fn path(route: &Route) -> String {
    route.path.replace("*}", "}")
}

fn method(verb: Verb) -> HttpMethod {
    match verb {
        Verb::Get => HttpMethod::Get,
        Verb::Post => HttpMethod::Post,
        Verb::Put => HttpMethod::Put,
        Verb::Patch => HttpMethod::Patch,
        Verb::Delete => HttpMethod::Delete,
    }
}

fn operation(route: &Route, schemas: &mut Schemas) -> Operation {
    let mut operation = OperationBuilder::new().summary(Some(route.summary));
    for part in path(route).split('/') {
        if let Some(name) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(parameters::in_path(name))),
            );
        }
    }
    for parameter in route.query {
        operation = operation.parameter(
            ParameterBuilder::new()
                .name(parameter.name)
                .parameter_in(ParameterIn::Query)
                .required(parameters::required(parameter.name))
                .description(Some(parameter.what))
                .schema(Some(parameters::schema(parameter.name))),
        );
    }
    if let Some((kind, schema)) = taken(&route.body, schemas) {
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let body = RequestBodyBuilder::new().content(kind, content).required(Some(Required::True));
        operation = operation.request_body(Some(body.build()));
    }
    if let Some(role) = route.role {
        let scopes = [role.name()];
        operation = operation.security(SecurityRequirement::new("token", scopes));
    }
    let refused = ContentBuilder::new().schema(Some(Ref::from_schema_name(ErrorDocument::name())));
    let refused = ResponseBuilder::new()
        .description("What went wrong")
        .content("application/json", refused.build());
    operation
        .response(route.status.to_string(), given(route, schemas))
        .response("default", refused)
        .build()
}

fn taken(body: &Takes, schemas: &mut Schemas) -> Option<(&'static str, RefOr<Schema>)> {
    match body {
        Takes::Nothing => None,
        Takes::File => Some(("text/plain", parameters::formatted("mill"))),
        Takes::Archive => Some(("application/octet-stream", parameters::formatted("archive"))),
        Takes::Json(shape) => Some(("application/json", collect(shape, schemas))),
    }
}

fn given(route: &Route, schemas: &mut Schemas) -> ResponseBuilder {
    let response = ResponseBuilder::new();
    let content = |schema: RefOr<Schema>| ContentBuilder::new().schema(Some(schema)).build();
    match &route.answer {
        Gives::Nothing => response.description("Done"),
        Gives::OpenApi => response
            .description("The document")
            .content("application/json", content(ObjectBuilder::new().into())),
        Gives::Archive => {
            response.description("The archive").content("application/x-tar", content(text()))
        }
        Gives::Bytes => {
            response.description("The file").content("application/octet-stream", content(text()))
        }
        Gives::Text => response
            .description("The figures")
            .content("application/openmetrics-text", content(text())),
        Gives::Json(shape) => response
            .description("The document")
            .content("application/json", content(collect(shape, schemas))),
        Gives::List(shape) => {
            let items = ArrayBuilder::new().items(collect(shape, schemas)).build();
            response
                .description("All of them")
                .content("application/json", content(RefOr::T(Schema::Array(items))))
        }
        Gives::Feed(shape) => {
            let items = ArrayBuilder::new().items(collect(shape, schemas)).build();
            response
                .description("All of them; with follow an event for each, its data the document")
                .content("application/json", content(RefOr::T(Schema::Array(items))))
                .content("text/event-stream", content(event()))
        }
        Gives::Events(events, document) => {
            let names: Vec<String> = events
                .iter()
                .map(|(name, shape)| {
                    collect(shape, schemas);
                    format!("{name}: {}", (shape.name)())
                })
                .collect();
            let mut response = response
                .description(format!("Events, each with its data: {}", names.join(", ")))
                .content("text/event-stream", content(event()));
            if let Some(shape) = document {
                response = response.content("application/json", content(collect(shape, schemas)));
            }
            response
        }
    }
}

/// An event of a stream.
fn event() -> RefOr<Schema> {
    let event = ObjectBuilder::new().schema_type(Type::Object);
    event.property("id", text()).property("event", text()).property("data", text()).into()
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).into()
}

/// Adds a schema and those that it refers to, and refers to it.
fn collect(shape: &Shape, schemas: &mut Schemas) -> RefOr<Schema> {
    let mut parts = Vec::new();
    (shape.parts)(&mut parts);
    schemas.extend(parts);
    let name = (shape.name)().into_owned();
    schemas.insert(name.clone(), (shape.schema)());
    RefOr::Ref(Ref::from_schema_name(name))
}

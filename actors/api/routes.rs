//! Routes: what there is, who may use it, who answers, how it is documented.
//!
//! Owns the one list from which requests are answered and the OpenAPI document is made. Never
//! answers a request itself.

mod kept;
mod member;
mod node;
mod parts;
mod table;

pub use member::MEMBER_ROUTES;
pub use table::ROUTES;

use super::context::Context;
use super::error::ApiError;
use super::request::{Request, decode};
use crate::fsm::model::Role;
use futures_util::future::BoxFuture;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};
use warp::http::Method;
use warp::reply::Response;

type Handler = fn(Arc<Context>, Request) -> BoxFuture<'static, Result<Response, ApiError>>;

/// The methods that routes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Look.
    Get,
    /// Do or make.
    Post,
    /// Make or replace.
    Put,
    /// Change a part.
    Patch,
    /// Remove.
    Delete,
}

impl Verb {
    /// As HTTP has it.
    pub fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// A route.
#[derive(Clone, Copy)]
pub struct Route {
    /// Its method.
    pub method: Verb,
    /// Its path; `{name}` stands for one part, `{name*}` at the end for all that follow.
    pub path: &'static str,
    /// The least role that may use it; absent: anybody, without a token.
    pub role: Option<Role>,
    /// It is answered on the UNIX socket only.
    pub local: bool,
    /// It is answered before the node belongs to a cluster.
    pub unclaimed: bool,
    /// Who answers.
    pub handler: Handler,
    /// One line for people.
    pub summary: &'static str,
    /// What its query may have.
    pub query: &'static [Parameter],
    /// What it takes.
    pub body: Takes,
    /// The status of its answer.
    pub status: u16,
    /// What it gives.
    pub answer: Gives,
}

/// A query parameter.
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub enum Takes {
    /// None.
    Nothing,
    /// A file as text.
    File,
    /// An archive as it is.
    Archive,
    /// A document.
    Json(Shape),
}

/// The body of an answer.
#[derive(Clone, Copy)]
pub enum Gives {
    /// None.
    Nothing,
    /// A document.
    Json(Shape),
    /// A list of documents.
    List(Shape),
    /// A stream of these events, or the document if JSON is asked for.
    Events(&'static [(&'static str, Shape)], Option<Shape>),
    /// A tar archive.
    Archive,
    /// Bytes as they are.
    Bytes,
    /// Text for a program.
    Text,
    /// A list of documents, or a stream of them if it is followed.
    Feed(Shape),
    /// The OpenAPI document.
    OpenApi,
}

/// A document's schema.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Its name.
    pub name: fn() -> Cow<'static, str>,
    /// The schema itself.
    pub schema: fn() -> RefOr<Schema>,
    /// The schemas that it refers to.
    pub parts: fn(&mut Vec<(String, RefOr<Schema>)>),
}

const fn shape<T: ToSchema>() -> Shape {
    Shape { name: T::name, schema: <T as PartialSchema>::schema, parts: T::schemas }
}

impl Route {
    /// What the parts of a path stand for, if it is of this route.
    ///
    /// # Errors
    /// A part is not UTF-8.
    pub fn params(&self, path: &str) -> Result<Option<BTreeMap<&'static str, String>>, ApiError> {
        let mut params = BTreeMap::new();
        let mut given = path.split('/');
        let mut wanted = self.path.split('/');
        loop {
            let (want, have) = match (wanted.next(), given.next()) {
                (None, None) => return Ok(Some(params)),
                (Some(want), Some(have)) => (want, have),
                _ => return Ok(None),
            };
            let name = want.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match name.map(|name| name.strip_suffix('*').ok_or(name)) {
                None if want == have => {}
                None => return Ok(None),
                Some(_) if have.is_empty() => return Ok(None),
                Some(Err(name)) => drop(params.insert(name, decode(have, false)?)),
                Some(Ok(name)) => {
                    let rest: Vec<&str> = std::iter::once(have).chain(given).collect();
                    params.insert(name, decode(&rest.join("/"), false)?);
                    return Ok(Some(params));
                }
            }
        }
    }
}

//! From a request to its route's handler: finding the route, letting the caller in, answering.
//!
//! Owns who may do what. Never lets anything but JSON out for a failure, not even for a panic.

use super::Membership;
use super::caller::{self, Caller};
use super::context::{self, Context, now};
use super::error::ApiError;
use super::request::{self, Body, Entrance, MILL_INCARNATION, MILL_ROLE, Request};
use super::routes::{MEMBER_ROUTES, ROUTES, Route, Takes};
use super::serve::{Origin, Routes};
use super::tokens;
use crate::cluster::token;
use crate::fsm::model::Role;
use crate::id::Index;
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use warp::Filter;
use warp::http::header::AUTHORIZATION;
use warp::http::{HeaderMap, Method};
use warp::path::FullPath;
use warp::reply::Response;
use warp::ws::Ws;

/// All routes for one entrance, as a filter that never rejects.
pub fn filter(context: Arc<Context>, entrance: Entrance) -> Routes {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream().map(request::body))
        .and(warp::ws().map(Some).or(warp::any().map(|| None)).unify())
        .and(warp::ext::optional::<Origin>())
        .then(move |method, path: FullPath, query, headers, body, upgrade, origin| {
            let path = path.as_str().to_owned();
            let origin = Option::unwrap_or_default(origin);
            let parts = Parts { method, path, query, headers, body, upgrade, origin };
            answer(Arc::clone(&context), entrance, parts)
        })
        .recover(|_| async {
            // The filters above take every request.
            let lost = ApiError::BadRequest { message: "not a request".to_owned(), hint: None };
            Ok::<_, warp::Rejection>(lost.response())
        })
        .unify()
        .boxed()
}

/// A request as it came in.
struct Parts {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
    upgrade: Option<Ws>,
    origin: Origin,
}

async fn answer(context: Arc<Context>, entrance: Entrance, parts: Parts) -> Response {
    let handling = async {
        match handle(Arc::clone(&context), entrance, parts).await {
            Err(ApiError::NoLeader) => Err(context.no_leader().await),
            Err(ApiError::Starting) => Err(context.starting().await),
            handled => handled,
        }
    };
    let answered = AssertUnwindSafe(context::answering(handling)).catch_unwind().await;
    let response = answered.unwrap_or_else(|_| {
        tracing::error!("a request's handler panicked");
        let doing = "carrying out the request";
        let reason = "an error in the program; its log has more".to_owned();
        ApiError::Internal { doing, reason }.response()
    });
    // What hangs on no reading, such as a refusal, is of the state at hand.
    match context.view() {
        Some(view) if !response.headers().contains_key(request::MILL_INDEX) => {
            request::at(view.index, response)
        }
        _ => response,
    }
}

async fn handle(
    context: Arc<Context>,
    entrance: Entrance,
    parts: Parts,
) -> Result<Response, ApiError> {
    let found = find(entrance, &parts.method, &parts.path);
    let is_open = matches!(&found, Ok((route, _)) if route.role.is_none());
    let admitted = if is_open {
        Admitted { role: Role::Read, caller: Caller::Nobody }
    } else {
        // Whoever isn't let in learns nothing about routes either.
        admit(&context, entrance, &parts)
            .map_err(|error| counted(&context, parts.origin.address, error))?
    };
    let (route, params) = found?;
    if route.local && entrance != Entrance::Local {
        return Err(ApiError::LocalOnly);
    }
    if let Some(need) = route.role
        && (admitted.role == Role::Join || admitted.role < need)
    {
        return Err(ApiError::forbidden(need, admitted.role));
    }
    let is_unclaimed = matches!(*context.membership.borrow(), Membership::Unclaimed);
    if is_unclaimed && !route.unclaimed {
        return Err(ApiError::Unclaimed);
    }
    let query = request::pairs(&parts.query)?;
    check_query(route, &query)?;
    let mut request = Request {
        method: parts.method,
        path: parts.path,
        params,
        query,
        raw_query: parts.query,
        headers: parts.headers,
        body: parts.body,
        upgrade: parts.upgrade,
        caller: admitted.caller.name(),
        role: admitted.role,
    };
    if matches!(route.body, Takes::Nothing) && request.method != Method::GET {
        request.refuse_body().await?;
    }
    if entrance == Entrance::Member {
        let index = request.header(request::MILL_INDEX.as_str()).and_then(|n| n.parse().ok());
        context.catch_up(Index(index.unwrap_or_default())).await;
    }
    caller::answering(admitted.caller, (route.handler)(context, request)).await
}

/// Who asks, and what that one may do.
struct Admitted {
    role: Role,
    caller: Caller,
}

fn admit(context: &Context, entrance: Entrance, parts: &Parts) -> Result<Admitted, ApiError> {
    match entrance {
        Entrance::Local => return Ok(Admitted { role: Role::Admin, caller: Caller::Local }),
        Entrance::Member => return admit_member(context, parts),
        Entrance::Network => {}
    }
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, text) = header.and_then(|h| h.split_once(' ')).ok_or(ApiError::NoToken)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::NoToken);
    }
    let view = context.view().ok_or(ApiError::Starting)?;
    let token = token::find(&view.state, text.trim(), now())?;
    if parts.origin.stranger.as_ref().is_some_and(|stranger| !stranger.admit()) {
        return Err(ApiError::TooMany { what: "connections" });
    }
    Ok(Admitted { role: token.role, caller: Caller::Token(token.id.clone()) })
}

/// A member is believed whom it has let in: its certificate was verified by the peer port.
fn admit_member(context: &Context, parts: &Parts) -> Result<Admitted, ApiError> {
    let view = context.view().ok_or(ApiError::Starting)?;
    let refused = |why: &str| {
        let message = format!("this node is asked by one that is {why}");
        ApiError::Denied { message, hint: None }
    };
    let node = parts.origin.member.ok_or_else(|| refused("no member"))?;
    if view.state.removed.contains(&node) {
        return Err(refused("removed from the cluster"));
    }
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let cluster = view.state.cluster.as_ref();
    let incarnation = cluster.map(|cluster| cluster.incarnation.to_string());
    if text(MILL_INCARNATION) != incarnation.as_deref() {
        return Err(refused("of another life of the cluster"));
    }
    let role = text(MILL_ROLE).ok_or_else(|| refused("silent about its caller"))?;
    Ok(Admitted { role: tokens::role(&role.into())?, caller: Caller::Member(node) })
}

/// Who shows wrong tokens too often from one place is told only that.
fn counted(context: &Context, origin: Option<IpAddr>, error: ApiError) -> ApiError {
    let failed = matches!(error, ApiError::Token(_));
    match origin {
        Some(origin) if failed && !context.failures.count(origin) => ApiError::TooManyFailures,
        _ => error,
    }
}

type Found = (&'static Route, BTreeMap<&'static str, String>);

/// The route of a method and path, with what the path's parts stand for.
fn find(entrance: Entrance, method: &Method, path: &str) -> Result<Found, ApiError> {
    // The answer to HEAD is that to GET; hyper leaves out the body.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in if entrance == Entrance::Member { MEMBER_ROUTES } else { ROUTES } {
        let Some(params) = route.params(path)? else { continue };
        if route.method.method() == *method {
            return Ok((route, params));
        }
        allowed.push(route);
    }
    // Where a route has just that path, those that have a name in its place are beside the point.
    if allowed.iter().any(|route| route.path == path) {
        allowed.retain(|route| route.path == path);
    }
    let allowed: Vec<Method> = allowed.iter().map(|route| route.method.method()).collect();
    if !allowed.is_empty() {
        let (path, method) = (path.to_owned(), method.to_string());
        return Err(ApiError::NoMethod { path, method, allowed });
    }
    Err(ApiError::NoRoute { path: path.to_owned() })
}

/// A parameter that would be ignored could change what is asked for.
fn check_query(route: &Route, query: &[(String, String)]) -> Result<(), ApiError> {
    let known = |name: &str| route.query.iter().any(|parameter| parameter.name == name);
    let Some((unknown, _)) = query.iter().find(|(name, _)| !known(name)) else { return Ok(()) };
    let all: Vec<&str> = route.query.iter().map(|parameter| parameter.name).collect();
    let hint = if all.is_empty() {
        "it takes none".to_owned()
    } else {
        format!("it takes {}", all.join(", "))
    };
    Err(ApiError::bad(format!("no parameter {unknown} is known here"), hint))
}

//! What the API answers when it can't do what was asked.
//!
//! Owns the mapping from every failure to a status and the error document. Never lets a failure out
//! in another form.

mod hint;

use crate::actors::root::ProposeError;
use crate::api::wire::{ErrorCode, ErrorDetail, ErrorDocument, ErrorView};
use crate::cluster::token::TokenError;
use crate::fsm::Rejection;
use crate::fsm::model::Role;
use crate::scheduler::revise::{ResolveError, ReviseError};
use warp::http::header::{
    ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use warp::http::{Method, StatusCode};
use warp::reply::Response;

/// The header of a failure after which the change may have been carried out, or may still be.
const MILL_UNCONFIRMED: HeaderName = HeaderName::from_static("mill-unconfirmed");

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request makes no sense.
    #[error("{message}")]
    BadRequest {
        message: String,
        /// What to send instead.
        hint: Option<String>,
    },
    /// The request carries no token.
    #[error("no token was sent")]
    NoToken,
    /// The request carries one that is not let in.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The token may not do this.
    #[error("this needs a token with the role {need}; yours has {have}")]
    Forbidden {
        /// The role that may.
        need: &'static str,
        /// The token's.
        have: &'static str,
    },
    /// The request may only come through the UNIX socket.
    #[error("this is answered on the UNIX socket of the node only")]
    LocalOnly,
    /// No route has this path.
    #[error("no such route: {path}")]
    NoRoute { path: String },
    /// The path has no such method.
    #[error("{path} has no {method}")]
    NoMethod {
        path: String,
        method: String,
        /// Those that it has.
        allowed: Vec<Method>,
    },
    /// What the request names doesn't exist.
    #[error("no {what} {name}")]
    NotFound {
        /// Its kind.
        what: &'static str,
        name: String,
    },
    /// The name fits several.
    #[error("{name} fits several allocations: {fits}")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// Some of those that it fits.
        fits: String,
    },
    /// What runs doesn't allow it.
    #[error("{message}")]
    Conflict { message: String, hint: Option<String> },
    /// What was planned can't be done any more.
    #[error("plan {hash} is past: {why}")]
    PlanStale {
        /// The plan.
        hash: String,
        /// What has changed since.
        why: String,
    },
    /// The node belongs to no cluster.
    #[error("this node belongs to no cluster yet")]
    Unclaimed,
    /// The body is too large.
    #[error("the body is larger than {max} bytes")]
    TooLarge {
        /// The bound.
        max: u64,
    },
    /// The file can't be deployed.
    #[error("{message}")]
    InvalidFile {
        /// All of it in a line.
        message: String,
        /// Where in the file.
        details: Vec<ErrorDetail>,
    },
    /// Too much at once.
    #[error("too many {what} at once")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
    },
    /// The state rejected the change.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No revision can be made of what was asked.
    #[error(transparent)]
    Revise(#[from] ReviseError),
    /// No leader confirmed the change.
    #[error("no leader: changes are refused; containers run on")]
    NoLeader,
    /// The leader has no room for it.
    #[error("the leader's disk is nearly full: changes are refused; containers run on")]
    DiskFull,
    /// The same, and who is missing.
    #[error("{message}")]
    Silent {
        /// In a person's words.
        message: String,
    },
    /// It isn't known whether the change was carried out.
    #[error("the change was not confirmed in time; it may still be carried out")]
    Unconfirmed,
    /// The node has not read its log yet.
    #[error("the node is starting")]
    Starting,
    /// The node is about to end.
    #[error("the node is stopping")]
    Stopping,
    /// HTTP where only HTTPS is spoken.
    #[error("this address speaks HTTPS only")]
    WantsTls,
    /// Too many wrong tokens came from there.
    #[error("too many wrong tokens")]
    TooManyFailures,
    /// Somebody else doesn't let this node in.
    #[error("{message}")]
    Denied { message: String, hint: Option<String> },
    /// Another node's part of the answer can't be had.
    #[error("{message}")]
    Unreachable {
        /// Which node, and why.
        message: String,
    },
    /// Another node was asked, and refuses.
    #[error("{}", .error.message)]
    Relayed {
        /// The status of its answer.
        status: u16,
        /// Its words.
        error: ErrorView,
    },
    /// A part of the node failed.
    #[error("{doing}: {reason}")]
    Internal { doing: &'static str, reason: String },
}

impl From<ProposeError> for ApiError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Rejected(rejection) => Self::Rejected(rejection),
            ProposeError::NoLeader => Self::NoLeader,
            ProposeError::Unconfirmed => Self::Unconfirmed,
            ProposeError::Overloaded => Self::TooMany { what: "changes" },
            ProposeError::TooLarge => Self::Internal {
                doing: "writing the change to the log",
                reason: "it is too large".to_owned(),
            },
            ProposeError::DiskFull => Self::DiskFull,
            ProposeError::Stopping => Self::Stopping,
        }
    }
}

impl ApiError {
    /// A request that makes no sense, with what to send instead.
    pub fn bad(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::BadRequest { message: message.into(), hint: Some(hint.into()) }
    }

    /// The role is too low.
    #[must_use]
    pub fn forbidden(need: Role, have: Role) -> Self {
        Self::Forbidden { need: need.name(), have: have.name() }
    }

    /// The status and the code.
    fn kind(&self) -> (StatusCode, ErrorCode) {
        match self {
            Self::BadRequest { .. } | Self::Ambiguous { .. } | Self::WantsTls => BAD_REQUEST,
            Self::NoToken | Self::Token(_) => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
            Self::Forbidden { .. } | Self::LocalOnly | Self::Denied { .. } => {
                (StatusCode::FORBIDDEN, ErrorCode::Forbidden)
            }
            Self::NoRoute { .. } | Self::NotFound { .. } => NOT_FOUND,
            Self::NoMethod { .. } => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::MethodNotAllowed),
            Self::Conflict { .. } | Self::DiskFull => CONFLICT,
            Self::PlanStale { .. } | Self::Rejected(Rejection::PlanStale { .. }) => {
                (StatusCode::CONFLICT, ErrorCode::PlanStale)
            }
            Self::Unclaimed => (StatusCode::CONFLICT, ErrorCode::Unclaimed),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::TooLarge),
            Self::InvalidFile { .. } => (StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::InvalidFile),
            Self::TooMany { .. } | Self::TooManyFailures => {
                (StatusCode::TOO_MANY_REQUESTS, ErrorCode::RateLimited)
            }
            Self::NoLeader
            | Self::Silent { .. }
            | Self::Unconfirmed
            | Self::Starting
            | Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::NoLeader),
            Self::Unreachable { .. } => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unreachable),
            Self::Relayed { status, .. } => {
                // Its code is in its own words.
                (
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY),
                    ErrorCode::Internal,
                )
            }
            Self::Internal { .. } => INTERNAL,
            Self::Rejected(rejection) => match rejection {
                Rejection::NotFound { .. } => NOT_FOUND,
                Rejection::Internal { .. } => INTERNAL,
                _ => CONFLICT,
            },
            Self::Revise(error) => match error {
                ReviseError::NoService { .. }
                | ReviseError::NoApp { .. }
                | ReviseError::NoApps
                | ReviseError::NoRevision { .. }
                | ReviseError::NotKept { .. } => NOT_FOUND,
                ReviseError::NothingToOverride { .. }
                | ReviseError::TooMany { .. }
                | ReviseError::OneReplica { .. }
                | ReviseError::WhichApp { .. } => BAD_REQUEST,
                ReviseError::OtherApp { .. }
                | ReviseError::NeverWorked { .. }
                | ReviseError::NoneBefore { .. } => CONFLICT,
                ReviseError::Broken { .. } => INTERNAL,
                ReviseError::Image { source, .. } => match source {
                    ResolveError::Unreachable { .. } | ResolveError::Limited { .. } => INTERNAL,
                    // Whatever is there: there is nothing to run.
                    _ => NOT_FOUND,
                },
            },
        }
    }

    /// The error document.
    #[must_use]
    pub fn document(&self) -> ErrorDocument {
        if let Self::Relayed { error, .. } = self {
            return ErrorDocument { error: error.clone() };
        }
        let details = match self {
            Self::InvalidFile { details, .. } => details.clone(),
            _ => Vec::new(),
        };
        let code = self.kind().1;
        let error = ErrorView { code, message: self.to_string(), hint: self.hint(), details };
        ErrorDocument { error }
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> Response {
        let body = serde_json::to_vec(&self.document()).unwrap_or_default();
        let mut response = Response::new(bytes::Bytes::from(body).into());
        *response.status_mut() = self.kind().0;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self {
            Self::NoToken | Self::Token(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NoMethod { allowed, .. } => {
                let all: Vec<&str> = allowed.iter().map(Method::as_str).collect();
                if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
                    headers.insert(ALLOW, value);
                }
            }
            Self::Unconfirmed => {
                headers.insert(MILL_UNCONFIRMED, HeaderValue::from_static("true"));
            }
            _ => {}
        }
        let status = self.kind().0;
        if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

const BAD_REQUEST: (StatusCode, ErrorCode) = (StatusCode::BAD_REQUEST, ErrorCode::BadRequest);
const NOT_FOUND: (StatusCode, ErrorCode) = (StatusCode::NOT_FOUND, ErrorCode::NotFound);
const CONFLICT: (StatusCode, ErrorCode) = (StatusCode::CONFLICT, ErrorCode::Conflict);
const INTERNAL: (StatusCode, ErrorCode) = (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Internal);

//! The document of every failure.
//!
//! Owns its shape. Never decides what is a failure.

use super::words::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// What kind of failure it is.
    pub enum ErrorCode in "snake_case" {
        /// The request makes no sense.
        BadRequest,
        /// There is no valid token.
        Unauthorized,
        /// The token's role is too low.
        Forbidden,
        /// There is no such thing.
        NotFound,
        /// The path doesn't have that method.
        MethodNotAllowed,
        /// It doesn't fit what is there.
        Conflict,
        /// The plan is not what would be done now.
        PlanStale,
        /// The node belongs to no cluster.
        Unclaimed,
        /// The body is too long.
        TooLarge,
        /// The file has mistakes.
        InvalidFile,
        /// There are too many at once.
        RateLimited,
        /// It failed within, or something outside doesn't answer.
        Internal,
        /// Nobody leads, or the node starts or stops.
        NoLeader,
        /// The node that was to answer doesn't.
        Unreachable,
    }
}

/// What went wrong, as every failed request answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// The error.
    pub error: ErrorView,
}

/// An error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorView {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Places in the file.
    #[serde(default)]
    pub details: Vec<ErrorDetail>,
}

/// A place in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

//! The document of every failure.
//!
//! Owns its shape. Never decides what is a failure.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    pub code: String,
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

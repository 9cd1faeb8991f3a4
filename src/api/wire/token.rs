//! Documents of API tokens.
//!
//! Owns their shape. Never computes anything.

use super::words::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// What a token is good for.
    pub enum Role in "kebab-case" {
        /// Everything.
        Admin,
        /// To change what runs.
        Deploy,
        /// To look.
        Read,
        /// To let a node in.
        Join,
    }
}

/// An API token, without its secret part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public part.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: String,
    /// When it ends.
    pub expires_at: Option<String>,
    /// How many more nodes it lets in; absent: any number.
    #[serde(default)]
    pub uses: Option<u32>,
}

/// Body of a request for a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What it may do.
    pub role: Role,
    /// Seconds until it ends; absent: a day for role `join`, else never.
    #[schema(minimum = 1)]
    #[serde(default, deserialize_with = "super::whole::option")]
    pub ttl: Option<u64>,
    /// Of role `join`: how many nodes it lets in; absent: any number.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::whole::option"
    )]
    #[schema(minimum = 1)]
    pub uses: Option<u32>,
}

/// A new token, shown once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewTokenView {
    /// Its public part.
    pub id: String,
    /// What it may do.
    pub role: Role,
    /// The whole of it.
    pub token: String,
}

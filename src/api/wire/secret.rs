//! Documents of secrets.
//!
//! Owns their shape. A value is in two of them only: what is set, and what an admin asks for.

use super::words::words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

words! {
    /// How a value is written.
    pub enum Encoding in "kebab-case" {
        /// Bytes in base64.
        Base64,
    }
}

/// A secret without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// Number of its value, from 1.
    pub version: u64,
    /// Bytes of its value.
    pub size: u32,
    /// It can be a file, not a variable.
    pub binary: bool,
    /// When it was first set.
    pub created_at: String,
    /// When it was last set.
    pub updated_at: String,
    /// The services and tasks that need it.
    pub used_by: Vec<String>,
    /// By service of which a replica runs with an older value: the oldest version.
    pub outdated: BTreeMap<String, u64>,
}

/// A value to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRequest {
    /// The value: 1 byte to 64 KiB.
    #[schema(min_length = 1)]
    pub value: String,
    /// How the value is written; absent: it is the text itself.
    #[serde(default)]
    pub encoding: Option<Encoding>,
}

/// Several values to be: all or none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretsRequest {
    /// By name: the text.
    pub secrets: BTreeMap<String, String>,
}

/// A secret with its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretValueView {
    /// Its name.
    pub name: String,
    /// Number of its value.
    pub version: u64,
    /// The value.
    pub value: String,
    /// How the value is written if it is binary; absent: it is the text itself.
    pub encoding: Option<Encoding>,
}

/// What another keyring sealed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RotatedView {
    /// Secrets.
    pub secrets: usize,
    /// Logins to registries.
    pub logins: usize,
}

impl fmt::Debug for SecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretRequest(…)")
    }
}

impl fmt::Debug for SecretsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretsRequest({:?}, …)", self.secrets.keys())
    }
}

impl fmt::Debug for SecretValueView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretValueView({}, …)", self.name)
    }
}

//! Documents of logs.
//!
//! Owns their shape. Never reads a log.

use super::AccessView;
use super::words::words;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Where a line comes from.
    pub enum LogStream in "kebab-case" {
        /// The program.
        Stdout,
        /// The program.
        Stderr,
        /// A request that a proxy took.
        Access,
        /// Mill, between the lines.
        Event,
    }
}

/// A line that a program wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LogLineView {
    /// When the node read it.
    pub ts: String,
    /// Where it comes from.
    pub stream: LogStream,
    /// Without its end.
    pub line: String,
    /// The same in base64, only where it isn't text in UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
    /// No line break stands behind it; absent otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub open: bool,
    /// Whose.
    pub allocation: String,
    /// Where.
    pub node: String,
    /// The request, in an access log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Box<AccessView>>,
}

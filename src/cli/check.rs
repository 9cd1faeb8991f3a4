//! `mill check`: whether a file is valid, offline.
//!
//! Owns the check of a file's bytes. Never asks a daemon and never reads arguments.

use crate::spec::{self, Report, Spec};

/// Checks the text of a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(text: &str, file_name: &str) -> Result<Spec, Report> {
    spec::parse(file_name, text)
}

/// A file's bytes as text.
///
/// # Errors
/// The place of the first byte that isn't UTF-8.
pub fn text(bytes: Vec<u8>, file_name: &str) -> Result<String, Report> {
    spec::text(file_name, bytes)
}

//! An error with its causes, in one line.
//!
//! Never judges one.

use std::error::Error;

/// The error and all that caused it; a cause whose words are there already is left out.
#[must_use]
pub fn with_reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let reason = cause.to_string();
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        source = cause.source();
    }
    text
}

//! The command line: one file a command.
//!
//! Owns what people type and read. Never talks to containers or the log directly, only to the API.

pub mod check;
pub mod fmt;

use std::process::ExitCode;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}

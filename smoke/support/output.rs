//! What a command printed and how it ended.
//!
//! Never runs one.

use serde_json::Value;
use std::process::Output;

/// A command that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was typed, for messages.
    pub command: String,
    /// The exit code; none after a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// From what the standard library gives.
    #[must_use]
    pub fn new(command: String, output: Output) -> Self {
        Self {
            command,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Asserts success, and gives standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        self.code(0).stdout
    }

    /// Asserts an exit code.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        assert_eq!(
            self.code,
            Some(wanted),
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Asserts success, and gives standard output as one JSON document.
    #[track_caller]
    pub fn json(self) -> Value {
        let command = self.command.clone();
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}\n{text}"))
    }

    /// Asserts that standard error has this text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{}: no {text:?} in\n{}", self.command, self.stderr);
        self
    }
}

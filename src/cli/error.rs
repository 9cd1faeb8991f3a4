//! Why a command did not do what it was asked to, and the process's exit code for it.
//!
//! Owns exit codes, and how an error reads for people and for programs. Never prints.

use super::argv::ArgvError;
use super::client::ClientError;
use super::globals::AddressError;
use crate::api::wire::{ErrorCode, ErrorDetail, ErrorDocument, ErrorView};
use crate::config::ConfigError;
use crate::spec::{Detail, Report};
use std::path::PathBuf;

/// The operation failed.
pub const FAILED: u8 = 1;
/// Wrong usage or an invalid file.
pub const USAGE: u8 = 2;
/// No daemon was reached.
pub const NO_DAEMON: u8 = 3;
/// Not authorised.
pub const DENIED: u8 = 4;
/// Gave up waiting; the deployment goes on.
pub const GAVE_UP: u8 = 5;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// Why a command ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// What was typed doesn't fit.
    #[error(transparent)]
    Argv(#[from] ArgvError),
    /// What was typed doesn't fit, in argh's or a command's words.
    #[error("{message}")]
    Usage { message: String, hint: Option<String> },
    /// A part of the program that isn't there yet.
    #[error("{what} is not built yet")]
    NotBuilt { what: String },
    /// A setting of the daemon.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `--address`.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The file has problems.
    #[error(transparent)]
    File(#[from] Report),
    /// A file that can't be read.
    #[error("{}: {}", path.display(), unread(source))]
    Read { path: PathBuf, source: std::io::Error },
    /// The daemon: not there, or it refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon found problems in the file.
    #[error("{}", report(name, text, document))]
    Refused {
        /// The file's name.
        name: String,
        /// The file as it was written.
        text: String,
        /// What the daemon said, at the file's places.
        document: Box<ErrorDocument>,
    },
    /// The operation failed.
    #[error("{message}")]
    Failed {
        /// What was done and what went wrong.
        message: String,
        hint: Option<String>,
    },
    /// It was said already: only the code is left.
    #[error("exit code {code}")]
    Said { code: u8 },
    /// Waited as long as was allowed.
    #[error("{message}")]
    GaveUp {
        /// What was waited for, and how to look again.
        message: String,
    },
    /// Nothing was written since nobody reads it.
    #[error("cannot write: {source}")]
    Output { source: std::io::Error },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// Wrong usage.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: Some(hint.into()) }
    }

    /// A failed operation.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), hint: None }
    }

    /// The process's exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Argv(_) | Self::Usage { .. } | Self::Config(_) | Self::Address(_) => USAGE,
            Self::File(_) | Self::Refused { .. } | Self::Read { .. } => USAGE,
            Self::Client(error) => error.code(),
            Self::NotBuilt { .. } | Self::Failed { .. } => FAILED,
            Self::Said { code } => *code,
            Self::GaveUp { .. } => GAVE_UP,
            Self::Output { source } if source.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Self::Output { .. } => FAILED,
            Self::Interrupted => INTERRUPTED,
        }
    }

    /// Whether there is nothing left to say.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Said { .. } | Self::Interrupted => true,
            Self::Output { source } => source.kind() == std::io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Argv(error) => error.hint(),
            Self::Usage { hint, .. } | Self::Failed { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    /// What a person reads, without an end of line.
    #[must_use]
    pub fn text(&self) -> String {
        let message = match self {
            Self::Client(error) => error.text(),
            other => other.to_string(),
        };
        with_hint(&message, self.hint().as_deref())
    }

    /// What a program reads: the API's document.
    #[must_use]
    pub fn document(&self) -> ErrorDocument {
        if let Self::Client(ClientError::Api { document, .. }) = self {
            return document.clone();
        }
        if let Self::Refused { document, .. } = self {
            return (**document).clone();
        }
        let code = match (self, self.code()) {
            (Self::File(_), _) => ErrorCode::InvalidFile,
            (_, USAGE) => ErrorCode::BadRequest,
            (_, DENIED) => ErrorCode::Unauthorized,
            // Those of the command line alone.
            (_, NO_DAEMON) => ErrorCode::Other("no_daemon".to_owned()),
            (_, GAVE_UP) => ErrorCode::Other("timeout".to_owned()),
            _ => ErrorCode::Other("failed".to_owned()),
        };
        let (message, details) = match self {
            Self::File(report) => (
                format!("{} is not valid", report.file),
                report.details().into_iter().map(wire_detail).collect(),
            ),
            Self::Argv(_) => (self.text(), vec![]),
            other => (other.to_string().trim_end().to_owned(), vec![]),
        };
        let hint = if let Self::Argv(_) = self { None } else { self.hint() };
        ErrorDocument { error: ErrorView { code, message, hint, details } }
    }
}

/// A message with its hint: one in capitals starts a sentence, another goes on.
#[must_use]
pub fn with_hint(message: &str, hint: Option<&str>) -> String {
    let message = message.trim_end();
    match hint {
        // What was asked is answered.
        Some(hint) if message.ends_with('?') => format!("{message} {hint}"),
        Some(hint) if hint.starts_with(char::is_uppercase) => {
            format!("{}. {hint}", message.trim_end_matches('.'))
        }
        Some(hint) => format!("{}; {hint}", message.trim_end_matches('.')),
        None => message.to_owned(),
    }
}

/// Why a file can't be read, in words.
#[must_use]
pub fn unread(error: &std::io::Error) -> String {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound => "no such file".to_owned(),
        Kind::PermissionDenied => "it may not be read".to_owned(),
        Kind::IsADirectory => "it is a directory".to_owned(),
        Kind::NotADirectory => "a part of the path is no directory".to_owned(),
        _ => error.to_string(),
    }
}

fn report(name: &str, text: &str, document: &ErrorDocument) -> Report {
    let detail = |detail: &ErrorDetail| Detail {
        line: detail.line,
        column: detail.column,
        message: detail.message.clone(),
        hint: detail.hint.clone(),
    };
    let details: Vec<Detail> = document.error.details.iter().map(detail).collect();
    Report::from_details(name, text, &details)
}

fn wire_detail(detail: Detail) -> ErrorDetail {
    let Detail { line, column, message, hint } = detail;
    ErrorDetail { line, column, message, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::names::Unknown;

    fn api(status: u16, code: &str) -> CliError {
        let error = ErrorView {
            code: code.into(),
            message: "m".to_owned(),
            hint: Some("h".to_owned()),
            details: vec![],
        };
        CliError::Client(ClientError::Api { status, document: ErrorDocument { error } })
    }

    #[test]
    fn every_code_of_the_api_has_its_exit_code() {
        for (status, code, exit) in [
            (400, "bad_request", 2),
            (401, "unauthorized", 4),
            (403, "forbidden", 4),
            (404, "not_found", 1),
            (405, "method_not_allowed", 1),
            (409, "conflict", 1),
            (409, "plan_stale", 1),
            (409, "unclaimed", 1),
            (413, "too_large", 2),
            (422, "invalid_file", 2),
            (429, "rate_limited", 1),
            (500, "internal", 1),
            (503, "no_leader", 1),
        ] {
            assert_eq!(api(status, code).code(), exit, "{code}");
        }
        assert_eq!(api(404, "not_found").text(), "m; h");
        assert_eq!(api(404, "not_found").document().error.code, ErrorCode::NotFound);
    }

    #[test]
    fn no_daemon_says_where_it_looked_and_what_to_do() {
        let error = CliError::Client(ClientError::NoDaemon {
            tried: vec!["/run/mill/mill.sock".to_owned(), "127.0.0.1:4400".to_owned()],
            installed: true,
        });
        assert_eq!(error.code(), 3);
        assert_eq!(
            error.text(),
            "No daemon at /run/mill/mill.sock or 127.0.0.1:4400. \
             Start: sudo mill dev or systemctl start mill; remote: --address"
        );
        assert_eq!(error.document().error.code.to_string(), "no_daemon");
    }

    #[test]
    fn misspelt_commands_are_usage() {
        let (name, unknown) = ("plam".to_owned(), Unknown::Nothing);
        assert_eq!(CliError::Argv(ArgvError::Command { name, unknown }).code(), 2);
    }

    #[test]
    fn the_rest_has_the_documented_codes() {
        assert_eq!(CliError::GaveUp { message: String::new() }.code(), 5);
        assert_eq!(CliError::Interrupted.code(), 130);
        assert_eq!(CliError::usage("a", "b").code(), 2);
        assert_eq!(CliError::usage("a.", "B").text(), "a. B");
        assert_eq!(CliError::usage("a", "mill b").text(), "a; mill b");
        assert_eq!(CliError::usage("Whose?", "mill b").text(), "Whose? mill b");
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(CliError::Output { source: pipe }.code(), 0);
    }
}

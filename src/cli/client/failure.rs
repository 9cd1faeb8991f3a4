//! Why a request has no good answer.
//!
//! Owns the words and the exit code of each failure. Never sends anything.

use super::connect::Untrusted;
use crate::api::wire::ErrorDocument;
use crate::cli::error;

/// Where mill is a service of this machine.
const SERVICE: &str = "/etc/systemd/system/mill.service";

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens in any of the places.
    #[error("No daemon at {}. Start: {}; remote: --address", tried.join(" or "), start(*installed))]
    NoDaemon {
        /// Where it was looked for.
        tried: Vec<String>,
        /// Whether this machine has mill as a service.
        installed: bool,
    },
    /// Another machine can't be reached.
    #[error("Can't reach {target}: {why}")]
    Unreachable {
        /// Which, as host and port.
        target: String,
        why: String,
    },
    /// The socket is not for this user.
    #[error("{socket}: permission denied. Use sudo, or --address with --token")]
    Denied { socket: String },
    /// Somebody answers, and isn't trusted.
    #[error("{target}: {source}. {hint}", hint = source.hint())]
    Untrusted {
        /// Who.
        target: String,
        source: Untrusted,
    },
    /// The daemon refused.
    #[error("{}", document.error.message)]
    Api {
        /// HTTP status.
        status: u16,
        /// What it said.
        document: ErrorDocument,
    },
    /// It is no daemon of ours, or a very different version.
    #[error("{target} answered {status} to {path}, and not as mill does")]
    Foreign {
        /// Who answered.
        target: String,
        /// To what.
        path: String,
        /// HTTP status.
        status: u16,
    },
    /// The connection broke.
    #[error("lost the connection to {target}: {source}")]
    Lost {
        /// To whom.
        target: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{target} does not answer")]
    Silent {
        /// Who.
        target: String,
    },
    /// The answer is not what the route answers.
    #[error("{path}: unexpected answer: {source}")]
    Decode {
        /// Of which request.
        path: String,
        source: serde_json::Error,
    },
    /// The request can't be made: an address or token with characters that HTTP can't carry.
    #[error("cannot make the request: {source}")]
    Request { source: hyper::http::Error },
}

/// What starts a daemon on this machine.
fn start(installed: bool) -> &'static str {
    if installed { "sudo mill dev or systemctl start mill" } else { "sudo mill dev" }
}

impl ClientError {
    /// The process's exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::NoDaemon { .. } | Self::Unreachable { .. } => error::NO_DAEMON,
            Self::Denied { .. } => error::DENIED,
            Self::Untrusted { source: Untrusted::Tls(_), .. } => error::FAILED,
            Self::Untrusted { .. } => error::DENIED,
            Self::Api { status: 401 | 403, .. } => error::DENIED,
            Self::Api { status: 400 | 413 | 422, .. } | Self::Request { .. } => error::USAGE,
            _ => error::FAILED,
        }
    }

    /// What a person reads: the message and what to do next.
    #[must_use]
    pub fn text(&self) -> String {
        let Self::Api { document, .. } = self else { return self.to_string() };
        error::with_hint(&document.error.message, document.error.hint.as_deref())
    }

    /// Whether the same request may succeed on another connection.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Silent { .. })
    }

    /// Whether the daemon is perhaps only about to start again, or has no leader for a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoDaemon { .. } | Self::Unreachable { .. } => true,
            Self::Api { status, .. } => *status == 503,
            other => other.is_lost(),
        }
    }
}

/// Nothing listens in any of the places.
pub(super) fn no_daemon(tried: Vec<String>) -> ClientError {
    ClientError::NoDaemon { tried, installed: std::path::Path::new(SERVICE).exists() }
}

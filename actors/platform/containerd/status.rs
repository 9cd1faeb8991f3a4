//! What is known after a call that failed: refused, not heard, or unclear.
//!
//! Never says what to do then.

use std::error::Error as _;
use tonic::{Code, Status};

/// Whether a call failed because nobody answered, not because it was refused.
///
/// Only what is made on this side of the connection has a source.
pub(crate) fn is_away(status: &Status) -> bool {
    let timed_out = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
    status.source().is_some() && !timed_out
}

/// Whether a call got no answer, so that nothing is known of what became of it.
pub(crate) fn is_unclear(status: &Status) -> bool {
    // What a shim or the runtime didn't answer to containerd comes without a code of its own.
    const SILENT: [&str; 5] = [
        "context deadline exceeded",
        "context canceled",
        "ttrpc: closed",
        "transport is closing",
        "connection refused",
    ];
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable | Code::Aborted => true,
        Code::Unknown | Code::Internal => {
            is_away(status) || SILENT.iter().any(|text| status.message().contains(text))
        }
        _ => is_away(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        deadline = { Code::DeadlineExceeded, "", true },
        late = { Code::Unknown, "failed to start: context deadline exceeded: unknown", true },
        given_up = { Code::Unknown, "context canceled", true },
        shim = { Code::Unknown, "ttrpc: closed: unknown", true },
        starting = { Code::Unavailable, "connection refused", true },
        absent = { Code::NotFound, "task x not found: not found", false },
        there = { Code::AlreadyExists, "task x: already exists", false },
        ended = { Code::FailedPrecondition, "process already finished", false },
        refused = { Code::Unknown, "OCI runtime exec failed: permission denied: unknown", false },
        bad = { Code::InvalidArgument, "no id", false },
    )]
    fn no_answer_is_told_from_a_refusal(code: Code, message: &str, unclear: bool) {
        assert_eq!(is_unclear(&Status::new(code, message)), unclear);
    }
}

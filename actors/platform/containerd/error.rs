//! What can go wrong with containerd, in words for the person who asked.
//!
//! Owns the reading of the runtime's messages. Never retries.

use super::status::is_unclear;
use std::path::PathBuf;
use thiserror::Error;
use tonic::Status;

/// A failed operation on a container.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody answers on the socket.
    #[error(
        "containerd doesn't answer at {socket}; is it running? See: mill doctor",
        socket = socket.display()
    )]
    Away {
        /// containerd's socket.
        socket: PathBuf,
        #[source]
        source: Box<Status>,
    },
    /// containerd refused.
    #[error("can't {doing} {id}: {}", first_line(source.message()))]
    Call {
        doing: &'static str,
        /// With what.
        id: String,
        /// containerd's answer.
        #[source]
        source: Box<Status>,
    },
    /// The program to run is not in the image.
    #[error("{command:?} isn't in the image; check `command`, or the image's ENTRYPOINT and PATH")]
    CommandNotFound {
        /// The first word of what was to be run.
        command: String,
    },
    /// The program to run can't be executed.
    #[error(
        "{command:?} can't be executed: {reason}; check its mode and that it is built for \
            this machine"
    )]
    CommandNotExecutable {
        /// The first word of what was to be run.
        command: String,
        reason: String,
    },
    /// The runtime could not make or start the container.
    #[error("the container can't start: {reason}")]
    Start {
        /// What the runtime said, without its wrapping.
        reason: String,
    },
    /// There is no such container, or its program has ended.
    #[error("{id} doesn't run")]
    NotRunning {
        /// The container.
        id: String,
    },
    /// Nobody says how a container stands: its shim doesn't answer.
    #[error("the runtime of {id} doesn't answer; try again in a moment")]
    Silent {
        /// The container.
        id: String,
    },
    /// The image's layers are not unpacked any more.
    #[error("the layers of {image} are gone; it must be pulled again")]
    ImageGone { image: String },
    /// The disk that holds containers and images is full.
    #[error(
        "no space left on the disk that holds images and containers; free some, or mill \
            image remove"
    )]
    DiskFull,
    /// A start that was broken off by containerd's or the daemon's end is still being cleared away.
    #[error("an earlier start of the container is still being cleared away")]
    Leftover,
    /// Something did not happen in time.
    #[error("{id} was not gone {seconds}s after SIGKILL")]
    Undead {
        /// The container.
        id: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The container's description can't be written down.
    #[error("can't write the container's runtime spec: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Error {
    /// Whether nothing is known of what became of the call, so that it is to be asked again.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        match self {
            Self::Away { .. } | Self::Silent { .. } => true,
            Self::Call { source, .. } => is_unclear(source),
            _ => false,
        }
    }

    /// Whether the same call may succeed later without anybody changing the file.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.is_unclear()
            || matches!(
                self,
                Self::DiskFull | Self::Leftover | Self::Undead { .. } | Self::ImageGone { .. }
            )
    }
}

/// Whether a message tells of a full disk.
pub(crate) fn is_disk_full(message: &str) -> bool {
    message.contains("no space left on device") || message.contains("disk quota exceeded")
}

/// Reads the runtime's refusal to make or start a container.
pub(crate) fn start_error(command: &str, message: &str) -> Error {
    if is_disk_full(message) {
        return Error::DiskFull;
    }
    if message.contains("failed to start shim") && message.contains("file exists") {
        return Error::Leftover;
    }
    let command = command.to_owned();
    let reason = runtime_reason(message);
    let of_command = message.contains("exec: ") || message.contains("exec user process");
    let missing = ["executable file not found", "no such file or directory"];
    if of_command && missing.iter().any(|text| reason.contains(text)) {
        return Error::CommandNotFound { command };
    }
    let refused = ["permission denied", "exec format error", "is a directory"];
    if let Some(text) = refused.iter().find(|text| of_command && reason.contains(**text)) {
        return Error::CommandNotExecutable { command, reason: (*text).to_owned() };
    }
    Error::Start { reason }
}

/// The part of the runtime's message that says what happened.
fn runtime_reason(message: &str) -> String {
    let wrapping = [
        "failed to create shim task: ",
        "OCI runtime create failed: ",
        "OCI runtime start failed: ",
        "OCI runtime exec failed: ",
        "exec failed: ",
        "runc create failed: ",
        "runc start failed: ",
        "unable to start container process: ",
    ];
    let mut text = message;
    for prefix in wrapping {
        text = text.split_once(prefix).map_or(text, |(_, rest)| rest);
    }
    let text = text.strip_suffix(": unknown").unwrap_or(text);
    first_line(text).to_owned()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        missing = {
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to \
             start container process: exec: \"/x\": stat /x: no such file or directory: unknown",
            "\"/x\" isn't in the image; check `command`, or the image's ENTRYPOINT and PATH"
        },
        in_path = {
            "OCI runtime create failed: runc create failed: unable to start container process: \
             exec: \"x\": executable file not found in $PATH: unknown",
            "\"/x\" isn't in the image; check `command`, or the image's ENTRYPOINT and PATH"
        },
        mode = {
            "OCI runtime create failed: runc create failed: unable to start container process: \
             exec: \"/x\": permission denied: unknown",
            "\"/x\" can't be executed: permission denied; check its mode and that it is built for \
             this machine"
        },
        other = {
            "failed to create shim task: OCI runtime create failed: mountpoint: no such file or \
             directory: unknown",
            "the container can't start: mountpoint: no such file or directory"
        },
    )]
    fn refusals_read_well(message: &str, want: &str) {
        assert_eq!(start_error("/x", message).to_string(), want);
    }
}

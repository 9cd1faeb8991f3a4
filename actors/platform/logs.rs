//! Container logs: the process that writes them, the files, the reader.
//!
//! A container's output goes to a logger process of its own (`logger`), which outlives the daemon;
//! the daemon only reads the files. Never keeps log lines in memory or in the replicated state.

mod access;
mod cursor;
mod files;
mod fixed;
mod format;
mod kept;
pub mod logger;
mod merge;
mod reader;
mod retire;
mod watch;
mod writer;

pub use access::AccessWriter;
pub use files::{directory, mark_ended, root};
pub use format::{LogTime, Stream};
pub use kept::{KeepError, install_from, install_logger, remove_unused, wrapper_of};
pub use merge::{Merged, merge};
pub use reader::{Event, LogLine, LogReader, LogStream, Query};
pub use retire::relieve;

use super::containerd::log_uri;
use crate::id::{AllocId, Attempt};
use std::path::Path;

/// The `binary://` address under which containerd's shim starts the logger of an attempt: for both
/// `stdout` and `stderr` of a task. `kept` is what [`install_logger`] returned.
#[must_use]
pub fn uri(kept: &Path, data_dir: &Path, allocation: &AllocId, attempt: Attempt) -> String {
    let target = directory(data_dir, allocation).join(attempt.to_string());
    // One parameter only: the shim hands several over in random order.
    log_uri(kept, &[(logger::COMMAND, &target.to_string_lossy())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_is_told_binary_directory_and_attempt() {
        let kept = Path::new("/var/lib/mill/bin/mill-0a1b");
        let got = uri(kept, Path::new("/var/lib/mill"), &"web-0-k3f9".into(), Attempt(2));
        let target = "%2Fvar%2Flib%2Fmill%2Flogs%2Fweb-0-k3f9%2F2";
        assert_eq!(got, format!("binary:///var/lib/mill/bin/mill-0a1b?logger={target}"));
    }
}

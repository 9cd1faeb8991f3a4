//! The token of `mill dev`, in a file for programs that speak to the API over TCP.
//!
//! Owns the file. Never makes a token.

use crate::cli::error::CliError;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The file's name in the data directory.
pub const TOKEN: &str = "token";

/// Writes the file whole or not at all; only its owner reads it.
///
/// # Errors
/// It can't be written.
pub fn keep(path: &Path, token: &str) -> Result<(), CliError> {
    let draft = path.with_extension("new");
    let written = (|| {
        // Of a process that ended in between.
        let _ = std::fs::remove_file(&draft);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{token}")?;
        std::fs::rename(&draft, path)
    })();
    let failed = |error| CliError::failed(format!("writing {}: {error}", path.display()));
    written.map_err(failed)
}

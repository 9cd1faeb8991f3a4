//! `mill fmt`: a file in canonical form, in place.
//!
//! Owns replacing the file whole or not at all. Never knows the form: that is the format's.

use super::error::FAILED;
use super::file::{MillFile, either};
use super::{Context, error::CliError};
use crate::spec;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::io;
use std::path::Path;

/// Format a file in place; standard input is formatted to standard output.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "fmt", help_triggers("-h", "--help"), example = "mill fmt shop.mill")]
pub struct FmtArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// only say whether it is formatted: exit 1 if not
    #[argh(switch)]
    pub check: bool,
}

pub(super) fn run(args: FmtArgs, context: &Context) -> Result<(), CliError> {
    let given = either(args.path.as_deref(), args.file.as_deref())?;
    let file = MillFile::open(context, given)?;
    let formatted = spec::format(&file.name, &file.text)?;
    let changed = formatted != file.text;
    if let (None, false) = (&file.path, args.check) {
        let document = json!({ "file": file.name, "changed": changed, "text": formatted });
        return match context.ui.json {
            true => context.ui.document(&document),
            false => context.ui.print(&formatted),
        };
    }
    if let (Some(path), true, false) = (&file.path, changed, args.check) {
        let failed = |error: io::Error| {
            CliError::failed(format!("cannot write {}: {error}", path.display()))
        };
        replace(path, &formatted).map_err(failed)?;
    }
    if context.ui.json {
        context.ui.document(&json!({ "file": file.name, "changed": changed }))?;
    } else if changed {
        let what = if args.check { "is not formatted" } else { "formatted" };
        context.ui.print(&format!("{} {what}", file.name))?;
    }
    if args.check && changed { Err(CliError::Said { code: FAILED }) } else { Ok(()) }
}

/// Puts a text in a file's place: readers see the old one or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link keeps leading to the file that it leads to.
    let path = path.canonicalize()?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::write(&temporary, text)
        .and_then(|()| std::fs::set_permissions(&temporary, path.metadata()?.permissions()))
        .and_then(|()| std::fs::rename(&temporary, &path));
    if written.is_err() {
        // Best effort: the error that counts is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_with_its_mode_and_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a.mill"), directory.path().join("l.mill"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink("a.mill", &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}

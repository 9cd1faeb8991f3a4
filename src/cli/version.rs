//! `mill version`.

use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};
use serde_json::json;

/// Show the version of this program.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "version", help_triggers("-h", "--help"), example = "mill version")]
pub struct VersionArgs {}

pub(super) fn run(_: VersionArgs, context: &Context) -> Result<(), CliError> {
    let version = env!("CARGO_PKG_VERSION");
    if context.ui.json {
        return context.ui.document(&json!({ "version": version }));
    }
    context.ui.print(&format!("mill {version}"))
}

//! `mill dev`: a node on loopback for one developer, with a file deployed.

use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};

/// Run a local node, deploy a file, follow its logs. Ctrl-C stops and removes everything.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "dev", help_triggers("-h", "--help"))]
pub struct DevArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
}

pub(super) fn run(_: DevArgs, _: &Context) -> Result<(), CliError> {
    Err(CliError::NotBuilt { what: "mill dev".to_owned() })
}

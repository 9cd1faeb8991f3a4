//! `mill clean`: wipes the local state.

use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};

/// Wipe this node's state: containers, links, rules, and the data directory.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "clean", help_triggers("-h", "--help"))]
pub struct CleanArgs {
    /// don't ask
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

pub(super) async fn run(_: CleanArgs, _: &Context) -> Result<(), CliError> {
    Err(CliError::NotBuilt { what: "mill clean".to_owned() })
}

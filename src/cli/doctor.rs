//! `mill doctor`: what this host lacks, each with its remedy.

use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};

/// Check what this host lacks, each with its remedy.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "doctor", help_triggers("-h", "--help"))]
pub struct DoctorArgs {}

pub(super) async fn run(_: DoctorArgs, _: &Context) -> Result<(), CliError> {
    Err(CliError::NotBuilt { what: "mill doctor".to_owned() })
}

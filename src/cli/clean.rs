//! `mill clean`: wipes the local state.

use super::daemon::DaemonArgs;
use super::error::FAILED;
use super::{Context, error::CliError};
use crate::actors::clean;
use crate::config::Mode;
use argh::{ArgsInfo, FromArgs};

/// Wipe what a stopped node has on this machine: containers, images, network, the data directory.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "clean",
    help_triggers("-h", "--help"),
    example = "mill clean --keep-volumes"
)]
pub struct CleanArgs {
    /// don't ask
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// the node's data directory; default /var/lib/mill, with --dev that of mill dev
    #[argh(option)]
    pub data_dir: Option<String>,
    /// leave the data of persistent volumes where it is
    #[argh(switch)]
    pub keep_volumes: bool,
    /// the node's containerd, if it was given one
    #[argh(option)]
    pub containerd: Option<String>,
}

pub(super) async fn run(args: CleanArgs, context: &Context) -> Result<(), CliError> {
    let mode = if context.globals.dev { Mode::Dev } else { Mode::Daemon };
    let settings = DaemonArgs {
        data_dir: args.data_dir,
        containerd: args.containerd,
        ..DaemonArgs::default()
    };
    let config = settings.config(mode, context)?;
    let directory = config.data_dir.display();
    let kept = if args.keep_volumes { "; not volumes" } else { ", volumes" };
    let question = format!("This wipes the node in {directory}: containers, images, state{kept}");
    context.ui.confirm(args.yes, &question)?;
    let wiped = clean::clean(&config, args.keep_volumes).await;
    let cleaned = wiped.map_err(|error| CliError::failed(error.to_string()))?;
    if context.ui.json {
        context.ui.document(&cleaned)?;
    } else {
        if cleaned.removed.is_empty() {
            context.ui.print("There was nothing to wipe")?;
        }
        for what in &cleaned.removed {
            context.ui.print(&format!("removed {what}"))?;
        }
        cleaned.failed.iter().for_each(|what| context.ui.note(&format!("left: {what}")));
    }
    if cleaned.failed.is_empty() { Ok(()) } else { Err(CliError::Said { code: FAILED }) }
}

//! `mill scale`: another number of replicas.

use super::down::follow_scaled;
use super::duration::DurationArg;
use super::follow::Before;
use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};

/// Run another number of replicas of a service; a revision like any other.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "scale", help_triggers("-h", "--help"), example = "mill scale web 4")]
pub struct ScaleArgs {
    /// the service
    #[argh(positional)]
    pub service: String,
    /// how many
    #[argh(positional)]
    pub replicas: u32,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// return only when what goes has ended, too
    #[argh(switch)]
    pub wait_stopped: bool,
}

pub(super) async fn run(args: ScaleArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let before = Before::look(&client).await?;
    let revision = client.scale(&args.service, args.replicas).await?.revision;
    let Some(service) = before.service(&args.service) else {
        if context.ui.json {
            return context.ui.document(&serde_json::json!({ "revision": revision }));
        }
        let text = format!("r{revision} accepted. Follow it: mill up --attach r{revision}");
        return context.ui.print(&text);
    };
    let until = (args.timeout.map(|timeout| timeout.0), args.wait_stopped);
    follow_scaled(context, &client, &before, (service, args.replicas, revision), until).await
}

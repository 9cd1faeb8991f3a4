//! `mill volume`: data that outlives what wrote it.

use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::units::Bytes;
use argh::{ArgsInfo, FromArgs};

/// List and delete persistent volumes.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "volume", help_triggers("-h", "--help"))]
pub struct VolumeArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: VolumeCommand,
}

/// What `mill volume` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum VolumeCommand {
    /// `mill volume list`.
    List(ListArgs),
    /// `mill volume delete`.
    Delete(DeleteArgs),
}

/// List the volumes: how large, where, used by which allocation.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"))]
pub struct ListArgs {}

/// Delete a volume with its data. One that a service uses is refused.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "delete", help_triggers("-h", "--help"))]
pub struct DeleteArgs {
    /// its name, as mill volume list shows it
    #[argh(positional)]
    pub name: String,
    /// do it without asking
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

pub(super) async fn run(args: VolumeArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        VolumeCommand::List(_) => list(context).await,
        VolumeCommand::Delete(args) => delete(args, context).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.volumes().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut table = Table::new(&["NAME", "STATUS", "USED", "NODE", "SERVICE", "AGE"]);
    for one in all {
        let age = table::age(Some(&one.created_at), context.now());
        table.row(vec![
            one.name.into(),
            one.status.into(),
            table::memory(one.used, Some(one.size)).into(),
            one.node.unwrap_or_else(|| NONE.to_owned()).into(),
            one.service.into(),
            age.into(),
        ]);
    }
    context.ui.print(&table.render(context.ui))
}

async fn delete(args: DeleteArgs, context: &Context) -> Result<(), CliError> {
    let (client, name) = (context.client()?, args.name);
    let one = client.volume(&name).await?;
    let node = one.node.unwrap_or_else(|| "a node that was removed".to_owned());
    let size = one.used.map(|used| format!(" ({})", Bytes(used))).unwrap_or_default();
    let question = format!("Volume {name} on {node} and all its data{size} go for good");
    context.ui.confirm(args.yes, &question)?;
    client.delete_volume(&name).await?;
    if context.ui.json {
        return context.ui.document(&serde_json::json!({ "name": name, "deleted": true }));
    }
    context.ui.print(&format!("{name}  deleted"))
}

//! `mill volume`: data that outlives what wrote it.

mod data;

use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::api::wire::VolumeView;
use crate::units::Bytes;
use argh::{ArgsInfo, FromArgs};

/// List, move, back up, restore and delete persistent volumes.
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
    /// `mill volume move`.
    Move(MoveArgs),
    /// `mill volume backup`.
    Backup(BackupArgs),
    /// `mill volume restore`.
    Restore(RestoreArgs),
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

/// Bring a volume to another node: its service stops, the data is copied, the service starts there.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "move", help_triggers("-h", "--help"))]
pub struct MoveArgs {
    /// its name, as mill volume list shows it
    #[argh(positional)]
    pub name: String,
    /// the node; the one that has it now ends a move
    #[argh(positional)]
    pub node: String,
    /// don't wait until it is there
    #[argh(switch)]
    pub detach: bool,
}

/// Write what a volume holds to a tar archive here, from any node.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "backup", help_triggers("-h", "--help"))]
pub struct BackupArgs {
    /// its name, as mill volume list shows it
    #[argh(positional)]
    pub name: String,
    /// the archive
    #[argh(positional)]
    pub file: String,
    /// also while its service runs: what it has at the moment, file by file
    #[argh(switch)]
    pub online: bool,
}

/// Put what a tar archive holds in the place of all that a volume holds.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "restore", help_triggers("-h", "--help"))]
pub struct RestoreArgs {
    /// its name, as mill volume list shows it
    #[argh(positional)]
    pub name: String,
    /// the archive
    #[argh(positional)]
    pub file: String,
    /// do it without asking
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

pub(super) async fn run(args: VolumeArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        VolumeCommand::List(_) => list(context).await,
        VolumeCommand::Delete(args) => delete(args, context).await,
        VolumeCommand::Move(args) => data::move_to(args, context).await,
        VolumeCommand::Backup(args) => data::backup(args, context).await,
        VolumeCommand::Restore(args) => data::restore(args, context).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.volumes().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut notes = Vec::new();
    let mut table = Table::new(&["NAME", "STATUS", "USED", "NODE", "SERVICE", "AGE"]);
    for one in all {
        let age = table::age(Some(&one.created_at), context.now());
        let why = one.stayed.as_ref().map(|why| format!("{} was not moved: {why}", one.name));
        notes.extend(why);
        let place = place(&one);
        table.row(vec![
            one.name.into(),
            one.status.to_string().into(),
            table::memory(one.used, Some(one.size)).into(),
            place.into(),
            one.service.into(),
            age.into(),
        ]);
    }
    context.ui.print(&table.render(context.ui))?;
    notes.iter().for_each(|note| context.ui.note(note));
    Ok(())
}

/// The node that has it, and the one that it is copied to.
fn place(one: &VolumeView) -> String {
    let node = one.node.as_deref().unwrap_or(NONE);
    match &one.moving_to {
        Some(to) => format!("{node} → {to}"),
        None => node.to_owned(),
    }
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

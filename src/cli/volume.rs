//! `mill volume`: data that outlives what wrote it.

mod data;

use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::api::wire::{ProviderRequest, VolumeProvider, VolumeView};
use crate::fsm::volumes::ProviderKind;
use crate::limits;
use crate::units::Bytes;
use argh::{ArgsInfo, FromArgs};
use std::io::Read as _;

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
    /// `mill volume provider`.
    Provider(ProviderArgs),
}

/// List the volumes: how large, where, used by which allocation.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill volume list")]
pub struct ListArgs {}

/// Delete a volume with its data. One that a service uses is refused.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "delete",
    help_triggers("-h", "--help"),
    example = "mill volume delete old-data"
)]
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
#[argh(
    subcommand,
    name = "move",
    help_triggers("-h", "--help"),
    example = "mill volume move data n2"
)]
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
#[argh(
    subcommand,
    name = "backup",
    help_triggers("-h", "--help"),
    example = "mill volume backup data data.tar"
)]
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
#[argh(
    subcommand,
    name = "restore",
    help_triggers("-h", "--help"),
    example = "mill volume restore data data.tar"
)]
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

/// Keep new volumes at a provider of block storage, or give it another token. Volumes that are
/// there stay where they are.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "provider",
    help_triggers("-h", "--help"),
    example = "mill volume provider digitalocean --token -"
)]
pub struct ProviderArgs {
    /// digitalocean
    #[argh(positional)]
    pub name: String,
    /// token of its API; - reads it from the standard input
    #[argh(option)]
    pub token: Option<String>,
    /// where its API is; default: its own
    #[argh(option)]
    pub api: Option<String>,
}

pub(super) async fn run(args: VolumeArgs, context: &Context) -> Result<(), CliError> {
    match args.command {
        VolumeCommand::List(_) => list(context).await,
        VolumeCommand::Delete(args) => delete(args, context).await,
        VolumeCommand::Move(args) => data::move_to(args, context).await,
        VolumeCommand::Backup(args) => data::backup(args, context).await,
        VolumeCommand::Restore(args) => data::restore(args, context).await,
        VolumeCommand::Provider(args) => set_provider(args, context).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.volumes().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut notes = Vec::new();
    let mut table = Table::new(&["NAME", "STATUS", "USED", "PROVIDER", "NODE", "SERVICE", "AGE"]);
    for one in all {
        let age = table::age(Some(&one.created_at), context.now());
        notes.extend(one.error.as_ref().map(|why| format!("{}: {why}", one.name)));
        let why = one.stayed.as_ref().map(|why| format!("{} was not moved: {why}", one.name));
        notes.extend(why);
        let place = place(&one);
        table.row(vec![
            one.name.into(),
            one.status.to_string().into(),
            table::memory(one.used, Some(one.size)).into(),
            one.provider.to_string().into(),
            place.into(),
            one.service.into(),
            age.into(),
        ]);
    }
    context.ui.print(&table.render(context.ui))?;
    notes.iter().for_each(|note| context.ui.note(note));
    Ok(())
}

async fn set_provider(args: ProviderArgs, context: &Context) -> Result<(), CliError> {
    let ProviderArgs { name, token, api } = args;
    let wanted = provider(Some(&name), ("--token", token.as_deref()), api)?;
    if let Some(wanted) = wanted {
        context.client()?.set_provider(&wanted).await?;
    }
    if context.ui.json {
        return context.ui.document(&serde_json::json!({ "provider": name }));
    }
    context.ui.print(&format!("New volumes are kept at {name}"))
}

/// The provider that flags name, its token read from the standard input if need be.
pub(super) fn provider(
    name: Option<&str>,
    (flag, token): (&str, Option<&str>),
    api: Option<String>,
) -> Result<Option<ProviderRequest>, CliError> {
    let Some(name) = name else {
        let rest = token.map(|_| flag).or(api.as_ref().map(|_| "--provider-api"));
        let Some(rest) = rest else { return Ok(None) };
        let message = format!("{rest} is of no use without --provider");
        return Err(CliError::usage(message, "Add: --provider digitalocean"));
    };
    if ProviderKind::named(name).is_none() {
        let message = format!("there is no provider {name:?}");
        return Err(CliError::usage(message, "digitalocean, or none: then nodes keep the volumes"));
    }
    if let Some(url) = api.as_ref().filter(|url| !ProviderRequest::is_address(url)) {
        let message = format!("the provider's API {url:?} is no address");
        return Err(CliError::usage(message, "Write it in full: https://api.digitalocean.com"));
    }
    let token = match token {
        Some("-") => {
            let mut text = String::new();
            let most = limits::PROVIDER_TOKEN_MAX as u64 + 2;
            let read = std::io::stdin().take(most).read_to_string(&mut text);
            read.map_err(|source| CliError::Read { path: "<stdin>".into(), source })?;
            text.trim().to_owned()
        }
        given => given.unwrap_or_default().to_owned(),
    };
    if token.is_empty() {
        let message = format!("{name} wants the token of its API");
        return Err(CliError::usage(message, format!("Pipe it in: {flag} - < FILE")));
    }
    Ok(Some(ProviderRequest { name: name.to_owned(), token, api }))
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
    let node = match one.provider {
        VolumeProvider::Local => one.node.unwrap_or_else(|| "a node that was removed".to_owned()),
        provider => provider.to_string(),
    };
    let size = one.used.map(|used| format!(" ({})", Bytes(used))).unwrap_or_default();
    let question = format!("Volume {name} on {node} and all its data{size} go for good");
    context.ui.confirm(args.yes, &question)?;
    client.delete_volume(&name).await?;
    if context.ui.json {
        return context.ui.document(&serde_json::json!({ "name": name, "deleted": true }));
    }
    context.ui.print(&format!("{name}  deleted"))
}

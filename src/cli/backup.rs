//! `mill backup`: the cluster's state and keys in an encrypted file.
//!
//! Owns that a passphrase never leaves this process, and that a file which was just written can be
//! read. Never writes anything in the clear.

pub(super) mod key;
mod schedule;

use super::client::{Call, Client, escape};
use super::{Context, error::CliError};
use crate::actors::platform::backup as files;
use crate::backup::summary::Summary;
use crate::limits;
use crate::units::Bytes;
use age::x25519;
use argh::{ArgsInfo, FromArgs};
use http_body_util::{BodyExt as _, Limited};
use key::KeyArgs;
use std::path::Path;

/// Take a backup of the control plane: state, keys, tokens, settings, config files; encrypted.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "backup",
    help_triggers("-h", "--help"),
    example = "mill backup prod.age --recipient age1…"
)]
pub struct BackupArgs {
    /// where to write it
    #[argh(positional)]
    pub file: Option<String>,
    /// encrypt it for the owner of a key, age1…, instead of with a passphrase; may repeat
    #[argh(option)]
    pub recipient: Vec<String>,
    /// or what to do with one
    #[argh(subcommand)]
    pub command: Option<BackupCommand>,
}

/// What `mill backup` does besides.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum BackupCommand {
    /// `mill backup verify`.
    Verify(VerifyArgs),
    /// `mill backup schedule`.
    Schedule(schedule::ScheduleArgs),
}

/// Restore a backup in memory, and say what is in it and what isn't.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "verify",
    help_triggers("-h", "--help"),
    example = "mill backup verify prod.age --identity key.txt"
)]
pub struct VerifyArgs {
    /// the backup
    #[argh(positional)]
    pub file: String,
    /// file with the private key (AGE-SECRET-KEY-1…) of a recipient of it
    #[argh(option)]
    pub identity: Option<String>,
}

pub(super) async fn run(args: BackupArgs, context: &Context) -> Result<(), CliError> {
    match (args.command, args.file) {
        (Some(BackupCommand::Verify(args)), None) => verify(args, context).await,
        (Some(BackupCommand::Schedule(args)), None) => schedule::run(args, context).await,
        (None, Some(file)) => take(&file, &args.recipient, context).await,
        _ => {
            let hint = "mill backup FILE, mill backup verify FILE, mill backup schedule";
            Err(CliError::usage("Which file is the backup?", hint))
        }
    }
}

async fn take(file: &str, recipients: &[String], context: &Context) -> Result<(), CliError> {
    for text in recipients {
        let hint = "Make a key pair with age-keygen; its public key is the recipient";
        files::recipient(text).map_err(|why| CliError::usage(why, hint))?;
    }
    let client = context.client()?;
    let (bytes, summary) = if recipients.is_empty() {
        let passphrase = key::blocking(context, key::new_passphrase).await?;
        // For this process alone: so it travels sealed, and the passphrase doesn't travel at all.
        let own = x25519::Identity::generate();
        let sealed = fetch(&client, &[own.to_public().to_string()]).await?;
        let (kept, plain) = key::open(file, &sealed, &files::Key::Identities(vec![own]))?;
        let encrypted = tokio::task::spawn_blocking(move || {
            files::encrypt_with(&plain, &passphrase).map_err(|error| error.to_string())
        });
        let encrypted = encrypted.await.unwrap_or_else(|lost| Err(lost.to_string()));
        (encrypted.map_err(CliError::failed)?, Some(Summary::of(&kept)))
    } else {
        (fetch(&client, recipients).await?, None)
    };
    let failed = |error| CliError::failed(format!("{file}: {error}"));
    files::write(Path::new(file), &bytes).map_err(failed)?;
    context.note_stale(&client);
    let size = bytes.len() as u64;
    if context.ui.json {
        let document = serde_json::json!({ "file": file, "size": size, "backup": summary });
        return context.ui.document(&document);
    }
    let text = summary.map(|summary| format!("\n{}", summary.text())).unwrap_or_default();
    context.ui.print(&format!("{file}  {}{text}", Bytes(size)))
}

/// A backup, encrypted for these.
async fn fetch(client: &Client, recipients: &[String]) -> Result<Vec<u8>, CliError> {
    let query: Vec<String> =
        recipients.iter().map(|one| format!("recipient={}", escape(one.trim()))).collect();
    let call = Call::get(format!("/v1/backup?{}", query.join("&")));
    let body = Limited::new(client.stream(call).await?, limits::BACKUP_MAX).collect();
    let lost = |why: String| CliError::failed(format!("The backup broke off: {why}"));
    match tokio::time::timeout(limits::BACKUP_WAIT, body).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes().to_vec()),
        Ok(Err(error)) => Err(lost(error.to_string())),
        Err(_) => Err(lost("nothing more came".to_owned())),
    }
}

async fn verify(args: VerifyArgs, context: &Context) -> Result<(), CliError> {
    let (kept, _) = KeyArgs { file: args.file, identity: args.identity }.read(context).await?;
    let founder = crate::fsm::recover::Founder {
        name: "verify".to_owned(),
        address: "192.0.2.1".to_owned(),
        peer_port: 0,
        labels: std::collections::BTreeMap::new(),
        public_key: String::new(),
        keyring: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let restored = kept.state.restored(founder, crate::id::Incarnation(0));
    restored.map_err(|why| CliError::failed(format!("It can't be restored: {why}")))?;
    let summary = Summary::of(&kept);
    if context.ui.json {
        return context.ui.document(&summary);
    }
    context.ui.print(&summary.text())
}

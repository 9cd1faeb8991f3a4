//! `mill volume move`, `backup`, `restore`: the data itself.
//!
//! Owns that a file which breaks off is never left behind as if it were whole.

use super::{BackupArgs, MoveArgs, RestoreArgs};
use crate::api::wire::VolumeStatus;
use crate::cli::client::{Call, escape};
use crate::cli::{Context, error::CliError};
use crate::limits;
use crate::units::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use std::path::Path;
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::ReaderStream;

pub(super) async fn move_to(args: MoveArgs, context: &Context) -> Result<(), CliError> {
    let (client, MoveArgs { name, node, detach }) = (context.client()?, args);
    let mut one = client.move_volume(&name, &node).await?;
    let to = one.moving_to.clone();
    let goes_on =
        format!("The move goes on. Look: mill volume list; end it: mill volume move {name}");
    if !detach {
        context.farewell(Some(format!("{goes_on} {}", one.node.as_deref().unwrap_or(&node))));
        while one.moving_to.is_some() || one.status == VolumeStatus::Attaching {
            tokio::time::sleep(limits::WATCH_INTERVAL).await;
            match client.volume(&name).await {
                Ok(newest) => one = newest,
                Err(error) if error.may_pass() => {}
                Err(error) => return Err(error.into()),
            }
        }
        context.farewell(None);
    }
    if let Some(why) = one.stayed.as_ref().filter(|_| !detach) {
        let message = format!("Volume {name} stays where it was: {why}");
        return Err(CliError::Failed { message, hint: Some("mill volume list".to_owned()) });
    }
    if context.ui.json {
        return context.ui.document(&one);
    }
    let at = one.node.unwrap_or_default();
    match (to, detach) {
        (Some(to), true) => context.ui.print(&format!("{name}  on its way from {at} to {to}")),
        _ => context.ui.print(&format!("{name}  on {at}")),
    }
}

fn path(name: &str) -> String {
    format!("/v1/volumes/{}/data", escape(name))
}

pub(super) async fn backup(args: BackupArgs, context: &Context) -> Result<(), CliError> {
    let (client, target) = (context.client()?, Path::new(&args.file));
    let online = if args.online { "?online=true" } else { "" };
    let body = client.stream(Call::get(format!("{}{online}", path(&args.name)))).await?;
    let failed = |error: std::io::Error| CliError::failed(format!("{}: {error}", args.file));
    let draft = target.with_file_name(format!(
        ".{}.{}.new",
        target.file_name().unwrap_or_default().to_string_lossy(),
        std::process::id()
    ));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&draft).await;
    let mut file = file.map_err(failed)?;
    let mut pieces = body.into_data_stream();
    let written = async {
        let mut size = 0;
        while let Some(piece) = pieces.try_next().await.map_err(std::io::Error::other)? {
            size += piece.len() as u64;
            file.write_all(&piece).await?;
        }
        file.sync_all().await?;
        tokio::fs::rename(&draft, target).await?;
        Ok(size)
    };
    let written: std::io::Result<u64> = written.await;
    if written.is_err() {
        // What the error is about is what is told.
        let _ = tokio::fs::remove_file(&draft).await;
    }
    let size = written.map_err(failed)?;
    if context.ui.json {
        let document = serde_json::json!({ "name": args.name, "file": args.file, "size": size });
        return context.ui.document(&document);
    }
    context.ui.print(&format!("{}  {}  {}", args.name, args.file, Bytes(size)))
}

pub(super) async fn restore(args: RestoreArgs, context: &Context) -> Result<(), CliError> {
    let read = |source| CliError::Read { path: args.file.clone().into(), source };
    let file = File::open(&args.file).await.map_err(read)?;
    let client = context.client()?;
    let one = client.volume(&args.name).await?;
    let at = one.node.map(|node| format!(" on {node}")).unwrap_or_default();
    let question = format!("All that volume {} holds{at} is replaced by {}", args.name, args.file);
    context.ui.confirm(args.yes, &question)?;
    let stream = ReaderStream::with_capacity(file, limits::COPY_PIECE).map_ok(Frame::data);
    let call = Call::new(Method::POST, path(&args.name)).without_timeout();
    client.bytes(call.stream("application/x-tar", StreamBody::new(stream).boxed())).await?;
    if context.ui.json {
        let document = serde_json::json!({ "name": args.name, "restored": true });
        return context.ui.document(&document);
    }
    context.ui.print(&format!("{}  restored", args.name))
}

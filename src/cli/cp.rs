//! `mill cp`: files and folders out of and into a running container.
//!
//! Owns the local side: what a container sends never leaves the place that was asked for.

use super::client::{Call, Client, escape};
use super::exec::allocation;
use super::{Context, error::CliError};
use crate::actors::platform::transfer::Root;
use crate::actors::platform::tree;
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt as _;
use tokio_util::io::{ReaderStream, StreamReader, SyncIoBridge};

/// Copy files and folders: mill cp web:/etc/hosts . or mill cp site/ web:/srv.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "cp",
    help_triggers("-h", "--help"),
    example = "mill cp web:/var/log/app.log ."
)]
pub struct CpArgs {
    /// a path here, or NAME:PATH in a container; - is a tar stream on standard input
    #[argh(positional)]
    pub from: String,
    /// a path here, or NAME:PATH in a container; - is a tar stream on standard output
    #[argh(positional)]
    pub to: String,
}

/// A place that files come from or go to.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a Path),
    There { name: &'a str, path: &'a str },
}

/// `NAME:PATH` with an absolute path is in a container; `./a:b` never is.
fn place(text: &str) -> Place<'_> {
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') && path.starts_with('/') => {
            Place::There { name, path }
        }
        _ => Place::Here(Path::new(text)),
    }
}

pub(super) async fn run(args: CpArgs, context: &Context) -> Result<(), CliError> {
    match (place(&args.from), place(&args.to)) {
        (Place::There { name, path }, Place::Here(to)) => out(name, path, to, context).await?,
        (Place::Here(from), Place::There { name, path }) => into(from, name, path, context).await?,
        _ => {
            let hint = "mill cp NAME:/PATH LOCAL, or mill cp LOCAL NAME:/PATH";
            return Err(CliError::usage("One of the two places must be in a container", hint));
        }
    }
    if context.ui.json {
        let copied = serde_json::json!({ "from": args.from, "to": args.to });
        return context.ui.document(&copied);
    }
    Ok(())
}

fn files(allocation: &str, path: &str) -> String {
    format!("/v1/allocations/{}/files?path={}", escape(allocation), escape(path))
}

async fn out(name: &str, path: &str, to: &Path, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let from = allocation(&client, name, context).await?;
    if to == Path::new("-") {
        return stream_out(&client, &files(&from, path)).await;
    }
    let body = client.stream(Call::get(files(&from, path))).await?;
    let pieces = body.into_data_stream().map_err(io::Error::other);
    let bridge = SyncIoBridge::new(StreamReader::new(Box::pin(pieces)));
    let target = to.to_owned();
    let done = tokio::task::spawn_blocking(move || unpack(bridge, &target)).await;
    let failed = |error: io::Error| CliError::failed(format!("{}: {error}", to.display()));
    done.unwrap_or_else(|lost| Err(io::Error::other(lost))).map_err(failed)
}

/// The archive as it is, to standard output.
async fn stream_out(client: &Client, files: &str) -> Result<(), CliError> {
    use futures_util::StreamExt as _;
    if io::stdout().is_terminal() {
        let hint = "Pass it on: mill cp NAME:/PATH - | tar x";
        return Err(CliError::usage("A tar stream is nothing for a terminal", hint));
    }
    let mut pieces = client.stream(Call::get(files)).await?.into_data_stream();
    let mut out = tokio::io::stdout();
    let output = |source| CliError::Output { source };
    while let Some(piece) = pieces.next().await {
        let broke = |error| CliError::failed(format!("the copy broke off: {error}"));
        out.write_all(&piece.map_err(broke)?).await.map_err(output)?;
    }
    out.flush().await.map_err(output)
}

/// An archive from standard input, into a container.
async fn stream_in(client: &Client, files: &str) -> Result<(), CliError> {
    let stream = ReaderStream::with_capacity(tokio::io::stdin(), limits::COPY_PIECE);
    let body = StreamBody::new(stream.map_ok(Frame::data)).boxed();
    let call = Call::new(Method::POST, files).without_timeout().stream("application/x-tar", body);
    client.bytes(call).await.map(drop).map_err(CliError::from)
}

/// Unpacks an archive with one file or folder in it to a path: into it if it is a folder, else as
/// it. Everything is unpacked in a new folder first, so that no link in the archive leads anywhere.
fn unpack(from: impl Read, to: &Path) -> io::Result<()> {
    let into = to.is_dir();
    let above = match to.parent() {
        _ if into => to,
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let scratch = above.join(format!(".mill-cp-{}", std::process::id()));
    std::fs::create_dir(&scratch)?;
    let moved = unpack_in(from, &scratch).and_then(|name| {
        let target = if into { to.join(&name) } else { to.to_owned() };
        if target.is_dir() {
            // A folder of that name is replaced as a whole, never mixed.
            let old = scratch.join(".old");
            std::fs::rename(&target, old)?;
        }
        std::fs::rename(scratch.join(name), target)
    });
    // What is left there is of no use.
    let removed = tree::remove(&scratch);
    moved.and(removed)
}

fn unpack_in(from: impl Read, folder: &Path) -> io::Result<PathBuf> {
    Root::at(folder)?.unpack(Path::new("/"), from).map_err(io::Error::other)?;
    let first = std::fs::read_dir(folder)?.next();
    let broken = || io::Error::other("the copy broke off at its begin");
    Ok(PathBuf::from(first.ok_or_else(broken)??.file_name()))
}

async fn into(from: &Path, name: &str, path: &str, context: &Context) -> Result<(), CliError> {
    if from == Path::new("-") {
        let client = context.client()?;
        let to = allocation(&client, name, context).await?;
        return stream_in(&client, &files(&to, path)).await;
    }
    let read = |source| CliError::Read { path: from.to_owned(), source };
    let whole = from.canonicalize().map_err(read)?;
    let client = context.client()?;
    let to = allocation(&client, name, context).await?;
    let (ours, theirs) = tokio::io::duplex(limits::COPY_PIECE);
    let packing = tokio::task::spawn_blocking(move || pack(&whole, SyncIoBridge::new(ours)));
    let stream = ReaderStream::with_capacity(theirs, limits::COPY_PIECE).map_ok(Frame::data);
    let call = Call::new(Method::POST, files(&to, path)).without_timeout();
    let sent = client.bytes(call.stream("application/x-tar", StreamBody::new(stream).boxed()));
    let sent = sent.await;
    // Why it couldn't be read is more to the point than that the rest is missing.
    if let Ok(Err(error)) = packing.await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(read(error));
    }
    sent?;
    Ok(())
}

fn pack(from: &Path, to: impl io::Write) -> io::Result<()> {
    let name = from.file_name().map_or_else(|| PathBuf::from("root"), PathBuf::from);
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    if from.is_dir() {
        archive.append_dir_all(&name, from)?;
    } else {
        archive.append_path_with_name(from, &name)?;
    }
    archive.into_inner()?.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_absolute_path_are_in_a_container() {
        let there = |name, path| Place::There { name, path };
        assert_eq!(place("web:/etc"), there("web", "/etc"));
        assert_eq!(place("web-0-a1b2:/a:b"), there("web-0-a1b2", "/a:b"));
        for here in ["web", "./web:/etc", "web:etc", "/a:/b", ":/etc"] {
            assert_eq!(place(here), Place::Here(Path::new(here)), "{here}");
        }
    }

    #[test]
    fn an_archive_writes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut evil = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        evil.append_link(&mut header, "top", dir.path()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        evil.append_data(&mut header, "top/evil", &b"x"[..]).unwrap();
        let evil = evil.into_inner().unwrap();
        let to = dir.path().join("to");
        assert!(unpack(&evil[..], &to).is_err());
        assert!(!dir.path().join("evil").exists() && !to.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}

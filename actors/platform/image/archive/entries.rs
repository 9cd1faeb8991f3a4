//! The files of a tar archive as a stream of parts.
//!
//! Owns the thread that reads: tar and gzip know no async. Never holds more than a few parts.

use super::{ImageError, bad};
use crate::limits;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};
use std::sync::Arc;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::io::SyncIoBridge;

/// Parts on their way.
const IN_FLIGHT: usize = 2;
/// More files than this is no archive of images.
const FILES_MAX: usize = 100_000;

/// A part of an archive.
#[derive(Debug)]
pub(super) enum Part {
    /// A file of so many bytes begins; its data follows.
    File(String, u64),
    /// A piece of it.
    Data(Bytes),
    End,
    /// The first name stands for the file of the second.
    Link(String, String),
}

/// Reads an archive; the handle tells how it ended.
pub(super) fn read(
    archive: impl AsyncRead + Send + Unpin + 'static,
) -> (mpsc::Receiver<Part>, JoinHandle<Result<(), ImageError>>) {
    let (sender, parts) = mpsc::channel(IN_FLIGHT);
    let bridge = SyncIoBridge::new(archive);
    let reader = tokio::task::spawn_blocking(move || walk(bridge, &sender));
    (parts, reader)
}

fn walk(archive: impl Read, parts: &mpsc::Sender<Part>) -> Result<(), ImageError> {
    let failed = |error: io::Error| ImageError::Read(Arc::new(error));
    let mut archive = BufReader::with_capacity(limits::BLOB_CHUNK, archive);
    let head = archive.fill_buf().map_err(failed)?;
    if head.is_empty() {
        return Err(bad("it is empty"));
    }
    if head.starts_with(&super::ZSTD) {
        return Err(bad("it is compressed by zstd; decompress it first"));
    }
    if head.starts_with(&super::GZIP) {
        // A few packed bytes must not fill the disk: both forms have the same bound.
        return files(MultiGzDecoder::new(archive).take(limits::API_ARCHIVE_MAX), parts);
    }
    files(archive, parts)
}

fn files(archive: impl Read, parts: &mpsc::Sender<Part>) -> Result<(), ImageError> {
    let broken = |error: io::Error| bad(&format!("it is no tar archive, or broken: {error}"));
    let mut archive = tar::Archive::new(archive);
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        if count >= FILES_MAX {
            return Err(bad("it has too many files"));
        }
        let mut entry = entry.map_err(broken)?;
        let path = normal(Path::new(""), &entry.path().map_err(broken)?);
        let sent = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let size = entry.size();
                file(&mut entry, path, size, parts).map_err(broken)?
            }
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = entry.link_name().map_err(broken)?.unwrap_or_default();
                // A symbolic link counts from its own folder, a hard one from the archive's top.
                let folder = match kind {
                    tar::EntryType::Symlink => Path::new(&path).parent().unwrap_or(Path::new("")),
                    _ => Path::new(""),
                };
                let target = normal(folder, &target);
                parts.blocking_send(Part::Link(path, target)).is_ok()
            }
            _ => true,
        };
        if !sent {
            // The reader has failed and says why itself.
            return Ok(());
        }
    }
    Ok(())
}

/// Sends a file; false if nobody wants it any more.
fn file(
    entry: &mut impl Read,
    path: String,
    size: u64,
    parts: &mpsc::Sender<Part>,
) -> io::Result<bool> {
    if parts.blocking_send(Part::File(path, size)).is_err() {
        return Ok(false);
    }
    loop {
        let mut piece = Vec::new();
        entry.take(limits::BLOB_CHUNK as u64).read_to_end(&mut piece)?;
        let part = if piece.is_empty() { Part::End } else { Part::Data(piece.into()) };
        let ended = matches!(part, Part::End);
        if parts.blocking_send(part).is_err() {
            return Ok(false);
        }
        if ended {
            return Ok(true);
        }
    }
}

/// A path without `.` and `..`, which may lead nowhere outside the archive.
fn normal(folder: &Path, path: &Path) -> String {
    let mut words: Vec<String> = Vec::new();
    for part in folder.join(path).components() {
        match part {
            Component::Normal(word) => words.push(word.to_string_lossy().into_owned()),
            Component::ParentDir => {
                words.pop();
            }
            _ => {}
        }
    }
    words.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(normal(Path::new("a/b"), Path::new("../c/layer.tar")), "a/c/layer.tar");
        assert_eq!(normal(Path::new(""), Path::new("./x/../../y")), "y");
    }
}

//! The bytes of the log's records and of a snapshot's file.
//!
//! Owns framing, checksums, and how a write is laid out. Never reads or writes a file.
//!
//! A segment begins with `magic, salt u64, sequence u64 of its first record, checksum u32, 0 u32`.
//! A record is `length u32, checksum u32, sequence u64, payload`, padded with zeros to eight bytes;
//! the checksum (CRC-32) covers the segment's salt, sequence and payload. The salt is random, so
//! that no payload can be made that looks like a record. The payload is a list of items, each `kind
//! u8, length u32, bytes`; numbers are little-endian. One write is one record, so that it is there
//! as a whole or not at all.

use super::node::Write;
use prost011::Message as _;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};

/// Bytes before a segment's first record.
pub const SEGMENT_HEADER: usize = 32;
/// Bytes before a record's payload.
pub const HEADER: usize = 16;
const SEGMENT_MAGIC: &[u8; 8] = b"milllog1";
const ITEM_HEADER: usize = 5;
const SNAPSHOT_MAGIC: &[u8; 8] = b"millsnp1";

const ENTRY: u8 = 1;
const HARD: u8 = 2;
const CONF: u8 = 3;
const RESET: u8 = 4;

/// A part of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An entry, and where its bytes lie within the payload.
    Entry {
        /// The entry's index.
        index: u64,
        term: u64,
        /// Where its bytes begin.
        offset: usize,
        /// How many there are.
        length: usize,
    },
    /// Term, vote, commit index.
    Hard(HardState),
    /// A configuration and the index of the entry that made it.
    Conf(u64, ConfState),
    /// The log begins behind this index and term.
    Reset(u64, u64),
}

/// What lies at a place in a segment.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<'a> {
    /// A whole record with the expected sequence number.
    Record {
        payload: &'a [u8],
        /// Its size with header and padding.
        size: usize,
    },
    /// Nothing, or what is left of something: the end.
    End,
}

/// Why bytes couldn't be understood, although their checksum was right.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// An item of an unknown kind, or one that is cut off.
    #[error("an item of kind {0} can't be read; was it written by a newer version?")]
    Item(u8),
    /// An item's message couldn't be decoded.
    #[error("an item's message can't be decoded")]
    Message(#[from] prost011::DecodeError),
    /// The snapshot's file is damaged.
    #[error("its checksum is wrong, or it isn't a snapshot")]
    Snapshot,
}

fn padded(size: usize) -> usize {
    size.next_multiple_of(8)
}

fn checksum(salt: u64, sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn item(buffer: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend([kind, 0, 0, 0, 0]);
    write(buffer);
    let length = (buffer.len() - start - ITEM_HEADER) as u32;
    buffer[start + 1..start + ITEM_HEADER].copy_from_slice(&length.to_le_bytes());
}

/// An entry's place in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPlace {
    /// The entry's index.
    pub index: u64,
    /// Where its bytes begin, from the start of the record.
    pub offset: usize,
    /// How many there are.
    pub length: usize,
}

/// A record that is being put together.
#[derive(Debug, Default)]
pub struct Builder {
    buffer: Vec<u8>,
    entries: Vec<EntryPlace>,
}

impl Builder {
    /// An empty record; `buffer`'s memory is used again.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER, 0);
        Self { buffer, entries: Vec::new() }
    }

    /// Adds an entry.
    pub fn entry(&mut self, entry: &Entry) {
        let offset = self.buffer.len() + ITEM_HEADER;
        item(&mut self.buffer, ENTRY, |b| encode(entry, b));
        let length = self.buffer.len() - offset;
        self.entries.push(EntryPlace { index: entry.index, offset, length });
    }

    /// Adds term, vote and commit index.
    pub fn hard(&mut self, hard: &HardState) {
        item(&mut self.buffer, HARD, |b| encode(hard, b));
    }

    /// Adds a configuration.
    pub fn conf(&mut self, index: u64, conf: &ConfState) {
        item(&mut self.buffer, CONF, |b| {
            b.extend(index.to_le_bytes());
            encode(conf, b);
        });
    }

    /// Adds where the log begins.
    pub fn reset(&mut self, index: u64, term: u64) {
        item(&mut self.buffer, RESET, |b| {
            b.extend(index.to_le_bytes());
            b.extend(term.to_le_bytes());
        });
    }

    /// Adds all of a write but its snapshot's data.
    pub fn write(&mut self, write: &Write) {
        if let Some(snapshot) = &write.snapshot {
            let meta = snapshot.get_metadata();
            self.reset(meta.index, meta.term);
            self.conf(meta.index, meta.get_conf_state());
        }
        for entry in &write.entries {
            self.entry(entry);
        }
        if let Some((index, conf)) = &write.conf {
            self.conf(*index, conf);
        }
        self.hard(&write.hard);
    }

    /// How large the record is so far, but for its padding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == HEADER
    }

    /// The record's bytes, and where its entries are.
    #[must_use]
    pub fn finish(mut self, salt: u64, sequence: u64) -> (Vec<u8>, Vec<EntryPlace>) {
        let payload = &self.buffer[HEADER..];
        let length = payload.len() as u32;
        let sum = checksum(salt, sequence, payload);
        self.buffer[0..4].copy_from_slice(&length.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&sum.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.buffer.resize(padded(self.buffer.len()), 0);
        (self.buffer, self.entries)
    }
}

fn encode(message: &impl prost011::Message, buffer: &mut Vec<u8>) {
    // The only error is a buffer without room, and a vector grows.
    let _ = message.encode(buffer);
}

/// The head of a segment.
#[must_use]
pub fn segment_head(salt: u64, sequence: u64) -> Vec<u8> {
    let mut head = SEGMENT_MAGIC.to_vec();
    head.extend(salt.to_le_bytes());
    head.extend(sequence.to_le_bytes());
    head.extend(crc32fast::hash(&head).to_le_bytes());
    head.resize(SEGMENT_HEADER, 0);
    head
}

/// A segment's salt and the sequence number of its first record, if its head is whole.
#[must_use]
pub fn parse_segment_head(bytes: &[u8]) -> Option<(u64, u64)> {
    let sum = u32::from_le_bytes(number(bytes, 24)?);
    if !bytes.starts_with(SEGMENT_MAGIC) || crc32fast::hash(&bytes[..24]) != sum {
        return None;
    }
    Some((u64::from_le_bytes(number(bytes, 8)?), u64::from_le_bytes(number(bytes, 16)?)))
}

/// The record with this sequence number at the start of `bytes`, if it is whole.
#[must_use]
pub fn record(bytes: &[u8], salt: u64, sequence: u64) -> Found<'_> {
    let parse = || {
        let length = u32::from_le_bytes(number(bytes, 0)?) as usize;
        let sum = u32::from_le_bytes(number(bytes, 4)?);
        let payload = bytes.get(HEADER..HEADER.checked_add(length)?)?;
        let same = u64::from_le_bytes(number(bytes, 8)?) == sequence;
        let whole = same && length > 0 && checksum(salt, sequence, payload) == sum;
        whole.then_some(Found::Record { payload, size: padded(HEADER + length) })
    };
    parse().unwrap_or(Found::End)
}

/// Whether a whole record with a later sequence number lies anywhere in `bytes`: then what comes
/// before it is not a write that was cut off but damage.
#[must_use]
pub fn later_record(bytes: &[u8], salt: u64, sequence: u64) -> bool {
    (0..bytes.len().saturating_sub(HEADER)).step_by(8).any(|at| {
        let found = number(bytes, at + 8).map(u64::from_le_bytes);
        found.is_some_and(|s| {
            // A segment holds fewer records than it has room for headers.
            s > sequence
                && s - sequence <= (bytes.len() / HEADER) as u64
                && record(&bytes[at..], salt, s) != Found::End
        })
    })
}

/// The items of a record's payload; entries' offsets are relative to the payload.
pub fn items(payload: &[u8]) -> Result<Vec<Item>, FrameError> {
    let mut items = Vec::new();
    let mut at = 0;
    while at < payload.len() {
        let kind = payload[at];
        let cut = || FrameError::Item(kind);
        let length = number(payload, at + 1).map(u32::from_le_bytes).ok_or_else(cut)? as usize;
        let offset = at + ITEM_HEADER;
        let bytes = payload.get(offset..offset + length).ok_or_else(cut)?;
        let first = || number(bytes, 0).map(u64::from_le_bytes).ok_or_else(cut);
        items.push(match kind {
            ENTRY => {
                let entry = Entry::decode(bytes)?;
                Item::Entry { index: entry.index, term: entry.term, offset, length }
            }
            HARD => Item::Hard(HardState::decode(bytes)?),
            CONF => Item::Conf(first()?, ConfState::decode(&bytes[8..])?),
            RESET => {
                let term = number(bytes, 8).map(u64::from_le_bytes).ok_or_else(cut)?;
                Item::Reset(first()?, term)
            }
            _ => return Err(cut()),
        });
        at = offset + length;
    }
    Ok(items)
}

/// The head of a snapshot's file: everything but the data, which follows it.
#[must_use]
pub fn snapshot_head(meta: &SnapshotMetadata, hard: &HardState, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in [meta.encode_to_vec(), hard.encode_to_vec()] {
        body.extend((part.len() as u32).to_le_bytes());
        body.extend(part);
    }
    let length = (data.len() as u64).to_le_bytes();
    let mut sum = crc32fast::Hasher::new();
    sum.update(&body);
    sum.update(data);
    sum.update(&length);
    let mut head = SNAPSHOT_MAGIC.to_vec();
    head.extend(length);
    head.extend(sum.finalize().to_le_bytes());
    head.extend(body);
    head
}

/// A snapshot and the hard state that was written with it, from its file.
pub fn snapshot(mut file: Vec<u8>) -> Result<(Snapshot, HardState), FrameError> {
    let bad = || FrameError::Snapshot;
    let rest = file.strip_prefix(SNAPSHOT_MAGIC).ok_or_else(bad)?;
    let length: [u8; 8] = number(rest, 0).ok_or_else(bad)?;
    let sum = u32::from_le_bytes(number(rest, 8).ok_or_else(bad)?);
    let body = rest.get(12..).ok_or_else(bad)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(&length);
    if hasher.finalize() != sum {
        return Err(bad());
    }
    let part = |at: usize| {
        let length = u32::from_le_bytes(number(body, at)?) as usize;
        body.get(at + 4..at + 4 + length)
    };
    let meta = part(0).ok_or_else(bad)?;
    let hard = part(4 + meta.len()).ok_or_else(bad)?;
    let metadata = Some(SnapshotMetadata::decode(meta)?);
    let hard = HardState::decode(hard)?;
    let start = file.len().checked_sub(u64::from_le_bytes(length) as usize).ok_or_else(bad)?;
    let data = file.split_off(start);
    Ok((Snapshot { data, metadata }, hard))
}

#[cfg(test)]
mod tests;

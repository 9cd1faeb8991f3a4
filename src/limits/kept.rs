//! Bounds on what the state and a node's memory keep of the past, in bytes.
//!
//! Never holds a value that a person sets.

/// Bytes of files and specifications that the revisions of one app keep, beyond what runs.
pub const REVISIONS_BYTES_EACH: u64 = 16 << 20;
/// And those of all apps.
pub const REVISIONS_BYTES: u64 = 64 << 20;
/// Apps that were taken down and are remembered.
pub const APPS_ENDED: usize = 50;
/// Bytes of specifications that runs of tasks have of their own.
pub const RUNS_BYTES: u64 = 32 << 20;
/// Bytes of files that the plans have which a node remembers.
pub const PLANS_BYTES: usize = 16 << 20;
/// Bytes of entries that are kept behind a snapshot for peers that are slightly behind.
pub const ENTRIES_KEPT_BYTES: u64 = 8 << 20;
/// Documents of an archive with images that are held in memory, in bytes.
pub const ARCHIVE_TEXTS: usize = 16 << 20;
/// Archives that a node takes in at once.
pub const ARCHIVES_AT_ONCE: usize = 4;
/// Longest key that the state keeps, in bytes: hashes of what a caller sends, and a number.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Idempotency keys remembered of one caller.
pub const IDEMPOTENCY_EACH: usize = 3_000;
/// One token may have that part of the streams that the API keeps open.
pub const API_STREAM_SHARES: usize = 4;

const _: () = assert!(REVISIONS_BYTES_EACH < REVISIONS_BYTES);
const _: () = assert!(
    REVISIONS_BYTES + RUNS_BYTES < super::PEER_SNAPSHOT_MAX as u64 / 4,
    "a snapshot must reach other nodes"
);

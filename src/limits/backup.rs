//! Bounds of backups.

use std::time::Duration;

/// Work that protects a passphrase, as a power of two: what age's own program does.
pub const BACKUP_WORK: u8 = 18;
/// The most work that is done to open a file.
pub const BACKUP_WORK_MAX: u8 = 22;
/// Bytes of a backup.
pub const BACKUP_MAX: usize = 512 << 20;
/// Recipients of a backup.
pub const BACKUP_RECIPIENTS: usize = 20;
/// Longest wait of a client for a backup to begin or go on.
pub const BACKUP_WAIT: Duration = Duration::from_secs(60);
/// Bytes of the reason why a backup failed.
pub const BACKUP_WHY_MAX: usize = 1024;
/// Most files that a schedule keeps.
pub const BACKUP_KEEP_MAX: u32 = 1_000;
/// After so long a backup that a node hasn't told the end of counts as failed.
pub const BACKUP_OVERDUE: Duration = Duration::from_secs(600);

const _: () = assert!(BACKUP_WORK <= BACKUP_WORK_MAX);

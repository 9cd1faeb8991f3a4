//! Bounds of secrets and config files.

/// Secrets kept at once.
pub const SECRETS_MAX: usize = 2_000;
/// Bytes of all their values.
pub const SECRETS_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one value.
pub const SECRET_MAX: usize = 64 << 10;
/// Bytes of an import: all its values go into one entry.
pub const SECRET_IMPORT_MAX: usize = 1 << 20;
/// Bytes of a config file.
pub const CONFIG_FILE_MAX: usize = 256 << 10;
/// Most bytes of the file system in memory that holds what containers are given in secret.
pub const SECRET_TMPFS: &str = "64m";
/// Longest wait for another keyring that was asked for.
pub const ROTATE_WAIT: std::time::Duration = std::time::Duration::from_secs(20);
/// How often `set` is made anew when somebody else sets the same name.
pub const SECRET_RETRIES: u32 = 5;
/// Differing lines of a config file that a plan shows.
pub const PLAN_LINES_MAX: usize = 200;
/// Longest wait until every node knows secrets.
pub const SECRETS_READY: std::time::Duration = std::time::Duration::from_secs(5);

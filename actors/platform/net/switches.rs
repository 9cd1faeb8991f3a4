//! The kernel's switches below `/proc/sys/net`.
//!
//! Owns that nobody is held up by writing one. Never decides which is on.

use super::NetError;
use std::io;
use std::path::Path;

/// Sets a switch of the kernel to 1; only written if it is not, so that a read-only `/proc/sys`
/// does where an administrator has set it.
pub(super) fn set_kernel(path: &str) -> Result<(), NetError> {
    if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1") {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(|source| NetError::Write { path: path.into(), source })
}

/// The same for whoever may not be held up: the kernel holds the writer while it takes namespaces
/// away.
pub(super) async fn switch_on(path: String) -> Result<(), NetError> {
    aside(move || set_kernel(&path)).await
}

/// Keeps an interface to IPv4, where the kernel has another.
pub(super) async fn without_ipv6(interface: &str) -> Result<(), NetError> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if Path::new(&path).exists() { switch_on(path).await } else { Ok(()) }
}

/// Writes to the kernel on a thread that may wait.
pub(super) async fn aside<T: Send + 'static>(
    write: impl FnOnce() -> Result<T, NetError> + Send + 'static,
) -> Result<T, NetError> {
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|lost| {
        Err(NetError::Write { path: "/proc/sys/net".into(), source: io::Error::other(lost) })
    })
}

//! The files of the host that name its DNS servers.
//!
//! Never judges them: that is for the core.

use crate::node::resolvers::Resolvers;

/// The host's own file, then those that a stub on its loopback asks for: systemd-resolved's and
/// NetworkManager's.
const FILES: [&str; 3] = [
    "/etc/resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
];

/// The servers that this host asks. Reads files.
#[must_use]
pub fn of_host() -> Resolvers {
    // One that isn't there names none.
    let texts = FILES.map(|file| std::fs::read_to_string(file).unwrap_or_default());
    Resolvers::choose(texts.iter().map(String::as_str))
}

//! Where other nodes reach this one: an address of this host, unless another one is translated.
//!
//! Owns finding it anew where the host has moved. Never asks another host.

use super::Identity;
use crate::config::{DaemonConfig, Mode, hints_in};
use crate::id::NodeId;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

/// The file in the data directory that says where members are that have moved.
pub(super) const HINTS: &str = "peer-hints";

/// Why it isn't known where members are.
#[derive(Debug, thiserror::Error)]
pub enum HintError {
    /// The file.
    #[error("reading {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}:{line}: this is not {wanted}", .path.display())]
    Line { path: PathBuf, line: usize, wanted: &'static str },
}

/// Where members are that have moved: what the flags say, and what the file says of others.
pub(super) fn hints(config: &DaemonConfig) -> Result<BTreeMap<NodeId, String>, HintError> {
    let path = config.data_dir.join(HINTS);
    let mut all = match std::fs::read_to_string(&path) {
        Ok(text) => {
            hints_in(&text).map_err(|(line, wanted)| HintError::Line { path, line, wanted })?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(source) => return Err(HintError::Read { path, source }),
    };
    all.extend(config.peer_hints.clone());
    Ok(all)
}

/// Whether this host has the address.
pub(super) fn is_here(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        // Anything else says nothing about the address.
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

/// The address that the default route starts from. Connecting a UDP socket sends nothing.
pub(super) fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

/// The one address that the peer port is on, if it isn't on all.
pub(super) fn bound(config: &DaemonConfig) -> Option<IpAddr> {
    config.peer.map(|peer| peer.ip()).filter(|ip| !ip.is_unspecified())
}

/// Where the node is now, if that is elsewhere than its identity says.
fn moved(who: &Identity, bound: Option<IpAddr>, own: impl FnOnce() -> IpAddr) -> Option<IpAddr> {
    let known: IpAddr = who.address.parse().ok()?;
    let new = match (who.nat, bound) {
        (Some(true), _) => return None,
        // The others find the peer port nowhere else.
        (_, Some(bound)) if bound != known && (is_here(known) || who.nat == Some(false)) => bound,
        (Some(false), None) if !is_here(known) => own(),
        _ => return None,
    };
    // A network that isn't up yet is none to move to.
    (new != known && is_here(new) && (known.is_loopback() || !new.is_loopback())).then_some(new)
}

/// Brings the identity's address up to date, also on the disk.
pub(super) fn settle(
    who: &mut Identity,
    config: &DaemonConfig,
    data: &Path,
) -> Result<(), super::IdentityError> {
    if config.mode == Mode::Dev {
        return Ok(());
    }
    let before = who.clone();
    if let Some(new) = moved(who, bound(config), own_address) {
        let old = &who.address;
        tracing::warn!(%old, %new, "this node has moved: it registers its new address");
        who.address = new.to_string();
        who.nat = Some(false);
    }
    let here = who.address.parse().is_ok_and(is_here);
    if who.nat.is_none() && here {
        who.nat = Some(false);
    }
    if who.nat != Some(true) && !here {
        tracing::warn!(address = %who.address, "this host does not have the address that the \
            others know; if it has moved, pass --peer ADDRESS:PORT");
    }
    if *who == before { Ok(()) } else { who.write(data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELSEWHERE: &str = "192.0.2.9";

    #[yare::parameterized(
        stays = { "127.0.0.1", Some(false), None, None },
        a_network_is_not_up_yet = { ELSEWHERE, Some(false), None, None },
        translated = { ELSEWHERE, Some(true), None, None },
        of_an_older_version = { ELSEWHERE, None, None, None },
        listens_elsewhere = { "127.0.0.1", Some(false), Some("127.0.0.2"), Some("127.0.0.2") },
        older_and_listens_elsewhere = { "127.0.0.1", None, Some("127.0.0.2"), Some("127.0.0.2") },
        older_behind_a_translation = { ELSEWHERE, None, Some("127.0.0.2"), None },
        translated_and_listens = { ELSEWHERE, Some(true), Some("127.0.0.2"), None },
    )]
    fn a_node_that_has_moved_notices(
        known: &str,
        nat: Option<bool>,
        bound: Option<&str>,
        want: Option<&str>,
    ) {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut who = crate::daemon::identity::tests::somebody();
        (who.address, who.nat) = (known.to_owned(), nat);
        let own = || address("127.0.0.3");
        let found = moved(&who, bound.map(address), own);
        assert_eq!(found, want.map(address));
    }

    #[test]
    fn addresses_of_this_host_are_known() {
        assert!(is_here(address_of("127.0.0.1")) && !is_here(address_of(ELSEWHERE)));
        assert!(!own_address().is_unspecified());
    }

    fn address_of(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}

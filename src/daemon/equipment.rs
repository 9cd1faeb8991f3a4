//! What a member needs before its actors run: its credentials and the listeners.
//!
//! Owns opening them in one place, for a new member and a restarted one alike. Never serves one.

use super::Identity;
use crate::actors::api::listener::{self, ListenError, Listening};
use crate::actors::peer::credentials::Credentials;
use crate::actors::peer::keys::{KeysError, NodeKeys};
use crate::actors::peer::tls::TrustError;
use crate::actors::proxy::listen::{Addresses, Refused};
use crate::config::{DaemonConfig, Mode};
use crate::secret::Keyring;
use nix::sys::socket::{Shutdown, shutdown};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What a member needs before its actors run.
pub struct Equipment {
    /// The API's TCP listeners.
    pub api: Vec<Listening>,
    /// The peer port; none in dev.
    pub peer: Option<Arc<TcpListener>>,
    /// The proxy's addresses.
    pub ingress: Arc<Addresses>,
    /// Who the node is to others.
    pub credentials: Arc<Credentials>,
    /// What seals and opens.
    pub keyring: Keyring,
}

/// Why a member can't be equipped.
#[derive(Debug, thiserror::Error)]
pub enum EquipError {
    /// Its keys can't be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its keys don't fit.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A listener can't be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl Equipment {
    /// The port where other nodes reach this one.
    #[must_use]
    pub fn peer_port(&self) -> Option<u16> {
        self.peer.as_ref().map(|peer| port_of(peer))
    }

    /// Gives the listeners' addresses back, also where a request that goes on still has them: the
    /// node's next life opens them anew.
    pub fn close(&self) {
        for listener in self.api.iter().map(|api| &api.tcp).chain(&self.peer) {
            if let Err(error) = shutdown(listener.as_raw_fd(), Shutdown::Both) {
                tracing::warn!(%error, "a listener can't be closed");
            }
        }
        for listener in self.ingress.listeners() {
            if let Err(error) = shutdown(listener.as_raw_fd(), Shutdown::Both) {
                tracing::warn!(%error, "a listener of the proxy can't be closed");
            }
        }
    }
}

/// What a new member has already: its keys, which aren't on disk yet, and the open peer port.
pub(super) struct Made {
    pub keys: NodeKeys,
    /// The peer port.
    pub peer: Option<Arc<TcpListener>>,
}

/// What a member with that identity needs. A new one brings what it has; a restarted one has its
/// keys on disk.
///
/// # Errors
/// Keys are damaged, or an address is taken.
pub(super) fn of(
    config: &DaemonConfig,
    who: &Identity,
    made: Option<Made>,
) -> Result<Equipment, EquipError> {
    let data = &config.data_dir;
    let Made { keys, peer } = match made {
        Some(made) => made,
        None => Made { keys: NodeKeys::read(data)?, peer: peer_listener(config)? },
    };
    if let Some(address) = config.dns {
        // The dns actor opens it; whoever is in the way is told of now.
        drop(listener::open_tcp(address, "--dns")?);
    }
    let credentials = Arc::new(Credentials::new(&keys, data, config.certificate_life)?);
    let keyring = Keyring::new(keys.secret);
    let api = api(config, who, &credentials)?;
    let ingress = Addresses::take(config.http, config.https).map_err(taken)?;
    Ok(Equipment { api, peer, ingress: Arc::new(ingress), credentials, keyring })
}

/// Opens the peer port.
///
/// # Errors
/// The address is taken.
pub(super) fn peer_listener(
    config: &DaemonConfig,
) -> Result<Option<Arc<TcpListener>>, ListenError> {
    let Some(address) = config.peer else { return Ok(None) };
    Ok(Some(Arc::new(listener::open_tcp(address, "--peer")?)))
}

/// Whether the proxy's addresses could be opened.
///
/// # Errors
/// One of them is taken.
pub(super) fn try_ingress(config: &DaemonConfig) -> Result<(), ListenError> {
    Addresses::open(config.http, config.https).map(drop).map_err(taken)
}

fn taken(no: Refused) -> ListenError {
    listener::refused(no.address, no.flag, no.source)
}

/// The number of an open port.
pub(super) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}

/// Opens the API's own address.
///
/// # Errors
/// It is taken.
pub(super) fn plain(config: &DaemonConfig) -> Result<Listening, ListenError> {
    let tcp = Arc::new(listener::open_tcp(config.api, "--api")?);
    Ok(Listening { tcp, plain: true, tls: None })
}

/// The address of `--api`, with and without TLS, and the advertised one, with TLS only.
fn api(
    config: &DaemonConfig,
    who: &Identity,
    credentials: &Credentials,
) -> Result<Vec<Listening>, EquipError> {
    let tls = credentials.trust().api_config()?;
    let own = Listening { tls: Some(Arc::clone(&tls)), ..plain(config)? };
    let port = port_of(&own.tcp);
    let mut all = vec![own];
    let Ok(address) = who.address.parse::<IpAddr>() else { return Ok(all) };
    let covered = config.api.ip() == address || config.api.ip().is_unspecified();
    if covered || config.mode == Mode::Dev {
        return Ok(all);
    }
    match listener::open_tcp(SocketAddr::new(address, port), "--api") {
        Ok(tcp) => all.push(Listening { tcp: Arc::new(tcp), plain: false, tls: Some(tls) }),
        // Behind a translated address the host doesn't have the one that others use.
        Err(ListenError::Address { address, source, .. }) => {
            tracing::warn!(%address, error = %source, "the API is not served at the advertised \
                address; to serve it elsewhere pass --api ADDRESS:PORT");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::peer::ca::{Authority, NodeKey, certificate_to_pem, peer};
    use crate::id::NodeId;
    use crate::secret::OwnKey;
    use std::time::Duration;

    #[tokio::test]
    async fn addresses_are_free_again_though_somebody_holds_a_listener() {
        let day = Duration::from_secs(86_400);
        let (authority, key) = (Authority::new("t", "c").unwrap(), NodeKey::new().unwrap());
        let (who, request) = (peer("c", NodeId(1)), key.request().unwrap());
        let signed = authority.sign(&request, &who, "127.0.0.1", day).unwrap();
        let keys = NodeKeys {
            key: key.pem(),
            certificate: certificate_to_pem(&signed),
            ca: certificate_to_pem(authority.certificate()),
            secret: OwnKey::new([7; 32]),
        };
        let credentials = Credentials::new(&keys, std::path::Path::new("/nowhere"), day).unwrap();
        let open = |address| listener::open_tcp(address, "--api");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (tcp, port) = (Arc::new(open(any).unwrap()), Arc::new(open(any).unwrap()));
        let places = [tcp.local_addr().unwrap(), port.local_addr().unwrap()];
        let ingress = Addresses::open(any, any).unwrap();
        let equipment = Equipment {
            ingress: Arc::new(ingress),
            api: vec![Listening { tcp: Arc::clone(&tcp), plain: true, tls: None }],
            peer: Some(Arc::clone(&port)),
            credentials: Arc::new(credentials),
            keyring: Keyring::new(keys.secret),
        };
        assert!(places.iter().all(|place| open(*place).is_err()));
        equipment.close();
        let again: Vec<_> = places.iter().map(|place| open(*place).unwrap()).collect();
        assert_eq!(again.len(), 2);
        drop((equipment, tcp, port));
    }
}

//! `restore`: an unclaimed node becomes the first of a cluster that is lost, from a backup of it.
//!
//! Owns what becomes of the backup's keys: the CA stays, the keyring is sealed for this node. Never
//! asks anybody else.

use super::super::equipment::{self, Made};
use super::super::{Identity, Shared, address, recover};
use super::{advertised, checked_name, conflict, host_name, open_doors, settle};
use crate::actors::api::ApiError;
use crate::actors::peer::ca::{Authority, NodeKey, certificate_to_pem};
use crate::actors::peer::credentials::sign_first;
use crate::actors::peer::keys::NodeKeys;
use crate::actors::root::RootRef;
use crate::api::wire::{RestoreRequest, RestoreView};
use crate::backup::Backup;
use crate::fsm::keys::CA_PURPOSE;
use crate::fsm::recover::Founder;
use crate::fsm::{FEATURE_LEVEL, State};
use crate::id::Incarnation;
use crate::secret::OwnKey;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn restore(
    shared: &Arc<Shared>,
    root: &RootRef,
    backup: Backup,
    request: RestoreRequest,
) -> Result<RestoreView, ApiError> {
    let name = checked_name("node", request.node.unwrap_or_else(host_name))?;
    equipment::plain(&shared.config).map_err(|error| conflict(&error))?;
    let peer = equipment::peer_listener(&shared.config).map_err(|error| conflict(&error))?;
    let given = (request.advertise.as_deref(), request.nat);
    let (address, nat) = advertised(shared, given, address::own_address)?;
    let founder = Founder {
        name,
        address: address.to_string(),
        peer_port: peer.as_deref().map_or(0, equipment::port_of),
        labels: request.labels,
        public_key: String::new(),
        keyring: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (data, life) = (shared.config.data_dir.clone(), shared.config.certificate_life);
    let made = tokio::task::spawn_blocking(move || prepare(&data, &backup, founder, (nat, life)));
    let made = made.await.map_err(|error| conflict(&error))?;
    let (who, keys, view) = made.map_err(|error| conflict(error.as_ref()))?;
    let equipment = settle(shared, root, who, Made { keys, peer }).await?;
    open_doors(shared, &equipment);
    Ok(view)
}

type Prepared = (Identity, NodeKeys, RestoreView);

/// Makes the node's keys and lays the new log ready, which counts for nothing yet.
fn prepare(
    data: &Path,
    backup: &Backup,
    founder: Founder,
    (nat, life): (bool, Duration),
) -> Result<Prepared, Box<dyn Error + Send + Sync>> {
    let secret = OwnKey::new(rand::random());
    let keyring = backup.keyring.for_node(&secret.public(), &mut crypto_box::aead::OsRng)?;
    let founder = Founder { public_key: secret.public(), keyring, ..founder };
    let incarnation = Incarnation(rand::random());
    let state = backup.state.restored(founder, incarnation)?;
    let none = || format!("the backup is of a cluster without keys (level {FEATURE_LEVEL})");
    let (ca, cluster) = state.ca.as_ref().zip(state.cluster.clone()).ok_or_else(none)?;
    let node = state.nodes.get(&state.last_node).ok_or_else(none)?;
    let opened = backup.keyring.open(CA_PURPOSE, &ca.key)?;
    let authority = Authority::open(opened.reveal(), &ca.cert)?;
    let key = NodeKey::new()?;
    let (first, request) = ((cluster.id.as_str(), node.id), key.request()?);
    let signed = sign_first(&authority, first, &node.address, &request, life)?;
    let certificate = certificate_to_pem(&signed);
    let keys = NodeKeys { key: key.pem(), certificate, ca: ca.cert.clone(), secret };
    recover::lay(data, node.id, incarnation, (&state, 1))?;
    let view = view(backup, &state, data);
    let who = Identity {
        node: node.id,
        name: node.name.clone(),
        address: node.address.clone(),
        subnet: node.subnet,
        cluster,
        init: None,
        members: BTreeMap::new(),
        begun: false,
        nat: Some(nat),
    };
    Ok((who, keys, view))
}

fn view(backup: &Backup, state: &State, data: &Path) -> RestoreView {
    let before = &backup.state.nodes;
    let name = |id| before.get(id).map_or_else(|| "-".to_owned(), |node| node.name.clone());
    let node = state.nodes.get(&state.last_node);
    let own = node.map(|node| node.name.clone()).unwrap_or_default();
    let lacks = |name: &str| !data.join("volumes").join(name).is_dir();
    let volumes = state
        .volumes
        .iter()
        .filter(|(volume, one)| one.provided.is_none() && lacks(volume.as_str()));
    RestoreView {
        cluster: state.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default(),
        address: node.map(|node| node.address.clone()).unwrap_or_default(),
        taken_at: backup.taken_at.to_string(),
        lost: before.values().map(|one| one.name.clone()).filter(|one| *one != own).collect(),
        volumes: volumes.map(|(volume, one)| (volume.to_string(), name(&one.node))).collect(),
        node: own,
    }
}

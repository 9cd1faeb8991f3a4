//! `init`: an unclaimed node becomes the first of a new cluster, with its own CA and keyring.
//!
//! Never asks anybody else.

use super::super::address::own_address;
use super::super::equipment::{self, Made};
use super::super::{Identity, Shared};
use super::{advertised, checked_name, conflict, host_name, open_doors, settle};
use crate::actors::api::{ApiError, certificates, provider};
use crate::actors::peer::ca::{Authority, NodeKey, certificate_to_pem, now};
use crate::actors::peer::credentials::{seal_ca_key, sign_first};
use crate::actors::peer::keys::NodeKeys;
use crate::actors::root::{Msg, Proposal, ProposeError, RootRef};
use crate::api::wire::{InitRequest, InitView};
use crate::cluster::join::PEER_PORT;
use crate::cluster::token;
use crate::cluster::trust::Fingerprint;
use crate::fsm::Command;
use crate::fsm::certificates::CertificateChange;
use crate::fsm::command::Init;
use crate::fsm::model::Role;
use crate::fsm::volumes::VolumeChange;
use crate::id::{FIRST_NODE, Incarnation};
use crate::limits;
use crate::secret::{OwnKey, SealKey};
use std::error::Error;
use std::sync::Arc;

/// The name of a cluster whose founder gave none.
const DEFAULT_CLUSTER: &str = "default";

pub(super) async fn init(
    shared: &Arc<Shared>,
    root: &RootRef,
    request: InitRequest,
) -> Result<InitView, ApiError> {
    let acme = request.acme.clone();
    acme.as_ref().map_or(Ok(()), certificates::check)?;
    let wanted = request.provider.clone();
    wanted.as_ref().map_or(Ok(()), provider::check)?;
    let peer = equipment::peer_listener(&shared.config).map_err(|error| conflict(&error))?;
    let peer_port = peer.as_deref().map_or(0, equipment::port_of);
    let (init, nat) = beginning(shared, request)?;
    let init = Init { peer_port, ..init };
    let life = shared.config.certificate_life;
    let made = tokio::task::spawn_blocking(move || equip(init, life)).await;
    let made = made.map_err(|error| conflict(&error))?;
    let (init, keys, ca) = made.map_err(|error| conflict(error.as_ref()))?;
    let sealed = init.keyring.clone();
    let who = Identity { nat: Some(nat), ..Identity::first(init) };
    let equipment = settle(shared, root, who.clone(), Made { keys, peer }).await?;
    let admin = mint(root, Role::Admin, ca).await?;
    let join = mint(root, Role::Join, ca).await?;
    if acme.is_some() || wanted.is_some() {
        equipment.keyring.take_up(&sealed).map_err(|error| conflict(&error))?;
    }
    if let Some(acme) = acme {
        let acme = certificates::authority(&acme, &equipment.keyring);
        let acme = acme.map_err(|error| conflict(&error))?;
        set(root, Command::Certificates(CertificateChange::Authority(Some(acme)))).await?;
    }
    if let Some(wanted) = wanted {
        let provider = provider::sealed(&wanted, &equipment.keyring);
        let provider = provider.map_err(|error| conflict(&error))?;
        set(root, Command::Volumes(VolumeChange::Provider(provider))).await?;
    }
    open_doors(shared, &equipment);
    let port = equipment.peer_port().unwrap_or(PEER_PORT);
    Ok(InitView {
        cluster: who.cluster.name,
        node: who.name,
        token: admin,
        join: join_command(&who.address, port, &join),
    })
}

/// The whole command that joins another node.
fn join_command(address: &str, port: u16, token: &str) -> String {
    let place = match (address.contains(':'), port) {
        (true, port) => format!("[{address}]:{port}"),
        (false, PEER_PORT) => address.to_owned(),
        (false, port) => format!("{address}:{port}"),
    };
    format!("mill join {place} --token {token}")
}

/// What is known of the cluster before it has keys.
fn beginning(shared: &Shared, request: InitRequest) -> Result<(Init, bool), ApiError> {
    let cluster = request.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
    let cluster = checked_name("cluster", cluster)?;
    let node_name = checked_name("node", request.node.unwrap_or_else(host_name))?;
    let given = (request.advertise.as_deref(), request.nat);
    let (address, nat) = advertised(shared, given, own_address)?;
    let subnet = shared.config.subnet;
    let id: u128 = rand::random();
    let init = Init {
        cluster,
        cluster_id: format!("{id:032x}"),
        incarnation: Incarnation(rand::random()),
        subnet: subnet.address,
        prefix: subnet.prefix,
        node_name,
        address: address.to_string(),
        labels: request.labels,
        peer_port: 0,
        public_key: String::new(),
        keyring: String::new(),
        ca: String::new(),
        ca_key: None,
    };
    Ok((init, nat))
}

type Equipped = (Init, NodeKeys, Fingerprint);

/// Makes the CA, the keyring, and the first node's keys and certificate.
fn equip(init: Init, life: std::time::Duration) -> Result<Equipped, Box<dyn Error + Send + Sync>> {
    let authority = Authority::new(&init.cluster, &init.cluster_id)?;
    let keyring = SealKey::new(rand::random());
    let secret = OwnKey::new(rand::random());
    let sealed = keyring.for_node(&secret.public(), &mut crypto_box::aead::OsRng)?;
    let key = NodeKey::new()?;
    let request = key.request()?;
    let first = (init.cluster_id.as_str(), FIRST_NODE);
    let signed = sign_first(&authority, first, &init.address, &request, life)?;
    let ca = certificate_to_pem(authority.certificate());
    let init = Init {
        public_key: secret.public(),
        keyring: sealed,
        ca: ca.clone(),
        ca_key: Some(seal_ca_key(&authority, &keyring)?),
        ..init
    };
    let certificate = certificate_to_pem(&signed);
    let keys = NodeKeys { key: key.pem(), certificate, ca, secret };
    Ok((init, keys, Fingerprint::of(authority.certificate())))
}

/// Says what the cluster is to know from the beginning, as soon as every node knows of it.
async fn set(root: &RootRef, command: Command) -> Result<(), ApiError> {
    let set = async {
        loop {
            let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
            match root.call(ask, Some(limits::INIT_READY)).await {
                Ok(ractor::rpc::CallResult::Success(Ok(_))) => return Ok(()),
                Ok(ractor::rpc::CallResult::Success(Err(ProposeError::Rejected(_)))) => {
                    tokio::time::sleep(limits::PROPOSE_AGAIN).await;
                }
                Ok(ractor::rpc::CallResult::Success(Err(error))) => return Err(error.into()),
                _ => return Err(ApiError::Stopping),
            }
        }
    };
    let set = tokio::time::timeout(limits::CERTIFICATES_READY, set).await;
    set.unwrap_or(Err(ApiError::Unconfirmed))
}

async fn mint(root: &RootRef, role: Role, ca: Fingerprint) -> Result<String, ApiError> {
    let minted = token::mint(rand::random(), rand::random(), Some(ca));
    let expires_at = token::life(role).map(|life| now().plus(life));
    let command = Command::CreateToken { id: minted.id, role, hash: minted.hash, expires_at };
    let ask = |reply| Msg::Propose(Proposal::new(&command, None, reply));
    match root.call(ask, Some(limits::INIT_READY)).await {
        Ok(ractor::rpc::CallResult::Success(done)) => {
            done?;
            Ok(minted.text)
        }
        _ => Err(ApiError::Stopping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_join_command_leaves_out_the_usual_port() {
        assert_eq!(join_command("10.0.0.1", 4401, "t"), "mill join 10.0.0.1 --token t");
        assert_eq!(join_command("10.0.0.1", 99, "t"), "mill join 10.0.0.1:99 --token t");
        assert_eq!(join_command("fd00::1", 4401, "t"), "mill join [fd00::1]:4401 --token t");
    }
}

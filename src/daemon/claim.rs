//! `init`: an unclaimed node becomes the first of a new cluster.
//!
//! Owns the order: everything that can fail is tried before the identity is written. Never claims a
//! node twice.

use super::doors::with_reasons;
use super::{Identity, Shared, begin};
use crate::actors::api::{ApiError, Standing, listener};
use crate::actors::root::{self, Proposal, RootRef};
use crate::fsm::Command;
use crate::fsm::command::Init;
use crate::fsm::model::Role;
use crate::id::{Incarnation, NodeId};
use crate::limits;
use crate::token;
use crate::wire::{InitRequest, InitView};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;

/// The name of a cluster whose founder gave none.
const DEFAULT_CLUSTER: &str = "default";

/// Makes this node the first of a new cluster.
///
/// # Errors
/// It is a member already, or can't run containers, or its ports are taken.
pub(super) async fn init(
    shared: &Arc<Shared>,
    root: &RootRef,
    request: InitRequest,
) -> Result<InitView, ApiError> {
    let _one_at_a_time = shared.claiming.lock().await;
    if let Some(who) = shared.identity.get() {
        let message = format!("this node is a member of {} already", who.init.cluster);
        let hint = "to start over: mill down --all, stop the daemon, mill clean".to_owned();
        return Err(ApiError::Conflict { message, hint: Some(hint) });
    }
    let who = identity(shared, request)?;
    let api = shared.config.api;
    let listener = listener::open_tcp(api, "--api").map_err(|e| conflict(&e))?;
    shared.platform(&who).await.map_err(|error| conflict(&error))?;
    write(shared, who.clone()).await?;
    let view = who.init.clone();
    begin(shared, root, who.clone()).await.map_err(|error| conflict(&error))?;
    wait_until_ready(root).await?;
    write(shared, Identity { begun: true, ..who }).await?;
    let admin = mint(root, Role::Admin).await?;
    let join = mint(root, Role::Join).await?;
    shared.standing.send_replace(Standing::Member { tcp: vec![Arc::new(listener)] });
    let port = shared.config.peer.map_or(4401, |peer| peer.port());
    Ok(InitView {
        cluster: view.cluster,
        node: view.node_name,
        token: admin,
        join: format!("mill join {}:{port} --token {join}", view.address),
    })
}

async fn write(shared: &Shared, who: Identity) -> Result<(), ApiError> {
    let data = shared.config.data_dir.clone();
    let wrote = tokio::task::spawn_blocking(move || who.write(&data)).await;
    wrote.map_err(|error| conflict(&error))?.map_err(|error| conflict(&error))
}

fn identity(shared: &Shared, request: InitRequest) -> Result<Identity, ApiError> {
    let cluster = request.cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
    let node = request.node.unwrap_or_else(host_name);
    for (what, name) in [("cluster", &cluster), ("node", &node)] {
        if !is_name(name) {
            let message = format!("{what} name {name:?} is not 1 to 50 of a-z, 0-9 and -");
            let hint = Some(format!("pass --{what} NAME"));
            return Err(ApiError::BadRequest { message, hint });
        }
    }
    let address = match request.advertise {
        Some(text) => text.parse().map_err(|_| ApiError::BadRequest {
            message: format!("{text:?} is not an address"),
            hint: Some("pass --advertise 192.0.2.7".to_owned()),
        })?,
        None => own_address(),
    };
    let subnet = shared.config.subnet;
    let id: u128 = rand::random();
    Ok(Identity {
        node: NodeId(1),
        subnet: subnet.address,
        init: Init {
            cluster,
            cluster_id: format!("{id:032x}"),
            incarnation: Incarnation(rand::random()),
            subnet: subnet.address,
            prefix: subnet.prefix,
            node_name: node,
            address: address.to_string(),
            labels: request.labels,
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        },
        begun: false,
    })
}

fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=50).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The host's name in the letters that a name may have.
fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let name = name.unwrap_or_default().to_ascii_lowercase();
    let first = name.split('.').next().unwrap_or_default();
    let kept: String =
        first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(50).collect();
    let kept = kept.trim_matches('-').to_owned();
    if kept.is_empty() { "n1".to_owned() } else { kept }
}

/// The address that the default route starts from. Connecting a UDP socket sends nothing.
fn own_address() -> IpAddr {
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    ask().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

fn conflict(error: &dyn std::error::Error) -> ApiError {
    ApiError::Conflict { message: with_reasons(error), hint: None }
}

async fn wait_until_ready(root: &RootRef) -> Result<(), ApiError> {
    let ready = root.call(root::Msg::Ready, Some(limits::INIT_READY)).await;
    match ready {
        Ok(answer) if answer.is_success() => Ok(()),
        _ => Err(ApiError::Starting),
    }
}

async fn mint(root: &RootRef, role: Role) -> Result<String, ApiError> {
    let minted = token::mint(rand::random(), rand::random());
    let command = Command::CreateToken { id: minted.id, role, hash: minted.hash, expires_at: None };
    let ask = |reply| root::Msg::Propose(Proposal::new(&command, None, reply));
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
    fn names_are_checked_and_the_hosts_is_made_one() {
        assert!(is_name("n1") && is_name("my-host"));
        assert!(!is_name("") && !is_name("-a") && !is_name("Ä") && !is_name(&"a".repeat(51)));
        assert!(is_name(&host_name()));
        assert!(!own_address().is_unspecified());
    }
}

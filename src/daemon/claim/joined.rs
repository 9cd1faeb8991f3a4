//! `join`: an unclaimed node becomes one more of a cluster, by asking a member.
//!
//! Owns what is sent and what is made of the answer. Never decides who may join.

use super::super::equipment::{self, Made};
use super::super::{Identity, Shared};
use super::{advertised, checked_name, conflict, host_name, open_doors, settle};
use crate::actors::api::ApiError;
use crate::actors::peer::ca::{self, NodeKey, certificate_to_pem};
use crate::actors::peer::join_client::{JoinClient, JoinError};
use crate::actors::peer::join_service::{answer_back, proof};
use crate::actors::peer::keys::NodeKeys;
use crate::actors::peer::wire;
use crate::actors::root::RootRef;
use crate::api::wire::{JoinRequest, JoinView};
use crate::cluster::join;
use crate::cluster::token;
use crate::fsm::{Cluster, FEATURE_LEVEL};
use crate::id::NodeId;
use crate::secret::OwnKey;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::task::JoinSet;

/// What a new member knows of itself before it asks.
struct Applicant {
    key: NodeKey,
    secret: OwnKey,
    name: String,
    address: IpAddr,
    nat: bool,
}

pub(super) async fn join(
    shared: &Arc<Shared>,
    root: &RootRef,
    request: JoinRequest,
) -> Result<JoinView, ApiError> {
    let name = checked_name("node", request.node.clone().unwrap_or_else(host_name))?;
    let Some((host, port)) = join::place(&request.address) else {
        let message = format!("{:?} is no HOST[:PORT]", request.address);
        return Err(ApiError::bad(message, "write it as 10.0.0.1 or 10.0.0.1:4401"));
    };
    let Some(fingerprint) = token::fingerprint(&request.token) else {
        let message = "the token has no fingerprint of a cluster's CA at its end".to_owned();
        let hint = "give the whole text of a token made by: mill token create --role join";
        return Err(ApiError::Denied { message, hint: Some(hint.to_owned()) });
    };
    // Before anybody is asked: what would fail here anyway.
    equipment::plain(&shared.config).map_err(|error| conflict(&error))?;
    let peer = equipment::peer_listener(&shared.config).map_err(|error| conflict(&error))?;
    let Some(own_port) = peer.as_deref().map(equipment::port_of) else {
        let message = "this node has no peer port".to_owned();
        return Err(ApiError::Conflict { message, hint: Some("run mill daemon".to_owned()) });
    };
    let client =
        JoinClient::new(&host, port, fingerprint).await.map_err(|error| refusal(&error))?;
    let seen = client.own_address().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let given = (request.advertise.as_deref(), request.nat);
    let (address, nat) = advertised(shared, given, || seen.to_canonical())?;
    let key = NodeKey::new().map_err(|error| conflict(&error))?;
    let me = Applicant { key, secret: OwnKey::new(rand::random()), name, address, nat };
    let asked = application(&me, own_port, request)?;
    // The member calls back before it lets in: it is shown that this is where the joiner is.
    let mut answering = JoinSet::new();
    if let Some(peer) = peer.clone() {
        answering.spawn(answer_back(peer, proof(&asked.csr)));
    }
    let joined = client.join(asked).await.map_err(|error| refusal(&error))?;
    answering.shutdown().await;
    let (who, keys) = accepted(me, &joined)?;
    let id = who.node.0;
    let view = JoinView {
        cluster: who.cluster.name.clone(),
        node: who.name.clone(),
        id,
        address: who.address.clone(),
    };
    let equipment = settle(shared, root, who, Made { keys, peer }).await?;
    open_doors(shared, &equipment);
    Ok(view)
}

fn application(
    me: &Applicant,
    port: u16,
    request: JoinRequest,
) -> Result<wire::JoinRequest, ApiError> {
    let csr = me.key.request().map_err(|error| conflict(&error))?;
    Ok(wire::JoinRequest {
        token: request.token,
        node: me.name.clone(),
        address: me.address.to_string(),
        port: u32::from(port),
        labels: request.labels.into_iter().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        feature_level: FEATURE_LEVEL,
        time_ms: ca::now().0,
        csr: csr.into(),
        public_key: me.secret.public_bytes().to_vec().into(),
        answers: true,
    })
}

fn accepted(me: Applicant, joined: &wire::Joined) -> Result<(Identity, NodeKeys), ApiError> {
    let strange = |what: &'static str| ApiError::Internal {
        doing: "reading the cluster's answer",
        reason: format!("its {what} can't be read"),
    };
    let cluster: Cluster =
        serde_json::from_slice(&joined.cluster).map_err(|_| strange("cluster"))?;
    let subnet = joined.subnet.parse().map_err(|_| strange("subnet"))?;
    let members = joined.members.iter().map(|one| (NodeId(one.node), one.address.clone()));
    let keys = NodeKeys {
        key: me.key.pem(),
        certificate: certificate_to_pem(&joined.certificate),
        ca: certificate_to_pem(&joined.ca),
        secret: me.secret,
    };
    let who = Identity {
        node: NodeId(joined.node),
        name: me.name,
        address: me.address.to_string(),
        subnet,
        cluster,
        init: None,
        members: members.collect(),
        begun: false,
        nat: Some(me.nat),
    };
    Ok((who, keys))
}

fn refusal(error: &JoinError) -> ApiError {
    let (message, hint) = (error.to_string(), error.hint());
    match error {
        JoinError::Refused { denied: true, .. } => ApiError::Denied { message, hint },
        _ => ApiError::Conflict { message, hint },
    }
}

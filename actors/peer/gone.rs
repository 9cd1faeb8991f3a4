//! Asking the other members whether this node is one of them still.
//!
//! Owns what counts as their answer. Never takes silence for one.

use super::credentials::Credentials;
use super::dial::{dial, tcp};
use super::{REMOVED, call, wire};
use crate::id::{Incarnation, NodeId};
use std::collections::BTreeMap;
use tonic::Code;

/// Whether another member (`HOST:PORT` by id) says that this node was removed. The caller bounds
/// the time.
pub async fn says_removed(
    credentials: &Credentials,
    incarnation: Incarnation,
    places: BTreeMap<NodeId, String>,
) -> bool {
    let dialling = tcp();
    for (node, place) in places {
        let Ok(channel) = dial(&dialling, credentials.trust(), node, &place).await else {
            continue;
        };
        let mut client = wire::peer_client::PeerClient::new(channel);
        // An empty request: a member that still counts this node says that it is none.
        let request = call(wire::CertificateRequest::default(), incarnation);
        if let Err(status) = client.renew(request).await
            && status.code() == Code::PermissionDenied
            && status.message() == REMOVED
        {
            return true;
        }
    }
    false
}

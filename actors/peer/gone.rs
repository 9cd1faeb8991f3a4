//! Asking the other members whether this node is one of them still.
//!
//! Owns what counts as their answer. Never takes silence for one.

use super::credentials::Credentials;
use super::dial::{dial, tcp};
use super::{RECOVERED, REMOVED, call, wire};
use crate::api::views::Expelled;
use crate::id::{Incarnation, NodeId};
use crate::limits;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// What another member says of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpulsionCheck {
    /// It is one of them, as far as the other knows.
    Member,
    /// It is none any more.
    Expelled(Expelled),
}

/// Why a member refuses every call of this node, if that is what the answer says.
pub(super) fn expelled(status: &Status) -> Option<Expelled> {
    match (status.code(), status.message()) {
        (Code::PermissionDenied, REMOVED) => Some(Expelled::Removed),
        (Code::PermissionDenied, RECOVERED) => Some(Expelled::Recovered),
        _ => None,
    }
}

/// What one member says; absent: it doesn't answer.
async fn ask(
    credentials: &Credentials,
    incarnation: Incarnation,
    node: NodeId,
    place: &str,
) -> Option<ExpulsionCheck> {
    let channel = dial(&tcp(), credentials.trust(), node, place).await.ok()?;
    let mut client = wire::peer_client::PeerClient::new(channel);
    // An empty request: a member that still counts this node says that it is none.
    let request = call(wire::CertificateRequest::default(), incarnation);
    let refusal = client.renew(request).await.err();
    let expelled = refusal.as_ref().and_then(expelled);
    Some(expelled.map_or(ExpulsionCheck::Member, ExpulsionCheck::Expelled))
}

/// What the members say that answer in time, asked at once at their `HOST:PORT`.
pub async fn ask_members(
    credentials: &Arc<Credentials>,
    incarnation: Incarnation,
    places: BTreeMap<NodeId, String>,
) -> BTreeMap<NodeId, ExpulsionCheck> {
    let mut asking = JoinSet::new();
    for (node, place) in places {
        let credentials = Arc::clone(credentials);
        asking.spawn(async move {
            let answer = ask(&credentials, incarnation, node, &place);
            let answer = tokio::time::timeout(limits::MEMBER_ANSWER, answer).await;
            answer.ok().flatten().map(|says| (node, says))
        });
    }
    asking.join_all().await.into_iter().flatten().collect()
}

/// Whether another member (`HOST:PORT` by id) says that this node is none any more.
pub async fn says_removed(
    credentials: &Arc<Credentials>,
    incarnation: Incarnation,
    places: BTreeMap<NodeId, String>,
) -> bool {
    let answers = ask_members(credentials, incarnation, places).await;
    answers.values().any(|says| *says != ExpulsionCheck::Member)
}

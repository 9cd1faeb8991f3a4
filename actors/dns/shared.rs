//! What all listeners of names answer from, and how.
//!
//! Owns who is asked on behalf of whom. Never holds a socket.

use super::forward::Forwarder;
use crate::actors::dns_queries::DnsQueries;
use crate::limits;
use crate::network::Subnet;
use crate::node::dns::{Answer, Outcome, Unusual, Zone, answer, forwarded, unusual};
use arc_swap::ArcSwap;
use hickory_proto::op::{Message, ResponseCode};
use std::net::IpAddr;
use tokio::sync::Semaphore;

/// What all listeners have in common.
pub(super) struct Shared {
    /// What is answered from.
    pub(super) zone: ArcSwap<Zone>,
    cluster: Subnet,
    forwarder: Forwarder,
    forwards: Semaphore,
    pub(super) queries: DnsQueries,
}

impl Shared {
    pub(super) fn new(cluster: Subnet, forwarder: Forwarder, queries: DnsQueries) -> Self {
        let (zone, forwards) = (ArcSwap::default(), Semaphore::new(limits::DNS_FORWARDS));
        Self { zone, cluster, forwarder, forwards, queries }
    }

    /// Asks the host's resolvers, for containers and the host itself.
    pub(super) async fn forward(
        &self,
        message: &Message,
        from: IpAddr,
        stream: bool,
    ) -> Option<Vec<u8>> {
        let is_near = match from {
            IpAddr::V4(address) => address.is_loopback() || self.cluster.contains(address),
            IpAddr::V6(address) => address.is_loopback(),
        };
        if !is_near {
            self.queries.count(Outcome::Refused);
            return forwarded(message, ResponseCode::Refused, &[], &[], stream);
        }
        let permit = self.forwards.try_acquire();
        let asked = match permit {
            Ok(_) => self.forwarder.ask(message).await,
            Err(_) => None,
        };
        self.queries.count(if asked.is_some() { Outcome::Forwarded } else { Outcome::Failed });
        let (code, answers, authorities) =
            asked.unwrap_or((ResponseCode::ServFail, Vec::new(), Vec::new()));
        forwarded(message, code, &answers, &authorities, stream)
    }

    /// Answers what can be at once; else what a resolver is to be asked.
    pub(super) fn answer(
        &self,
        zone: &Zone,
        message: &[u8],
        stream: bool,
        rotation: usize,
        out: &mut Vec<u8>,
    ) -> Unusual {
        let answered = match answer(zone, message, stream, rotation, out) {
            Answer::Ready(outcome) => Unusual::Ready(outcome),
            Answer::NotPlain => unusual(zone, message, stream, rotation, out),
        };
        if let Unusual::Ready(outcome) = &answered {
            self.queries.count(*outcome);
        }
        answered
    }
}

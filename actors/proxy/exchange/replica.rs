//! Which container a request goes to, and what happens when it can't be had.
//!
//! Owns retries and waiting. Never connects.

use super::Exchange;
use crate::actors::proxy::gauge::{Gauge, Seat};
use crate::actors::proxy::shared::{Route, Shared};
use crate::limits::{UPSTREAM_TRIES, WAIT_LOOK};
use crate::node::ingress::dress;
use crate::node::ingress::refusal::Refusal;
use crate::node::ingress::table::{Replica, choose};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A try that went wrong after it was connected.
#[derive(Clone, Copy, Debug)]
pub(in crate::actors::proxy) struct Fault {
    /// The container's side broke, not the client's.
    pub(in crate::actors::proxy) of_container: bool,
    /// The connection had been used before.
    pub(in crate::actors::proxy) reused: bool,
    /// The answer's head did not come in time.
    pub(in crate::actors::proxy) over: bool,
    /// Sending it again can't do anything twice: the request is safe, and has no body.
    pub(in crate::actors::proxy) untouched: bool,
    /// The client has seen a part of an answer.
    pub(in crate::actors::proxy) begun: bool,
}

impl Exchange {
    /// Chooses a replica; waits for one as long as the route says. `kept`: the mark of the one that
    /// the client was with before.
    pub(in crate::actors::proxy) async fn choose(
        &mut self,
        shared: &Shared,
        kept: Option<&str>,
    ) -> Result<SocketAddrV4, Refusal> {
        // Until it is put back: all threads count who holds it.
        let Some(mut route) = self.route.take() else { return Err(Refusal::Internal) };
        let wait = route.route.options.wait.map_or(0, |wait| wait.0);
        let until = Instant::now() + Duration::from_millis(wait);
        loop {
            if let Some(replica) = self.pick(&route, kept) {
                let address = replica.address;
                self.seat = Some(Seat::take(&replica.gauge));
                self.tried.push(replica.id.clone());
                self.route = Some(route);
                return Ok(address);
            }
            if Instant::now() >= until {
                shared.traffic.failed(&route.service, "no-healthy-replica");
                self.route = Some(route);
                return Err(self.refusal.take().unwrap_or(Refusal::NoReplica));
            }
            tokio::time::sleep(WAIT_LOOK).await;
            let host = route.route.host.replacen('*', "-", 1);
            let Some(now) = shared.routes().find(&host, &self.normal) else {
                self.route = Some(route);
                return Err(Refusal::NoRoute);
            };
            route = now;
        }
    }

    fn pick<'r>(
        &mut self,
        route: &'r Route,
        kept: Option<&str>,
    ) -> Option<&'r Replica<Arc<Gauge>>> {
        let is_sticky = route.route.options.sticky;
        if is_sticky && let Some(kept) = kept {
            let is_it = |replica: &&Replica<Arc<Gauge>>| {
                kept == dress::mark(&replica.id)
                    && !self.tried.contains(&replica.id)
                    && !replica.gauge.load().out
            };
            if let Some(replica) = route.replicas.iter().find(is_it) {
                return Some(replica);
            }
        }
        let load = |gauge: &Arc<Gauge>| gauge.load();
        let chosen = choose(&route.replicas, rand::random(), load, &self.tried)?;
        if is_sticky {
            self.stay = Some(dress::mark(&chosen.id));
        }
        Some(chosen)
    }

    /// A connection could not be made, in time or at all. Nothing was sent: whether another replica
    /// may be tried.
    pub(in crate::actors::proxy) fn not_connected(&mut self, shared: &Shared, slow: bool) -> bool {
        self.count(shared, "connect");
        self.refusal = Some(if slow { Refusal::Timeout } else { Refusal::Connect });
        let tries = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        let fresh = |replica: &Replica<Arc<Gauge>>| !self.tried.contains(&replica.id);
        let route = self.route.as_ref();
        tries < UPSTREAM_TRIES && route.is_some_and(|route| route.replicas.iter().any(fresh))
    }

    /// A request that was passed on went wrong. Whether it is sent again: only where that can't do
    /// it twice.
    pub(in crate::actors::proxy) fn broken(&mut self, shared: &Shared, fault: Fault) -> bool {
        let Fault { of_container, reused, over, untouched, begun } = fault;
        let again = of_container && reused && untouched && !begun && self.head.is_none() && !over;
        if over {
            self.refusal = Some(Refusal::Timeout);
            self.count(shared, "timeout");
        } else if of_container && self.head.is_none() {
            if !reused {
                self.count(shared, "broken");
            }
        } else if of_container && let Some(seat) = self.seat.take() {
            // It broke off in the middle of its answer.
            seat.ended(&shared.traffic, 0, (0, 0));
        }
        if again {
            // The replica is well: only its idle connection was not.
            self.tried.pop();
        }
        self.seat = None;
        again
    }

    fn count(&mut self, shared: &Shared, reason: &'static str) {
        if let Some(seat) = self.seat.take() {
            seat.failed(&shared.traffic);
        }
        if let Some(route) = &self.route {
            shared.traffic.failed(&route.service, reason);
        }
    }
}

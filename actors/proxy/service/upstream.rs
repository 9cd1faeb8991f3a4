//! Which container a request goes to, and what happens when it can't be had.
//!
//! Owns retries and waiting. Never answers the client.

use super::{Ctx, Ingress, answer};
use crate::actors::proxy::gauge::{Gauge, Seat};
use crate::actors::proxy::shared::Route;
use crate::limits::{
    BODY_WAIT, ROUTE_TIMEOUT, STREAM_WAIT, UPSTREAM_CONNECT, UPSTREAM_IDLE, UPSTREAM_TRIES,
    WAIT_LOOK,
};
use crate::node::ingress::refusal::Refusal;
use crate::node::ingress::table::{Replica, choose};
use hyper::Method;
use nix::sys::socket::{Shutdown, shutdown};
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::Session;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Until the answer's head.
pub(super) fn timeout(route: &Route) -> Duration {
    let said = route.route.options.timeout;
    said.map_or(ROUTE_TIMEOUT, |timeout| Duration::from_millis(timeout.0))
}

/// Waits for an answer's head: after the time it ends the connection to the container.
///
/// The engine knows one time-out for head and body; streams have none. The connection belongs to
/// the thread that this runs on, and is not closed before this is dropped.
pub(super) struct Patience {
    task: JoinHandle<()>,
    begun: Instant,
    /// Milliseconds since `begun`.
    renewed: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Patience {
    pub(super) fn begin(fd: RawFd, most: Duration) -> Self {
        let begun = Instant::now();
        let (renewed, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (last, ended) = (Arc::clone(&renewed), Arc::clone(&over));
        let task = tokio::spawn(async move {
            loop {
                let due = begun + Duration::from_millis(last.load(Ordering::Relaxed)) + most;
                if Instant::now() >= due {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
            }
            ended.store(true, Ordering::Relaxed);
            // What is closed already needs no end.
            let _ = shutdown(fd, Shutdown::Both);
        });
        Self { task, begun, renewed, over }
    }

    /// More of the body went on its way: the time begins anew.
    pub(super) fn renew(&self) {
        let millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.renewed.store(millis, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ingress {
    /// Chooses a replica; waits for one as long as the route says.
    pub(super) async fn peer(&self, session: &Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let Some(mut route) = ctx.route.clone() else {
            return Error::e_explain(ErrorType::InternalError, "without a route");
        };
        let wait = route.route.options.wait.map_or(0, |wait| wait.0);
        let until = Instant::now() + Duration::from_millis(wait);
        loop {
            if let Some(replica) = pick(session, ctx, &route) {
                ctx.seat = Some(Seat::take(&replica.gauge));
                ctx.tried.push(replica.id.clone());
                let peer = peer(&route, replica);
                ctx.route = Some(route);
                return Ok(peer);
            }
            if Instant::now() >= until {
                ctx.refusal.get_or_insert(Refusal::NoReplica);
                self.shared.traffic.failed(&route.service, "no-healthy-replica");
                return Error::e_explain(ErrorType::HTTPStatus(503), "no replica is healthy");
            }
            tokio::time::sleep(WAIT_LOOK).await;
            let host = route.route.host.replacen('*', "-", 1);
            match self.shared.routes().find(&host, &ctx.normal) {
                Some(now) => route = now,
                None => {
                    ctx.refusal = Some(Refusal::NoRoute);
                    return Error::e_explain(ErrorType::HTTPStatus(404), "the route is gone");
                }
            }
        }
    }

    /// A connection could not be made: nothing was sent, so that another replica may be tried.
    pub(super) fn not_connected(&self, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        self.count(ctx, "connect");
        let slow = matches!(error.etype(), ErrorType::ConnectTimedout);
        ctx.refusal = Some(if slow { Refusal::Timeout } else { Refusal::Connect });
        error.set_retry(has_others(ctx));
        error
    }

    /// A request that was passed on went wrong. It is sent again only where that can't do it twice:
    /// the connection was idle before, and the request is safe and has no body.
    pub(super) fn broken(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        mut error: Box<Error>,
        reused: bool,
    ) -> Box<Error> {
        let over = ctx.patience.take().is_some_and(|patience| patience.is_over());
        let method = &session.req_header().method;
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method);
        let untouched = safe && session.is_body_empty() && ctx.body == 0;
        let fresh = session.response_written().is_none_or(|r| r.status.is_informational());
        let of_container = *error.esource() == ErrorSource::Upstream;
        if over {
            ctx.refusal = Some(Refusal::Timeout);
            self.count(ctx, "timeout");
            error.set_retry(false);
        } else {
            if of_container && !reused && ctx.head.is_none() {
                self.count(ctx, "broken");
            }
            if of_container
                && ctx.head.is_some()
                && let Some(seat) = ctx.seat.take()
            {
                // It broke off in the middle of its answer.
                seat.ended(&self.shared.traffic, 0, (0, 0));
            }
            let again = of_container && reused && untouched && fresh && ctx.head.is_none();
            if again {
                // The replica is well: only its idle connection was not.
                ctx.tried.pop();
            }
            error.set_retry(again);
        }
        ctx.seat = None;
        error
    }

    fn count(&self, ctx: &mut Ctx, reason: &'static str) {
        if let Some(seat) = ctx.seat.take() {
            seat.failed(&self.shared.traffic);
        }
        if let Some(route) = &ctx.route {
            self.shared.traffic.failed(&route.service, reason);
        }
    }
}

fn has_others(ctx: &Ctx) -> bool {
    let tries = u32::try_from(ctx.tried.len()).unwrap_or(u32::MAX);
    let fresh = |replica: &Replica<Arc<Gauge>>| !ctx.tried.contains(&replica.id);
    let route = ctx.route.as_ref();
    tries < UPSTREAM_TRIES && route.is_some_and(|route| route.replicas.iter().any(fresh))
}

fn pick<'a>(session: &Session, ctx: &mut Ctx, route: &'a Route) -> Option<&'a Replica<Arc<Gauge>>> {
    if route.route.options.sticky {
        let kept = answer::cookie(session.req_header());
        let is_it = |replica: &&Replica<Arc<Gauge>>| {
            kept == Some(answer::mark(&replica.id))
                && !ctx.tried.contains(&replica.id)
                && !replica.gauge.load().out
        };
        if let Some(replica) = route.replicas.iter().find(is_it) {
            return Some(replica);
        }
    }
    let load = |gauge: &Arc<Gauge>| gauge.load();
    let chosen = choose(&route.replicas, rand::random(), load, &ctx.tried)?;
    if route.route.options.sticky {
        ctx.stay = Some(answer::mark(&chosen.id));
    }
    Some(chosen)
}

fn peer(route: &Route, replica: &Replica<Arc<Gauge>>) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(replica.address, false, String::new());
    let options = &mut peer.options;
    options.connection_timeout = Some(UPSTREAM_CONNECT);
    options.total_connection_timeout = Some(UPSTREAM_CONNECT);
    options.idle_timeout = Some(UPSTREAM_IDLE);
    options.read_timeout = Some(STREAM_WAIT);
    options.write_timeout = Some(BODY_WAIT);
    if route.route.h2c {
        options.alpn = ALPN::H2;
        options.max_h2_streams = 100;
    }
    Box::new(peer)
}

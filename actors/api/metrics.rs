//! `GET /v1/metrics`: this node's own figures as Prometheus text.
//!
//! Owns names and labels. Never keeps a figure: each answer is made of what is known at the moment.

use super::context::Context;
use super::error::ApiError;
use super::request::Request;
use crate::actors::root::{Msg, NodeUsage, View, Vitals};
use crate::api::views::{self, LiveUsage};
use crate::api::wire::{AllocationStatus, AllocationView, NodeStatus, NodeView, ServiceView};
use crate::id::AllocId;
use crate::limits;
use crate::node::ingress::figures::Requests;
use crate::units::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ractor::rpc::CallResult;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use warp::http::HeaderValue;
use warp::http::header::CONTENT_TYPE;
use warp::reply::Response;

/// What OpenMetrics is called on the wire; Prometheus asks for it first.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter<f64, AtomicU64>>;

/// `GET /v1/metrics`.
pub async fn metrics(context: Arc<Context>, _request: Request) -> Result<Response, ApiError> {
    // The node's own view: a scrape must work without a leader too.
    let view = context.view().ok_or(ApiError::Starting)?;
    let seen = context.observed_here(&view).await;
    let usage = match context.root.call(Msg::Usage, Some(limits::API_USAGE)).await {
        Ok(CallResult::Success(usage)) => usage,
        _ => NodeUsage::default(),
    };
    let vitals = match context.root.call(Msg::Vitals, Some(limits::API_USAGE)).await {
        Ok(CallResult::Success(vitals)) => vitals,
        _ => Vitals::default(),
    };
    let failed = |error: std::fmt::Error| ApiError::Internal {
        doing: "writing the figures",
        reason: error.to_string(),
    };
    let text = page(&view, &seen, &usage, vitals, &context).map_err(failed)?;
    let mut response = Response::new(text.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}

/// The whole text.
fn page(
    view: &View,
    seen: &LiveUsage,
    usage: &NodeUsage,
    vitals: Vitals,
    context: &Context,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    let own = view.state.nodes.get(&view.node).map(|node| node.name.clone()).unwrap_or_default();
    let all = views::allocations(&view.state, seen);
    let here: Vec<&AllocationView> = all.iter().filter(|one| one.node == own).collect();
    allocations(&mut registry, &here, usage);
    replicas(&mut registry, &all, &context.ports.traffic.totals());
    let volumes = gauges(&mut registry, "mill_volume_bytes", "Bytes of a volume on the disk");
    for (name, bytes) in &usage.volumes {
        volumes.get_or_create(&vec![("volume", name.to_string())]).set(bytes.0 as f64);
    }
    certificates(&mut registry, view, seen.now);
    services(&mut registry, &views::services(&view.state, seen));
    nodes(&mut registry, &views::nodes(&view.state, seen));
    mesh(&mut registry, &views::nodes(&view.state, seen));
    process(&mut registry, view, vitals);
    context.tally.register(&mut registry);
    context.ports.traffic.register(&mut registry);
    context.queries.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let family = Gauges::default();
    registry.register(name, help, family.clone());
    family
}

/// The name without `_total`, which a counter gets by itself.
fn counters(registry: &mut Registry, name: &str, help: &str) -> Counters {
    let family = Counters::default();
    registry.register(name, help, family.clone());
    family
}

/// What this node sent to replicas on any node.
fn replicas(registry: &mut Registry, all: &[AllocationView], totals: &BTreeMap<String, Requests>) {
    let help = "Requests that this node sent to a replica, by class of the answer's code";
    let requests = counters(registry, "mill_proxy_replica_requests", help);
    let help = "Bytes of bodies between clients and a replica";
    let bytes = counters(registry, "mill_proxy_replica_bytes", help);
    for one in all {
        let Some(of) = totals.get(&one.id) else { continue };
        let labels = |name: &'static str, value: &str| {
            let ids = [("service", one.name.clone()), ("allocation", one.id.clone())];
            ids.into_iter().chain([(name, value.to_owned())]).collect::<Labels>()
        };
        for (class, count) in of.codes.iter().enumerate().filter(|(_, count)| **count > 0) {
            let class = if class == 0 { "none".to_owned() } else { format!("{class}xx") };
            requests.get_or_create(&labels("code", &class)).inc_by(*count as f64);
        }
        bytes.get_or_create(&labels("direction", "received")).inc_by(of.received as f64);
        bytes.get_or_create(&labels("direction", "sent")).inc_by(of.sent as f64);
    }
}

fn allocations(registry: &mut Registry, all: &[&AllocationView], usage: &NodeUsage) {
    let cpu = counters(registry, "mill_alloc_cpu_seconds", "Processor time of the attempt");
    let memory = gauges(registry, "mill_alloc_memory_bytes", "Memory in use");
    let limit = gauges(registry, "mill_alloc_memory_limit_bytes", "The ceiling on memory");
    let disk = gauges(registry, "mill_alloc_disk_bytes", "Written to the node's disk");
    let restarts = counters(registry, "mill_alloc_restarts", "Starts after the first");
    let ooms = counters(registry, "mill_alloc_oom", "Processes killed for want of memory");
    for one in all {
        if one.status.is_ended() {
            continue;
        }
        let labels: Labels = vec![
            ("service", one.name.clone()),
            ("allocation", one.id.clone()),
            ("node", one.node.clone()),
        ];
        if let Some(total) = usage.cpu_totals.get(&AllocId::from(one.id.as_str())) {
            cpu.get_or_create(&labels).inc_by(total.as_secs_f64());
        }
        if let Some(used) = one.memory.used {
            memory.get_or_create(&labels).set(used as f64);
        }
        if let Some(written) = one.written {
            disk.get_or_create(&labels).set(written as f64);
        }
        if let Some(most) = one.memory.limit {
            limit.get_or_create(&labels).set(most as f64);
        }
        restarts.get_or_create(&labels).inc_by(f64::from(one.restarts));
        ooms.get_or_create(&labels).inc_by(f64::from(one.ooms));
    }
}

/// How long hosts are served by the certificates that they have.
fn certificates(registry: &mut Registry, view: &View, now: Timestamp) {
    let help = "Seconds until the certificate of the host ends";
    let left = gauges(registry, "mill_cert_expiry_seconds", help);
    for (host, one) in &view.state.certificates.hosts {
        let Some(certificate) = &one.certificate else { continue };
        let (until, now) = (certificate.not_after.0 as f64, now.0 as f64);
        left.get_or_create(&vec![("host", host.clone())]).set((until - now) / 1000.0);
    }
}

fn services(registry: &mut Registry, all: &[ServiceView]) {
    let replicas = gauges(registry, "mill_service_replicas", "Replicas by state");
    for service in all {
        let live = |status: AllocationStatus| {
            service.allocations.iter().filter(|one| one.status == status).count() as f64
        };
        let states = [
            ("desired", f64::from(service.replicas.desired)),
            ("healthy", f64::from(service.replicas.healthy)),
            ("running", live(AllocationStatus::Running)),
            ("backoff", live(AllocationStatus::Backoff)),
        ];
        for (state, count) in states {
            let labels = vec![("service", service.name.clone()), ("state", state.to_owned())];
            replicas.get_or_create(&labels).set(count);
        }
    }
}

fn nodes(registry: &mut Registry, all: &[NodeView]) {
    let up = gauges(registry, "mill_node_up", "1 if the node is not down");
    let cpu = gauges(registry, "mill_node_cpu_available", "Cores that are not reserved");
    let memory = gauges(registry, "mill_node_memory_available_bytes", "Memory not reserved");
    for node in all {
        let labels: Labels = vec![("node", node.name.clone())];
        up.get_or_create(&labels).set(f64::from(u8::from(node.status != NodeStatus::Down)));
        cpu.get_or_create(&labels).set((node.cpu.total - node.cpu.reserved).max(0.0));
        let free = node.memory.total.saturating_sub(node.memory.reserved);
        memory.get_or_create(&labels).set(free as f64);
    }
}

/// How this node hears the others.
fn mesh(registry: &mut Registry, all: &[NodeView]) {
    let help = "Seconds since the last handshake with the peer";
    let handshake = gauges(registry, "mill_mesh_peer_last_handshake_seconds", help);
    let sent = counters(registry, "mill_mesh_peer_sent_bytes", "Bytes sent to the peer, encrypted");
    let help = "Bytes received from the peer, encrypted";
    let received = counters(registry, "mill_mesh_peer_received_bytes", help);
    let help = "Packets of the peer that could not be sent, or were refused";
    let dropped = counters(registry, "mill_mesh_peer_dropped_packets", help);
    for (node, figures) in all.iter().filter_map(|node| Some((node, node.mesh.as_ref()?))) {
        let labels: Labels = vec![("peer", node.name.clone())];
        if let Some(age) = figures.handshake {
            handshake.get_or_create(&labels).set(age as f64);
        }
        sent.get_or_create(&labels).inc_by(figures.sent as f64);
        received.get_or_create(&labels).inc_by(figures.received as f64);
        dropped.get_or_create(&labels).inc_by(figures.dropped as f64);
    }
}

/// What this process knows of itself.
fn process(registry: &mut Registry, view: &View, vitals: Vitals) {
    let leads = gauges(registry, "mill_raft_is_leader", "1 on the leader");
    leads.get_or_create(&Labels::new()).set(f64::from(u8::from(view.leader == Some(view.node))));
    let term = gauges(registry, "mill_raft_term", "The term of the consensus");
    term.get_or_create(&Labels::new()).set(vitals.term.0 as f64);
    let help = "From a change's proposal to its being applied, in seconds";
    registry.register("mill_raft_commit_seconds", help, vitals.commits);
    let restarts = counters(registry, "mill_actor_restarts", "Restarts of an actor");
    for (actor, count) in vitals.restarts {
        restarts.get_or_create(&vec![("actor", actor.name().to_owned())]).inc_by(count as f64);
    }
    vitals.waits.register(registry);
    let build = gauges(registry, "mill_build_info", "Always 1; the version is a label");
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    build.get_or_create(&version).set(1.0);
}

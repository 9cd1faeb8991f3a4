//! Where a host leads, before an order is wasted on it.
//!
//! Owns the look-up, and how a node of the cluster is told from a stranger. Never orders anything.

use crate::fsm::State;
use crate::limits::HOST_RESOLVE;
use crate::node::ingress::challenge;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use tokio::time::timeout;

/// Looks whether a host leads to a node of the cluster: one has that address, or what answers there
/// knows the cluster's sign, as behind a translated address or a load balancer.
///
/// # Errors
/// What is to be said to whoever wonders why there is no certificate.
pub(super) async fn look(
    state: &State,
    host: &str,
    resolver: Option<SocketAddr>,
) -> Result<(), String> {
    let found = timeout(HOST_RESOLVE, addresses(host, resolver)).await;
    let mut found =
        found.map_err(|_| format!("{host} can't be looked up: no answer in time"))??;
    // Servers give them in any order, and what is said stays the same.
    found.sort_unstable();
    let own: BTreeSet<IpAddr> =
        state.nodes.values().filter_map(|node| node.address.parse().ok()).collect();
    if found.iter().any(|address| own.contains(address)) {
        return Ok(());
    }
    let first = found.first().ok_or_else(|| format!("{host} leads nowhere: it has no address"))?;
    if shows_sign(state, host, *first).await {
        return Ok(());
    }
    Err(format!("{host} leads to {first}, not to this cluster"))
}

async fn addresses(host: &str, resolver: Option<SocketAddr>) -> Result<Vec<IpAddr>, String> {
    let Some(server) = resolver else {
        return match tokio::net::lookup_host((host, 80)).await {
            Ok(found) => Ok(found.map(|address| address.ip().to_canonical()).collect()),
            Err(_) => Err(format!("{host} leads nowhere: it has no address")),
        };
    };
    let mut servers = NameServerConfig::udp(server.ip());
    for connection in &mut servers.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![servers]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = builder.build().map_err(|error| error.to_string())?;
    match resolver.lookup_ip(format!("{host}.")).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(_) => Err(format!("{host} leads nowhere: it has no address")),
    }
}

/// Whether what answers there is a node of this cluster.
async fn shows_sign(state: &State, host: &str, address: IpAddr) -> bool {
    let Some((token, answer)) = challenge::sign(state) else { return false };
    let to = SocketAddr::new(address, 80);
    let none = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().timeout(HOST_RESOLVE).redirect(none).no_proxy();
    let Ok(client) = client.resolve(host, to).build() else { return false };
    let asked = client.get(format!("http://{host}{}", challenge::path(&token))).send().await;
    let Ok(got) = asked else { return false };
    // A stranger may send what it likes for as long as it likes: the client's bound ends it.
    got.content_length() == Some(answer.len() as u64)
        && got.text().await.is_ok_and(|text| text == answer)
}

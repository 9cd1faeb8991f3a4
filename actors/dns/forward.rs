//! Names that aren't the cluster's: the host's own resolvers are asked.
//!
//! Owns which resolvers these are, as the host's files say at the moment, and their answers for a
//! short while. Never asks for a name with the host's search domains added.

use crate::limits;
use crate::node::resolvers::Resolvers;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Record;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Reads which resolvers the host asks.
pub type ReadResolvers = Arc<dyn Fn() -> Resolvers + Send + Sync>;

/// A resolver's answer: its code, records, and what stands for there being none.
pub(super) type Resolved = (ResponseCode, Vec<Record>, Vec<Record>);

/// Asks resolvers.
pub(super) struct Forwarder {
    read: ReadResolvers,
    /// Where this node itself answers: never asked.
    own: BTreeSet<IpAddr>,
    known: Mutex<Option<Known>>,
}

/// What is known of the host's resolvers.
struct Known {
    looked: Instant,
    servers: Vec<IpAddr>,
    /// None where the host has none.
    resolver: Option<TokioResolver>,
}

impl Forwarder {
    pub(super) fn new(read: ReadResolvers, own: BTreeSet<IpAddr>) -> Self {
        Self { read, own, known: Mutex::new(None) }
    }

    /// None if nobody knows.
    pub(super) async fn ask(&self, message: &Message) -> Option<Resolved> {
        let query = message.queries.first()?;
        let resolver = self.resolver()?;
        let mut name = query.name().clone();
        name.set_fqdn(true);
        let lookup = resolver.lookup(name, query.query_type());
        match tokio::time::timeout(limits::DNS_FORWARD, lookup).await.ok()? {
            Ok(found) => Some((ResponseCode::NoError, found.answers().to_vec(), Vec::new())),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let soa = none.soa.map(|soa| (*soa).into_record_of_rdata());
                Some((none.response_code, Vec::new(), soa.into_iter().collect()))
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => Some((code, vec![], vec![])),
            Err(error) => {
                tracing::debug!(%error, "no resolver of the host answered");
                None
            }
        }
    }

    /// The resolver for what the host's files say now, or a moment ago.
    fn resolver(&self) -> Option<TokioResolver> {
        let mut known = self.known.lock();
        let fresh = |known: &&mut Known| known.looked.elapsed() < limits::DNS_RESOLVERS_LOOK;
        if let Some(known) = known.as_mut().filter(fresh) {
            return known.resolver.clone();
        }
        let (servers, looked) = (self.servers(), Instant::now());
        if let Some(known) = known.as_mut().filter(|known| known.servers == servers) {
            known.looked = looked;
            return known.resolver.clone();
        }
        let resolver = build(&servers);
        *known = Some(Known { looked, servers, resolver: resolver.clone() });
        resolver
    }

    /// Those that anybody can ask, else those on the host's loopback, which this process can.
    fn servers(&self) -> Vec<IpAddr> {
        let Resolvers { mut servers, unusable, .. } = (self.read)();
        if servers.is_empty() {
            let own = unusable.iter().filter_map(|server| server.parse::<IpAddr>().ok());
            servers = own.filter(IpAddr::is_loopback).collect();
        }
        servers.retain(|server| !self.own.contains(server));
        servers
    }
}

fn build(servers: &[IpAddr]) -> Option<TokioResolver> {
    if servers.is_empty() {
        tracing::warn!("the host has no resolvers: only the cluster's names are answered");
        return None;
    }
    let servers = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let provider = TokioRuntimeProvider::default();
    let mut builder = TokioResolver::builder_with_config(config, provider);
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = limits::DNS_RESOLVER;
    options.attempts = 1;
    options.cache_size = limits::DNS_CACHE_ENTRIES;
    options.positive_max_ttl = Some(limits::DNS_CACHE);
    options.negative_max_ttl = Some(limits::DNS_CACHE);
    options.max_active_requests = limits::DNS_FORWARDS;
    match builder.build() {
        Ok(resolver) => Some(resolver),
        Err(error) => {
            tracing::warn!(%error, "the host's resolvers can't be asked");
            None
        }
    }
}

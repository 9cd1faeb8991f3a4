//! The certificates by which hosts are served, chosen by the name that the client asks for.
//!
//! Owns the choice. There is no default: a name without a certificate is refused by TLS, so that
//! nobody learns of other hosts.

use crate::node::ingress::host;
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Certificates by host; `*.example.com` for a wildcard.
pub type ByHost = BTreeMap<String, Arc<CertifiedKey>>;

/// The certificates of now.
#[derive(Debug, Default)]
pub struct Certificates(ArcSwap<ByHost>);

impl Certificates {
    /// Puts others in their place.
    pub fn set(&self, certificates: ByHost) {
        self.0.store(Arc::new(certificates));
    }

    /// The certificate of a host: its own, else a wildcard's.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.0.load();
        all.get(name).or_else(|| all.get(&format!("*.{}", host::parent(name)?))).cloned()
    }

    /// Whether two hosts are served by the same certificate, so that one connection may be for
    /// both.
    #[must_use]
    pub fn are_one(&self, one: &str, other: &str) -> bool {
        match (self.of(one), self.of(other)) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
            _ => false,
        }
    }

    /// How TLS is spoken with clients: 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    #[must_use]
    pub fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.of(&host::name(hello.server_name()?)?)
    }
}

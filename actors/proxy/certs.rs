//! The certificates by which hosts are served, chosen by the name that the client asks for.
//!
//! Owns the choice. There is no default: a name without a certificate is refused by TLS, so that
//! nobody learns of other hosts.

use crate::fsm::State;
use crate::fsm::certificates::{Certificate, key_purpose};
use crate::node::certificates::read;
use crate::node::ingress::host;
use crate::secret::Keyring;
use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Certificates by host; `*.example.com` for a wildcard.
pub type ByHost = BTreeMap<String, Arc<CertifiedKey>>;

/// What authorities ask for in the place of HTTP (RFC 8737).
pub const CHALLENGE: &[u8] = b"acme-tls/1";

/// The certificates of now.
#[derive(Debug, Default)]
pub struct Certificates {
    hosts: ArcSwap<ByHost>,
    /// What an authority sees that asks for [`CHALLENGE`].
    challenges: ArcSwap<ByHost>,
}

impl Certificates {
    /// Puts others in their place.
    pub fn set(&self, certificates: ByHost) {
        self.hosts.store(Arc::new(certificates));
    }

    /// Shows authorities these from now on.
    pub fn set_challenges(&self, certificates: ByHost) {
        self.challenges.store(Arc::new(certificates));
    }

    /// Whether a host is served with TLS.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.of(name).is_some()
    }

    /// The certificate of a host: its own, else a wildcard's.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let all = self.hosts.load();
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

    /// How TLS is spoken with clients: 1.2 and 1.3, HTTP/2 and HTTP/1.1. Who comes again shows a
    /// ticket, which only this process can read: nothing is kept of those who don't.
    #[must_use]
    pub fn config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), CHALLENGE.to_vec()];
        match Ticketer::new() {
            Ok(ticketer) => config.ticketer = ticketer,
            Err(error) => tracing::warn!(%error, "most connections have a whole TLS handshake"),
        }
        config.send_tls13_tickets = 1;
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = host::name(hello.server_name()?)?;
        if hello.alpn().is_some_and(|mut spoken| spoken.any(|one| one == CHALLENGE)) {
            return self.challenges.load().get(&name).cloned();
        }
        self.of(&name)
    }
}

/// What authorities see of the orders of a state: for each host a certificate that says what they
/// want to read.
#[must_use]
pub fn challenges(state: &State) -> ByHost {
    let orders = state.certificates.hosts.iter();
    let shown = orders.filter_map(|(host, one)| Some((host, one.order.as_ref()?.shown.as_ref()?)));
    let made = shown.filter_map(|(host, shown)| match challenge(host, &shown.authorization) {
        Ok(pair) => Some((host.clone(), Arc::new(pair))),
        Err(why) => {
            tracing::warn!(host, why, "an authority can't be shown what it looks for");
            None
        }
    });
    made.collect()
}

fn challenge(host: &str, authorization: &str) -> Result<CertifiedKey, String> {
    let told = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(told)?;
    let digest = Sha256::digest(authorization.as_bytes());
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
    let key = KeyPair::generate().map_err(told)?;
    let made = params.self_signed(&key).map_err(told)?;
    // To whoever doesn't know what it is for it is no certificate, and isn't meant to be one.
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(vec![made.der().clone()], key))
}

/// The certificates of the state, opened: each once.
pub struct Opener {
    keyring: Keyring,
    opened: BTreeMap<String, (Arc<Certificate>, Arc<CertifiedKey>)>,
}

impl Opener {
    /// Opens with this keyring.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self { keyring, opened: BTreeMap::new() }
    }

    /// All certificates of a state. One that can't be opened is left as it was before.
    pub fn open(&mut self, state: &State, keyring: Option<&str>) -> ByHost {
        if let Some(Err(error)) = keyring.map(|sealed| self.keyring.take_up(sealed)) {
            tracing::warn!(%error, "this node can't open the cluster's keyring");
        }
        let known = std::mem::take(&mut self.opened);
        for (host, one) in &state.certificates.hosts {
            let Some(certificate) = &one.certificate else { continue };
            let before = known.get(host);
            let same = before.filter(|(known, _)| known.chain == certificate.chain);
            let fresh = || self.pair(host, certificate).map(Arc::new);
            let pair = same.map(|(_, pair)| Ok(Arc::clone(pair))).unwrap_or_else(fresh);
            let pair = match (pair, before) {
                (Ok(pair), _) => pair,
                (Err(why), before) => {
                    tracing::error!(host, why, "a certificate can't be used");
                    let Some((_, pair)) = before else { continue };
                    Arc::clone(pair)
                }
            };
            self.opened.insert(host.clone(), (Arc::clone(certificate), pair));
        }
        self.opened.iter().map(|(host, (_, pair))| (host.clone(), Arc::clone(pair))).collect()
    }

    fn pair(&self, host: &str, certificate: &Certificate) -> Result<CertifiedKey, String> {
        let key = self.keyring.open(&key_purpose(host), &certificate.key);
        let key = key.map_err(|error| error.to_string())?;
        read::pair(&certificate.chain, key.reveal()).map_err(|error| error.to_string())
    }
}

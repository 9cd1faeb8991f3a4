//! TLS between nodes: whom this node trusts, and how it shows who it is.
//!
//! Owns the settings of every TLS connection within the cluster. Never says what a caller may do:
//! that is decided call by call.

#[cfg(test)]
mod tests;

use super::ca::{self, CaError, NodeKey};
use crate::cluster::trust::{self, CertificateError, Fingerprint, PeerId};
use crate::id::NodeId;
use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError as TlsCertificateError, ClientConfig, DigitallySignedStruct,
    DistinguishedName, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::sync::Arc;
use std::time::Duration;

/// Why a node's keys can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A key or certificate can't be read.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The certificate isn't a node's.
    #[error("this node's certificate can't be used")]
    Certificate(#[from] CertificateError),
    /// TLS doesn't take them.
    #[error("this node's key and certificate don't fit")]
    Tls(#[from] Error),
    /// The CA can't verify clients.
    #[error("the cluster's CA can't be used")]
    Verifier(#[from] VerifierBuilderError),
}

/// Whom a member trusts, and who it is. Its certificate can be replaced while it is in use.
pub struct Trust {
    me: PeerId,
    key_pem: String,
    ca: CertificateDer<'static>,
    roots: Arc<RootCertStore>,
    shown: Arc<Shown>,
}

impl Trust {
    /// From what a node keeps: its key, its certificate, the cluster's CA, all PEM.
    ///
    /// # Errors
    /// They are damaged, or of different nodes.
    pub fn new(key: &str, certificate: &str, ca: &str) -> Result<Self, TrustError> {
        let certificate = ca::certificate_from_pem(certificate)?;
        let ca = ca::certificate_from_pem(ca)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let certified = certified(key, certificate.clone(), ca.clone())?;
        let shown = Arc::new(Shown(ArcSwap::from_pointee(certified)));
        let me = trust::peer_of(&certificate)?;
        Ok(Self { me, key_pem: key.to_owned(), ca, roots: Arc::new(roots), shown })
    }

    /// Who this node is.
    #[must_use]
    pub fn me(&self) -> &PeerId {
        &self.me
    }

    /// The key of this node's certificate.
    ///
    /// # Errors
    /// Never: it was read before.
    pub(super) fn key(&self) -> Result<NodeKey, CaError> {
        NodeKey::open(&self.key_pem)
    }

    /// The CA's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.ca)
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca(&self) -> &CertificateDer<'static> {
        &self.ca
    }

    /// The certificate that this node shows now.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        // There is always one: `certified` puts it first.
        self.shown.0.load().cert.first().cloned().unwrap_or_else(|| self.ca.clone())
    }

    /// From now on this node shows another certificate; connections that are open go on.
    ///
    /// # Errors
    /// It isn't for this node's key, or another node's.
    pub fn renew(&self, certificate: CertificateDer<'static>) -> Result<(), TrustError> {
        if trust::peer_of(&certificate)? != self.me {
            return Err(CertificateError::Nobody.into());
        }
        let certified = certified(&self.key_pem, certificate, self.ca.clone())?;
        self.shown.0.store(Arc::new(certified));
        Ok(())
    }

    /// For the peer port. A client without a certificate is let in, since it may want to
    /// join; one with a certificate of another CA isn't. One whose certificate has expired is let
    /// in too: it has shown who it was, and may have it renewed, and nothing else.
    ///
    /// # Errors
    /// The CA can't be used.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TrustError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
                .allow_unauthenticated()
                .build()?;
        let verifier = Arc::new(Callers(verifier));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![PEER_PROTOCOL.to_vec(), API_PROTOCOL.to_vec()];
        // A resumed session would keep the certificate that it began with.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// For the API: clients show no certificate.
    ///
    /// # Errors
    /// Never with this provider.
    pub fn api_config(&self) -> Result<Arc<ServerConfig>, TrustError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For dialling a member: it must show the certificate of that very node. The server's name in
    /// the handshake doesn't matter; use [`SERVER_NAME`].
    ///
    /// # Errors
    /// Never with this provider.
    pub fn client_config(
        &self,
        node: NodeId,
        protocol: &[u8],
    ) -> Result<Arc<ClientConfig>, TrustError> {
        let expected = PeerId { cluster: self.me.cluster.clone(), node };
        let verifier = Member { roots: Arc::clone(&self.roots), expected };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::clone(&self.shown) as Arc<dyn ResolvesClientCert>);
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Whose the certificate of a connection is, if it is of this cluster. TLS has verified it.
    ///
    /// # Errors
    /// It is no node's of this cluster.
    pub fn peer_of(&self, certificate: &CertificateDer<'_>) -> Result<PeerId, CertificateError> {
        let peer = trust::peer_of(certificate)?;
        if peer.cluster == self.me.cluster { Ok(peer) } else { Err(CertificateError::Nobody) }
    }
}

/// What is spoken on a connection to the peer port: gRPC.
pub const PEER_PROTOCOL: &[u8] = b"h2";
/// Or what a member asks of this one's API: HTTP/1.1, a request a connection.
pub const API_PROTOCOL: &[u8] = b"mill-api";

/// The name that clients within the cluster ask for; who answers is checked by its id instead.
pub const SERVER_NAME: &str = "localhost";

/// For whoever has nothing but the CA's fingerprint: a joiner, and the command line.
///
/// # Errors
/// Never with this provider.
pub fn pinned_config(
    fingerprint: Fingerprint,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint }))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The certificate with the CA's behind it: whoever knows only a fingerprint finds it there.
fn certified(
    key: &str,
    certificate: CertificateDer<'static>,
    ca: CertificateDer<'static>,
) -> Result<CertifiedKey, TrustError> {
    use rustls::pki_types::pem::PemObject as _;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| CaError::Damaged)?;
    Ok(CertifiedKey::from_der(vec![certificate, ca], key, &provider())?)
}

/// The certificate that is shown, to servers and clients alike.
#[derive(Debug)]
struct Shown(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _roots: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies one member.
#[derive(Debug)]
struct Member {
    roots: Arc<RootCertStore>,
    expected: PeerId,
}

/// Verifies who calls, also by a certificate that has expired: as of its last moment.
#[derive(Debug)]
struct Callers(Arc<dyn ClientCertVerifier>);

impl Callers {
    fn is_expired(error: &Error) -> bool {
        use TlsCertificateError::{Expired, ExpiredContext};
        matches!(error, Error::InvalidCertificate(Expired | ExpiredContext { .. }))
    }
}

impl ClientCertVerifier for Callers {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end, intermediates, now);
        let Err(error) = verified else { return verified };
        let until = trust::validity(end).ok().map(|validity| validity.until);
        let until = until.filter(|_| Self::is_expired(&error)).ok_or(error)?;
        let last = UnixTime::since_unix_epoch(Duration::from_millis(until.0));
        self.0.verify_client_cert(end, intermediates, last)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Verifies any member by its CA's fingerprint.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
}

fn chain(
    roots: &RootCertStore,
    end: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(end)?;
    let algorithms = provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)
}

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Member {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        chain(&self.roots, end, intermediates, now)?;
        match trust::peer_of(end) {
            Ok(peer) if peer == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(Error::InvalidCertificate(TlsCertificateError::NotValidForName)),
        }
    }

    signatures!();
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(TlsCertificateError::UnknownIssuer);
        let ca = intermediates.iter().find(|one| Fingerprint::of(one) == self.fingerprint);
        let mut roots = RootCertStore::empty();
        roots.add(ca.ok_or_else(unknown)?.clone().into_owned()).map_err(|_| unknown())?;
        chain(&roots, end, intermediates, now)?;
        trust::peer_of(end).map_err(|_| unknown())?;
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}

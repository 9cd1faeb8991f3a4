//! What a member has in memory to show who it is and to let others in: TLS, keys, the CA.
//!
//! Owns signing certificates with the cluster's CA, whose key it opens each time anew. Never keeps
//! that key, and never decides who gets a certificate.

use super::ca::{self, Authority, CaError};
use super::keys::{KeysError, NodeKeys};
use super::tls::{Trust, TrustError};
use crate::cluster::trust::PeerId;
use crate::fsm::State;
use crate::fsm::keys::{CA_PURPOSE, Resealed, Rotate};
use crate::id::NodeId;
use crate::secret::{OwnKey, SealError, SealKey, Sealed, Secret};
use rustls::pki_types::CertificateDer;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why no certificate can be signed here.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The log has not been read as far as the cluster's beginning.
    #[error("the log is still being read")]
    Early,
    /// The cluster has no CA, or the node no keyring.
    #[error("this cluster was made by a version of mill without certificates: make it anew")]
    NoAuthority,
    /// Nobody of that id.
    #[error("there is no node {0}")]
    NoNode(NodeId),
    /// The keyring or the CA's key can't be opened.
    #[error("the cluster's keys can't be opened on this node")]
    Sealed(#[from] SealError),
    /// The CA or the request.
    #[error(transparent)]
    Ca(#[from] CaError),
}

/// What a member has in memory to show who it is and to let others in.
pub struct Credentials {
    trust: Trust,
    secret: OwnKey,
    life: Duration,
    /// Where it is kept.
    data: PathBuf,
}

impl Credentials {
    /// From what the node keeps in its data directory; certificates that it signs are good for
    /// `life`.
    ///
    /// # Errors
    /// The keys are damaged or don't fit.
    pub fn new(keys: &NodeKeys, data: &Path, life: Duration) -> Result<Self, TrustError> {
        let trust = Trust::new(&keys.key, &keys.certificate, &keys.ca)?;
        Ok(Self { trust, secret: keys.secret.clone(), life, data: data.to_owned() })
    }

    /// How long certificates are good that this node signs.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    /// A certificate signing request for this node's key, DER.
    ///
    /// # Errors
    /// Signing failed.
    pub fn request(&self) -> Result<Vec<u8>, SignError> {
        Ok(self.trust.key()?.request()?)
    }

    /// Writes a new certificate of this node to its data directory.
    ///
    /// # Errors
    /// It can't be written.
    pub fn keep(&self, certificate: &CertificateDer<'_>) -> Result<(), KeysError> {
        NodeKeys::write_certificate(&self.data, certificate)
    }

    /// The settings of TLS.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// The cluster's keyring, as the state has it for this node.
    ///
    /// # Errors
    /// There is none, or it isn't for this node.
    pub fn keyring(&self, state: &State) -> Result<SealKey, SignError> {
        let me = self.trust.me().node;
        let node = state.nodes.get(&me).ok_or(SignError::NoNode(me))?;
        if node.keyring.is_empty() {
            return Err(SignError::NoAuthority);
        }
        Ok(self.secret.open(&node.keyring)?)
    }

    /// Another keyring for the nodes and sealed texts of the state.
    ///
    /// # Errors
    /// The one of now can't be opened here, or a node's key is none.
    pub fn rotate(&self, state: &State) -> Result<Rotate, SignError> {
        let (old, new) = (self.keyring(state)?, SealKey::new(rand::random()));
        let mut random = crypto_box::aead::OsRng;
        let keyrings = state
            .nodes
            .values()
            .map(|node| Ok((node.id, new.for_node(&node.public_key, &mut random)?)));
        let keyrings = keyrings.collect::<Result<_, SealError>>()?;
        let sealed = state.sealed().into_iter().map(|(purpose, from)| {
            let to = new.seal(&purpose, &old.open(&purpose, from)?, rand::random())?;
            Ok(Resealed { from: from.clone(), to })
        });
        Ok(Rotate { keyrings, sealed: sealed.collect::<Result<_, SealError>>()? })
    }

    /// A certificate for a member's key. Takes a millisecond: not on an actor's own time.
    ///
    /// # Errors
    /// The request is none, the node no member, or this node can't use the CA.
    pub fn sign(
        &self,
        state: &State,
        node: NodeId,
        request: &[u8],
    ) -> Result<CertificateDer<'static>, SignError> {
        if state.cluster.is_none() {
            return Err(SignError::Early);
        }
        let ca = state.ca.as_ref().ok_or(SignError::NoAuthority)?;
        let member = state.nodes.get(&node).ok_or(SignError::NoNode(node))?;
        let key = self.keyring(state)?.open(CA_PURPOSE, &ca.key)?;
        let authority = Authority::open(key.reveal(), &ca.cert)?;
        let who = PeerId { cluster: self.trust.me().cluster.clone(), node };
        Ok(authority.sign(request, &who, &member.address, self.life)?)
    }
}

/// The CA's key, sealed by the keyring for the state.
///
/// # Errors
/// Never for a key's length.
pub fn seal_ca_key(authority: &Authority, keyring: &SealKey) -> Result<Sealed, SealError> {
    keyring.seal(CA_PURPOSE, &Secret::new(authority.key_pem()), rand::random())
}

/// The certificate of a cluster's first node, before the state can be asked.
///
/// # Errors
/// The request is none.
pub fn sign_first(
    authority: &Authority,
    (cluster_id, node): (&str, NodeId),
    address: &str,
    request: &[u8],
    life: Duration,
) -> Result<CertificateDer<'static>, CaError> {
    authority.sign(request, &ca::peer(cluster_id, node), address, life)
}

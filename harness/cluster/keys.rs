//! The keys of a test's nodes: made as `init` and `join` make them.
//!
//! Never writes a file.

use mill::actors::peer::ca::{self, Authority, NodeKey, certificate_to_pem};
use mill::actors::peer::credentials::{seal_ca_key, sign_first};
use mill::actors::peer::join_client::{JoinClient, JoinError};
use mill::actors::peer::keys::NodeKeys;
use mill::actors::peer::wire;
use mill::cluster::trust::Fingerprint;
use mill::fsm::command::Init;
use mill::fsm::{Cluster, FEATURE_LEVEL};
use mill::id::{Incarnation, NodeId};
use mill::secret::{OwnKey, SealKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long the certificates are good for.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);

/// What the first node has.
pub struct Founder {
    /// The log's first command, but for the port.
    pub init: Init,
    /// Its keys.
    pub keys: NodeKeys,
    /// The CA's.
    pub fingerprint: Fingerprint,
}

impl Founder {
    /// A new cluster's.
    pub fn new() -> Self {
        let (cluster, id, address) = ("test", "c0ffee", "127.0.0.1");
        let authority = Authority::new(cluster, id).expect("a CA");
        let keyring = SealKey::new(rand::random());
        let secret = OwnKey::new(rand::random());
        let sealed = keyring.for_node(&secret.public(), &mut crypto_box::aead::OsRng).expect("it");
        let key = NodeKey::new().expect("a key");
        let request = key.request().expect("a request");
        let signed = sign_first(&authority, (id, NodeId(1)), address, &request, LIFE)
            .expect("a certificate");
        let ca = certificate_to_pem(authority.certificate());
        let init = Init {
            cluster: cluster.to_owned(),
            cluster_id: id.to_owned(),
            incarnation: Incarnation(5),
            subnet: [10, 174, 0, 0].into(),
            prefix: 16,
            node_name: "n1".to_owned(),
            address: address.to_owned(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: secret.public(),
            keyring: sealed,
            ca: ca.clone(),
            ca_key: Some(seal_ca_key(&authority, &keyring).expect("a sealed key")),
        };
        let certificate = certificate_to_pem(&signed);
        let keys = NodeKeys { key: key.pem(), certificate, ca, secret };
        Self { init, keys, fingerprint: Fingerprint::of(authority.certificate()) }
    }
}

/// What a node that has joined knows.
pub struct Joiner {
    /// Its id.
    pub node: NodeId,
    /// Its keys.
    pub keys: NodeKeys,
    /// The cluster's life.
    pub incarnation: Incarnation,
    /// Where the members were.
    pub known: BTreeMap<NodeId, String>,
}

impl Joiner {
    /// Asks at a door.
    pub async fn new(name: &str, door: u16, own: u16, token: &str, ca: Fingerprint) -> Self {
        Self::ask(name, door, own, (token, false), ca).await.expect("to be let in")
    }

    /// The same where it may be refused; it says whether it answers who calls it back.
    pub async fn ask(
        name: &str,
        door: u16,
        own: u16,
        (token, answers): (&str, bool),
        ca: Fingerprint,
    ) -> Result<Self, JoinError> {
        let (key, secret) = (NodeKey::new().expect("a key"), OwnKey::new(rand::random()));
        let request = wire::JoinRequest {
            token: token.to_owned(),
            node: name.to_owned(),
            address: "127.0.0.1".to_owned(),
            port: u32::from(own),
            labels: Default::default(),
            version: "test".to_owned(),
            feature_level: FEATURE_LEVEL,
            time_ms: ca::now().0,
            csr: key.request().expect("a request").into(),
            public_key: secret.public_bytes().to_vec().into(),
            answers,
        };
        let client = JoinClient::new("127.0.0.1", door, ca).await.expect("a member");
        let joined = client.join(request).await?;
        let cluster: Cluster = serde_json::from_slice(&joined.cluster).expect("a cluster");
        let keys = NodeKeys {
            key: key.pem(),
            certificate: certificate_to_pem(&joined.certificate),
            ca: certificate_to_pem(&joined.ca),
            secret,
        };
        let known = joined.members.iter().map(|one| (NodeId(one.node), one.address.clone()));
        let incarnation = cluster.incarnation;
        Ok(Self { node: NodeId(joined.node), keys, incarnation, known: known.collect() })
    }
}

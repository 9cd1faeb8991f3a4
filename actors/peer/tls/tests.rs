//! TLS between nodes on real sockets: who is let in, and by whom.

use super::*;
use crate::actors::peer::ca::{Authority, certificate_to_pem};
use crate::cluster::trust::Validity;
use crate::units::{Millis, Timestamp};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DAY: Duration = Duration::from_secs(86_400);

struct Cluster {
    id: &'static str,
    authority: Authority,
}

impl Cluster {
    fn new(id: &'static str) -> Self {
        Self { id, authority: Authority::new("t", id).unwrap() }
    }

    fn node(&self, node: u64) -> Trust {
        self.node_at(node, Validity::new(ca::now(), Millis::from(DAY), Millis(1_000)))
    }

    fn node_at(&self, node: u64, validity: Validity) -> Trust {
        let key = NodeKey::new().unwrap();
        let who = ca::peer(self.id, NodeId(node));
        let request = key.request().unwrap();
        let signed = self.authority.sign_for(&request, &who, "10.0.0.1", validity).unwrap();
        let ca = certificate_to_pem(self.authority.certificate());
        Trust::new(&key.pem(), &certificate_to_pem(&signed), &ca).unwrap()
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.authority.certificate())
    }
}

/// What a server saw: the certificate's owner, nobody, or why there was no connection.
type Seen = Result<Option<PeerId>, String>;

/// One connection: what the client and the server say of it.
async fn meet(server: &Trust, client: Arc<ClientConfig>) -> (Result<(), String>, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(server.server_config().unwrap());
        let mut tls = acceptor.accept(socket).await.map_err(|error| error.to_string())?;
        let chain = tls.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let peer = chain.first().map(|end| server.peer_of(end)).transpose();
        tls.write_all(b"x").await.map_err(|error| error.to_string())?;
        tls.shutdown().await.map_err(|error| error.to_string())?;
        peer.map_err(|error| error.to_string())
    };
    let dial = async {
        let socket = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let connector = TlsConnector::from(client);
        let mut tls = connector.connect(name, socket).await.map_err(|e| e.to_string())?;
        // With TLS 1.3 a client learns only now that it was refused.
        let mut byte = [0];
        tls.read_exact(&mut byte).await.map(|_| ()).map_err(|e| e.to_string())
    };
    let both = async { tokio::join!(dial, accept) };
    tokio::time::timeout(Duration::from_secs(20), both).await.unwrap()
}

#[tokio::test]
async fn members_know_each_other_by_their_ids() {
    let cluster = Cluster::new("aa");
    let (one, two) = (cluster.node(1), cluster.node(2));
    let (client, seen) = meet(&one, two.client_config(NodeId(1), PEER_PROTOCOL).unwrap()).await;
    assert_eq!((client, seen), (Ok(()), Ok(Some(two.me().clone()))));
    let (client, _) = meet(&one, two.client_config(NodeId(3), PEER_PROTOCOL).unwrap()).await;
    let error = client.unwrap_err();
    assert!(error.contains("NotValidForName"), "another node than was meant: {error}");
}

#[tokio::test]
async fn strangers_are_refused() {
    let (ours, theirs) = (Cluster::new("aa"), Cluster::new("aa"));
    let (one, stranger) = (ours.node(1), theirs.node(2));
    // As a client it must pass our verifier, as a server theirs.
    let (client, seen) =
        meet(&one, stranger.client_config(NodeId(1), PEER_PROTOCOL).unwrap()).await;
    assert!(client.is_err() && seen.is_err(), "the stranger doesn't know us: {seen:?}");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { fingerprint: ours.fingerprint() }))
        .with_client_cert_resolver(Arc::clone(&stranger.shown) as Arc<dyn ResolvesClientCert>);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (_, seen) = meet(&one, Arc::new(config)).await;
    assert!(seen.unwrap_err().contains("certificate"), "a certificate of another CA");
    // Of the same CA, but of another cluster.
    let who = ca::peer("bb", NodeId(2));
    let key = NodeKey::new().unwrap();
    let signed = ours.authority.sign(&key.request().unwrap(), &who, "10.0.0.2", DAY).unwrap();
    assert_eq!(one.peer_of(&signed), Err(CertificateError::Nobody));
}

#[tokio::test]
async fn a_joiner_knows_the_cluster_by_the_fingerprint_alone() {
    let (ours, theirs) = (Cluster::new("aa"), Cluster::new("aa"));
    let one = ours.node(1);
    let config = |print| pinned_config(print, &[b"h2"]).unwrap();
    assert_eq!(meet(&one, config(ours.fingerprint())).await, (Ok(()), Ok(None)));
    let (client, _) = meet(&one, config(theirs.fingerprint())).await;
    assert!(client.unwrap_err().contains("UnknownIssuer"), "another CA");
    // It shows our CA's certificate, but its own isn't signed by it.
    let impostor = theirs.node(1);
    let shown = impostor.shown.0.load_full();
    let chain = vec![shown.cert[0].clone(), ours.authority.certificate().clone()];
    impostor.shown.0.store(Arc::new(CertifiedKey::new(chain, Arc::clone(&shown.key))));
    let (client, _) = meet(&impostor, config(ours.fingerprint())).await;
    assert!(client.is_err(), "a chain that leads nowhere");
}

#[tokio::test]
async fn a_server_that_has_expired_is_refused_and_a_client_is_known_by_its_last_moment() {
    let cluster = Cluster::new("aa");
    let past = Validity::new(Timestamp(1_500_000_000_000), Millis(60_000), Millis(0));
    let (one, two) = (cluster.node(1), cluster.node_at(2, past));
    let (client, seen) = meet(&one, two.client_config(NodeId(1), PEER_PROTOCOL).unwrap()).await;
    assert_eq!((client, seen), (Ok(()), Ok(Some(two.me().clone()))), "it may ask for a renewal");
    let impostor = Cluster::new("aa").node_at(2, past);
    let (_, seen) = meet(&one, impostor.client_config(NodeId(1), PEER_PROTOCOL).unwrap()).await;
    assert!(seen.is_err(), "another CA's: {seen:?}");
    let early = Validity { from: Timestamp(ca::now().0 + 60_000), ..past };
    let early = cluster.node_at(2, Validity { until: early.from.plus(Millis(60_000)), ..early });
    let (_, seen) = meet(&one, early.client_config(NodeId(1), PEER_PROTOCOL).unwrap()).await;
    assert!(seen.is_err(), "not good yet: {seen:?}");
    let (client, _) = meet(&two, one.client_config(NodeId(2), PEER_PROTOCOL).unwrap()).await;
    assert!(client.unwrap_err().contains("expired"));
    let config = two.client_config(NodeId(1), PEER_PROTOCOL).unwrap();
    let key = NodeKey::open(&two.key_pem).unwrap();
    let signed = cluster.authority.sign(&key.request().unwrap(), two.me(), "10.0.0.2", DAY);
    two.renew(signed.unwrap()).unwrap();
    let (client, seen) = meet(&one, config).await;
    assert_eq!((client, seen), (Ok(()), Ok(Some(two.me().clone()))), "the same settings");
    // Nobody takes another's name by a renewal.
    let other = cluster.node(3).certificate();
    assert!(two.renew(other).is_err());
}

#[tokio::test]
async fn a_request_says_nothing_but_the_key_and_must_be_signed_by_it() {
    let cluster = Cluster::new("aa");
    let who = ca::peer("aa", NodeId(4));
    let mut request = NodeKey::new().unwrap().request().unwrap();
    let end = request.len() - 3;
    request[end] ^= 1;
    assert!(cluster.authority.sign(&request, &who, "10.0.0.1", DAY).is_err());
    assert!(cluster.authority.sign(b"", &who, "10.0.0.1", DAY).is_err());
}

//! Who is answered on the peer port: each call by each kind of caller, on real sockets.

use super::super::ca::{self, Authority, NodeKey, certificate_to_pem};
use super::super::credentials::Credentials;
use super::super::dial::{dial, tcp};
use super::super::keys::NodeKeys;
use super::super::outbox::Post;
use super::super::service::Desk;
use super::super::tls::{SERVER_NAME, pinned_config};
use super::super::wire::door_client::DoorClient;
use super::super::wire::peer_client::PeerClient;
use super::super::{INCARNATION, REMOVED, join_client, wire};
use super::*;
use crate::actors::root::{Msg, View};
use crate::cluster::token::{self, Minted};
use crate::cluster::trust::{Fingerprint, Validity};
use crate::fsm::command::Init;
use crate::fsm::model::Role;
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::{BootId, Incarnation, NodeId};
use crate::secret::OwnKey;
use crate::units::{Millis, Timestamp};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rustls::pki_types::ServerName;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

const DAY: Duration = Duration::from_secs(86_400);

/// An actor that answers nothing.
struct Silent<M>(PhantomData<fn() -> M>);

impl<M: Send + 'static> Actor for Silent<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

/// The peer port of node 1, in a cluster of which node 3 was removed.
struct Site {
    authority: Authority,
    address: String,
    root: ActorRef<Msg>,
    peer: ActorRef<super::super::Msg>,
    _port: JoinSet<()>,
    views: watch::Sender<Option<View>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.root.stop(None);
        self.peer.stop(None);
    }
}

fn credentials(authority: &Authority, node: u64) -> Credentials {
    let validity = Validity::new(ca::now(), Millis::from(DAY), Millis(1_000));
    credentials_at(authority, node, validity)
}

fn credentials_at(authority: &Authority, node: u64, validity: Validity) -> Credentials {
    let key = NodeKey::new().unwrap();
    let who = ca::peer("c", NodeId(node));
    let request = key.request().unwrap();
    let signed = authority.sign_for(&request, &who, "127.0.0.1", validity).unwrap();
    let keys = NodeKeys {
        key: key.pem(),
        certificate: certificate_to_pem(&signed),
        ca: certificate_to_pem(authority.certificate()),
        secret: OwnKey::new([7; 32]),
    };
    Credentials::new(&keys, std::path::Path::new("/nowhere"), DAY).unwrap()
}

impl Site {
    async fn new() -> Self {
        let authority = Authority::new("prod", "c").unwrap();
        let mut state = State::default();
        let init = Init { address: "127.0.0.1".to_owned(), ..fixture::init() };
        let _ = apply_next(&mut state, Timestamp(1), Command::Init(init));
        let _ = apply_next(&mut state, Timestamp(2), Command::Join(fixture::join("n2", "k")));
        state.removed.insert(NodeId(3));
        let token = join_token();
        let (id, role, hash) = (token.id, Role::Join, token.hash);
        let known = Command::CreateToken { id, role, hash, expires_at: None };
        let _ = apply_next(&mut state, Timestamp(3), known);
        let view = View {
            index: state.index,
            state: Arc::new(state),
            touched: Arc::default(),
            current: true,
            leader: Some(NodeId(1)),
            node: NodeId(1),
            time: None,
            boot: BootId(1),
            removed: false,
        };
        let (sender, views) = watch::channel(Some(view));
        let (root, _) = Silent::spawn(None, Silent(PhantomData), ()).await.unwrap();
        let (peer, _) = Silent::spawn(None, Silent(PhantomData), ()).await.unwrap();
        let credentials = Arc::new(credentials(&authority, 1));
        let service = Service {
            root: root.clone(),
            post: Post::new(),
            credentials: Arc::clone(&credentials),
            incarnation: Incarnation(4),
            views: views.clone(),
            desk: Desk::default(),
            peer: peer.clone(),
        };
        let door = JoinService::new(Arc::clone(&credentials), root.clone(), views.clone());
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap().to_string();
        let served = Served::new(service, door);
        let mut port = JoinSet::new();
        port.spawn(async move {
            let members = MemberListener::new();
            let _ = serve(Port { listener, credentials, served, members, views }).await;
        });
        Self { authority, address, root, peer, _port: port, views: sender }
    }

    /// A connection with the certificate of a node.
    async fn member(&self, node: u64) -> Channel {
        let credentials = credentials(&self.authority, node);
        dial(&tcp(), credentials.trust(), NodeId(1), &self.address).await.unwrap()
    }

    /// A connection with one that has expired.
    async fn late(&self, node: u64) -> Channel {
        let past = Validity::new(Timestamp(1_700_000_000_000), Millis(60_000), Millis(0));
        let credentials = credentials_at(&self.authority, node, past);
        dial(&tcp(), credentials.trust(), NodeId(1), &self.address).await.unwrap()
    }

    /// A connection without any.
    async fn stranger(&self, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
        let fingerprint = Fingerprint::of(self.authority.certificate());
        let config = pinned_config(fingerprint, &[protocol]).unwrap();
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        TlsConnector::from(config).connect(name, socket).await.unwrap()
    }
}

fn with<T>(message: T, incarnation: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !incarnation.is_empty() {
        let value = MetadataValue::try_from(incarnation).unwrap();
        request.metadata_mut().insert(INCARNATION, value);
    }
    request
}

/// What each call between members is answered with.
async fn calls(channel: &Channel, incarnation: &str) -> [(Code, String); 3] {
    let mut client = PeerClient::new(channel.clone());
    let said = |status: Option<Status>| {
        status.map_or((Code::Ok, String::new()), |no| (no.code(), no.message().to_owned()))
    };
    let frames = with(tokio_stream::iter([wire::Frame::default()]), incarnation);
    let link = said(client.link(frames).await.err());
    let pieces = with(tokio_stream::iter([wire::Piece::default()]), incarnation);
    let snapshot = said(client.snapshot(pieces).await.err());
    let request = with(wire::CertificateRequest::default(), incarnation);
    let renew = said(client.renew(request).await.err());
    [link, snapshot, renew]
}

/// One that the site knows.
fn join_token() -> Minted {
    token::mint(1, [1; 32], None)
}

async fn join(channel: Channel, token: &str, labels: BTreeMap<String, String>) -> (Code, String) {
    let labels = labels.into_iter().collect();
    let request = wire::JoinRequest { token: token.to_owned(), labels, ..Default::default() };
    let refused = DoorClient::new(channel).join(request).await.unwrap_err();
    (refused.code(), refused.message().to_owned())
}

#[tokio::test]
async fn members_of_this_life_of_the_cluster_are_answered_and_nobody_else() {
    let site = Site::new().await;
    let member = site.member(2).await;
    let [link, snapshot, renew] = calls(&member, "4").await;
    assert_eq!((link.0, snapshot.0), (Code::Ok, Code::Ok));
    // It is let in, and the cluster of this test has no CA.
    assert_eq!(renew.0, Code::Internal, "{}", renew.1);
    let restored = (Code::PermissionDenied, "the cluster was restored since".to_owned());
    for other in ["3", "5", "", "four"] {
        for said in calls(&member, other).await {
            assert_eq!(said, restored, "incarnation {other:?}");
        }
    }
    let removed = site.member(3).await;
    for said in calls(&removed, "4").await {
        assert_eq!(said, (Code::PermissionDenied, REMOVED.to_owned()));
    }
    let channel = join_client::channel(site.stranger(b"h2").await).await.unwrap();
    for (code, said) in calls(&channel, "4").await {
        assert_eq!(code, Code::Unauthenticated, "{said}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_good_for_its_renewal_alone() {
    let site = Site::new().await;
    let late = site.late(2).await;
    let [link, snapshot, renew] = calls(&late, "4").await;
    assert_eq!((link.0, snapshot.0), (Code::Unauthenticated, Code::Unauthenticated));
    // As far as a member's: the cluster of this test has no CA.
    assert_eq!(renew.0, Code::Internal, "{}", renew.1);
    for said in calls(&site.late(3).await, "4").await {
        assert_eq!(said, (Code::PermissionDenied, REMOVED.to_owned()));
    }
    // A state that may be old may not know yet that it was removed.
    site.views.send_modify(|view| view.as_mut().unwrap().current = false);
    let [_, _, renew] = calls(&late, "4").await;
    assert_eq!(renew.0, Code::Unavailable, "{}", renew.1);
    let [_, _, renew] = calls(&site.member(2).await, "4").await;
    assert_eq!(renew.0, Code::Internal, "{}", renew.1);
}

#[tokio::test]
async fn the_door_is_for_strangers_and_what_they_send_is_small() {
    let site = Site::new().await;
    let token = join_token().text;
    let (code, said) = join(site.member(2).await, &token, BTreeMap::new()).await;
    assert_eq!(code, Code::PermissionDenied, "{said}");
    let stranger = async || join_client::channel(site.stranger(b"h2").await).await.unwrap();
    // It is heard: this root just has no leader to name.
    let (code, said) = join(stranger().await, &token, BTreeMap::new()).await;
    assert_eq!((code, &*said), (Code::Unavailable, "the cluster has no leader now"));
    let much = BTreeMap::from([("zone".to_owned(), "x".repeat(limits::JOIN_MAX))]);
    let (code, said) = join(stranger().await, &token, much).await;
    assert_eq!(code, Code::OutOfRange, "{said}");
}

#[tokio::test]
async fn a_stranger_at_the_door_asks_nobody_else() {
    let site = Site::new().await;
    let channel = join_client::channel(site.stranger(b"h2").await).await.unwrap();
    // With a token that is known this member's root is asked, which has no leader to name.
    let (code, said) = join(channel, "mill_a_b", BTreeMap::new()).await;
    let unknown = "the token is not known to this cluster";
    assert_eq!((code, &*said), (Code::PermissionDenied, unknown));
}

#[tokio::test]
async fn the_api_is_not_for_strangers() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::new().await;
    let mut stream = site.stranger(super::super::tls::API_PROTOCOL).await;
    // It may be closed before or after this is taken.
    let _ = stream.write_all(b"GET /v1/usage HTTP/1.1\r\nhost: mill\r\n\r\n").await;
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("an end");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

/// However many connections somebody opens: a member gets in, and who joins.
#[tokio::test]
async fn a_crowd_of_strangers_locks_nobody_out() {
    let site = Site::new().await;
    let mut crowd = Vec::new();
    for n in 0..limits::PEER_STRANGERS * 3 {
        // Some say nothing at all, some are idle behind a handshake.
        if n % 8 == 0 {
            crowd.push((None, Some(site.stranger(b"h2").await)));
        } else {
            crowd.push((Some(TcpStream::connect(&site.address).await.unwrap()), None));
        }
    }
    let [link, ..] = calls(&site.member(2).await, "4").await;
    assert_eq!(link.0, Code::Ok);
    let channel = join_client::channel(site.stranger(b"h2").await).await.unwrap();
    let token = join_token().text;
    let (code, said) = join(channel, &token, BTreeMap::new()).await;
    assert_eq!((code, &*said), (Code::Unavailable, "the cluster has no leader now"));
    drop(crowd);
}

#[tokio::test]
async fn a_stranger_that_asks_for_nothing_is_sent_away_soon() {
    use tokio::io::AsyncReadExt as _;
    let site = Site::new().await;
    let begun = std::time::Instant::now();
    let mut idle = site.stranger(b"h2").await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(20), idle.read_to_end(&mut rest));
    let _ = end.await.expect("an end");
    let took = begun.elapsed();
    assert!(took >= limits::PEER_STRANGER_IDLE && took < limits::PEER_STRANGER, "{took:?}");
}

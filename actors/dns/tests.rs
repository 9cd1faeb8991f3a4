//! Tests of the dns actor over real sockets, with resolvers that are made up.

use super::*;
use crate::actors::root::Supervised;
use crate::fsm::Touched;
use crate::id::{BootId, NodeId};
use crate::limits;
use crate::node::dns::tests::Case;
use crate::node::resolvers::Resolvers;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_secs(20);

/// Tells what is settled.
struct FakeRoot;

impl Actor for FakeRoot {
    type Msg = root::Msg;
    type State = mpsc::UnboundedSender<(Child, Index)>;
    type Arguments = mpsc::UnboundedSender<(Child, Index)>;

    async fn pre_start(
        &self,
        _myself: ActorRef<root::Msg>,
        told: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(told)
    }

    async fn handle(
        &self,
        _myself: ActorRef<root::Msg>,
        message: root::Msg,
        told: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let root::Msg::Settled { child, index } = message {
            told.send((child, index)).unwrap();
        }
        Ok(())
    }
}

struct Node {
    root: RootRef,
    dns: Supervised<Msg>,
    settled: mpsc::UnboundedReceiver<(Child, Index)>,
    at: SocketAddr,
    queries: DnsQueries,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.root.kill();
    }
}

impl Node {
    async fn new(resolvers: &[Ipv4Addr]) -> Self {
        let text: String =
            resolvers.iter().map(|address| format!("nameserver {address}\n")).collect();
        let text = format!("search leaked.example\n{text}");
        let (told, settled) = mpsc::unbounded_channel();
        let (root, _) = FakeRoot::spawn(None, FakeRoot, told).await.unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let queries = DnsQueries::default();
        let args = Args {
            root: root.clone(),
            listen: vec![free],
            cluster: Subnet::of([10, 99, 0, 0].into(), 16),
            resolvers: Arc::new(move || Resolvers::parse(&text)),
            queries: queries.clone(),
        };
        let dns = Supervised::start(Dns, args, &root).await.unwrap();
        let node = Self { root, dns, settled, at: free, queries };
        let connects = || async { TcpStream::connect(free).await.is_ok() };
        let wait = async {
            while !connects().await {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.expect("it listens");
        node
    }

    async fn show(&mut self, case: &Case, current: bool) -> (Child, Index) {
        self.dns.tell(Msg::View(View {
            index: case.state.index,
            state: Arc::new(case.state.clone()),
            touched: Arc::new(Touched::everything()),
            current,
            leader: None,
            node: NodeId(1),
            boot: BootId(1),
            removed: false,
            time: None,
        }));
        let settled = tokio::time::timeout(DEADLINE, self.settled.recv()).await;
        settled.expect("it settles").unwrap()
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let question = crate::node::dns::tests::question(name, kind).to_vec().unwrap();
        socket.send_to(&question, self.at).await.unwrap();
        let mut answer = [0; 4096];
        let received = tokio::time::timeout(DEADLINE, socket.recv(&mut answer)).await;
        let size = received.expect("an answer").unwrap();
        Message::from_vec(&answer[..size]).unwrap()
    }

    async fn ask_by_stream(&self, name: &str, kind: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        let question = crate::node::dns::tests::question(name, kind).to_vec().unwrap();
        let length = u16::try_from(question.len()).unwrap();
        stream.write_u16(length).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let length = tokio::time::timeout(DEADLINE, stream.read_u16()).await;
        let mut answer = vec![0; length.expect("an answer").unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }
}

/// A resolver that knows `there.example.` and sends the names that it is asked for.
async fn resolver(address: Ipv4Addr) -> mpsc::UnboundedReceiver<String> {
    let socket = UdpSocket::bind((address, limits::DNS_PORT)).await.unwrap();
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut bytes = [0; 1500];
        while let Ok((size, from)) = socket.recv_from(&mut bytes).await {
            let question = Message::from_vec(&bytes[..size]).unwrap();
            let name = question.queries[0].name().clone();
            told.send(name.to_string()).unwrap();
            let mut answer = question.into_response();
            if name == Name::from_ascii("there.example.").unwrap() {
                let data = RData::A(A(Ipv4Addr::new(192, 0, 2, 7)));
                answer.add_answer(Record::from_rdata(name, 3600, data));
            } else {
                let apex = Name::from_ascii("example.").unwrap();
                let soa = SOA::new(apex.clone(), apex.clone(), 1, 3600, 3600, 3600, 3600);
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.add_authority(Record::from_rdata(apex, 3600, RData::SOA(soa)));
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_answered_over_both_transports_and_only_a_current_view_is_settled() {
    let mut node = Node::new(&[]).await;
    let case = Case::new(2);
    assert_eq!(node.show(&case, false).await, (Child::Dns, Index(0)));
    assert_eq!(node.ask("db.mill.", RecordType::A).await.answers.len(), 2, "of an old state, too");
    assert_eq!(node.show(&case, true).await, (Child::Dns, case.state.index));
    let whole = node.ask_by_stream("db.mill.", RecordType::A).await;
    assert_eq!(whole.answers.len(), 2);
    let none = node.ask("dc.mill.", RecordType::A).await;
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    let failed = node.ask("there.example.", RecordType::A).await;
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail, "the host has no resolvers");
    let mut registry = prometheus_client::registry::Registry::default();
    node.queries.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in ["{result=\"answered\"} 2", "{result=\"nxdomain\"} 1", "{result=\"failed\"} 1"] {
        assert!(text.contains(&format!("mill_dns_queries_total{line}")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_are_a_resolvers_with_its_code_and_without_search_domains() {
    let [dead, alive] = [Ipv4Addr::new(127, 53, 7, 1), Ipv4Addr::new(127, 53, 7, 2)];
    let mut asked = resolver(alive).await;
    let node = Node::new(&[dead, alive]).await;
    let there = node.ask("there.example.", RecordType::A).await;
    assert_eq!(there.metadata.response_code, ResponseCode::NoError);
    let RData::A(address) = there.answers[0].data else { panic!("{there:?}") };
    assert_eq!(address.0, Ipv4Addr::new(192, 0, 2, 7));
    assert!(u64::from(there.answers[0].ttl) <= limits::DNS_CACHE.as_secs(), "{there:?}");
    let gone = node.ask("gone.example.", RecordType::A).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(gone.authorities[0].record_type(), RecordType::SOA);
    let again = node.ask("there.example.", RecordType::A).await;
    assert_eq!(again.answers.len(), 1, "kept for a while");
    let mut names = Vec::new();
    while let Ok(name) = asked.try_recv() {
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert_eq!(names, ["gone.example.", "there.example."]);
}

/// What is asked of the host's resolvers, without a socket of the actor's own.
fn shared(resolver: Ipv4Addr) -> Shared {
    let text = format!("nameserver {resolver}\n");
    let read: ReadResolvers = Arc::new(move || Resolvers::parse(&text));
    let forwarder = Forwarder::new(read, std::collections::BTreeSet::new());
    Shared::new(Subnet::of([10, 99, 0, 0].into(), 16), forwarder, DnsQueries::default())
}

async fn forward(shared: &Shared, from: [u8; 4], name: &str) -> ResponseCode {
    let question = crate::node::dns::tests::question(name, RecordType::A);
    let answer = shared.forward(&question, Ipv4Addr::from(from).into(), false).await;
    Message::from_vec(&answer.unwrap()).unwrap().metadata.response_code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_containers_and_the_host_itself_have_a_resolver_here() {
    let address = Ipv4Addr::new(127, 53, 7, 4);
    let _asked = resolver(address).await;
    let shared = shared(address);
    for (from, code) in [
        ([10, 99, 8, 2], ResponseCode::NoError),
        ([127, 0, 0, 1], ResponseCode::NoError),
        ([10, 98, 8, 2], ResponseCode::Refused),
        ([192, 0, 2, 1], ResponseCode::Refused),
    ] {
        assert_eq!(forward(&shared, from, "there.example.").await, code, "{from:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_questions_at_once_the_rest_fails_at_once() {
    let address = Ipv4Addr::new(127, 53, 7, 5);
    let socket = UdpSocket::bind((address, limits::DNS_PORT)).await.unwrap();
    tokio::spawn(async move {
        // Silent until as many as may be are under way.
        let (mut waiting, mut bytes) = (std::collections::BTreeMap::new(), [0; 1500]);
        while let Ok((size, from)) = socket.recv_from(&mut bytes).await {
            let question = Message::from_vec(&bytes[..size]).unwrap();
            waiting.insert(question.queries[0].name().to_string(), (question, from));
            if waiting.len() < limits::DNS_FORWARDS {
                continue;
            }
            for (question, from) in waiting.values() {
                let mut answer = question.clone().into_response();
                answer.metadata.response_code = ResponseCode::NXDomain;
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    let shared = shared(address);
    let names: Vec<String> =
        (0..limits::DNS_FORWARDS + 7).map(|n| format!("n{n}.example.")).collect();
    let asks = names.iter().map(|name| forward(&shared, [10, 99, 8, 2], name));
    let codes = futures_util::future::join_all(asks).await;
    let failed = codes.iter().filter(|code| **code == ResponseCode::ServFail).count();
    assert_eq!(failed, 7, "{codes:?}");
}

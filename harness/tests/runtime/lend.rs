//! Loaded images between two nodes: borrowed whole, lent on, and what is said when nobody lends.

use super::Host;
use super::fake::{FakeRegistry, Kind, tar_of};
use super::forms::saved;
use crate::poll::poll;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use mill::actors::platform::image::{ImageError, Images, LendError, Lent, Members};
use mill::actors::root::View;
use mill::fsm::command::{
    Action, Deploy, Init, Join, Members as Configuration, Place, Register, Report, Steps,
};
use mill::fsm::loaded::{ImageChange, Pin};
use mill::fsm::model::{AllocationStatus, DeployKind, Health, Phase, WorkloadSpec};
use mill::fsm::{Command, State, Touched, apply_next};
use mill::id::{
    AllocId, AppName, Attempt, BootId, Digest, Incarnation, Index, NodeId, WorkloadName,
};
use mill::node::oci::image::sha256;
use mill::units::{Bytes, MilliCpu};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt as _;

/// Where no registry answers.
const NAME: &str = "127.0.0.1:9/packed:v1";
const CLUSTER: &str = "c";

fn change(state: &mut State, command: Command) {
    let time = state.time;
    apply_next(state, time, command).outcome.unwrap();
}

/// Two nodes, of which the first has loaded this.
fn cluster(loaded: &[(Pin, Bytes)]) -> State {
    let mut state = State::default();
    change(
        &mut state,
        Command::Init(Init {
            cluster: "prod".to_owned(),
            cluster_id: CLUSTER.to_owned(),
            incarnation: Incarnation(1),
            subnet: [10, 99, 0, 0].into(),
            prefix: 16,
            node_name: "n1".to_owned(),
            address: "192.0.2.1".to_owned(),
            labels: BTreeMap::new(),
            peer_port: 4401,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        }),
    );
    change(
        &mut state,
        Command::Join(Join {
            name: "n2".to_owned(),
            address: "192.0.2.2".to_owned(),
            peer_port: 4401,
            labels: BTreeMap::new(),
            public_key: String::new(),
            keyring: String::new(),
            keyring_id: String::new(),
            version: String::new(),
            feature_level: 2,
            token: None,
        }),
    );
    for id in 1..=2 {
        let register = Register {
            after: None,
            reach: None,
            node: NodeId(id),
            boot: BootId(id),
            cpu: MilliCpu(1000),
            memory: Bytes(1 << 30),
            version: String::new(),
            feature_level: 2,
        };
        change(&mut state, Command::Register(register));
    }
    if !loaded.is_empty() {
        let images = loaded.to_vec();
        let load = ImageChange::Load { node: NodeId(1), images, late: false };
        change(&mut state, Command::Images(load));
    }
    state
}

/// How a node sees it.
fn view(state: &State, node: u64) -> View {
    View {
        index: state.index,
        state: Arc::new(state.clone()),
        touched: Arc::new(Touched::everything()),
        current: true,
        leader: Some(NodeId(1)),
        node: NodeId(node),
        time: None,
        boot: BootId(node),
        removed: false,
    }
}

/// A node that lends, or does what it is told instead.
struct Other {
    images: Images,
    /// By digest, once: ends after so many bytes, or has other content.
    breaks: Mutex<BTreeMap<Digest, usize>>,
    wrong: Mutex<Option<Digest>>,
    refuses: bool,
    asked: Mutex<Vec<(Digest, u64)>>,
}

impl Other {
    fn new(images: &Images) -> Self {
        Self {
            images: images.clone(),
            breaks: Mutex::default(),
            wrong: Mutex::default(),
            refuses: false,
            asked: Mutex::default(),
        }
    }
}

/// The way to it.
struct Way(Arc<Other>);

impl Members for Way {
    fn blob(
        &self,
        _: &View,
        node: NodeId,
        digest: &Digest,
        from: u64,
    ) -> BoxFuture<'static, Result<Lent, LendError>> {
        assert_eq!(node, NodeId(1), "only who has it is asked");
        let (other, digest) = (Arc::clone(&self.0), digest.clone());
        Box::pin(async move {
            other.asked.lock().unwrap().push((digest.clone(), from));
            if other.refuses {
                return Err(LendError { reason: "n1 can't be reached".to_owned() });
            }
            let (_, lent) = other.images.lend(&digest, from).await.unwrap().expect("it has it");
            let all: Vec<bytes::Bytes> = lent.try_collect().await.unwrap();
            let mut all = all.concat();
            if other.wrong.lock().unwrap().as_ref() == Some(&digest) {
                all.fill(7);
            }
            let most = other.breaks.lock().unwrap().remove(&digest);
            let mut pieces: Vec<io::Result<bytes::Bytes>> =
                vec![Ok(all[..most.unwrap_or(all.len())].to_vec().into())];
            if most.is_some() {
                pieces.push(Err(io::Error::other("cut")));
            }
            Ok(futures_util::stream::iter(pieces).boxed())
        })
    }
}

/// An archive of one layer, and that layer's digest.
fn archive() -> (Vec<u8>, Digest) {
    let noise: Vec<u8> = (0..5_000_000_u32).map(|n| (n ^ (n >> 9)).to_le_bytes()[0]).collect();
    let tar = tar_of("file0", &noise);
    let digest = sha256(&tar);
    (saved(NAME, &tar, &digest), digest)
}

/// Loads it on a host; the state that knows it.
async fn load(host: &Host) -> (State, Pin, Digest) {
    let (archive, layer) = archive();
    let cluster_id = Some(CLUSTER.to_owned());
    let loaded = host.images.load(io::Cursor::new(archive), cluster_id).await.unwrap();
    let pin = Pin { reference: NAME.to_owned(), digest: loaded[0].digest.clone() };
    (cluster(&[(pin.clone(), loaded[0].size)]), pin, layer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loaded_image_is_borrowed_whole_and_lent_on() {
    let (first, second) = tokio::join!(Host::start(), Host::start());
    let (state, pin, layer) = load(&first).await;
    let other = Arc::new(Other::new(&first.images));
    other.breaks.lock().unwrap().insert(layer.clone(), 3_000_000);
    second.images.use_view(&view(&state, 2));
    second.images.use_members(Arc::new(Way(Arc::clone(&other))));
    let mut changes = second.images.changes();
    let image = second.images.ensure(NAME, &pin.digest).await.unwrap();
    assert_eq!(image.config.cmd, ["/x"]);
    assert!(changes.has_changed().unwrap(), "the cluster is to be told");
    changes.mark_unchanged();
    let asked = other.asked.lock().unwrap().clone();
    let of_layer: Vec<u64> = asked.iter().filter(|a| a.0 == layer).map(|a| a.1).collect();
    assert!(of_layer.len() == 2 && of_layer[0] == 0 && of_layer[1] > 0, "{of_layer:?}");

    let held = second.images.held().await.unwrap();
    assert_eq!((held.len(), &held[0].pin, &*held[0].cluster.clone().unwrap()), (1, &pin, CLUSTER));
    // What only the archive had, its list of images, containerd collects when it comes to it.
    poll(|| match (first.content(), second.content()) {
        (lender, borrower) if lender == borrower => Ok(()),
        different => Err(different),
    })
    .expect("the same documents and layers on both");
    let (size, lent) = second.images.lend(&layer, 1_000_000).await.unwrap().unwrap();
    let rest: Vec<bytes::Bytes> = lent.try_collect().await.unwrap();
    let rest: u64 = rest.iter().map(|piece| piece.len() as u64).sum();
    assert_eq!(rest, size - 1_000_000);
    // It is made ready from what is here, and nobody is asked again.
    second.images.hold(&pin).await.unwrap();
    assert_eq!(other.asked.lock().unwrap().len(), asked.len());
    for host in [&first, &second] {
        host.images.settle(std::slice::from_ref(&pin), Some(Index(0)));
        host.images.forget(vec![pin.clone()], state.index).await.unwrap();
        host.assert_empty();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_lends_is_told_with_who_has_it() {
    let (first, second) = tokio::join!(Host::start(), Host::start());
    let (mut state, pin, layer) = load(&first).await;
    let other = Arc::new(Other { refuses: true, ..Other::new(&first.images) });
    second.images.use_members(Arc::new(Way(other)));
    let error = |state: State| {
        let (images, pin) = (second.images.clone(), pin.clone());
        async move {
            images.use_view(&view(&state, 2));
            images.ensure(NAME, &pin.digest).await.unwrap_err()
        }
    };
    let refused = error(state.clone()).await;
    assert!(refused.is_temporary(), "{refused}");
    assert!(refused.to_string().contains("n1 can't be reached"), "{refused}");
    change(&mut state, Command::NodeDown { node: NodeId(1), boot: BootId(1) });
    let down = error(state.clone()).await;
    assert!(down.is_temporary(), "it may be back: {down}");
    assert!(down.to_string().contains("was loaded on n1, which is down. Load it again"), "{down}");
    let (voters, learners) = ([NodeId(2)].into(), [NodeId(1)].into());
    change(&mut state, Command::Members(Configuration { voters, learners }));
    change(&mut state, Command::Remove { node: NodeId(1) });
    let gone = error(state.clone()).await;
    assert!(!gone.is_temporary(), "{gone}");
    assert!(gone.to_string().contains("no node has it any more"), "{gone}");
    second.assert_empty();

    // Content that isn't what its digest says is refused, whoever sent it.
    let third = Host::start().await;
    let other = Other::new(&first.images);
    *other.wrong.lock().unwrap() = Some(layer.clone());
    third.images.use_view(&view(&cluster(&[(pin.clone(), Bytes(1))]), 2));
    third.images.use_members(Arc::new(Way(Arc::new(other))));
    let wrong = third.images.ensure(NAME, &pin.digest).await.unwrap_err();
    assert!(
        matches!(&wrong, ImageError::WrongDigest { digest, .. } if *digest == layer),
        "{wrong:?}"
    );
    third.assert_empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_being_loaded_is_not_taken_for_removed() {
    let host = Host::start().await;
    let (_, pin, _) = load(&host).await;
    let forget = |seen: u64| host.images.forget(vec![pin.clone()], Index(seen));
    forget(5).await.unwrap();
    assert_eq!(host.images.held().await.unwrap().len(), 1, "the cluster is about to be told");
    host.images.settle(std::slice::from_ref(&pin), Some(Index(7)));
    forget(6).await.unwrap();
    assert_eq!(host.images.held().await.unwrap().len(), 1, "this state is older");
    forget(7).await.unwrap();
    host.assert_empty();
    // A load that the cluster refused.
    let (_, pin, _) = load(&host).await;
    host.images.settle(std::slice::from_ref(&pin), None);
    forget(7).await.unwrap();
    host.assert_empty();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_loaded_for_one_node_becomes_the_clusters() {
    let host = Host::start().await;
    let (archive, _) = archive();
    let loaded = host.images.load(io::Cursor::new(archive), None).await.unwrap();
    let pin = Pin { reference: NAME.to_owned(), digest: loaded[0].digest.clone() };
    assert_eq!(host.images.held().await.unwrap()[0].cluster, None);
    assert_eq!(host.images.resolve(NAME).await.unwrap(), pin.digest);
    host.images.mark(std::slice::from_ref(&pin), CLUSTER).await.unwrap();
    assert_eq!(host.images.held().await.unwrap()[0].cluster.as_deref(), Some(CLUSTER));
    let asked = host.images.resolve(NAME).await;
    assert!(asked.is_err(), "the cluster says what it leads to: {asked:?}");
    assert_eq!(host.images.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_load_that_was_broken_off_nothing_stays() {
    let host = Host::start().await;
    let (archive, _) = archive();
    let (mut client, body) = tokio::io::duplex(1 << 16);
    let images = host.images.clone();
    let loading = tokio::spawn(async move { images.load(body, Some(CLUSTER.to_owned())).await });
    client.write_all(&archive[..archive.len() - 2_000_000]).await.unwrap();
    // As if the process had ended: nobody tidies up.
    loading.abort();
    let _ = loading.await;
    drop(client);
    assert!(host.ctr(&["leases", "ls"]).contains("mill-load-"));
    let after = Images::new(host.containerd.clone(), Default::default());
    after.clear_loads().await.unwrap();
    host.assert_empty();
    assert_eq!(host.ctr(&["leases", "ls"]).lines().count(), 1, "no lease is left");
}

/// Node 1 runs that image as service `web`.
fn running(digest: &Digest, reference: &str) -> State {
    let mut state = cluster(&[]);
    let text = format!("service \"web\" {{\n image \"{reference}\"\n}}\n");
    let parsed = mill::spec::parse("file", &text).unwrap();
    let mut service = parsed.services.into_values().next().unwrap();
    service.run.digest = Some(digest.clone());
    let services = [("web".into(), WorkloadSpec::Service(service))].into();
    let deploy = Deploy {
        app: "shop".into(),
        kind: DeployKind::Up,
        base: None,
        services,
        tasks: BTreeMap::new(),
        file: text,
        replace: false,
        plan: None,
    };
    change(&mut state, Command::Deploy(deploy));
    let (id, node) = (AllocId::from("web-0-aaaa"), NodeId(1));
    let workload = WorkloadName::from("web");
    let spec = state.apps[&AppName::from("shop")].services[&workload].target.clone().unwrap();
    let place = Place { id: id.clone(), workload, replica: 0, node, spec, replaces: None };
    let actions = vec![Action::Place(place)];
    change(&mut state, Command::Steps(Steps { actions, ..Steps::default() }));
    let (attempt, phase, health) = (Attempt(1), Phase::Running, Health::Healthy);
    let seen = AllocationStatus { attempt, phase, health, ..AllocationStatus::default() };
    let allocations = [(id, seen)].into();
    change(&mut state, Command::Report(Report { node, boot: BootId(1), seq: 1, allocations }));
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_registry_out_of_reach_has_comes_from_a_node_that_runs_it() {
    let registry = FakeRegistry::start().await;
    let (first, second) = tokio::join!(Host::start(), Host::start());
    let own = &mill::node::oci::Platform::host().architecture;
    let (digest, layers) = registry.image(own, &[b"small", b"other"]);
    registry.tag("v1", &digest);
    let reference = format!("{}/app:v1", registry.address);
    first.images.ensure(&reference, &digest).await.unwrap();
    let other = Arc::new(Other::new(&first.images));
    second.images.use_members(Arc::new(Way(Arc::clone(&other))));
    for part in ["manifests", layers[0].as_str(), layers[1].as_str()] {
        registry.fail(part, Kind::Status(503), 1_000);
    }
    let error = second.images.ensure(&reference, &digest).await.unwrap_err();
    assert!(matches!(error, ImageError::Server { code: 503, .. }), "nobody runs it: {error:?}");
    second.images.use_view(&view(&running(&digest, &reference), 2));
    let image = second.images.ensure(&reference, &digest).await.unwrap();
    assert_eq!(image.config.cmd, ["/x"]);
    let asked = other.asked.lock().unwrap().clone();
    assert!(layers.iter().all(|layer| asked.iter().any(|(blob, _)| blob == layer)), "{asked:?}");
    // A registry that answers is asked first, and what it refuses is nobody else's to give.
    registry.heal();
    let (newer, _) = registry.image(own, &[b"newer"]);
    second.images.use_view(&view(&running(&newer, &reference), 2));
    second.images.ensure(&reference, &newer).await.unwrap();
    assert_eq!(other.asked.lock().unwrap().len(), asked.len());
}

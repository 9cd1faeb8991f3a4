//! Who may reach what: containers, the host, other nodes and strangers.
//!
//! Never uses a host but the test's own.

use super::*;
use crate::node::mesh::Way;

/// The host's address towards the other node, and that node's own.
pub(super) const LAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const MEMBER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// A container of the other node.
pub(super) const REMOTE: Ipv4Addr = Ipv4Addr::new(10, 101, 16, 2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

const API: u16 = 4400;
const PEER: u16 = 4401;
const PROXY: u16 = 8443;
const SSH: u16 = 2222;
const PUBLISHED: u16 = 9000;

/// A host with two containers, another node and a stranger.
pub(super) struct Scene {
    pub(super) net: Net,
    pub(super) a: PathBuf,
    pub(super) b: PathBuf,
    pub(super) member: PathBuf,
    pub(super) stranger: PathBuf,
}

impl Scene {
    pub(super) async fn new(host: &Host) -> Self {
        let stranger = host.outside().await;
        let member = host.dir.join("member");
        drop(netns::ensure(&member).await.unwrap());
        let ns = member.display().to_string();
        run("ip link add lan type veth peer name lan0");
        run(&format!("ip link set lan0 netns {ns}"));
        run(&format!("ip address add {LAN}/24 dev lan"));
        run("ip link set lan up");
        let there = format!("nsenter --net={ns}");
        run(&format!("{there} ip link set lo up"));
        run(&format!("{there} ip address add {MEMBER}/24 dev lan0"));
        run(&format!("{there} ip address add {REMOTE}/32 dev lo"));
        run(&format!("{there} ip link set lan0 up"));
        run(&format!("{there} ip route add default via {LAN} src {REMOTE}"));
        let ns = stranger.display();
        run(&format!("nsenter --net={ns} ip link set lo up"));
        run(&format!("nsenter --net={ns} ip route add 10.101.0.0/16 via {HOST}"));
        let config =
            NetConfig { private_ports: vec![API, PEER], open_ports: vec![PROXY], ..host.config() };
        let net = Net::open(config).await.unwrap();
        let there: Subnet = "10.101.16.0/21".parse().unwrap();
        let nodes = [(MEMBER, PEER)].into();
        net.neighbours(Neighbours { subnets: [there].into(), nodes }).await.unwrap();
        assert!(net.route([(there, Way::Plain(MEMBER))].into()).await.unwrap().is_empty());
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let b = net.attach(&id("b"), ip(3)).await.unwrap();
        net.publish(tcp(&[(PUBLISHED, &[(ip(2), 80)])])).await.unwrap();
        for (namespace, port, name) in [
            (&a, 80, "a"),
            (&b, 80, "b"),
            (&stranger, 80, "stranger"),
            (&member, 80, "remote"),
            (&member, API, "its API"),
            (&member, PEER, "its peer port"),
            (&member, 5000, "its other"),
        ] {
            serve(namespace, port, name).await;
        }
        let own = host.dir.join("own");
        std::fs::File::create(&own).unwrap();
        mount(Some("/proc/thread-self/ns/net"), &own, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .unwrap();
        for (port, name) in [(API, "API"), (PROXY, "proxy"), (SSH, "ssh")] {
            serve(&own, port, name).await;
        }
        Self { net, a, b, member, stranger }
    }
}

/// Whether a connection from there is served; a short time has to do where it should not be.
pub(super) async fn reaches(from: Option<&PathBuf>, to: (Ipv4Addr, u16), wanted: bool) -> bool {
    let answers = move || {
        let stream = dial(to, if wanted { WAIT } else { REFUSED });
        stream.is_ok_and(|mut stream| !greeting(&mut stream).is_empty())
    };
    match from {
        Some(namespace) => within(namespace, answers).await.unwrap(),
        None => answers(),
    }
}

#[test]
fn each_reaches_what_it_may_and_nothing_else() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        let (a, b) = (Some(&scene.a), Some(&scene.b));
        let (member, stranger) = (Some(&scene.member), Some(&scene.stranger));
        let gateway = scene.net.gateway();
        let table = [
            ("the host", None, (ip(2), 80), true),
            ("a neighbour", a, (ip(3), 80), true),
            ("itself by a published port", a, (HOST, PUBLISHED), true),
            ("a published port", b, (gateway, PUBLISHED), true),
            ("the node's API", a, (HOST, API), false),
            ("the node's API by the bridge", a, (gateway, API), false),
            ("another program of the host", a, (HOST, SSH), false),
            ("another program by the bridge", a, (gateway, SSH), false),
            ("the proxy", a, (HOST, PROXY), true),
            ("a container elsewhere", a, (REMOTE, 80), true),
            ("another node's API", a, (MEMBER, API), false),
            ("another node's peer port", a, (MEMBER, PEER), false),
            ("another node's other ports", a, (MEMBER, 5000), true),
            ("the outside", a, (OUTSIDE, 80), true),
            ("the cloud's metadata", a, (METADATA, 80), false),
            ("a published port from outside", stranger, (HOST, PUBLISHED), true),
            ("a container from outside", stranger, (ip(2), 80), false),
            ("the API from outside", stranger, (HOST, API), true),
            ("a container from elsewhere", member, (ip(2), 80), true),
        ];
        for bridge_meets_rules in ["1", "0"] {
            // Absent where the kernel has no br_netfilter.
            let _ = std::fs::write(BRIDGE_RULES, bridge_meets_rules);
            for (what, from, to, wanted) in table {
                let seen = reaches(from, to, wanted).await;
                assert_eq!(seen, wanted, "{what} {to:?}, bridge-nf-call {bridge_meets_rules}");
            }
        }
        scene.net.close().await.unwrap();
    });
}

/// Sends by UDP with that source, given to a further address of the namespace.
async fn send(namespace: &Path, source: Ipv4Addr, to: Ipv4Addr, text: &'static str) {
    let ns = namespace.display().to_string();
    let own = run(&format!("nsenter --net={ns} ip -o address show"));
    if !own.contains(&format!(" {source}/")) {
        run(&format!("nsenter --net={ns} ip address add {source}/32 dev lo"));
    }
    let sent = within(namespace, move || {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        socket.send_to(text.as_bytes(), (to, 5353)).map(drop)
    });
    sent.await.unwrap().unwrap();
}

#[test]
fn forged_sources_reach_nobody() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        let server = hear(&scene.a, 5353).await;
        let nobodys = Ipv4Addr::new(10, 101, 24, 2);
        // So that each knows the hardware address: a forged question for it is dropped, too.
        assert!(reaches(Some(&scene.b), (ip(2), 80), true).await);
        assert!(reaches(Some(&scene.member), (ip(2), 80), true).await);
        assert!(reaches(Some(&scene.stranger), (HOST, PUBLISHED), true).await);
        for bridge_meets_rules in ["1", "0"] {
            let _ = std::fs::write(BRIDGE_RULES, bridge_meets_rules);
            send(&scene.stranger, ip(3), ip(2), "a neighbour's, from outside").await;
            send(&scene.stranger, REMOTE, ip(2), "another node's, the wrong way").await;
            send(&scene.stranger, nobodys, ip(2), "no node's, from outside").await;
            send(&scene.stranger, scene.net.gateway(), ip(2), "the bridge's, from outside").await;
            send(&scene.member, ip(4), ip(2), "this node's, from another").await;
            send(&scene.member, nobodys, ip(2), "no node's, from another").await;
            send(&scene.b, ip(4), ip(2), "another one's, from a container").await;
            send(&scene.b, REMOTE, ip(2), "another node's, from a container").await;
            send(&scene.b, OUTSIDE, ip(2), "a stranger's, from a container").await;
            // What comes is in order on each way: these are the last.
            send(&scene.b, ip(3), ip(2), "b").await;
            send(&scene.member, REMOTE, ip(2), "remote").await;
            let mut bytes = [0; 64];
            let mut seen = BTreeMap::new();
            for _ in 0..2 {
                let (length, from) = server.recv_from(&mut bytes).unwrap();
                seen.insert(String::from_utf8_lossy(&bytes[..length]).into_owned(), from.ip());
            }
            let wanted = [("b".to_owned(), ip(3).into()), ("remote".to_owned(), REMOTE.into())];
            assert_eq!(seen, BTreeMap::from(wanted), "bridge-nf-call {bridge_meets_rules}");
        }
        scene.net.close().await.unwrap();
    });
}

#[test]
fn with_a_mesh_the_cluster_comes_that_way_only() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        assert!(reaches(Some(&scene.member), (ip(2), 80), true).await, "routed");
        scene.net.mesh(Some("mesh".to_owned())).await.unwrap();
        let member = Some(&scene.member);
        assert!(!reaches(member, (ip(2), 80), false).await, "not by the mesh");
        scene.net.mesh(Some("lan".to_owned())).await.unwrap();
        assert!(reaches(member, (ip(2), 80), true).await, "by the mesh");
        assert!(!reaches(member, (scene.net.gateway(), API), false).await, "not the API");
        assert!(!reaches(member, (scene.net.gateway(), SSH), false).await, "nor others");
        scene.net.close().await.unwrap();
    });
}

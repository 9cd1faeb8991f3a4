//! `docs/workflows/mesh-and-node-failure.md`: what containers of different nodes say to each other
//! is encrypted; a daemon is started again, a machine is lost, and connections go on.

use crate::poll::poll;
use crate::support::capture::Capture;
use crate::support::{TestCluster, files};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What is looked for on the wire.
const SECRET: &str = "nobody-reads-this-on-the-wire";

#[test]
fn mesh_and_node_failure() {
    let mut cluster = TestCluster::start(3);
    cluster.await_voters(3);
    for n in 1..=3 {
        poll(|| routes(&cluster, n) == 2).secs(40).expect("ways to two nodes through the mesh");
    }
    let image = cluster.image("busybox:v1");
    let echo =
        "port 9000\n    command \"nc\" \"-ll\" \"-p\" \"9000\" \"-e\" \"cat\"\n    replicas 3";
    let _ = cluster.node(1).up(&files::service("echo", &image, echo)).ok();
    poll(|| place(&cluster, 3).is_some()).secs(30).expect("a replica on each node");
    nothing_shows_on_the_wire(&cluster);
    icmp_is_no_condition(&cluster);
    keys_change_under_a_connection(&cluster);
    ports_are_tried_both_ways(&cluster);
    a_restart_keeps_connections(&mut cluster);
    an_interface_that_is_removed_is_made_again(&cluster);
    figures_show_the_peers(&cluster);
    a_lost_node_is_no_peer_any_more(&cluster);
}

/// How many nodes' containers a node reaches through the mesh.
fn routes(cluster: &TestCluster, n: usize) -> usize {
    let mut ip = cluster.node(n).namespace().command("ip");
    let output = ip.args(["route", "show"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let through_mesh = |line: &&str| {
        let device = line.split(' ').skip_while(|word| *word != "dev").nth(1);
        device.is_some_and(|name| name.starts_with("mill-") && name.ends_with('m'))
    };
    text.lines().filter(through_mesh).count()
}

/// Where the echo on a node is.
fn place(cluster: &TestCluster, n: usize) -> Option<SocketAddr> {
    let all = cluster.node(1).allocations("echo");
    let here =
        |one: &&serde_json::Value| one["node"] == format!("n{n}") && one["status"] == "running";
    let address = all.iter().find(here)?["address"].as_str()?.to_owned();
    let ip = address.split(':').next()?;
    format!("{ip}:9000").parse().ok()
}

/// A connection from a node to the echo on another.
fn dial(cluster: &TestCluster, from: usize, to: SocketAddr) -> TcpStream {
    let file = File::open(cluster.node(from).namespace().path()).unwrap();
    let wait = Duration::from_secs(10);
    let dialed = std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        let stream = TcpStream::connect_timeout(&to, wait).unwrap();
        stream.set_read_timeout(Some(wait)).unwrap();
        stream
    });
    dialed.join().unwrap()
}

/// Sends so many bytes and hears them again; how long it took.
fn talk(stream: &TcpStream, bytes: usize) -> Duration {
    let begun = Instant::now();
    let sent: Vec<u8> = SECRET.bytes().cycle().take(bytes).collect();
    let mut heard = vec![0; bytes];
    std::thread::scope(|scope| {
        scope.spawn(|| (&*stream).write_all(&sent).unwrap());
        (&*stream).read_exact(&mut heard).unwrap();
    });
    assert!(heard == sent, "other bytes came back");
    begun.elapsed()
}

fn nothing_shows_on_the_wire(cluster: &TestCluster) {
    let wire = Capture::of(&cluster.hub().namespace);
    // The capture sees what is plain.
    let mut curl = cluster.node(1).namespace().command("curl");
    let registry = cluster.image("x").split('/').next().unwrap().to_owned();
    let asked = curl.args(["--silent", "--output", "/dev/null", "--user-agent", "plain-to-see"]);
    assert!(asked.arg(format!("http://{registry}/v2/")).status().unwrap().success());
    poll(|| wire.has("plain-to-see")).secs(10).expect("the capture works");
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        let there = place(cluster, to).unwrap();
        talk(&dial(cluster, from, there), 1 << 20);
        // From inside a container, too.
        let own = cluster.node(1).allocations("echo");
        let own = own.iter().find(|one| one["node"] == format!("n{from}")).unwrap();
        let script = format!("echo {SECRET} | nc -w 2 {} {}", there.ip(), there.port());
        let id = own["id"].as_str().unwrap();
        let said = cluster.node(1).mill(["exec", id, "--", "sh", "-c", &script]).ok();
        assert!(said.contains(SECRET), "{said}");
    }
    assert!(wire.len() > 6 << 20, "only {} bytes passed", wire.len());
    assert!(!wire.has(SECRET) && !wire.has("nobody-reads"), "the payload shows on the wire");
    // Nor do names: as a question has them, and as a request would.
    let ids = cluster.node(1).allocations("echo");
    let look = |id: &str| {
        let script = "nslookup echo.mill; echo | nc -w 2 echo.virtual.mill 9000; true";
        let _ = cluster.node(1).mill(["exec", id, "--", "sh", "-c", script]).ok();
    };
    ids.iter().for_each(|one| look(one["id"].as_str().unwrap()));
    for name in ["echo.mill", "\x04echo\x04mill", "\x04echo\x07virtual"] {
        assert!(!wire.has(name), "{name:?} shows on the wire");
    }
}

fn icmp_is_no_condition(cluster: &TestCluster) {
    let nft = |rules: &str| {
        for n in 1..=3 {
            let mut nft = cluster.node(n).namespace().command("nft");
            assert!(nft.arg(rules).status().unwrap().success(), "{rules}");
        }
    };
    let chain = |name, hook| {
        format!("chain {name} {{ type filter hook {hook} priority -300; ip protocol icmp drop; }}")
    };
    nft(&format!("table ip deaf {{ {}; {}; }}", chain("a", "input"), chain("b", "forward")));
    talk(&dial(cluster, 1, place(cluster, 2).unwrap()), 1 << 20);
    nft("delete table ip deaf");
}

fn keys_change_under_a_connection(cluster: &TestCluster) {
    let stream = dial(cluster, 1, place(cluster, 2).unwrap());
    let keys = || {
        let files = (1..=3).map(|n| std::fs::read(cluster.node(n).data().join("node/mesh")));
        files.map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = keys();
    std::thread::scope(|scope| {
        let talking = scope.spawn(|| (0..20).map(|_| talk(&stream, 100_000)).max());
        let told = cluster.node(2).mill(["mesh", "rotate"]).ok();
        assert_eq!(told.trim(), "n1, n2, n3 have new keys");
        talking.join().unwrap();
    });
    talk(&stream, 1 << 20);
    poll(|| keys().iter().zip(&before).all(|(now, then)| now != then)).secs(10).expect("new keys");
    talk(&dial(cluster, 3, place(cluster, 1).unwrap()), 1 << 20);
}

fn ports_are_tried_both_ways(cluster: &TestCluster) {
    let tried = |n: usize| cluster.node(n).mill(["doctor", "--peers"]);
    let fine = tried(1).ok();
    // Two ports of two others, from three nodes.
    assert_eq!(fine.lines().filter(|line| line.contains(" ok ")).count(), 12, "{fine}");
    let nft = |rules: &str| {
        let mut nft = cluster.node(3).namespace().command("nft");
        assert!(nft.arg(rules).status().unwrap().success(), "{rules}");
    };
    let chain = "chain a { type filter hook input priority -300; udp dport != 53 drop; };";
    nft(&format!("table ip shut {{ {chain} }}"));
    let told = tried(1).code(1);
    nft("delete table ip shut");
    for (from, to) in [("n1", "n3"), ("n3", "n2")] {
        let hint = format!("/udp of {to} for {from}, and back");
        assert!(told.stdout.contains(&hint), "{told:?}");
    }
    assert!(!told.stdout.contains("/udp of n2 for n1"), "{told:?}");
    poll(|| tried(2).code == Some(0)).secs(30).expect("all ports answer again");
}

fn a_restart_keeps_connections(cluster: &mut TestCluster) {
    let stream = dial(cluster, 1, place(cluster, 2).unwrap());
    talk(&stream, 10_000);
    for n in [1, 2] {
        cluster.node_mut(n).kill();
        assert_eq!(routes(cluster, n), 2, "they stay without the daemon");
        cluster.node_mut(n).restart();
        let took = talk(&stream, 10_000);
        println!("node {n} started again, the connection went on after {took:?}");
    }
}

/// A program that tidies up the host's interfaces takes the mesh's with it.
fn an_interface_that_is_removed_is_made_again(cluster: &TestCluster) {
    let stream = dial(cluster, 1, place(cluster, 2).unwrap());
    talk(&stream, 10_000);
    let sh = "ip link delete $(ip -brief link show | grep --only-matching '^mill-[0-9a-f]*m\\>')";
    let mut remove = cluster.node(2).namespace().command("sh");
    assert!(remove.args(["-c", sh]).status().unwrap().success());
    let took = talk(&stream, 10_000);
    println!("the interface was removed, the connection went on after {took:?}");
}

fn figures_show_the_peers(cluster: &TestCluster) {
    let wide = || cluster.node(1).mill(["nodes", "--wide"]).ok();
    let text = wide();
    assert!(text.contains("HANDSHAKE") && text.contains("DROPS"), "{text}");
    let metric = |peer: &str| {
        let text = cluster.node(1).api().request("GET", "/v1/metrics").send().body;
        text.contains(&format!("mill_mesh_peer_last_handshake_seconds{{peer=\"{peer}\"}}"))
    };
    poll(|| metric("n2") && metric("n3")).secs(20).expect("figures of both peers");
}

fn a_lost_node_is_no_peer_any_more(cluster: &TestCluster) {
    let stream = dial(cluster, 1, place(cluster, 2).unwrap());
    cluster.hub().cut(3);
    poll(|| cluster.names_with("status", "down") == ["n3"]).secs(30).expect("it is down");
    talk(&stream, 100_000);
    let removed = || cluster.node(1).mill(["remove", "n3", "--yes"]).code == Some(0);
    poll(removed).secs(90).expect("removed");
    poll(|| routes(cluster, 1) == 1).secs(20).expect("no way there any more");
    talk(&stream, 100_000);
}

//! The network with a kernel of its own: every test has its own network and mount namespaces, so
//! that tests disturb neither each other nor the host, and leave nothing behind.

mod firewalls;
mod lead;
mod reach;
mod routes;
mod udp;

use super::*;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

/// Outside of the host, where a client of the node would be.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The host's address towards the outside.
const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BRIDGE_RULES: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Longer than a loaded machine takes for what goes well.
const WAIT: Duration = Duration::from_secs(20);
const REFUSED: Duration = Duration::from_millis(400);

/// A host of its own for a test, with a directory for its files.
fn on_host<F: AsyncFnOnce(Host) + Send + 'static>(test: F) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        run("ip link set lo up");
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(Host { dir: dir.path().to_owned() }));
        // Namespaces are mounted in there, and a mount point can't be removed.
        for entry in std::fs::read_dir(dir.path()).unwrap().flatten() {
            let _ = nix::mount::umount2(&entry.path(), nix::mount::MntFlags::MNT_DETACH);
        }
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

struct Host {
    dir: PathBuf,
}

impl Host {
    fn config(&self) -> NetConfig {
        NetConfig {
            instance: "a101".into(),
            subnet: "10.101.8.0/21".parse().unwrap(),
            cluster_subnet: "10.101.0.0/16".parse().unwrap(),
            publish_on: PublishOn::All,
            run_dir: self.dir.join("run"),
            private_ports: Vec::new(),
            open_ports: Vec::new(),
            forwarding: self.dir.join("forwarding"),
        }
    }

    async fn open(&self) -> Net {
        Net::open(self.config()).await.unwrap()
    }

    /// A machine on the other side of the host's interface `wan`.
    async fn outside(&self) -> PathBuf {
        let path = self.dir.join("outside");
        drop(netns::ensure(&path).await.unwrap());
        let ns = path.display().to_string();
        run("ip link add wan type veth peer name out0");
        run(&format!("ip link set out0 netns {ns}"));
        run(&format!("ip address add {HOST}/24 dev wan"));
        run("ip link set wan up");
        run(&format!("ip route add default via {OUTSIDE}"));
        run(&format!("nsenter --net={ns} ip address add {OUTSIDE}/24 dev out0"));
        run(&format!("nsenter --net={ns} ip link set out0 up"));
        path
    }
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 101, 8, last)
}

fn id(name: &str) -> AllocId {
    name.into()
}

/// Answers every connection with its name and the caller's address, then repeats what it hears.
async fn serve(namespace: &Path, port: u16, name: &'static str) {
    let listener = within(namespace, move || TcpListener::bind(("0.0.0.0", port)).unwrap());
    let listener = listener.await.unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let peer = stream.peer_addr().unwrap().ip();
                writeln!(stream, "{name} {peer}").unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    stream.write_all(&byte).unwrap();
                }
            });
        }
    });
}

fn dial(to: (Ipv4Addr, u16), wait: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(to), wait)?;
    stream.set_read_timeout(Some(WAIT))?;
    Ok(stream)
}

fn greeting(stream: &mut TcpStream) -> String {
    let mut line = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    line
}

fn ask(to: (Ipv4Addr, u16)) -> String {
    greeting(&mut dial(to, WAIT).unwrap_or_else(|error| panic!("{to:?}: {error}")))
}

async fn ask_from(namespace: &Path, to: (Ipv4Addr, u16)) -> String {
    within(namespace, move || ask(to)).await.unwrap()
}

/// Hears what comes by UDP on a port.
async fn hear(namespace: &Path, port: u16) -> UdpSocket {
    let socket = within(namespace, move || UdpSocket::bind(("0.0.0.0", port)).unwrap());
    let socket = socket.await.unwrap();
    socket.set_read_timeout(Some(WAIT)).unwrap();
    socket
}

fn tcp(ports: &[(u16, &[(Ipv4Addr, u16)])]) -> PublishMap {
    ports.iter().map(|(port, to)| ((*port, Protocol::Tcp), to.to_vec())).collect()
}

#[test]
fn containers_reach_each_other_and_the_host_reaches_them() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("web-0-aaaa"), ip(2)).await.unwrap();
        let b = net.attach(&id("web-1-bbbb"), ip(3)).await.unwrap();
        serve(&a, 80, "a").await;
        assert_eq!(ask_from(&b, (ip(2), 80)).await, "a 10.101.8.3");
        assert_eq!(ask_from(&a, (Ipv4Addr::LOCALHOST, 80)).await, "a 127.0.0.1");
        assert_eq!(ask((ip(2), 80)), "a 10.101.8.1");
        assert_eq!(net.attached().unwrap(), [id("web-0-aaaa"), id("web-1-bbbb")]);
        net.detach(&id("web-0-aaaa")).await.unwrap();
        net.detach(&id("web-0-aaaa")).await.unwrap();
        assert_eq!(net.attached().unwrap(), [id("web-1-bbbb")]);
        assert!(dial((ip(2), 80), REFUSED).is_err());
    });
}

#[test]
fn egress_has_the_hosts_address_and_strangers_stay_out() {
    on_host(async |host| {
        let outside = host.outside().await;
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&outside, 80, "outside").await;
        assert_eq!(ask_from(&a, (OUTSIDE, 80)).await, "outside 192.0.2.1");
        // Only published ports are open to who is not of the cluster, whatever its routes.
        serve(&a, 80, "a").await;
        let ns = outside.display();
        run(&format!("nsenter --net={ns} ip route add 10.101.0.0/16 via {HOST}"));
        let direct = within(&outside, || dial((ip(2), 80), REFUSED).is_err()).await.unwrap();
        assert!(direct, "an unpublished port is reached from outside");
    });
}

#[test]
fn published_ports_lead_to_the_targets_from_everywhere() {
    on_host(async |host| {
        let outside = host.outside().await;
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let b = net.attach(&id("b"), ip(3)).await.unwrap();
        serve(&a, 80, "a").await;
        serve(&b, 81, "b").await;
        let map = tcp(&[(15432, &[(ip(2), 80)]), (9000, &[(ip(2), 80), (ip(3), 81)]), (9001, &[])]);
        assert_eq!(net.publish(map.clone()).await.unwrap(), []);
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 15432)), "a 10.101.8.1");
        assert_eq!(ask((HOST, 15432)), "a 192.0.2.1");
        assert_eq!(ask_from(&outside, (HOST, 15432)).await, "a 192.0.2.10");
        for bridge_meets_rules in ["1", "0"] {
            // Absent where the kernel has no br_netfilter.
            let _ = std::fs::write(BRIDGE_RULES, bridge_meets_rules);
            assert_eq!(ask_from(&b, (HOST, 15432)).await, "a 10.101.8.1");
            assert_eq!(ask_from(&a, (net.gateway(), 15432)).await, "a 10.101.8.1", "to itself");
        }
        let mut seen = BTreeMap::new();
        for _ in 0..10 {
            let name = ask((Ipv4Addr::LOCALHOST, 9000)).split(' ').next().unwrap().to_owned();
            *seen.entry(name).or_insert(0) += 1;
        }
        assert_eq!(seen, BTreeMap::from([("a".into(), 5), ("b".into(), 5)]));
        let empty = dial((Ipv4Addr::LOCALHOST, 9001), WAIT).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::ConnectionRefused, "no target: refused, no hang");
        assert!(TcpListener::bind("0.0.0.0:15432").is_err(), "the port is reserved");
    });
}

#[test]
fn an_address_that_goes_keeps_its_established_connections() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let b = net.attach(&id("b"), ip(3)).await.unwrap();
        serve(&a, 80, "a").await;
        serve(&b, 80, "b").await;
        net.publish(tcp(&[(9000, &[(ip(2), 80)])])).await.unwrap();
        let mut old = dial((Ipv4Addr::LOCALHOST, 9000), WAIT).unwrap();
        assert_eq!(greeting(&mut old), "a 10.101.8.1");
        net.publish(tcp(&[(9000, &[(ip(3), 80)])])).await.unwrap();
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9000)), "b 10.101.8.1");
        old.write_all(b"still here\n").unwrap();
        assert_eq!(greeting(&mut old), "still here");
        net.publish(PublishMap::new()).await.unwrap();
        old.write_all(b"and here\n").unwrap();
        assert_eq!(greeting(&mut old), "and here");
        assert!(dial((Ipv4Addr::LOCALHOST, 9000), WAIT).is_err());
        assert!(TcpListener::bind("0.0.0.0:9000").is_ok(), "the port is given back");
    });
}

#[test]
fn loopback_only_is_loopback_only() {
    on_host(async |host| {
        let outside = host.outside().await;
        let config = NetConfig { publish_on: PublishOn::Loopback, ..host.config() };
        let net = Net::open(config).await.unwrap();
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        net.publish(tcp(&[(9000, &[(ip(2), 80)])])).await.unwrap();
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9000)), "a 10.101.8.1");
        assert!(dial((HOST, 9000), WAIT).is_err());
        let refused = within(&outside, || dial((HOST, 9000), WAIT).is_err()).await.unwrap();
        assert!(refused);
        assert!(TcpListener::bind((HOST, 9000)).is_ok(), "other addresses are not ours");
    });
}

#[test]
fn containers_do_not_reach_the_hosts_loopback() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        let _server = TcpListener::bind("127.0.0.1:4400").unwrap();
        let ns = a.display();
        run(&format!("nsenter --net={ns} ip route del local 127.0.0.0/8 dev lo table local"));
        run(&format!("nsenter --net={ns} ip route del local 127.0.0.1 dev lo table local"));
        run(&format!("nsenter --net={ns} ip route add 127.0.0.1 via {}", net.gateway()));
        let blocked = within(&a, || {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            dial((Ipv4Addr::LOCALHOST, 4400), REFUSED).unwrap_err().kind()
        });
        assert_eq!(blocked.await.unwrap(), io::ErrorKind::TimedOut);
        let dropped = run("nft list chain ip mill_a101 guard");
        assert!(dropped.contains("drop"), "{dropped}");
    });
}

#[test]
fn a_taken_port_names_its_holder_and_the_rest_applies() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        let other = TcpListener::bind("0.0.0.0:15432").unwrap();
        let map = tcp(&[(15432, &[(ip(2), 80)]), (9000, &[(ip(2), 80)])]);
        let taken = net.publish(map.clone()).await.unwrap();
        let text = taken[0].to_string();
        let pid = std::process::id();
        assert!(text.starts_with("0.0.0.0:15432 is used by "), "{text}");
        assert!(text.ends_with(&format!("(pid {pid})")), "{text}");
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9000)), "a 10.101.8.1");
        drop(other);
        assert_eq!(net.publish(map).await.unwrap(), []);
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 15432)), "a 10.101.8.1");
    });
}

#[test]
fn a_crash_changes_nothing_and_open_takes_it_up_again() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        net.publish(tcp(&[(9000, &[(ip(2), 80)])])).await.unwrap();
        let mut old = dial((Ipv4Addr::LOCALHOST, 9000), WAIT).unwrap();
        greeting(&mut old);
        drop(net);
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9000)), "a 10.101.8.1", "without the process");
        let net = host.open().await;
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9000)), "a 10.101.8.1", "before the first publish");
        assert_eq!(net.attached().unwrap(), [id("a")]);
        assert_eq!(net.attach(&id("a"), ip(2)).await.unwrap(), a);
        net.publish(tcp(&[(9001, &[(ip(2), 80)])])).await.unwrap();
        assert_eq!(ask((Ipv4Addr::LOCALHOST, 9001)), "a 10.101.8.1");
        assert!(dial((Ipv4Addr::LOCALHOST, 9000), WAIT).is_err());
        old.write_all(b"hello\n").unwrap();
        assert_eq!(greeting(&mut old), "hello");
        let net = host.open().await;
        assert_eq!(net.attached().unwrap(), [id("a")]);
    });
}

#[test]
fn what_is_broken_is_repaired_by_attach() {
    on_host(async |host| {
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        run("ip link del mill-a101");
        drop(net);
        let net = host.open().await;
        net.attach(&id("a"), ip(2)).await.unwrap();
        assert_eq!(ask((ip(2), 80)), "a 10.101.8.1", "the same namespace on a new bridge");
        run(&format!("ip link del {}", host.config().cable(&id("a"))));
        net.attach(&id("a"), ip(2)).await.unwrap();
        assert_eq!(ask((ip(2), 80)), "a 10.101.8.1", "a new cable");
        net.attach(&id("a"), ip(9)).await.unwrap();
        assert_eq!(ask((ip(9), 80)), "a 10.101.8.1", "another address");
    });
}

#[test]
fn close_leaves_nothing() {
    on_host(async |host| {
        let count = || {
            // Mounts are everybody's: other tests have theirs at the same time.
            let all = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            let own = host.config().run_dir.to_string_lossy().into_owned();
            let mounts = all.lines().filter(|line| line.contains(&own)).count();
            (run("ip -o link"), run("nft list ruleset"), mounts)
        };
        let before = count();
        for crash in [false, true] {
            let net = host.open().await;
            let attached = (2..22).map(|n| {
                let net = &net;
                async move { net.attach(&AllocId::from(format!("web-{n}")), ip(n)).await.unwrap() }
            });
            let begun = std::time::Instant::now();
            futures_util::future::join_all(attached).await;
            println!("20 attached in {:?}", begun.elapsed());
            net.publish(tcp(&[(9000, &[(ip(2), 80)])])).await.unwrap();
            assert_ne!(count(), before);
            if crash {
                drop(net);
                Net::clear(&host.config()).await.unwrap();
            } else {
                net.close().await.unwrap();
            }
            assert_eq!(count(), before);
            assert!(!host.config().run_dir.exists());
        }
        let net = host.open().await;
        net.close().await.unwrap();
        let a = net.attach(&id("again"), ip(2)).await.unwrap();
        serve(&a, 80, "again").await;
        assert_eq!(ask((ip(2), 80)), "again 10.101.8.1", "it wakes up when it is needed");
        net.close().await.unwrap();
        assert_eq!(count(), before);
        Net::clear(&host.config()).await.unwrap();
    });
}

#[test]
fn what_can_not_work_is_refused_with_a_reason() {
    on_host(async |host| {
        for bad in ["", "123456789", "xyz", "../a"] {
            let refused = Net::open(NetConfig { instance: bad.into(), ..host.config() }).await;
            assert!(matches!(refused, Err(NetError::Instance { .. })), "{bad}");
        }
        run("ip link add other type bridge");
        run("ip address add 10.101.9.1/24 dev other");
        let taken = Net::open(host.config()).await.err().unwrap().to_string();
        assert_eq!(
            taken,
            "subnet 10.101.8.0/21 overlaps 10.101.9.0/24 of interface other; pass another --subnet"
        );
    });
}

#[test]
fn two_instances_live_side_by_side() {
    on_host(async |host| {
        let one = host.open().await;
        let config = NetConfig {
            instance: "b101".into(),
            subnet: "10.101.16.0/21".parse().unwrap(),
            run_dir: host.dir.join("run2"),
            ..host.config()
        };
        let two = Net::open(config).await.unwrap();
        let neighbour = |subnet: &str| Neighbours {
            subnets: [subnet.parse().unwrap()].into(),
            ..Neighbours::default()
        };
        one.neighbours(neighbour("10.101.16.0/21")).await.unwrap();
        two.neighbours(neighbour("10.101.8.0/21")).await.unwrap();
        let a = one.attach(&id("a"), ip(2)).await.unwrap();
        let b = two.attach(&id("a"), Ipv4Addr::new(10, 101, 16, 2)).await.unwrap();
        serve(&a, 80, "a").await;
        serve(&b, 80, "b").await;
        assert_eq!(ask_from(&a, (Ipv4Addr::new(10, 101, 16, 2), 80)).await, "b 10.101.8.2");
        one.close().await.unwrap();
        assert_eq!(ask((Ipv4Addr::new(10, 101, 16, 2), 80)), "b 10.101.16.1");
        two.close().await.unwrap();
    });
}

//! `docs/workflows/isolation.md`: what containers reach and what reaches them, on two nodes.

use crate::poll::poll;
use crate::support::netns::{HUB, Namespace, address};
use crate::support::{TestCluster, files};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const PUBLISHED: u16 = 18080;

/// Does something in a namespace.
fn within<T: Send + 'static>(there: &Namespace, f: impl FnOnce() -> T + Send + 'static) -> T {
    let file = File::open(there.path()).unwrap();
    let thread = std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        f()
    });
    thread.join().unwrap()
}

/// Whether a connection from a machine is taken.
fn connects(from: &Namespace, to: SocketAddr, wait: Duration) -> bool {
    within(from, move || TcpStream::connect_timeout(&to, wait).is_ok())
}

/// What becomes of a connection from a container.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is taken.
    Open,
    /// Refused at once.
    Refused,
}

fn knock(cluster: &TestCluster, id: &str, to: &str) -> Found {
    let (host, port) = to.rsplit_once(':').unwrap();
    let script = format!(
        "timeout 3 nc {host} {port} < /dev/null > /dev/null 2>&1; test $? = 1 && echo refused || \
         echo open"
    );
    match cluster.node(1).mill(["exec", id, "--", "sh", "-c", &script]).ok().trim() {
        "open" => Found::Open,
        "refused" => Found::Refused,
        other => panic!("{to}: {other}"),
    }
}

#[test]
fn isolation() {
    let cluster = TestCluster::start(2);
    let node = cluster.node(1);
    let image = cluster.image("busybox:v1");
    let more = format!(
        "port 8080\n    publish {PUBLISHED}\n    replicas 2\n    \
         command \"nc\" \"-ll\" \"-p\" \"8080\" \"-e\" \"true\""
    );
    let _ = node.up(&files::service("web", &image, &more)).ok();
    let meshed = || node.mill(["doctor", "--peers"]).code == Some(0);
    poll(meshed).secs(40).expect("each node to reach the other's ports");
    let all = node.allocations("web");
    let on = |name: &str| {
        let one = all.iter().find(|one| one["node"] == name).expect("a replica on each node");
        (one["id"].as_str().unwrap().to_owned(), one["address"].as_str().unwrap().to_owned())
    };
    let ((own, here), (_, there)) = (on("n1"), on("n2"));
    let stranger = &cluster.hub().namespace;
    let _listeners: Vec<TcpListener> = [1, 2]
        .map(|n| within(cluster.node(n).namespace(), || TcpListener::bind("0.0.0.0:7777").unwrap()))
        .into();

    let (first, second) = (address(1), address(2));
    let gateway = format!("{}.1", here.rsplit_once('.').unwrap().0);
    let api = |n: usize| cluster.node(n).api_address().rsplit_once(':').unwrap().1.to_owned();
    let registry = image.split('/').next().unwrap().rsplit_once(':').unwrap().1;
    let cells = [
        (there.clone(), Found::Open),
        ("web.mill:8080".to_owned(), Found::Open),
        ("web.virtual.mill:8080".to_owned(), Found::Open),
        (format!("{first}:{PUBLISHED}"), Found::Open),
        (format!("{second}:{PUBLISHED}"), Found::Open),
        (format!("{HUB}:{registry}"), Found::Open),
        (format!("{first}:{}", api(1)), Found::Refused),
        (format!("{gateway}:{}", api(1)), Found::Refused),
        (format!("{first}:4401"), Found::Refused),
        (format!("{gateway}:7777"), Found::Refused),
        (format!("{first}:7777"), Found::Refused),
        (format!("{second}:{}", api(2)), Found::Refused),
        (format!("{second}:4401"), Found::Refused),
        ("169.254.169.254:80".to_owned(), Found::Refused),
        ("web.virtual.mill:81".to_owned(), Found::Refused),
    ];
    for (to, wanted) in cells {
        assert_eq!(knock(&cluster, &own, &to), wanted, "{to}");
    }

    // A machine beside them reaches what is published, whatever its routes.
    let (here, there): (SocketAddr, SocketAddr) = (here.parse().unwrap(), there.parse().unwrap());
    let route = |net: &str, via: &str| {
        let mut ip = stranger.command("ip");
        assert!(ip.args(["route", "add", net, "via", via]).status().unwrap().success());
    };
    route(&format!("{}/32", here.ip()), &first);
    route(&format!("{}/32", there.ip()), &second);
    let (long, short) = (Duration::from_secs(10), Duration::from_millis(300));
    for (n, place) in [(1, here), (2, there)] {
        let published = SocketAddr::new(address(n).parse().unwrap(), PUBLISHED);
        assert!(connects(stranger, published, long), "n{n} publishes");
        assert!(!connects(stranger, place, short), "a container of n{n} from outside");
        let machine = cluster.node(n).namespace();
        assert!(connects(machine, here, long) && connects(machine, there, long), "n{n}");
        assert!(connects(machine, published, long), "n{n} itself");
    }
}

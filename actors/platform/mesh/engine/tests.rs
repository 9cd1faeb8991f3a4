//! The engine between hosts of a test's own: each is a network namespace, joined by a switch.
//!
//! Never touches the machine's own network, and leaves nothing behind.

mod hosts;

use super::*;
use hosts::{Host, PORT, Site, WAIT, inner, key, outer};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Instant;

/// Repeats what it hears on TCP and UDP, at the host's address in the mesh.
fn echo(host: &Host) {
    let (tcp, udp) = host.within(|| {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
        (tcp, UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap())
    });
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((size, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..size], from);
        }
    });
}

fn dial(host: &Host, to: Ipv4Addr) -> TcpStream {
    host.within(move || {
        let stream = TcpStream::connect_timeout(&(to, 80).into(), WAIT).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream
    })
}

/// Sends that many bytes and hears them again.
fn talk(stream: &TcpStream, bytes: usize) {
    let sent: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    let mut heard = vec![0; bytes];
    std::thread::scope(|scope| {
        scope.spawn(|| (&*stream).write_all(&sent).unwrap());
        (&*stream).read_exact(&mut heard).unwrap();
    });
    assert!(heard == sent, "other bytes");
}

/// Whether a datagram of that size comes back; tried for a while, since any may be lost.
fn answers(host: &Host, from: Ipv4Addr, to: Ipv4Addr, size: usize, wait: Duration) -> bool {
    host.within(move || {
        let udp = UdpSocket::bind((from, 0)).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut heard = vec![0; 65_535];
        let end = Instant::now() + wait;
        while Instant::now() < end {
            udp.send_to(&vec![7; size], (to, 80)).unwrap();
            if udp.recv(&mut heard).is_ok_and(|heard| heard == size) {
                return true;
            }
        }
        false
    })
}

fn figures(engine: &Engine, n: u8) -> PeerConfig {
    engine.read_interface_data().unwrap().peers[&key(n).public_key()].clone()
}

#[test]
fn streams_and_the_largest_datagram_pass_and_nothing_of_them_shows_outside() {
    let site = Site::new(2);
    let seen = site.capture();
    let (a, b) = (site.engine(1, &[2], 1_420), site.engine(2, &[1], 1_420));
    echo(&site.hosts[1]);
    talk(&dial(&site.hosts[0], inner(2)), 4 << 20);
    assert!(answers(&site.hosts[0], inner(1), inner(2), 65_507, WAIT), "the largest datagram");
    let (one, other) = (figures(&a, 2), figures(&b, 1));
    assert!(one.last_handshake.is_some() && other.last_handshake.is_some());
    assert!(one.tx_bytes > 4 << 20 && other.rx_bytes > 4 << 20, "{one:?} {other:?}");
    assert!(seen.bytes() > 8 << 20, "nothing was captured");
    // What talk sends is a run of numbers; datagrams are a run of sevens.
    let run: Vec<u8> = (0..32).collect();
    assert!(!seen.has(&run) && !seen.has(&[7; 32]), "the payload shows outside");
    assert!(!seen.has(&inner(1).octets()) && !seen.has(&inner(2).octets()), "addresses show");
}

#[test]
fn an_other_implementation_understands_it() {
    let site = Site::new(2);
    let _other = site.wireguard_go(2, 1);
    let _engine = site.engine(1, &[2], 1_420);
    echo(&site.hosts[0]);
    echo(&site.hosts[1]);
    talk(&dial(&site.hosts[0], inner(2)), 1 << 20);
    talk(&dial(&site.hosts[1], inner(1)), 1 << 20);
}

#[test]
fn a_path_that_refuses_joined_packets_gets_single_ones() {
    let site = Site::new(2);
    // With its headers it is larger than the path takes.
    let (a, _b) = (site.engine(1, &[2], 1_480), site.engine(2, &[1], 1_480));
    echo(&site.hosts[1]);
    let start = Instant::now();
    talk(&dial(&site.hosts[0], inner(2)), 8 << 20);
    assert!(a.drops().refused > 0, "{:?}", a.drops());
    assert!(start.elapsed() < WAIT, "slow: {:?}", start.elapsed());
}

#[test]
fn a_peer_that_moves_is_followed_and_one_without_an_endpoint_calls() {
    let site = Site::new(2);
    let a = site.engine(1, &[2], 1_420);
    // The second does not know where the first is.
    let b = site.engine_with(2, vec![PeerConfig { endpoint: None, ..site.peer(1) }], 1_420);
    echo(&site.hosts[0]);
    assert!(answers(&site.hosts[1], inner(2), inner(1), 100, WAIT));
    assert_eq!(figures(&b, 1).endpoint, Some((outer(1), PORT).into()));
    site.hosts[0].run("ip address del 192.0.2.1/24 dev wan");
    site.hosts[0].run("ip address add 192.0.2.99/24 dev wan");
    echo(&site.hosts[1]);
    assert!(answers(&site.hosts[0], inner(1), inner(2), 100, WAIT));
    assert_eq!(figures(&b, 1).endpoint, Some(([192, 0, 2, 99], PORT).into()));
    assert!(answers(&site.hosts[1], inner(2), inner(1), 100, WAIT), "and back");
    // Told again what it was told before, it stays with what it has seen.
    b.configure_peer(&PeerConfig { endpoint: None, ..site.peer(1) }).unwrap();
    assert_eq!(figures(&b, 1).endpoint, Some(([192, 0, 2, 99], PORT).into()));
    drop(a);
}

#[test]
fn a_restart_keeps_the_interface_and_its_connections() {
    let site = Site::new(2);
    let (a, _b) = (site.engine(1, &[2], 1_420), site.engine(2, &[1], 1_420));
    echo(&site.hosts[1]);
    let stream = dial(&site.hosts[0], inner(2));
    talk(&stream, 100_000);
    drop(a);
    let routes = site.hosts[0].run("ip route show dev mesh");
    assert!(routes.contains("10.50.0.0/24"), "{routes}");
    let start = Instant::now();
    let _a = site.again(1, &[2], 1_420);
    talk(&stream, 100_000);
    assert!(start.elapsed() < Duration::from_secs(2), "stalled {:?}", start.elapsed());
}

#[test]
fn a_packet_with_the_address_of_another_is_dropped() {
    let site = Site::new(2);
    let (_a, b) = (site.engine(1, &[2], 1_420), site.engine(2, &[1], 1_420));
    echo(&site.hosts[1]);
    assert!(answers(&site.hosts[0], inner(1), inner(2), 100, WAIT));
    let dropped = |b: &Engine| b.dropped()[0].1;
    let before = dropped(&b);
    site.hosts[0].run("ip address add 10.50.0.77/32 dev mesh");
    let short = Duration::from_millis(500);
    assert!(!answers(&site.hosts[0], inner(77), inner(2), 100, short));
    assert!(dropped(&b) > before, "not counted");
}

#[test]
fn twenty_peers_are_served() {
    let all: Vec<u8> = (2..=21).collect();
    let site = Site::new(21);
    let hub = site.engine(1, &all, 1_420);
    let others: Vec<Engine> = all.iter().map(|n| site.engine(*n, &[1], 1_420)).collect();
    for n in &all {
        echo(&site.hosts[usize::from(*n) - 1]);
        assert!(answers(&site.hosts[0], inner(1), inner(*n), 100, WAIT), "{n}");
    }
    assert_eq!(hub.read_interface_data().unwrap().peers.len(), others.len());
    hub.remove_peer(&key(5).public_key()).unwrap();
    let short = Duration::from_millis(500);
    assert!(!answers(&site.hosts[0], inner(1), inner(5), 100, short), "it was removed");
    assert!(answers(&site.hosts[0], inner(1), inner(6), 100, WAIT));
}

#[test]
fn another_key_is_another_identity() {
    let site = Site::new(2);
    let (a, b) = (site.engine(1, &[2], 1_420), site.engine(2, &[1], 1_420));
    echo(&site.hosts[1]);
    let stream = dial(&site.hosts[0], inner(2));
    talk(&stream, 1_000);
    let config = site.config(11, vec![site.peer(2)], 1_420);
    let _a = site.hosts[0].with(a, move |a| a.configure_interface(&config).unwrap());
    let mut changed = site.peer(1);
    changed.public_key = key(11).public_key();
    b.remove_peer(&key(1).public_key()).unwrap();
    b.configure_peer(&changed).unwrap();
    talk(&stream, 100_000);
}

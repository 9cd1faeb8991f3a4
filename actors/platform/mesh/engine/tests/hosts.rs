//! Hosts of a test: network namespaces on a switch, each with an engine.
//!
//! Owns their life: they go with the value.

use super::super::*;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command};
use std::sync::mpsc;

/// The port of each engine.
pub const PORT: u16 = 51_820;
/// Longer than a loaded machine takes for what goes well.
pub const WAIT: Duration = Duration::from_secs(30);

/// A host's address in the mesh.
pub fn inner(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, n)
}

/// A host's address on the switch.
pub fn outer(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, n)
}

/// A host's private key.
pub fn key(n: u8) -> Key {
    Key::new([n; 32])
}

/// A network namespace.
pub struct Host {
    ns: File,
}

impl Host {
    fn new() -> Self {
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let host = Self { ns: made.join().unwrap() };
        host.run("ip link set lo up");
        host
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.ns.as_raw_fd())
    }

    /// Runs something inside.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let ns = self.ns.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            setns(&ns, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    }

    /// Does something with an engine inside.
    pub fn with(&self, engine: Engine, work: impl FnOnce(&Engine) + Send + 'static) -> Engine {
        self.within(move || {
            work(&engine);
            engine
        })
    }

    /// Runs a command inside.
    pub fn run(&self, command: &str) -> String {
        let command = command.to_owned();
        self.within(move || {
            let mut words = command.split(' ');
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {error}");
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

/// Hosts on a switch, which is a namespace as well.
pub struct Site {
    switch: Host,
    /// The hosts, from number 1.
    pub hosts: Vec<Host>,
}

impl Site {
    /// So many hosts.
    pub fn new(count: u8) -> Self {
        let switch = Host::new();
        switch.run("ip link add sw type bridge");
        switch.run("ip link set sw up");
        let mut hosts = Vec::new();
        for n in 1..=count {
            let host = Host::new();
            let there = host.path();
            switch.run(&format!("ip link add p{n} type veth peer name wan netns {there}"));
            switch.run(&format!("ip link set p{n} master sw up"));
            host.run(&format!("ip address add {}/24 dev wan", outer(n)));
            host.run("ip link set wan up");
            hosts.push(host);
        }
        Self { switch, hosts }
    }

    /// What others are told of a host.
    pub fn peer(&self, n: u8) -> PeerConfig {
        let mut peer = PeerConfig::new(key(n).public_key());
        peer.endpoint = Some((outer(n), PORT).into());
        peer.allowed_ips.push(IpAddrMask::new(inner(n).into(), 32));
        peer.persistent_keepalive_interval = Some(25);
        peer
    }

    /// A configuration with the key of that number.
    pub fn config(&self, n: u8, peers: Vec<PeerConfig>, mtu: u32) -> InterfaceConfiguration {
        InterfaceConfiguration {
            name: "mesh".to_owned(),
            prvkey: key(n).to_lower_hex(),
            addresses: Vec::new(),
            port: PORT,
            peers,
            mtu: Some(mtu),
            fwmark: None,
        }
    }

    /// An engine on a host, with these others as its peers.
    pub fn engine(&self, n: u8, peers: &[u8], mtu: u32) -> Engine {
        self.engine_with(n, peers.iter().map(|peer| self.peer(*peer)).collect(), mtu)
    }

    /// The same with given peers.
    pub fn engine_with(&self, n: u8, peers: Vec<PeerConfig>, mtu: u32) -> Engine {
        let engine = self.open(n, peers, mtu);
        self.address(n);
        engine
    }

    /// An engine that takes up the interface of an earlier one.
    pub fn again(&self, n: u8, peers: &[u8], mtu: u32) -> Engine {
        self.open(n, peers.iter().map(|peer| self.peer(*peer)).collect(), mtu)
    }

    fn open(&self, n: u8, peers: Vec<PeerConfig>, mtu: u32) -> Engine {
        let config = self.config(n, peers, mtu);
        self.hosts[usize::from(n) - 1].within(move || {
            let mut engine = Engine::new("mesh", Arc::new(|| ()));
            engine.create_interface().unwrap();
            engine.configure_interface(&config).unwrap();
            engine
        })
    }

    fn address(&self, n: u8) {
        let host = &self.hosts[usize::from(n) - 1];
        let address = inner(n);
        host.run(&format!("ip address add {address}/32 dev mesh"));
        host.run(&format!("ip route add 10.50.0.0/24 dev mesh src {address}"));
    }

    /// Debian's wireguard-go on a host, with one peer.
    pub fn wireguard_go(&self, n: u8, peer: u8) -> Process {
        let host = &self.hosts[usize::from(n) - 1];
        // Its socket has the interface's name, in a directory that all namespaces share.
        let name = format!("wg{}", std::process::id());
        let called = name.clone();
        let child = host.within(move || {
            Command::new("wireguard-go").args(["-f", &called]).spawn().expect("wireguard-go")
        });
        let process = Process(child);
        let socket = format!("/var/run/wireguard/{name}.sock");
        let end = std::time::Instant::now() + WAIT;
        while !std::path::Path::new(&socket).exists() {
            assert!(std::time::Instant::now() < end, "wireguard-go does not start");
            std::thread::yield_now();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, key(n).to_string()).unwrap();
        let (public, endpoint) = (key(peer).public_key(), (outer(peer), PORT));
        host.run(&format!(
            "wg set {name} private-key {} listen-port {PORT} peer {public} endpoint {}:{} \
             allowed-ips {}/32",
            file.display(),
            endpoint.0,
            endpoint.1,
            inner(peer),
        ));
        host.run(&format!("ip address add {}/32 dev {name}", inner(n)));
        host.run(&format!("ip link set {name} up"));
        host.run(&format!("ip route add 10.50.0.0/24 dev {name} src {}", inner(n)));
        process
    }

    /// Sees all that passes the first host's port of the switch.
    pub fn capture(&self) -> Capture {
        let fd = self.switch.within(|| {
            let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
            let fd = socket(kind.0, kind.1, kind.2, SockProtocol::EthAll).unwrap();
            // As much as the kernel allows; what it loses is no proof of anything.
            let _ = nix::sys::socket::setsockopt(
                &fd,
                nix::sys::socket::sockopt::RcvBufForce,
                &(64 << 20),
            );
            fd
        });
        let (stop, stopped) = mpsc::channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(size) => into.lock().extend_from_slice(&buffer[..size]),
                    Err(_) => std::thread::yield_now(),
                }
            }
        });
        Capture { seen, stop: Some(stop), thread: Some(thread) }
    }
}

/// A process that ends with the value.
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What passed a link.
pub struct Capture {
    seen: Arc<Mutex<Vec<u8>>>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// How much.
    pub fn bytes(&self) -> usize {
        self.seen.lock().len()
    }

    /// Whether these bytes were in it.
    pub fn has(&self, bytes: &[u8]) -> bool {
        self.seen.lock().windows(bytes.len()).any(|part| part == bytes)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

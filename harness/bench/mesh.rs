//! The figures of the mesh in the process: throughput and delay, beside Debian's wireguard-go.
//!
//! Owns two network namespaces and the link between them; they go with the run.

use crate::report::{Row, ms};
use crate::support::netns::Namespace;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer;
use defguard_wireguard_rs::{InterfaceConfiguration, WireguardInterfaceApi as _};
use mill::actors::platform::mesh::engine::Engine;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- Two network namespaces of this machine, joined by a veth pair; both ends are the same program,
  with an MTU of 1420 inside. Streams by iperf3, cubic, 4 s each, three turns with both in turn,
  medians. Everything shares the cores of the machine.
- The round trip is one byte there and back in a TCP connection, the median of 2,000, with nothing
  else on the way; from that of the bare veth pair.
";

const TURNS: usize = 3;
const SECONDS: &str = "4";
const ROUNDS: usize = 2_000;
const PORT: u16 = 51_820;
const MTU: u32 = 1_420;

struct Site {
    ends: [Namespace; 2],
    _folders: [tempfile::TempDir; 2],
}

/// What carries the packets, for as long as this is kept.
enum Carrier {
    Engines { _both: [Engine; 2] },
    Programs { _both: [Running; 2] },
    Bare,
}

/// A program that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Mill,
    WireguardGo,
    Bare,
}

fn outer(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(n + 1).unwrap())
}

fn inner(n: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 50, 0, u8::try_from(n + 1).unwrap())
}

fn key(n: usize) -> Key {
    Key::new([u8::try_from(n + 1).unwrap(); 32])
}

impl Site {
    fn new() -> Self {
        let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let ends = [0, 1].map(|n| Namespace::of(folders[n].path()));
        let site = Self { ends, _folders: folders };
        let far = site.ends[1].path().display().to_string();
        site.run(0, &format!("ip link add wan type veth peer name wan netns {far}"));
        for n in [0, 1] {
            site.run(n, &format!("ip address add {}/24 dev wan", outer(n)));
            site.run(n, "ip link set wan up");
        }
        site
    }

    fn run(&self, n: usize, command: &str) -> String {
        let mut words = command.split(' ');
        let mut command = self.ends[n].command(words.next().unwrap());
        crate::registry::run(command.args(words))
    }

    fn within<T: Send + 'static>(&self, n: usize, f: impl FnOnce() -> T + Send + 'static) -> T {
        let file = File::open(self.ends[n].path()).unwrap();
        let thread = std::thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            f()
        });
        thread.join().unwrap()
    }

    fn carry(&self, kind: Kind) -> Carrier {
        let carrier = match kind {
            Kind::Mill => Carrier::Engines { _both: [0, 1].map(|n| self.engine(n)) },
            Kind::WireguardGo => Carrier::Programs { _both: [0, 1].map(|n| self.wireguard_go(n)) },
            Kind::Bare => return Carrier::Bare,
        };
        for n in [0, 1] {
            let device = name(n);
            self.run(n, &format!("ip address add {}/24 dev {device}", inner(n)));
            self.run(n, &format!("ip link set {device} up mtu {MTU}"));
        }
        carrier
    }

    fn engine(&self, n: usize) -> Engine {
        let mut peer = Peer::new(key(1 - n).public_key());
        peer.endpoint = Some((outer(1 - n), PORT).into());
        peer.allowed_ips.push(IpAddrMask::new(inner(1 - n).into(), 32));
        let config = InterfaceConfiguration {
            name: name(n),
            prvkey: key(n).to_lower_hex(),
            addresses: Vec::new(),
            port: PORT,
            peers: vec![peer],
            mtu: Some(MTU),
            fwmark: None,
        };
        self.within(n, move || {
            let mut engine = Engine::new(&config.name, Arc::new(|| ()));
            engine.create_interface().unwrap();
            engine.configure_interface(&config).unwrap();
            engine
        })
    }

    fn wireguard_go(&self, n: usize) -> Running {
        let device = name(n);
        let mut command = self.ends[n].command("wireguard-go");
        let program = command.args(["-f", &device]).stdout(Stdio::null()).stderr(Stdio::null());
        let program = Running(program.spawn().expect("wireguard-go: harness/setup --bench"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key(n).to_string()).unwrap();
        let key_file = file.path().display();
        let (public, endpoint, inner) = (key(1 - n).public_key(), outer(1 - n), inner(1 - n));
        let words = format!(
            "set {device} private-key {key_file} listen-port {PORT} peer {public} \
             endpoint {endpoint}:{PORT} allowed-ips {inner}/32"
        );
        // Its socket is there a moment before it listens.
        let set = || {
            let output = self.ends[n].command("wg").args(words.split(' ')).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() { Ok(()) } else { Err(said) }
        };
        crate::poll::poll(set).expect("wireguard-go to listen");
        program
    }

    /// Removes the devices of an engine, which stay.
    fn clear(&self) {
        for n in [0, 1] {
            let device = name(n);
            let mut ip = self.ends[n].command("ip");
            let _ = ip.args(["link", "delete", &device]).output();
        }
    }

    /// Megabits a second.
    fn stream(&self, kind: Kind, streams: &str) -> f64 {
        let carrier = self.carry(kind);
        let to = self.target(kind).to_string();
        let mut server = self.ends[1].command("iperf3");
        let server = server.arg("--server").stdout(Stdio::null()).spawn();
        let server = Running(server.expect("iperf3: harness/setup --bench"));
        let args = ["--time", SECONDS, "--parallel", streams, "--congestion", "cubic", "--json"];
        // The server may not listen yet.
        let answer = || {
            let mut client = self.ends[0].command("iperf3");
            let output = client.args(["--client", &to]).args(args).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            if output.status.success() { Ok(said) } else { Err(said) }
        };
        let text = crate::poll::poll(answer).secs(60).expect("iperf3 to measure");
        drop((server, carrier));
        self.clear();
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        told["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e6
    }

    fn target(&self, kind: Kind) -> Ipv4Addr {
        if matches!(kind, Kind::Bare) { outer(1) } else { inner(1) }
    }

    /// The median round trip.
    fn round_trip(&self, kind: Kind) -> Duration {
        let carrier = self.carry(kind);
        let listener = self.within(1, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        let echo = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n == 1) {
                stream.write_all(&byte).unwrap();
            }
        });
        let to = self.target(kind);
        let mut stream = self.within(0, move || TcpStream::connect((to, 80)).unwrap());
        stream.set_nodelay(true).unwrap();
        let mut byte = [7];
        let mut all: Vec<Duration> = (0..ROUNDS)
            .map(|_| {
                let begun = Instant::now();
                stream.write_all(&byte).unwrap();
                stream.read_exact(&mut byte).unwrap();
                begun.elapsed()
            })
            .collect();
        drop(stream);
        echo.join().unwrap();
        drop(carrier);
        self.clear();
        all.sort();
        all[ROUNDS / 2]
    }
}

/// The device's name: wireguard-go's socket is named by it, for all namespaces.
fn name(n: usize) -> String {
    format!("wgb{}x{n}", std::process::id() % 100_000)
}

/// Medians of mill and of the other, both in turn.
fn side_by_side(site: &Site, streams: &str) -> (f64, f64) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(site.stream(Kind::WireguardGo, streams));
        ours.push(site.stream(Kind::Mill, streams));
    }
    (middle(ours), middle(theirs))
}

fn middle(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The mesh.
pub fn figures() -> Vec<Row> {
    let site = Site::new();
    let row = |figure: &'static str, streams: &str| {
        let (ours, theirs) = side_by_side(&site, streams);
        Row {
            figure,
            mill: format!("{ours:.0} Mbit/s"),
            peer: format!("wireguard-go {theirs:.0} Mbit/s: {:.1} ×", ours / theirs),
            aim: "at least 4 ×",
            met: Some(ours >= 4.0 * theirs),
        }
    };
    let mut rows = vec![row("one TCP stream", "1"), row("four TCP streams", "4")];
    let (bare, mesh) = (site.round_trip(Kind::Bare), site.round_trip(Kind::Mill));
    let go = site.round_trip(Kind::WireguardGo);
    let added = mesh.saturating_sub(bare);
    rows.push(Row {
        figure: "added to a round trip, idle",
        mill: ms(added),
        peer: format!("wireguard-go {}", ms(go.saturating_sub(bare))),
        aim: "at most 0.3 ms",
        met: Some(added <= Duration::from_micros(300)),
    });
    rows
}

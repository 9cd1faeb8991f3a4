//! The figures of names: questions a second beside dnsmasq, and what one costs.
//!
//! Owns both servers, on ports of the loopback; they go with the run.

use super::report::{Row, ms};
use super::state::{begun, deploy, place};
use mill::actors::dns::{Args, Dns, Msg};
use mill::actors::dns_queries::DnsQueries;
use mill::actors::root::{self, Supervised, View};
use mill::fsm::{State, Touched};
use mill::id::{BootId, NodeId};
use mill::network::Subnet;
use mill::node::resolvers::Resolvers;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- 1,000 names of three A records each, over loopback; dnsperf with 64 questions under way, 4 s a
  turn, three turns with both in turn, medians. Processor time is that of the server's process:
  mill's runs in the process of the benchmark, which does nothing else meanwhile.
- The slowest: 2,000 questions of one more client, one after the other, while dnsperf runs.
";

const SERVICES: u32 = 1_000;
const REPLICAS: u32 = 3;
const TURNS: usize = 3;
const SECONDS: &str = "4";
const SAMPLES: usize = 2_000;
const MILL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20_053);
const THEIRS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 20_054);

/// Root, which nobody asks anything.
struct Root;

impl Actor for Root {
    type Msg = root::Msg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<root::Msg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

fn name(n: u32) -> String {
    format!("service-{n}")
}

fn address(n: u32, replica: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 0, 2)) + n * REPLICAS + replica)
}

/// All services with their replicas, healthy.
fn state() -> State {
    let mut state = begun();
    for app in 0..SERVICES / 50 {
        let mut text = format!("app \"app{app}\"\n");
        for n in app * 50..(app + 1) * 50 {
            let name = name(n);
            let _ = writeln!(
                text,
                "service \"{name}\" {{ image \"x:1\"; port 80; replicas {REPLICAS} }}"
            );
        }
        deploy(&mut state, &text);
    }
    for n in 0..SERVICES {
        let addresses = (0..REPLICAS).map(|replica| address(n, replica));
        place(&mut state, &name(n), addresses);
    }
    state
}

/// mill's server, for as long as the runtime is kept.
fn mill() -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (root, _) = Actor::spawn(None, Root, ()).await.unwrap();
        let args = Args {
            root: root.clone(),
            listen: vec![MILL],
            cluster: Subnet::of([10, 99, 0, 0].into(), 16),
            resolvers: Arc::new(|| Resolvers::parse("")),
            queries: DnsQueries::default(),
        };
        let state = state();
        let server = Supervised::start(Dns, args, &root).await.unwrap();
        server.tell(Msg::View(View {
            index: state.index,
            state: Arc::new(state),
            touched: Arc::new(Touched::everything()),
            current: true,
            leader: None,
            node: NodeId(1),
            boot: BootId(1),
            removed: false,
            time: None,
        }));
    });
    runtime
}

struct Dnsmasq {
    program: Child,
    _hosts: tempfile::NamedTempFile,
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn dnsmasq() -> Dnsmasq {
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let line = |(n, replica)| format!("{} {}.mill\n", address(n, replica), name(n));
    let all = (0..SERVICES).flat_map(|n| (0..REPLICAS).map(move |replica| (n, replica)));
    std::fs::write(hosts.path(), all.map(line).collect::<String>()).unwrap();
    let mut command = Program::new("dnsmasq");
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--conf-file=/dev/null", "--bind-interfaces", "--listen-address=127.0.0.1"]);
    command.args(["--pid-file=", "--local-ttl=1", "--local=/mill/"]);
    command.arg(format!("--port={}", THEIRS.port()));
    command.arg(format!("--addn-hosts={}", hosts.path().display()));
    let program = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Dnsmasq { program: program.expect("dnsmasq: harness/setup --bench"), _hosts: hosts }
}

/// What a process has used of the processors.
fn used(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = words[11..13].iter().map(|word| word.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// One question; how long its answer took.
fn ask(socket: &UdpSocket, n: u32) -> Option<Duration> {
    let mut question = b"be\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    let label = name(n);
    question.push(u8::try_from(label.len()).unwrap());
    question.extend(label.as_bytes());
    question.extend(b"\x04mill\0\0\x01\0\x01");
    let begun = Instant::now();
    socket.send(&question).unwrap();
    let mut answer = [0; 512];
    let size = socket.recv(&mut answer).ok()?;
    // All three of them.
    (size > 12 && answer[7] == 3).then(|| begun.elapsed())
}

struct Measured {
    rate: f64,
    /// Processor time a question, in microseconds.
    cost: f64,
    slow: Duration,
}

fn measure(server: SocketAddr, process: u32) -> Measured {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    crate::poll::poll(|| ask(&socket, 1).is_some()).secs(20).expect("the server to answer");
    let questions = tempfile::NamedTempFile::new().unwrap();
    let lines: String = (0..SERVICES).map(|n| format!("{}.mill A\n", name(n))).collect();
    std::fs::write(questions.path(), lines).unwrap();
    let before = used(process);
    let mut perf = Program::new("dnsperf");
    perf.args(["-s", "127.0.0.1", "-p", &server.port().to_string(), "-l", SECONDS, "-q", "64"]);
    perf.arg("-d").arg(questions.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let perf = perf.spawn().expect("dnsperf: harness/setup --bench");
    let all = 0..SERVICES;
    let mut times: Vec<Duration> =
        all.cycle().take(SAMPLES).filter_map(|n| ask(&socket, n)).collect();
    let output = perf.wait_with_output().unwrap();
    let used = used(process).saturating_sub(before);
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |what: &str| -> f64 {
        let line = text.lines().find(|line| line.contains(what)).expect(what);
        line.rsplit(':').next().unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    times.sort_unstable();
    Measured {
        rate: number("Queries per second"),
        cost: used.as_secs_f64() * 1e6 / (number("Queries completed") + SAMPLES as f64),
        slow: times[times.len() * 99 / 100],
    }
}

fn middle(all: &[Measured], of: impl Fn(&Measured) -> f64) -> f64 {
    let mut all: Vec<f64> = all.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Names.
pub fn figures() -> Vec<Row> {
    let (_server, other) = (mill(), dnsmasq());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(measure(THEIRS, other.program.id()));
        ours.push(measure(MILL, std::process::id()));
    }
    let rate = [&ours, &theirs].map(|all| middle(all, |one| one.rate));
    let cost = [&ours, &theirs].map(|all| middle(all, |one| one.cost));
    let slow = [&ours, &theirs]
        .map(|all| Duration::from_secs_f64(middle(all, |one| one.slow.as_secs_f64())));
    vec![
        Row {
            figure: "questions a second",
            mill: format!("{:.0}/s", rate[0]),
            peer: format!("dnsmasq {:.0}/s: {:.2} ×", rate[1], rate[0] / rate[1]),
            aim: "at least 1.0 ×",
            met: Some(rate[0] >= rate[1]),
        },
        Row {
            figure: "99 of 100 questions are answered within",
            mill: ms(slow[0]),
            peer: format!("dnsmasq {}", ms(slow[1])),
            aim: "at most the same",
            met: Some(slow[0] <= slow[1]),
        },
        Row {
            figure: "processor time a question",
            mill: format!("{:.2} µs", cost[0]),
            peer: format!("dnsmasq {:.2} µs", cost[1]),
            aim: "less",
            met: Some(cost[0] < cost[1]),
        },
    ]
}

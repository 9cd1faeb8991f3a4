//! The figures of the proxy, beside Debian's nginx and haproxy.
//!
//! Owns what is compared. Never starts or asks one itself: `servers.rs` and `clients.rs` do.

mod clients;
mod servers;

use super::report::{Row, median, ms};
use super::state::{begun, deploy, place};
use clients::{Load, Measured};
use mill::actors::proxy::shared::{Settings, Shared};
use mill::id::NodeId;
use servers::Server;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How it was measured.
pub const NOTES: &str = "
- Over loopback, the same server behind all three: an nginx of its own that answers from memory.
  Two threads or processes each, no access logs, the same headers for the server, a certificate of
  P-256. wrk with 64 connections (two threads), HTTP/2 by h2load with 64 connections of four
  streams; 3 s a turn, three turns with all in turn, medians. Everything shares the cores of the
  machine, so that what a proxy spares its clients and its server can use.
- Processor time is that of the proxy's processes; mill's runs in the process of the benchmark,
  which does nothing else meanwhile.
- *Idle connections*: what 1,000 add to the memory after one request each, before anything else was
  asked. *5,000 routes*: 500 services with ten hosts each.
";

const TURNS: usize = 3;
const ROUTES: u32 = 5_000;
const LOOKS: u32 = 200_000;

const PLAIN: Load = Load { tls: false, h2: false, alone: false, path: "/small", body: 0 };

/// What is asked, and how many times nginx's rate is aimed at.
const LOADS: &[(&str, &str, f64, Load)] = &[
    ("HTTP, kept connections, 1 KB", "at least 1.0 ×", 1.0, PLAIN),
    ("HTTP, new connections", "at least 1.0 ×", 1.0, Load { alone: true, ..PLAIN }),
    ("HTTPS, kept connections, 1 KB", "at least 1.2 ×", 1.2, Load { tls: true, ..PLAIN }),
    ("HTTPS, new connections", "at least 1.3 ×", 1.3, Load { tls: true, alone: true, ..PLAIN }),
    ("HTTP/2, 1 KB", "at least 0.8 ×", 0.8, Load { tls: true, h2: true, ..PLAIN }),
    ("HTTP, answers of 100 KB", "at least 1.2 ×", 1.2, Load { path: "/large", ..PLAIN }),
    (
        "HTTP, uploads of 64 KB",
        "at least 1.2 ×",
        1.2,
        Load { path: "/up", body: 64 << 10, ..PLAIN },
    ),
];

fn middle(all: &[Measured]) -> Measured {
    let mut slow: Vec<Duration> = all.iter().map(|one| one.slow).collect();
    let of = |what: fn(&Measured) -> f64| {
        let mut all: Vec<f64> = all.iter().map(what).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Measured { rate: of(|one| one.rate), cost: of(|one| one.cost), slow: median(&mut slow) }
}

/// Mill's, nginx's, haproxy's.
fn measure(all: &[Server; 3], load: &Load) -> [Measured; 3] {
    let mut measured = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        for (server, measured) in all.iter().zip(&mut measured) {
            measured.push(clients::ask(server, load));
        }
    }
    measured.map(|all| middle(&all))
}

fn rows_of(all: &[Server; 3], rows: &mut Vec<Row>) {
    for (figure, aim, least, load) in LOADS {
        eprintln!("   {figure}");
        let [mill, nginx, haproxy] = measure(all, load);
        let one = |of: &Measured| format!("{:.0}/s, {:.1} µs each", of.rate, of.cost);
        let beside = |name, of: &Measured| {
            format!(
                "{name} {}: {:.2} × (time {:.2} ×)",
                one(of),
                mill.rate / of.rate,
                mill.cost / of.cost
            )
        };
        rows.push(Row {
            figure,
            mill: one(&mill),
            peer: format!("{}; {}", beside("nginx", &nginx), beside("haproxy", &haproxy)),
            aim,
            met: Some(mill.rate >= least * nginx.rate),
        });
        if rows.len() > 1 {
            continue;
        }
        rows.push(Row {
            figure: "99 of 100 of them are answered within",
            mill: ms(mill.slow),
            peer: format!("nginx {}; haproxy {}", ms(nginx.slow), ms(haproxy.slow)),
            aim: "at most nginx's",
            met: Some(mill.slow <= nginx.slow),
        });
        rows.push(Row {
            figure: "processor time of one of them",
            mill: format!("{:.1} µs", mill.cost),
            peer: format!("nginx {:.1} µs; haproxy {:.1} µs", nginx.cost, haproxy.cost),
            aim: "less than nginx's",
            met: Some(mill.cost < nginx.cost),
        });
    }
}

fn idle(all: &[Server; 3], tls: bool) -> Row {
    let [mill, nginx, haproxy] = [0, 1, 2].map(|at| clients::idle(&all[at], tls) as f64 / 1e6);
    let most = if tls { 25.0 } else { 20.0 };
    Row {
        figure: if tls { "1,000 idle connections with TLS" } else { "1,000 idle connections" },
        mill: format!("{mill:.1} MB"),
        peer: format!("nginx {nginx:.1} MB; haproxy {haproxy:.1} MB"),
        aim: if tls { "at most 25 MB" } else { "at most 20 MB" },
        met: Some(mill <= most),
    }
}

fn host(n: u32) -> String {
    format!("h{n}.example.com")
}

/// Many routes.
fn table() -> [Row; 2] {
    let mut state = begun();
    for app in 0..ROUTES / 500 {
        let mut text = format!("app \"app{app}\"\n");
        for service in app * 50..(app + 1) * 50 {
            let routes = (service * 10..service * 10 + 10).map(host);
            let routes: String = routes.map(|host| format!("; route \"{host}\"")).collect();
            let _ = writeln!(text, "service \"s{service}\" {{ image \"x:1\"; port 80{routes} }}");
        }
        deploy(&mut state, &text);
    }
    for service in 0..ROUTES / 10 {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 0, 2)) + service);
        place(&mut state, &format!("s{service}"), std::iter::once(address));
    }
    let shared = Shared::new(Settings::default(), Arc::default());
    let mut times = Vec::new();
    for _ in 0..11 {
        let begun = Instant::now();
        shared.show(&state, NodeId(1));
        times.push(begun.elapsed());
    }
    let hosts: Vec<String> = (0..ROUTES).map(host).collect();
    let begun = Instant::now();
    let found = (0..LOOKS).filter(|n| {
        let host = &hosts[(n * 7_919 % ROUTES) as usize];
        shared.routes().find(host, "/a/b").is_some()
    });
    assert_eq!(found.count(), LOOKS as usize);
    let look = begun.elapsed() / LOOKS;
    let swap = median(&mut times);
    [
        Row {
            figure: "5,000 routes: look-up",
            mill: format!("{} ns", look.as_nanos()),
            peer: String::new(),
            aim: "at most 1 µs",
            met: Some(look <= Duration::from_micros(1)),
        },
        Row {
            figure: "5,000 routes: another table in its place",
            mill: ms(swap),
            peer: String::new(),
            aim: "at most 10 ms",
            met: Some(swap <= Duration::from_millis(10)),
        },
    ]
}

/// The proxy.
pub fn figures() -> Vec<Row> {
    let certificate = servers::certificate();
    let _origin = servers::origin();
    let all = [
        servers::of_mill(&certificate),
        servers::of_nginx(&certificate),
        servers::of_haproxy(&certificate),
    ];
    let idle = [false, true].map(|tls| idle(&all, tls));
    let mut rows = Vec::new();
    rows_of(&all, &mut rows);
    rows.extend(idle);
    rows.extend(table());
    rows
}

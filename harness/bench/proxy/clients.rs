//! What is asked of a proxy, by Debian's wrk and h2load.
//!
//! Owns how their words are read. Never starts a proxy.

use super::servers::{HOST, Server};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long each turn is.
const SECONDS: &str = "3";
const CLIENTS: &str = "64";
const IDLE: usize = 1_000;

/// What is asked.
#[derive(Clone, Copy)]
pub struct Load {
    /// With TLS.
    pub tls: bool,
    /// By HTTP/2.
    pub h2: bool,
    /// Each request over a connection of its own.
    pub alone: bool,
    /// What for.
    pub path: &'static str,
    /// With a body of so many bytes.
    pub body: usize,
}

/// Of answers that all were good.
#[derive(Clone, Copy)]
pub struct Measured {
    /// Answers a second.
    pub rate: f64,
    /// Processor time of an answer, in microseconds.
    pub cost: f64,
    /// 99 of 100 took no longer; h2load doesn't say.
    pub slow: Duration,
}

/// Asks for some seconds.
#[must_use]
pub fn ask(server: &Server, load: &Load) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let before = server.used();
    let text = if load.h2 { h2load(server, load) } else { wrk(server, load, folder.path()) };
    let used = server.used().saturating_sub(before);
    let (done, rate, slow) = if load.h2 { of_h2load(&text) } else { of_wrk(&text) };
    Measured { rate, cost: used.as_secs_f64() * 1e6 / done, slow }
}

fn output(command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|_| panic!("{program}: harness/setup --bench"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn url(server: &Server, tls: bool, path: &str) -> String {
    let (scheme, port) = if tls { ("https", server.https) } else { ("http", server.http) };
    format!("{scheme}://{HOST}:{port}{path}")
}

fn wrk(server: &Server, load: &Load, folder: &std::path::Path) -> String {
    let mut command = Command::new("wrk");
    command.args(["-t2", "-c", CLIENTS, "-d", SECONDS, "--latency"]);
    if load.alone {
        command.args(["-H", "Connection: close"]);
    }
    if load.body > 0 {
        let script = folder.join("post.lua");
        let text = format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {})\n", load.body);
        std::fs::write(&script, text).unwrap();
        command.arg("-s").arg(script);
    }
    output(command.arg(url(server, load.tls, load.path)))
}

fn of_wrk(text: &str) -> (f64, f64, Duration) {
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let word = |what: &str, at: usize| {
        let line = text.lines().find(|line| line.contains(what)).expect(text);
        line.split_whitespace().nth(at).unwrap().to_owned()
    };
    let done = word(" requests in ", 0).parse().unwrap();
    let rate = word("Requests/sec:", 1).parse().unwrap();
    (done, rate, time(&word("99%", 1)))
}

/// As wrk writes it: `1.23ms`.
fn time(text: &str) -> Duration {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        _ => 1.0,
    };
    Duration::from_secs_f64(digits.parse::<f64>().unwrap() * unit)
}

fn h2load(server: &Server, load: &Load) -> String {
    let mut command = Command::new("h2load");
    command.args(["-t", "2", "-c", CLIENTS, "-m", "4", "-D", SECONDS]);
    command.arg(format!("--connect-to=127.0.0.1:{}", server.https));
    output(command.arg(url(server, true, load.path)))
}

fn of_h2load(text: &str) -> (f64, f64, Duration) {
    let line = |what: &str| text.lines().find(|line| line.starts_with(what)).expect(text);
    let number = |text: &str| text.trim().split(' ').next().unwrap().parse::<f64>().unwrap();
    let requests: Vec<&str> = line("requests: ").split(',').collect();
    let of = |what: &str| number(requests.iter().find(|part| part.ends_with(what)).expect(text));
    // Those that the end cut off have no answer.
    assert!(of(" succeeded") > 0.0 && of(" errored") == 0.0, "{text}");
    let rate = number(line("finished in").split(", ").nth(1).unwrap());
    (of(" succeeded"), rate, Duration::ZERO)
}

/// Memory that so many idle connections take, in bytes: each had a request.
#[must_use]
pub fn idle(server: &Server, tls: bool) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("idle.lua");
    let text = format!(
        "local n = 0\nfunction delay()\n  n = n + 1\n  if n <= {IDLE} then return 0 end\n  \
         return 3600000\nend\n"
    );
    std::fs::write(&script, text).unwrap();
    let before = server.memory();
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c", &IDLE.to_string(), "-d", "60", "-s"]).arg(&script);
    command.arg(url(server, tls, "/small")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut wrk = command.spawn().expect("wrk: harness/setup --bench");
    let mut most = 0;
    // What a handshake took is given back a moment later.
    for _ in 0..5 {
        std::thread::park_timeout(Duration::from_secs(1));
        most = server.memory();
    }
    let _ = wrk.kill();
    let _ = wrk.wait();
    most.saturating_sub(before)
}

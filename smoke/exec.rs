//! `mill exec`: codes, streams, a terminal, and the end of whoever runs something.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Api, TestDaemon, files};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

/// A node with a service of two replicas that do nothing, as another user.
fn node(registry: &Registry) -> TestDaemon {
    let node = TestDaemon::start();
    let more = "replicas 2; user \"1000:1000\"; env { GREETING \"hello\" }; \
                stop grace=\"1s\"; command \"sleep\" \"100000\"";
    let _ = node.up(&files::service("web", &registry.image("busybox:v1"), more)).ok();
    node
}

fn exec(node: &TestDaemon, args: &[&str]) -> crate::support::Outcome {
    node.mill(["exec"].iter().chain(args).copied())
}

/// The node's processes with this in their command line, without `mill` itself.
fn processes(node: &TestDaemon, word: &str) -> usize {
    let left = node.leftovers();
    let found = left.iter().filter(|line| line.contains(word) && !line.contains("mill exec"));
    found.filter(|line| line.starts_with("process ")).count()
}

#[test]
fn a_program_runs_in_the_container_and_its_code_is_ours() {
    let registry = Registry::start();
    let mut node = node(&registry);
    let id = node.allocations("web")[1]["id"].as_str().unwrap().to_owned();
    let script = "echo $(id -u) $GREETING $HOSTNAME; echo oops >&2; exit 7";
    let done = exec(&node, &[&id, "--", "sh", "-c", script]).code(7);
    assert_eq!((&*done.stdout, &*done.stderr), (&*format!("1000 hello {id}\n"), "oops\n"));
    let any = exec(&node, &["web", "--", "hostname"]).code(0);
    let chosen = any.stdout.trim().to_owned();
    assert!(chosen.starts_with("web-"), "{any:?}");
    let _ = any.says(&format!("{chosen} on "));
    let _ = exec(&node, &[&id, "--", "no-such"]).code(127).says("\"no-such\" isn't in the image");
    let _ = exec(&node, &[&id, "--", "/etc/passwd"]).code(126).says("permission denied");
    let _ = exec(&node, &["nobody", "--", "true"]).code(125).says("no allocation nobody");
    let _ = exec(&node, &[&id]).code(2).says("Which program?");
    let _ = exec(&node, &[&id, "--", "sh", "-c", "kill -9 $$"]).code(137);
    let many = "i=0; while [ $i -lt 100000 ]; do echo $i; i=$((i+1)); done";
    let all = exec(&node, &[&id, "--", "sh", "-c", many]).ok();
    assert!(all.lines().count() == 100_000 && all.ends_with("\n99999\n"));
    with_input(&node, &id);
    over_the_network(&node, &id);
    ends_with_its_client(&mut node, &id);
}

fn start(node: &TestDaemon, args: &[&str]) -> Child {
    let mut command = node.command(["exec"].iter().chain(args));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn with_input(node: &TestDaemon, id: &str) {
    let mut child = start(node, &["-i", id, "--", "cat"]);
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let mut received = Vec::new();
    output.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
    assert!(child.wait().unwrap().success());
    // Nobody reads the input: that hinders nothing.
    let mut child = start(node, &["-i", id, "--", "sh", "-c", "exit 4"]);
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(&sent);
    assert_eq!(child.wait().unwrap().code(), Some(4));
}

fn over_the_network(node: &TestDaemon, id: &str) {
    let made = |role: &str| {
        let api = node.api();
        let made = api.request("POST", "/v1/tokens").json(&json!({"role": role})).send();
        made.status(201).json()["token"].as_str().unwrap().to_owned()
    };
    let (admin, deploy) = (made("admin"), made("deploy"));
    let address = format!("http://{}", node.api_address());
    let run = |token: &str, name: &str| {
        exec(node, &["--address", &address, "--token", token, name, "--", "echo", "far"])
    };
    assert_eq!(run(&admin, id).ok(), "far\n");
    // It ends with its token.
    let lent = made("admin");
    let far = ["--address", &address, "--token", &lent, id, "--", "sleep", "6004"];
    let held = start(node, &far);
    poll(|| processes(node, "sleep 6004") == 1).secs(20).expect("the program to run");
    let lent = lent.split('_').nth(1).unwrap();
    let revoke = node.api().request("DELETE", &format!("/v1/tokens/{lent}")).send();
    let _ = revoke.status(204);
    assert_eq!(held.wait_with_output().unwrap().status.code(), Some(125));
    poll(|| processes(node, "sleep 6004") == 0).secs(20).expect("it to end with its token");
    let _ = run(&deploy, id).code(125).says("needs a token with the role admin");
    let path = format!("/v1/allocations/{id}/exec?cmd=true");
    let api = Api::tcp(node.api_address(), Some(&deploy));
    api.request("GET", &path).send().error(403, "forbidden");
    node.api().request("GET", &path).send().error(400, "bad_request");
    let path = format!("/v1/allocations/{id}/exec");
    node.api().request("GET", &path).send().error(400, "bad_request");
}

fn ends_with_its_client(node: &mut TestDaemon, id: &str) {
    let mut gone = start(node, &[id, "--", "sleep", "6001"]);
    poll(|| processes(node, "sleep 6001") == 1).expect("the program to run");
    gone.kill().unwrap();
    gone.wait().unwrap();
    poll(|| processes(node, "sleep 6001") == 0).secs(20).expect("it to end with its client");
    let stopped = start(node, &[id, "--", "sleep", "6002"]);
    let cut = start(node, &[id, "--", "sleep", "6003"]);
    poll(|| processes(node, "sleep 600") == 2).expect("the programs to run");
    node.kill();
    assert_eq!(stopped.wait_with_output().unwrap().status.code(), Some(125));
    assert_eq!(cut.wait_with_output().unwrap().status.code(), Some(125));
    node.restart();
    poll(|| processes(node, "sleep 600") == 0).secs(20).expect("the next life to end them");
    let restarts: Vec<_> = node.allocations("web").iter().map(|a| a["restarts"].clone()).collect();
    assert_eq!(restarts, [json!(0), json!(0)]);
    let left = node.leftovers();
    assert!(!left.iter().any(|line| line.contains("/exec")), "{left:#?}");
}

/// A terminal that a command runs on, with all that it shows.
pub struct Terminal {
    keys: File,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    pub fn start(node: &TestDaemon, args: &[&str]) -> Self {
        let size = nix::pty::Winsize { ws_row: 30, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = node.command(["exec"].iter().chain(args));
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                all.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self { keys, child, shown }
    }

    pub fn enter(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// It has another size from now on.
    pub fn resize(&self, rows: u16, columns: u16) {
        let (ws_row, ws_col) = (rows, columns);
        let size = rustix::termios::Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keys, size).unwrap();
        // The kernel tells only who has it as controlling terminal.
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGWINCH).unwrap();
    }

    /// The code that the command ends with.
    pub fn code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        let shown = || {
            let shown = self.shown.lock().unwrap().clone();
            if shown.contains(text) { Ok(()) } else { Err(shown) }
        };
        poll(shown).secs(10).expect(text);
    }
}

#[test]
fn a_terminal_is_a_terminal() {
    let registry = Registry::start();
    let node = node(&registry);
    let id = node.allocations("web")[0]["id"].as_str().unwrap().to_owned();
    let mut terminal = Terminal::start(&node, &["-it", &id, "--", "sh"]);
    terminal.enter("echo at:$(tty):$(stty size):$TERM\r");
    terminal.shows("at:/dev/pts/0:30 90:xterm");
    terminal.resize(11, 44);
    terminal.enter("until [ \"$(stty size)\" = \"11 44\" ]; do :; done; echo resi''zed\r");
    terminal.shows("resized");
    terminal.enter("echo wai''ting; sleep 5001; echo code:$?\r");
    terminal.shows("waiting");
    poll(|| processes(&node, "sleep 5001") == 1).expect("the program to run");
    terminal.enter("\u{3}");
    terminal.enter("echo still he''re\r");
    terminal.shows("still here");
    assert_eq!(processes(&node, "sleep 5001"), 0, "Ctrl-C ended it");
    terminal.enter("exit 9\r");
    assert_eq!(terminal.code(), Some(9));
    let no_terminal = exec(&node, &["-it", &id, "--", "sh"]).code(2);
    let _ = no_terminal.says("Standard input is no terminal");
}

#[test]
fn files_go_in_and_come_out_and_nowhere_else() {
    let registry = Registry::start();
    let node = node(&registry);
    let id = node.allocations("web")[0]["id"].as_str().unwrap().to_owned();
    let sh = |script: &str| exec(&node, &[&id, "--", "sh", "-c", script]).ok();
    let cp = |from: &str, to: &str| node.mill(["cp", from, to]);
    let big: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    let file = node.file("big.txt", &big);
    let folder = file.parent().unwrap().to_owned();
    let _ = cp("big.txt", &format!("{id}:/tmp")).ok();
    assert_eq!(sh("wc -l < /tmp/big.txt; stat -c %u:%g /tmp/big.txt"), "200000\n1000:1000\n");
    let _ = cp(&format!("{id}:/tmp/big.txt"), "back.txt").ok();
    assert_eq!(std::fs::read_to_string(folder.join("back.txt")).unwrap(), big);
    let _ = sh("mkdir -p /tmp/t/a; echo one > /tmp/t/a/one; ln -s a/one /tmp/t/link; \
                ln -s / /tmp/t/root; mkfifo /tmp/t/pipe");
    let _ = cp(&format!("{id}:/tmp/t"), "tree").ok();
    assert_eq!(std::fs::read_to_string(folder.join("tree/link")).unwrap(), "one\n");
    assert_eq!(std::fs::read_link(folder.join("tree/root")).unwrap().to_str(), Some("/"));
    assert!(!folder.join("tree/pipe").exists());
    let _ = cp("tree", &format!("{id}:/tmp/copy")).ok();
    assert_eq!(sh("cat /tmp/copy/link"), "one\n");
    // Links of the container lead within the container, whoever follows them.
    let secret = folder.join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let host = secret.to_str().unwrap();
    let _ = sh(&format!("ln -s {host} /tmp/steal; ln -s {} /tmp/out", folder.display()));
    let _ = cp(&format!("{id}:/tmp/steal"), "stolen").code(1).says("no file /tmp/steal");
    let _ = cp("big.txt", &format!("{id}:/tmp/out/secret")).code(2).says("isn't there");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
    let _ = cp(&format!("{id}:/no/such"), ".").code(1).says("no file /no/such");
    let _ = cp("a", "b").code(2).says("must be in a container");
    let _ = cp(&format!("{id}:/etc/hosts"), "/").code(0);
    std::fs::remove_file("/hosts").unwrap();
}

#[test]
fn metrics_have_the_nodes_figures() {
    let registry = Registry::start();
    let node = node(&registry);
    let figures = || {
        let answer = node.api().request("GET", "/v1/metrics").send().status(200);
        assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        answer.body
    };
    let id = node.allocations("web")[0]["id"].as_str().unwrap().to_owned();
    let of = format!("service=\"web\",allocation=\"{id}\",node=");
    let value = |text: &str, start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        let line = line.unwrap_or_else(|| panic!("no {start} in\n{text}"));
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    poll(|| figures().contains(&format!("mill_alloc_memory_bytes{{{of}"))).expect("figures of use");
    let text = figures();
    let alloc = |name: &str| value(&text, &format!("mill_alloc_{name}{{{of}"));
    assert!(alloc("cpu_seconds_total") > 0.0 && alloc("memory_bytes") > 10_000.0);
    assert_eq!(alloc("memory_limit_bytes"), 32_000_000.0);
    assert_eq!((alloc("restarts_total"), alloc("oom_total")), (0.0, 0.0));
    for (state, count) in [("desired", 2.0), ("healthy", 2.0), ("backoff", 0.0)] {
        let name = format!("mill_service_replicas{{service=\"web\",state=\"{state}\"}}");
        assert_eq!(value(&text, &name), count, "{state}");
    }
    assert_eq!(value(&text, "mill_node_up{node="), 1.0);
    assert!(value(&text, "mill_node_cpu_available{node=") > 0.0);
    assert!(value(&text, "mill_node_memory_available_bytes{node=") > 0.0);
    assert_eq!(value(&text, "mill_raft_is_leader"), 1.0);
    assert!(value(&text, "mill_raft_term") >= 1.0);
    assert!(value(&text, "mill_raft_commit_seconds_count") >= 3.0);
    assert_eq!(value(&text, "mill_actor_restarts_total{actor=\"container\"}"), 0.0);
    assert_eq!(value(&text, "mill_build_info{version="), 1.0);

    let image = registry.image("hello:v1");
    for _ in 0..2 {
        let _ = node.mill(["spawn", "--wait", "--image", &image, "--", "true"]).ok();
    }
    let text = figures();
    assert_eq!(value(&text, "mill_tasks_spawned_total{task=\"hello\"}"), 2.0, "{text}");
    assert_eq!(value(&text, "mill_task_duration_seconds_count{task=\"hello\"}"), 2.0, "{text}");
}

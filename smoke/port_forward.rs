//! `mill port-forward`: a port of this machine that leads into a container, on whichever node.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::{Api, TestDaemon, files};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};

/// The command while it runs.
pub struct Forward {
    child: Child,
    /// What it printed.
    pub told: Value,
}

impl Forward {
    /// Starts it with `--json`, and waits until it listens.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.as_mut().unwrap();
        let told = serde_json::Deserializer::from_reader(output).into_iter().next();
        Self { told: told.expect("a document").unwrap(), child }
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.told["address"].as_str().unwrap()).unwrap()
    }

    /// What comes back of what is sent, once its end was told.
    pub fn echo(&self, sent: &[u8]) -> Vec<u8> {
        let mut connection = self.connect();
        let (mut input, sent) = (connection.try_clone().unwrap(), sent.to_vec());
        let writer = std::thread::spawn(move || {
            // One that is closed at once reads nothing.
            let _ = input.write_all(&sent);
            let _ = input.shutdown(Shutdown::Write);
        });
        let mut received = Vec::new();
        let _ = connection.read_to_end(&mut received);
        writer.join().unwrap();
        received
    }

    /// Its code after Ctrl-C, and what it said.
    pub fn interrupt(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

fn forward(node: &TestDaemon, args: &[&str]) -> Forward {
    Forward::start(node.command(["port-forward", "--json"].iter().chain(args)))
}

#[test]
fn a_port_leads_into_a_container() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let more = "port 3000; port 3001 name=\"admin\"; replicas 2; stop grace=\"1s\"; \
                command \"nc\" \"-ll\" \"-p\" \"3000\" \"-e\" \"cat\"";
    let _ = node.up(&files::service("echo", &registry.image("busybox:v1"), more)).ok();
    let open = forward(&node, &["echo", "0:3000"]);
    assert_eq!((&open.told["name"], &open.told["port"]), (&json!("echo"), &json!(3000)));
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let echoed = open.echo(&sent);
    assert!(echoed == sent, "{} of {} bytes came back", echoed.len(), sent.len());
    // Each connection is its own, and new replicas take those that come.
    let mut held = open.connect();
    held.write_all(b"held").unwrap();
    let mut back = [0; 4];
    held.read_exact(&mut back).unwrap();
    let _ = node.mill(["restart", "echo"]).ok();
    assert_eq!(open.echo(b"after the restart"), b"after the restart");
    assert_eq!(held.read(&mut back).unwrap_or_default(), 0, "its replica is gone");
    assert_eq!(open.interrupt().0, Some(130));
    // A port of which nothing is to be had.
    let deaf = forward(&node, &["echo", "0:admin"]);
    assert_eq!((deaf.told["port"].clone(), deaf.echo(b"x")), (json!(3001), Vec::new()));
    let (code, said) = deaf.interrupt();
    assert!(code == Some(130) && said.contains("nothing listens on port 3001 of echo-"), "{said}");
    refusals(&node);
}

fn refusals(node: &TestDaemon) {
    let run = |args: &[&str]| node.mill(["port-forward"].iter().chain(args));
    let _ = run(&["nobody", "80"]).code(1).says("nobody");
    let _ = run(&["echo", "nope"]).code(1).says("echo has no port named nope");
    let _ = run(&["echo", "70000"]).code(2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let local = taken.local_addr().unwrap().port();
    let said = format!("127.0.0.1:{local} is used by ");
    let _ = run(&["echo", &format!("{local}:3000")]).code(1).says(&said);
    let all = node.allocations("echo");
    let running = all.iter().find(|one| one["status"] == "running").expect("a replica");
    let id = running["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/allocations/{id}/port-forward?port=3000");
    node.api().request("GET", &path).send().error(400, "bad_request");
    for (role, status, code) in [("read", 403, "forbidden"), ("deploy", 400, "bad_request")] {
        let made = node.api().request("POST", "/v1/tokens").json(&json!({"role": role})).send();
        let token = made.status(201).json()["token"].as_str().unwrap().to_owned();
        let api = Api::tcp(node.api_address(), Some(&token));
        api.request("GET", &path).send().error(status, code);
    }
    // Of an allocation, by the start of its id, and with the main port.
    let one = forward(node, &[&id, "0:3000"]);
    assert_eq!((one.told["name"].clone(), one.echo(b"hello")), (json!(id), b"hello".to_vec()));
    assert_eq!(one.interrupt().0, Some(130));
    let left = || node.leftovers().iter().any(|line| line.contains("port-forward"));
    poll(|| !left()).secs(10).expect("nothing to be left");
}

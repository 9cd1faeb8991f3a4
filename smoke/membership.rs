//! How nodes become members and leave again: init, join, restart, certificates, leave.
//!
//! Owns what a person does with several daemons on one host. Never cuts a network.

use crate::poll::poll;
use crate::support::TestDaemon;
use serde_json::Value;
use std::fs;

fn unclaimed() -> TestDaemon {
    TestDaemon::builder().unclaimed().start()
}

/// Makes a node the first of a cluster; gives the admin token and the join command's words.
fn init(node: &TestDaemon) -> (String, Vec<String>) {
    let made = node.mill(["init", "--cluster", "test", "--node", "n1", "--json"]).json();
    let join = made["join"].as_str().unwrap();
    let words: Vec<String> = join.split(' ').map(str::to_owned).collect();
    assert_eq!((words[0].as_str(), words[1].as_str()), ("mill", "join"), "{join}");
    (made["token"].as_str().unwrap().to_owned(), words[1..].to_vec())
}

fn with<'a>(words: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    words.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// The nodes with what they are, `n1 ready voter`.
fn nodes(of: &TestDaemon) -> Vec<String> {
    // While it starts it doesn't answer yet.
    let answer = of.api().request("GET", "/v1/nodes").try_send();
    let Some(all) = answer.ok().filter(|answer| answer.status == 200) else { return vec![] };
    let all = all.json();
    let line = |node: &Value| {
        let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
        let part = if node["voter"] == true { "voter" } else { "learner" };
        format!("{} {} {part}", text("name"), text("status"))
    };
    all.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn nodes_join_come_back_and_leave() {
    let [one, mut two, three] = [(); 3].map(|()| unclaimed());
    let (token, join) = init(&one);
    refused(&one, &two, &token, &join);
    let second = two.mill(with(&join, &["--node", "n2", "--label", "zone=a", "--json"])).json();
    assert_eq!((second["cluster"].as_str(), second["id"].as_u64()), (Some("test"), Some(2)));
    three.mill(with(&join, &["--node", "n3"])).ok();
    let full = ["n1 ready voter", "n2 ready voter", "n3 ready voter"];
    for node in [&one, &two, &three] {
        poll(|| nodes(node) == full).secs(30).expect("three ready voters");
    }
    let taken = two.mill(with(&join, &["--node", "n4"])).code(1);
    assert!(taken.stderr.contains("belongs to a cluster already"), "{}", taken.stderr);

    // The API by TLS, at a member that never saw the token being made.
    let address = format!("https://{}", two.api_address());
    let far = |token: &str| three.mill(["--address", &address, "--token", token, "nodes"]);
    assert!(far(&token).ok().contains("n3"));
    let other = another_ca(&token);
    assert!(far(&other).code(4).stderr.contains("another CA"));

    two.stop();
    poll(|| nodes(&one).contains(&"n2 down voter".to_owned())).secs(30).expect("n2 to be missed");
    two.launch();
    poll(|| nodes(&two) == full).secs(30).expect("n2 to be back by itself");

    three.mill(["leave"]).ok();
    let left = ["n1 ready", "n2 ready"];
    let rest = || nodes(&one).iter().map(|n| n.rsplit_once(' ').unwrap().0.to_owned()).collect();
    poll(|| -> bool {
        let rest: Vec<String> = rest();
        rest == left
    })
    .secs(30)
    .expect("two nodes");
    assert_eq!(three.api().get("/v1/health")["status"], "unclaimed");
    for gone in ["identity.json", "node", "raft"] {
        assert!(!three.data().join(gone).exists(), "{gone}");
    }
    // And it may come again, under its name, as another.
    let again = three.mill(with(&join, &["--node", "n3", "--json"])).json();
    assert_eq!(again["id"], 4);
    poll(|| nodes(&three) == full).secs(30).expect("three ready voters once more");
    // Who led goes as well.
    one.mill(["leave"]).ok();
    poll(|| nodes(&two).len() == 2).secs(30).expect("two nodes");
    two.mill(["token", "create", "--role", "read"]).ok();
    never_ready(two, three);
}

/// Both were let in, and nobody is there who could bring them the cluster's state.
fn never_ready(mut two: TestDaemon, mut three: TestDaemon) {
    for node in [&mut two, &mut three] {
        let _ = node.stop();
        fs::remove_dir_all(node.data().join("raft")).unwrap();
        let path = node.data().join("identity.json");
        let text = fs::read_to_string(&path).unwrap();
        let before = text.replace("\"begun\":true", "\"begun\":false");
        let before = before.replace("\"begun\": true", "\"begun\": false");
        assert_ne!(text, before);
        fs::write(path, before).unwrap();
    }
    three.launch();
    let told = || {
        let status = three.mill(["status"]);
        let is_told = status.stderr.contains("was let in, but it does not reach node 1 ");
        if is_told && status.stderr.contains("mill leave") { Ok(()) } else { Err(status) }
    };
    poll(told).secs(60).expect("why it isn't ready");
    let left = three.mill(["leave"]).ok();
    assert!(left.contains("n3 has left test"), "{left}");
    assert_eq!(three.api().get("/v1/health")["status"], "unclaimed");
    two.wipe();
    assert_eq!(two.api().get("/v1/health")["status"], "unclaimed");
}

/// The token with another fingerprint at its end.
fn another_ca(token: &str) -> String {
    let at = token.len() - 10;
    let letter = if &token[at..=at] == "x" { "y" } else { "x" };
    format!("{}{letter}{}", &token[..at], &token[at + 1..])
}

/// What a node is told that may not join.
fn refused(one: &TestDaemon, two: &TestDaemon, token: &str, join: &[String]) {
    let (place, good) = (join[1].as_str(), join[3].as_str());
    let wrong = format!("{}xx{}", &good[..30], &good[32..]);
    let other = another_ca(good);
    let api = one.api_address();
    let cases = [
        (place, wrong.as_str(), "n2", 4, "not known to this cluster"),
        (place, token, "n2", 4, "a token of role admin joins no node"),
        (place, other.as_str(), "n2", 1, "has another CA"),
        (place, "mill_x_y", "n2", 4, "no fingerprint"),
        (place, good, "n1", 1, "n1 is a member already"),
        (api.as_str(), good, "n2", 1, "no peer port"),
        ("127.0.0.1:1", good, "n2", 1, "127.0.0.1:1 does not answer"),
        ("127.0.0.1:x", good, "n2", 2, "is no HOST[:PORT]"),
    ];
    for (place, token, node, code, text) in cases {
        let refused = two.mill(["join", place, "--token", token, "--node", node]).code(code);
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    let advertised = [
        ("--advertise", "192.0.2.9", 2, "this host does not have the address 192.0.2.9"),
        // It is on the host, but its peer port isn't there: the member calls back.
        ("--advertise", "127.0.0.9", 1, "n1 does not reach this node at 127.0.0.9:"),
        ("--advertise-nat", "127.0.0.9", 1, "n1 does not reach this node at 127.0.0.9:"),
    ];
    for (flag, address, code, text) in advertised {
        let words = ["join", place, "--token", good, "--node", "n2", flag, address];
        let refused = two.mill(words).code(code);
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    assert_eq!(two.api().get("/v1/health")["status"], "unclaimed");
    assert_eq!(nodes(one), ["n1 ready voter"]);
}

#[test]
fn certificates_are_renewed_while_they_are_used() {
    let start = || {
        let builder = TestDaemon::builder().unclaimed();
        builder.env("MILL_CERTIFICATE_LIFE", "9s").start()
    };
    let (one, mut two) = (start(), start());
    let (token, join) = init(&one);
    two.mill(with(&join, &["--node", "n2"])).ok();
    let certificate = |node: &TestDaemon| {
        fs::read_to_string(node.data().join("node/cert.pem")).unwrap_or_default()
    };
    let both = || [certificate(&one), certificate(&two)];
    let address = format!("https://{}", two.api_address());
    let mut before = both();
    // The second renewal comes after the first certificate has ended.
    for turn in ["first", "second"] {
        let renewed = || {
            // A change by the follower, over a connection that is open all the while.
            two.mill([
                "--address",
                &address,
                "--token",
                &token,
                "token",
                "create",
                "--role",
                "read",
            ])
            .ok();
            let now = both();
            now[0] != before[0] && now[1] != before[1]
        };
        poll(renewed).secs(60).expect(turn);
        before = both();
    }
    assert_eq!(nodes(&one), ["n1 ready voter", "n2 ready learner"]);
    two.stop();
    two.launch();
    poll(|| nodes(&two).len() == 2).secs(30).expect("the renewed one is good after a restart");
}

//! `docs/workflows/first-route.md`: a host and a path lead to healthy replicas, on whatever node
//! the request comes in.

use crate::poll::poll;
use crate::registry::Registry;
use crate::support::node::MILL;
use crate::support::{TestDaemon, files};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// One request; the whole answer.
fn ask(address: &str, host: &str, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn first_route() {
    let registry = Registry::start();
    let node = TestDaemon::start();
    let http = node.http_address();
    let lines = "    route \"app.example.com\"\n    \
                 route \"*.example.org\" path=\"/api\" strip=#true\n    \
                 route \"www.example.com\" to=\"https://app.example.com\"\n}";
    let text = files::hello(&registry.image("hello:v1"), 2);
    let text = format!("{}{lines}\n", text.trim_end().trim_end_matches('}'));
    let none = ask(&http, "app.example.com", "/", "");
    assert!(none.starts_with("HTTP/1.1 404 ") && none.contains("Mill-Error: no-route"), "{none}");

    let _ = node.up(&text).ok();
    for host in ["app.example.com", "App.Example.com:8080"] {
        let answer = ask(&http, host, "/", "");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("hello v1"), "{answer}");
    }
    let answer = ask(&http, "any.example.org", "/api", "");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(ask(&http, "any.example.org", "/", "").starts_with("HTTP/1.1 404 "));
    let moved = ask(&http, "www.example.com", "/x?y", "");
    assert!(moved.starts_with("HTTP/1.1 308 "), "{moved}");
    assert!(moved.contains("https://app.example.com/x?y\r\n"), "{moved}");

    let list = node.mill(["route", "list"]).ok();
    assert!(list.starts_with("ROUTE ") && list.contains("app.example.com "), "{list}");
    println!("{list}");
    let services = node.api().get("/v1/services");
    assert_eq!(services[0]["routes"][0], "app.example.com", "{services}");
    let metrics = node.api().request("GET", "/v1/metrics").send().status(200).body;
    let counted = "mill_proxy_requests_total{route=\"app.example.com\",code=\"200\"} 2";
    assert!(metrics.contains(counted), "{metrics}");
    // Figures are of whole slots of five seconds.
    poll(|| node.mill(["status"]).ok().contains("ms")).secs(20).expect("a P99 in the status");
    println!("{}", node.mill(["status"]).ok());

    paused_and_written_down(&node, &http);

    let _ = node.mill(["scale", "hello", "0"]).ok();
    let ill = ask(&http, "app.example.com", "/", "Accept: application/json\r\n");
    assert!(
        ill.starts_with("HTTP/1.1 503 ") && ill.to_lowercase().contains("retry-after: "),
        "{ill}"
    );
    assert!(ill.contains("\"code\":\"no-healthy-replica\""), "{ill}");

    // Another app can't have the same route.
    let other =
        text.replace("app \"hello\"", "app \"other\"").replace("\"hello\" {", "\"other\" {");
    let refused = node.up(&other).code(2);
    assert!(refused.stderr.contains("leads to hello of app hello"), "{}", refused.stderr);
}

/// A page of maintenance in the place of a host, and what was asked of it.
fn paused_and_written_down(node: &TestDaemon, http: &str) {
    let pause = ["route", "pause", "app.example.com", "--message", "Back at noon"];
    let _ = node.mill(pause).ok();
    let page = || ask(http, "app.example.com", "/?paused", "");
    poll(|| page().contains("503 Back at noon\n")).secs(20).expect("the page");
    assert!(page().contains("Mill-Error: paused"), "{}", page());
    assert!(ask(http, "any.example.org", "/api", "").starts_with("HTTP/1.1 200 "));
    assert!(node.mill(["route", "list"]).ok().contains("paused"));
    assert!(node.mill(["status"]).ok().contains("mill route resume app.example.com"));
    let _ = node.mill(["route", "resume", "app.example.com"]).ok();
    let serves =
        || Some(page()).filter(|page| !page.starts_with("HTTP/1.1 200 ")).map_or(Ok(()), Err);
    poll(serves).secs(20).expect("the service");

    let lines = || node.mill(["logs", "--access", "hello"]).ok();
    poll(|| lines().contains("GET app.example.com/?paused 200 ")).secs(20).expect("its line");
    let all = lines();
    assert!(all.contains("GET app.example.com/?paused 503 ") && all.contains(" paused\n"), "{all}");
    assert!(!all.contains(" no-route\n"), "{all}");
    let last = node.mill(["logs", "--access", "-n", "1", "--json"]).ok();
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["stream"], &last["access"]["client"]),
        (&"access".into(), &"127.0.0.1".into())
    );
    assert!(node.mill(["logs", "--access"]).ok().contains(" no-route\n"));
}

#[test]
fn an_address_in_use_names_the_flag() {
    let node = TestDaemon::start();
    let folder = tempfile::tempdir().unwrap();
    let mut second = std::process::Command::new(MILL);
    second.arg("daemon").arg("--data-dir").arg(folder.path().join("data"));
    second.arg("--socket").arg(folder.path().join("s"));
    second.args(["--api", "127.0.0.1:0", "--http", &node.http_address()]);
    let output = second.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("is used by mill") && error.contains("Pass --http "), "{error}");
}

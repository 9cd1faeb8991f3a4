//! Log lines of several allocations as one stream.

use super::support::{Node, Sse};
use crate::fsm::model::{AllocationStatus, DeployStatus, Exit, ExitReason, Phase};
use crate::id::Attempt;
use std::collections::BTreeSet;

const FILE: &str = "service \"web\" {
    image \"nginx:1\"
    replicas 2
}
service \"api\" {
    image \"nginx:1\"
}
";

async fn running() -> Node {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    node.place("web", 0);
    node.place("web", 1);
    node.place("api", 0);
    node.finish(1, DeployStatus::Succeeded);
    node
}

fn who(events: &[Sse]) -> BTreeSet<String> {
    let name = |event: &Sse| event.data["allocation"].as_str().unwrap()[..5].to_owned();
    events.iter().map(name).collect()
}

async fn read(node: &Node, path: &str) -> Vec<Sse> {
    node.local().events("GET", path, "").await.rest().await
}

#[tokio::test]
async fn lines_of_all_replicas_come_in_the_order_of_their_times() {
    let node = running().await;
    let lines = read(&node, "/v1/logs/web").await;
    assert_eq!(lines.len(), 6);
    assert_eq!(who(&lines), ["web-0", "web-1"].map(str::to_owned).into());
    let times: Vec<&str> = lines.iter().map(|line| line.data["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(
        (&lines[0].data["stream"], &lines[0].data["node"]),
        (&"stdout".into(), &"n1".into())
    );
    assert_eq!(read(&node, "/v1/logs").await.len(), 9);
    assert_eq!(read(&node, "/v1/logs/api-0").await.len(), 3);
    assert_eq!(read(&node, "/v1/logs?name=api&name=web-1").await.len(), 6);
    assert_eq!(read(&node, "/v1/logs/web?name=api").await.len(), 9);
    let tail = read(&node, "/v1/logs/web?tail=2").await;
    assert_eq!(tail, lines[4..]);
    assert_eq!(read(&node, "/v1/logs/web?since=1970-01-01T00:00:03Z").await, lines[4..]);
    assert_eq!(read(&node, "/v1/logs/web?since=10m").await, []);
    assert_eq!(read(&node, "/v1/logs/web?since=1.5").await, []);
    assert_eq!(read(&node, "/v1/logs/web?since=3600&previous").await, []);
    let resumed = node.local().header("last-event-id", lines[2].id.clone());
    let rest = resumed.events("GET", "/v1/logs/web?tail=1", "").await.rest().await;
    assert_eq!(rest, lines[3..]);
}

#[tokio::test]
async fn following_goes_on_with_new_lines_and_new_allocations() {
    let node = running().await;
    let mut stream = node.local().events("GET", "/v1/logs/web?follow&tail=0", "").await;
    node.logs.more.send_replace(7_000);
    let first = [stream.next().await.unwrap(), stream.next().await.unwrap()];
    assert_eq!(who(&first), ["web-0", "web-1"].map(str::to_owned).into());
    assert_eq!(first[0].data["line"], "line 7000");
    // Between the lines it says whose program ended.
    let id = crate::id::AllocId::from(first[0].data["allocation"].as_str().unwrap().to_owned());
    let (reason, code) = (ExitReason::Error, Some(1));
    let exit = Some(Exit { code, reason, message: None });
    node.observe(
        &id,
        AllocationStatus { attempt: Attempt(1), phase: Phase::Backoff, exit, ..Default::default() },
    );
    let event = stream.next().await.unwrap().data;
    assert_eq!(
        (&event["stream"], &event["line"]),
        (&"event".into(), &"exited 1, restarting".into())
    );
    assert_eq!(event["allocation"], id.to_string());
    // A replica that comes later is followed from its first line on; another service's isn't.
    let scaled = node.local().send("POST", "/v1/services/web/scale", "{\"replicas\": 3}").await;
    assert_eq!(scaled.status, 202);
    node.place("web", 2);
    for n in 1..=3 {
        let line = stream.next().await.unwrap();
        let text = line.data["line"].as_str().unwrap();
        assert!(text.starts_with(&format!("line {n}")), "{text}");
        assert_eq!(who(&[line]), ["web-2".to_owned()].into());
    }
}

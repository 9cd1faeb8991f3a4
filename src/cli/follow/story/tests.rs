//! Tests of a deployment's looks.

use super::*;
use crate::cli::ps::tests::{PLAIN, allocation};
use crate::cli::status::tests::service;

fn change(name: &str, before: Option<u32>, after: Option<u32>, facts: &[&str]) -> Change {
    Change {
        name: name.to_owned(),
        before,
        after,
        facts: facts.iter().map(|&fact| fact.to_owned()).collect(),
        order: after.map(|_| UpdateOrder::StartFirst),
    }
}

fn event(phase: &str, allocation: &str, node: &str, elapsed: f64) -> ProgressEvent {
    ProgressEvent {
        phase: phase.into(),
        service: allocation.split('-').next().unwrap_or_default().to_owned(),
        allocation: Some(allocation.to_owned()),
        node: Some(node.to_owned()),
        elapsed,
        bytes: None,
        total: None,
        layers: None,
        message: None,
    }
}

fn with_message(event: ProgressEvent, message: &str) -> ProgressEvent {
    ProgressEvent { message: Some(message.to_owned()), ..event }
}

fn shop() -> Story {
    let running = ServiceView {
        allocations: vec![allocation("web-0-a81c", "web"), allocation("web-1-zzzz", "web")],
        ..service("web", 2, 2)
    };
    let changes = vec![
        change("web", Some(2), Some(2), &["image v1 → v2"]),
        change("old", Some(1), None, &["removed"]),
    ];
    Story::new(PLAIN, "shop", "prod", changes, &[running])
}

fn tell(story: &mut Story, events: &[ProgressEvent]) -> String {
    events.iter().flat_map(|event| story.progress(event).lines).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_failed_update_reads_as_documented() {
    let mut story = shop();
    let head = "shop r8 → prod\n~ web  image v1 → v2   2 replicas, start-first\n- old  removed";
    assert_eq!(story.accepted(8).join("\n"), head);
    let failure = "GET /healthz → 500 (3×)\nrelation \"users\" does not exist\n";
    let told = tell(
        &mut story,
        &[
            event("started", "web-0-k3f9", "n1", 0.0),
            event("scheduled", "web-0-k3f9", "n1", 0.2),
            event("healthy", "web-0-k3f9", "n1", 3.1),
            event("stopped", "web-0-a81c", "n1", 4.0),
            event("scheduled", "web-1-p02d", "n2", 4.0),
            with_message(event("failed", "web-1-p02d", "n2", 64.0), failure),
        ],
    );
    let expected = "\
web-0-k3f9  n1  healthy  3.1s  replaces web-0-a81c
web-1-p02d  n2  failed   GET /healthz → 500 (3×)
  | relation \"users\" does not exist";
    assert_eq!(told, expected);
    let failed = FailedEvent {
        revision: 8,
        service: Some("web".to_owned()),
        reason: "GET /healthz → 500 (3×)".to_owned(),
        status: "failed".into(),
        restored: Some(7),
        elapsed: 64.0,
    };
    assert_eq!(
        story.failed(&failed, (2, 2)),
        ["✗ r8 failed after 64s; r7 runs again, 2/2 healthy"]
    );
}

#[test]
fn a_reason_that_no_event_told_is_told_at_the_end() {
    let failed = FailedEvent {
        revision: 1,
        service: Some("web".to_owned()),
        reason: "registry.example.com/web:v2 not found (404)".to_owned(),
        status: "failed".into(),
        restored: None,
        elapsed: 2.04,
    };
    let lines = shop().failed(&failed, (0, 0));
    assert_eq!(lines[0], "web: registry.example.com/web:v2 not found (404)");
    assert_eq!(lines[1], "✗ r1 failed after 2.0s; nothing of it runs");
}

#[test]
fn a_reason_of_an_allocation_reads_like_its_failure() {
    let mut story = shop();
    story.progress(&event("scheduled", "web-1-p02d", "n2", 4.0));
    let failed = FailedEvent {
        revision: 8,
        service: Some("web".to_owned()),
        reason: "web-1-p02d: exited 3 3×: no users\nlast line".to_owned(),
        status: "failed".into(),
        restored: Some(7),
        elapsed: 64.0,
    };
    let lines = story.failed(&failed, (1, 2));
    assert_eq!(lines[0], "web-1-p02d  n2  failed   exited 3 3×: no users");
    assert_eq!(lines[1], "  | last line");
}

#[test]
fn one_that_another_took_the_place_of_says_which() {
    let failed = FailedEvent {
        revision: 8,
        service: None,
        reason: "superseded by r9 on the way back: web-1-p02d: exited 3 3×\nlast".to_owned(),
        status: "superseded".into(),
        restored: None,
        elapsed: 64.0,
    };
    let first =
        "✗ r8 superseded by r9 on the way back: web-1-p02d: exited 3 3×, 64s after it began";
    assert_eq!(shop().failed(&failed, (2, 2)), [first, "  | last"]);
}

#[test]
fn a_rollback_tells_what_changes_by_what_is_there_before_and_after() {
    let mut new = service("web", 3, 2);
    new.image = "registry.example.com/web:v0".to_owned();
    let before = [service("web", 2, 2), service("gone", 1, 1)];
    let mut deployment = crate::cli::status::tests::deployed(9, "running");
    deployment.images = ["web", "more"].map(|name| (name.to_owned(), String::new())).into();
    let after = [new, service("more", 1, 0), service("gone", 0, 1)];
    let told = between(&deployment, &before, &after);
    let lines: Vec<String> = told.iter().map(|change| change.line(4, PLAIN)).collect();
    assert_eq!(lines[0], "~ web   image v1 → v0, replicas 2 → 3");
    assert!(lines[1].starts_with("+ more  image v1"), "{lines:?}");
    assert_eq!(lines[2], "- gone  removed");
}

#[test]
fn success_says_how_long_and_how_many() {
    let done = DoneEvent { revision: 8, elapsed: 12.4, success: true };
    assert_eq!(shop().done(&done, (2, 2)), "✓ r8 done in 12s, 2/2 healthy");
    assert_eq!(shop().done(&done, (0, 0)), "✓ r8 done in 12s");
}

#[test]
fn what_may_not_change_is_told_when_it_does() {
    let changes =
        vec![change("web", Some(2), Some(2), &[]), change("api", None, Some(1), &["image v4"])];
    let mut story = Story::new(PLAIN, "shop", "prod", changes, &[]);
    assert_eq!(story.accepted(8), ["shop r8 → prod", "+ api  image v4   1 replica"]);
    let first = story.progress(&event("scheduled", "web-0-k3f9", "n1", 0.2));
    assert_eq!(first.lines, ["~ web  2 replicas, start-first"]);
    assert_eq!(story.progress(&event("starting", "web-0-k3f9", "n1", 0.3)).lines.len(), 0);
}

#[test]
fn a_removed_services_allocations_are_seen_off() {
    let mut web = service("web", 2, 2);
    web.allocations = vec![allocation("web-0-a81c", "web")];
    let mut story = Story::new(PLAIN, "shop", "prod", vec![Change::removed(&web)], &[web]);
    assert_eq!(story.accepted(9), ["shop r9 → prod", "- web  removed"]);
    let told = tell(&mut story, &[event("stopped", "web-0-a81c", "n1", 1.0)]);
    assert_eq!(told, "web-0-a81c  n1  stopped");
}

#[test]
fn scaling_down_sees_off_the_upper_replicas_only() {
    let web = service("web", 3, 3);
    let mut story = Story::new(PLAIN, "shop", "prod", vec![Change::scaled(&web, 2)], &[web]);
    assert_eq!(story.accepted(9), ["shop r9 → prod", "~ web  replicas 3 → 2"]);
    assert_eq!(
        tell(&mut story, &[event("stopped", "web-2-a81c", "n1", 1.0)]),
        "web-2-a81c  n1  stopped"
    );
    assert_eq!(tell(&mut story, &[event("stopped", "web-1-a81c", "n1", 1.0)]), "");
}

#[test]
fn live_lines_say_what_is_going_on() {
    let mut story = shop();
    let mut pulling = event("pulling", "web-0-k3f9", "n1", 0.0);
    pulling.bytes = Some(12_000_000);
    pulling.total = Some(80_000_000);
    let said = story.progress(&pulling);
    assert_eq!(
        said.doing.as_deref(),
        Some("web-0-k3f9  n1  pulling  [===>                ] 12M/80M")
    );
    assert_eq!(said.lines.len(), 1, "only the change");
    pulling.elapsed = 9.0;
    let said = story.progress(&pulling);
    assert_eq!(said.lines, ["web-0-k3f9  n1  pulling  12M/80M"], "one that takes long");
    assert!(story.progress(&pulling).lines.is_empty(), "said once");
    assert_eq!(story.progress(&event("healthy", "web-0-k3f9", "n1", 3.0)).doing, None);
}

#[test]
fn images_differ_by_tag_or_as_a_whole() {
    assert_eq!(image("r:5000/web:v1", "r:5000/web:v2").as_deref(), Some("image v1 → v2"));
    assert_eq!(image("web:v1", "api:v1").as_deref(), Some("image web:v1 → api:v1"));
    assert_eq!(image("r:5000/web", "r:5000/web:v2").as_deref(), Some("image r:5000/web → v2"));
    assert_eq!(image("web", "web"), None);
}

#[test]
fn what_is_replaced_is_waited_for_until_it_has_stopped() {
    let mut story = shop();
    let said = story.progress(&event("healthy", "web-0-k3f9", "n1", 3.1));
    let (old, text) = said.ending.unwrap();
    assert_eq!((old.as_str(), text.as_str()), ("web-0-a81c", "web-0-a81c  -  stopping"));
    let _ = story.progress(&event("stopped", "web-1-zzzz", "n1", 4.0));
    assert_eq!(story.progress(&event("healthy", "web-1-p02d", "n2", 5.0)).ending, None);
    let waits = ProgressEvent {
        allocation: None,
        message: Some("web-2 waits: no node fits cpu 1".to_owned()),
        ..event("retrying", "web-2-x", "n1", 5.0)
    };
    assert_eq!(story.progress(&waits).lines, ["web-2 waits: no node fits cpu 1"]);
    assert_eq!(story.progress(&waits).lines, [""; 0], "each wait is told once");
}

//! Logs that take too much room, on a real node: which go, and that who writes and reads goes on.

use super::support::Node;
use crate::poll::{poll, poll_async};
use futures_util::StreamExt;
use mill::actors::container;
use mill::actors::platform::logs::{Event, Query, directory};
use mill::fsm::model::Phase;
use mill::id::AllocId;
use mill::spec::model::VolumeSpec;
use std::fs::OpenOptions;
use std::path::PathBuf;

async fn last_line(node: &Node, id: &AllocId) -> Option<String> {
    let stream = node.platform.logs.read(id, Query::default()).ok()?;
    let lines = stream.filter_map(async |event| match event {
        Event::Line(line) => Some(line.line),
        Event::CaughtUp => None,
    });
    lines.fold(None, async |_, line| Some(line)).await
}

/// Makes a file as large as all logs may be together, on paper, and no newer.
fn blow_up(file: PathBuf) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_len(mill::limits::LOGS_MAX).unwrap();
    file.set_modified(written).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_logs_go_and_who_writes_goes_on() {
    let node = Node::start().await;
    let mut service = node.service("busybox:v1").await;
    let said = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    service.run.command = said("echo bye; exec sleep 1000");
    let ended = node.run("ended", service.clone());
    node.phase(&ended, Phase::Running).await;
    node.stop(&ended);
    node.phase(&ended, Phase::Stopped).await;
    // Three files: 8 MiB each.
    let script = "yes the quick brown fox | head -c 20000000; echo written; \
                  while ! [ -e /go ]; do usleep 50000; done; echo further; exec sleep 1000";
    service.run.command = said(script);
    let loud = node.run("loud", service);
    let says = async |what: &str| {
        let words = async || (last_line(&node, &loud).await.as_deref() == Some(what)).then_some(());
        poll_async(words).secs(30).expect_async(what).await;
    };
    says("written").await;
    let folder = |id: &AllocId| directory(&node.platform.places.data, id);
    let (over, first) = (folder(&ended), folder(&loud).join("1.0.log"));
    assert!(over.exists() && folder(&loud).join("1.2.log").exists());

    blow_up(over.join("1.0.log"));
    node.tell(container::Msg::Relieve);
    poll(|| !over.exists()).secs(20).expect("the ended one's log to go");
    assert!(first.exists(), "the rest has room");
    blow_up(first.clone());
    node.tell(container::Msg::Relieve);
    poll(|| !first.exists()).secs(20).expect("the oldest file to go");
    // Even where it alone is too much, the newest stays.
    node.tell(container::Msg::Relieve);
    std::fs::write(node.files(&loud).await.join("go"), "").unwrap();
    says("further").await;
    assert!(folder(&loud).join("1.2.log").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_writes_to_the_disk_is_measured() {
    let node = Node::start().await;
    let mut service = node.service("busybox:v1").await;
    // What dd says goes another way than what the shell says, and may come later.
    let script = "exec 2>/dev/null; dd if=/dev/zero of=/file bs=1M count=5; \
                  dd if=/dev/zero of=/srv/x bs=1M count=3; echo written; exec sleep 1000";
    service.run.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let (name, path) = ("scratch".to_owned(), "/srv".to_owned());
    service.run.volumes = vec![VolumeSpec { name, path, ephemeral: true, size: None }];
    let id = node.run("writes", service);
    let says = async || (last_line(&node, &id).await.as_deref() == Some("written")).then_some(());
    poll_async(says).secs(30).expect_async("what it writes").await;
    // The program may write before its node has heard that it runs, and only those are measured.
    node.phase(&id, Phase::Running).await;
    node.tell(container::Msg::Relieve);
    let measured = async || node.usage().await.written.get(&id).copied();
    let written = poll_async(measured).secs(20).expect_async("a figure").await;
    assert!((8 << 20..10 << 20).contains(&written.0), "{written}");
    let disks = node.usage().await.disks;
    assert!(disks.iter().any(|(_, free, all)| free.0 > 0 && free < all), "{disks:?}");
}

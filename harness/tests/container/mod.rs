//! The container actor with real containers: what the state asks for runs, and what runs is told.

mod adoption;
mod health;
mod isolation;
mod limits;
mod parts;
mod proxy;
mod retention;
mod support;

use crate::poll::{poll, poll_async};
use crate::ports::free_port;
use mill::fsm::Command;
use mill::fsm::model::{ExitReason, Health, Phase};
use mill::id::{Attempt, ContainerId};
use mill::spec::model::HealthProbe;
use parts::publish;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::Node;

fn get(address: (Ipv4Addr, u16)) -> std::io::Result<String> {
    let address = SocketAddr::from(address);
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn container(id: &mill::id::AllocId, attempt: u32) -> ContainerId {
    ContainerId::new(id, Attempt(attempt))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_runs_is_published_and_leaves_nothing() {
    let node = Node::start().await;
    poll(|| node.nothing_left()).expect("no bridge where nothing runs");
    let port = free_port();
    let mut hello = node.hello().await;
    hello.publish = publish(port);
    let id = node.run("web", hello);
    let seen = node.healthy(&id).await;
    assert_eq!((seen.attempt, seen.phase, seen.restarts), (Attempt(1), Phase::Running, 0));
    let address = seen.address.unwrap();
    assert!(get((address, 8080)).unwrap().contains("hello v1"));
    let published = || get((Ipv4Addr::LOCALHOST, port)).is_ok_and(|text| text.contains("hello v1"));
    poll(published).expect("the published port");
    let usage = node.usage().await;
    assert!(usage.allocations[&id].1.0 > 100_000, "{usage:?}");
    assert!(usage.node.1.0 > 1_000_000);
    node.stop(&id);
    let seen = node.phase(&id, Phase::Stopped).await;
    assert_eq!(seen.exit.unwrap().reason, ExitReason::Killed);
    poll(|| node.nothing_left()).expect("nothing is left");
    assert!(node.containers().await.is_empty());
    let index = node.script().state.index;
    poll(|| node.script().settled >= index).expect("the last view is settled");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_is_told_with_code_and_output_and_tried_again() {
    let node = Node::start().await;
    let service = node.service("crash:v1").await;
    let id = node.run("crash", service);
    let seen = node.phase(&id, Phase::Backoff).await;
    let exit = seen.exit.unwrap();
    assert_eq!((exit.code, exit.reason), (Some(3), ExitReason::Error));
    assert_eq!(exit.message.as_deref(), Some("crash: nothing to live for"));
    assert_eq!(seen.message.as_deref(), Some("exited 3, next try in 1s"));
    let second = |seen: &mill::fsm::model::AllocationStatus| {
        seen.phase == Phase::Backoff && seen.attempt == Attempt(2)
    };
    let seen = node.until(&id, "the second end", second).await;
    assert_eq!(seen.restarts, 1);
    assert_eq!(seen.exit.unwrap().message.as_deref(), Some("crash: nothing to live for"));
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
    assert!(node.containers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn want_of_memory_is_told() {
    let node = Node::start().await;
    let service = node.service("hog:v1").await;
    let id = node.run("hog", service);
    let seen = node.phase(&id, Phase::Backoff).await;
    assert_eq!(seen.exit.unwrap().reason, ExitReason::Oom);
    assert_eq!(seen.ooms, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_and_an_image_that_is_gone_are_told() {
    let node = Node::start().await;
    let mut service = node.service("busybox:v1").await;
    service.run.command = vec!["/no/such".into()];
    let id = node.run("absent", service.clone());
    let exit = node.phase(&id, Phase::Backoff).await.exit.unwrap();
    assert_eq!(exit.reason, ExitReason::StartFailed);
    assert!(exit.message.unwrap().starts_with("\"/no/such\" isn't in the image"));
    service.run.image = node.registry.image("nothing:v1");
    service.run.digest = Some(format!("sha256:{}", "0".repeat(64)).into());
    let id = node.run("gone", service);
    let exit = node.phase(&id, Phase::Backoff).await.exit.unwrap();
    assert_eq!(exit.reason, ExitReason::PullFailed);
    assert!(exit.message.unwrap().contains("not found (404)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_a_new_process_at_the_same_address() {
    let node = Node::start().await;
    let hello = node.hello().await;
    let id = node.run("web", hello);
    let before = node.healthy(&id).await;
    node.command(Command::RestartAllocation { allocation: id.clone() });
    let again = |seen: &mill::fsm::model::AllocationStatus| {
        seen.attempt == Attempt(2) && seen.health == Health::Healthy
    };
    let after = node.until(&id, "the second attempt", again).await;
    assert_eq!(before.address, after.address);
    assert_eq!(node.containers().await.into_keys().collect::<Vec<_>>(), [container(&id, 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_its_probes_is_restarted() {
    let node = Node::start().await;
    let mut hello = node.hello().await;
    hello.health.probe = HealthProbe::Http("/nothing".into());
    hello.health.grace = mill::units::Millis(300);
    let id = node.run("web", hello);
    let seen = node.phase(&id, Phase::Backoff).await;
    let exit = seen.exit.unwrap();
    assert_eq!(exit.reason, ExitReason::Killed);
    assert!(exit.message.unwrap().starts_with("GET /nothing → 404 (3×)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_adopts_what_runs_and_notices_what_ended() {
    let node = Node::start().await;
    let hello = node.hello().await;
    let spec = node.deploy("web", hello);
    let ids = node.place("web", &spec, 3);
    for id in &ids {
        let seen = node.healthy(id).await;
        assert_eq!(seen.attempt, Attempt(1), "{seen:?}");
    }
    let before = node.containers().await;
    node.crash().await;
    let [kept, ended, stopped] = &ids[..] else { panic!() };
    let pid = before[&container(ended, 1)].unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    node.stop(stopped);
    node.script().current = false;
    node.begin_life(2).await;
    let again = |seen: &mill::fsm::model::AllocationStatus| {
        seen.attempt == Attempt(2) && seen.health == Health::Healthy
    };
    let seen = node.until(ended, "what ended runs again", again).await;
    assert_eq!(seen.exit.unwrap().code, Some(137));
    // What is to be stopped stays as long as the state may be an old one.
    let now = node.containers().await;
    assert_eq!(now.get(&container(kept, 1)), before.get(&container(kept, 1)));
    assert_eq!(now.get(&container(stopped, 1)), before.get(&container(stopped, 1)));
    assert_eq!(node.seen(kept).health, Health::Healthy);
    node.script().current = true;
    node.command(Command::RestartAllocation { allocation: kept.clone() });
    node.phase(stopped, Phase::Stopped).await;
    node.until(kept, "the restart of what was adopted", again).await;
    for id in [kept, ended] {
        node.stop(id);
        node.phase(id, Phase::Stopped).await;
    }
    poll(|| node.nothing_left()).expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_no_allocation_goes_once_the_state_is_current() {
    let node = Node::start().await;
    let hello = node.hello().await;
    let id = node.run("web", hello);
    node.healthy(&id).await;
    node.crash().await;
    {
        let mut script = node.script();
        script.state.allocations.remove(&id);
        script.state.derived.by_node.clear();
        script.current = false;
    }
    node.begin_life(2).await;
    poll(|| !node.script().state.nodes.is_empty()).expect("a view");
    assert_eq!(node.containers().await.len(), 1, "an old state removes nothing");
    node.script().current = true;
    node.show();
    poll_async(async || node.containers().await.is_empty()).expect_async("it goes").await;
    poll(|| node.nothing_left()).expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_actor_takes_no_container_with_it() {
    let node = Node::start().await;
    let hello = node.hello().await;
    let id = node.run("web", hello);
    node.healthy(&id).await;
    let before = node.containers().await;
    let failed = node.allocs();
    failed[0].kill();
    let revived = || {
        let now = node.allocs();
        now.len() == 1 && now[0].get_id() != failed[0].get_id()
    };
    poll(revived).expect("a new actor");
    assert_eq!(node.containers().await, before);
    node.command(Command::RestartAllocation { allocation: id.clone() });
    let again = |seen: &mill::fsm::model::AllocationStatus| seen.attempt == Attempt(2);
    node.until(&id, "the new actor to work", again).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_names_the_program() {
    let node = Node::start().await;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let mut hello = node.hello().await;
    hello.publish = publish(port);
    let id = node.run("web", hello);
    let seen = node.phase(&id, Phase::Backoff).await;
    let exit = seen.exit.unwrap();
    assert_eq!(exit.reason, ExitReason::StartFailed);
    let message = exit.message.unwrap();
    assert!(message.starts_with(&format!("127.0.0.1:{port} is used by ")), "{message}");
    assert!(message.ends_with(&format!("(pid {})", std::process::id())), "{message}");
    drop(other);
    node.healthy(&id).await;
    let published = || get((Ipv4Addr::LOCALHOST, port)).is_ok_and(|text| text.contains("hello v1"));
    poll(published).expect("the port, once it is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_hangs_delays_nobody() {
    let node = Node::start().await;
    let hello = node.hello().await;
    let id = node.run("web", hello.clone());
    node.healthy(&id).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hanging = hello;
    hanging.run.image = format!("{}/web:v1", silent.local_addr().unwrap());
    hanging.run.digest = Some(format!("sha256:{}", "0".repeat(64)).into());
    let stuck = node.run("stuck", hanging);
    node.phase(&stuck, Phase::Pulling).await;
    let begun = Instant::now();
    node.stop(&id);
    node.phase(&id, Phase::Stopped).await;
    node.stop(&stuck);
    node.phase(&stuck, Phase::Stopped).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_start_together() {
    let node = Node::start().await;
    let mut service = node.service("busybox:v1").await;
    service.run.command = vec!["/bin/sleep".into(), "1000".into()];
    service.stop.grace = mill::units::Millis(100);
    let first = node.run("warm", service.clone());
    node.phase(&first, Phase::Running).await;
    let spec = node.deploy("many", service);
    let begun = Instant::now();
    let ids = node.place("many", &spec, 20);
    for id in &ids {
        node.phase(id, Phase::Running).await;
    }
    println!("20 run after {:?}", begun.elapsed());
    for id in ids.iter().chain([&first]) {
        node.stop(id);
    }
    for id in ids.iter().chain([&first]) {
        node.phase(id, Phase::Stopped).await;
    }
    poll(|| node.nothing_left()).expect("nothing is left");
    assert!(node.containers().await.is_empty());
}

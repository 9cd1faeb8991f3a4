//! Crashes at every point of a container's life: before and after each call to containerd.

use super::limits::leftovers;
use super::proxy::{Point, Proxy};
use super::support::Node;
use crate::poll::poll_async;
use mill::fsm::model::{AllocationStatus, ExitReason, Phase};
use mill::id::AllocId;
use mill::spec::model::{ServiceSpec, VolumeSpec};
use mill::units::Millis;

/// Calls in a life, with some to spare: a point that is never reached ends the search.
const CALLS_MAX: u32 = 60;

/// Each n-th point; `MILL_TEST_STRIDE=1` for all of them.
fn stride() -> usize {
    std::env::var("MILL_TEST_STRIDE").map_or(6, |text| text.parse().unwrap())
}

fn points() -> impl Iterator<Item = Point> {
    let all = (1..=CALLS_MAX).flat_map(|n| [Point::Before(n), Point::After(n)]);
    all.step_by(stride())
}

async fn shell(node: &Node, script: &str) -> ServiceSpec {
    let mut service = node.service("busybox:v1").await;
    service.run.command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    service.stop.grace = Millis(300);
    service
}

/// Waits until the proxy has stopped or the allocation is so; whether it was the proxy.
async fn stopped_or(
    node: &Node,
    proxy: &Proxy,
    id: &AllocId,
    holds: impl Fn(&AllocationStatus) -> bool,
) -> bool {
    let either = async || {
        let seen = node.seen(id);
        if proxy.has_stopped() || holds(&seen) { Ok(proxy.has_stopped()) } else { Err(seen) }
    };
    poll_async(either).secs(30).expect_async("the crash point, or the end").await
}

async fn crash(node: &Node, proxy: &Proxy, boot: &mut u64) {
    node.crash().await;
    proxy.reset();
    *boot += 1;
    node.begin_life(*boot).await;
}

async fn assert_nothing_left(node: &Node, point: Point) {
    let nothing = async || {
        let left = leftovers(node).await;
        if left.is_empty() { Ok(()) } else { Err((point, left)) }
    };
    poll_async(nothing).secs(20).expect_async("nothing is left").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_leaves_one_container_and_then_none() {
    let mut proxy = Proxy::new();
    let node = Node::start_behind(&mut proxy).await;
    let mut boot = 1;
    let mut crashes = 0;
    for (round, point) in points().enumerate() {
        let service = shell(&node, "trap 'exit 0' TERM; while :; do sleep 0.05; done").await;
        let spec = node.deploy(&format!("web{round}"), service);
        proxy.arm(point);
        let id = node.place(&format!("web{round}"), &spec, 1).remove(0);
        let mut crashed = stopped_or(&node, &proxy, &id, |s| s.phase == Phase::Running).await;
        if crashed {
            crash(&node, &proxy, &mut boot).await;
            node.phase(&id, Phase::Running).await;
        }
        assert_eq!(node.seen(&id).attempt.0, 1, "{point:?}: {:?}", node.seen(&id));
        if !crashed {
            node.stop(&id);
            crashed = stopped_or(&node, &proxy, &id, |s| s.phase == Phase::Stopped).await;
            match crashed {
                true => crash(&node, &proxy, &mut boot).await,
                false => proxy.disarm(),
            }
        } else {
            let found = node.containers().await;
            assert_eq!(found.len(), 1, "{point:?}: {found:?}");
            node.stop(&id);
        }
        let seen = node.phase(&id, Phase::Stopped).await;
        let reason = seen.exit.as_ref().map(|exit| exit.reason);
        assert!(matches!(reason, None | Some(ExitReason::Killed)), "{point:?}: {seen:?}");
        assert_nothing_left(&node, point).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    println!("{crashes} crashes");
    assert!(crashes > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_loses_no_exit_code() {
    let mut proxy = Proxy::new();
    let node = Node::start_behind(&mut proxy).await;
    let mut boot = 1;
    let mut crashes = 0;
    for (round, point) in points().enumerate() {
        // Ends with the number of its starts.
        let count = "echo x >> /data/n; exit $(wc -l < /data/n)";
        let mut service = shell(&node, count).await;
        let (name, path) = ("data".to_owned(), "/data".to_owned());
        service.run.volumes = vec![VolumeSpec { name, path, ephemeral: true, size: None }];
        let spec = node.deploy(&format!("end{round}"), service);
        proxy.arm(point);
        let id = node.place(&format!("end{round}"), &spec, 1).remove(0);
        let ended = |seen: &AllocationStatus| seen.phase == Phase::Backoff && seen.attempt.0 >= 2;
        let crashed = stopped_or(&node, &proxy, &id, ended).await;
        if crashed {
            crash(&node, &proxy, &mut boot).await;
            node.until(&id, "an end after the crash", ended).await;
        } else {
            proxy.disarm();
        }
        let seen = node.seen(&id);
        let exit = seen.exit.clone().unwrap();
        assert_eq!(exit.reason, ExitReason::Error, "{point:?}: {seen:?}");
        assert_eq!(exit.code, i32::try_from(seen.attempt.0).ok(), "{point:?}: {seen:?}");
        node.stop(&id);
        node.phase(&id, Phase::Stopped).await;
        assert_nothing_left(&node, point).await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    println!("{crashes} crashes");
    assert!(crashes > 1);
}

/// Another member has said so: nothing that its state assigns to it counts any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_stops_what_runs_and_begins_nothing() {
    let mut proxy = Proxy::new();
    let node = Node::start_behind(&mut proxy).await;
    let service = shell(&node, "trap 'exit 0' TERM; while :; do sleep 0.05; done").await;
    let spec = node.deploy("web", service);
    let id = node.place("web", &spec, 1).remove(0);
    node.phase(&id, Phase::Running).await;
    node.remove();
    let none = async || node.containers().await.is_empty();
    poll_async(none).secs(20).expect_async("it to stop").await;
    // Nor after a restart, whose state still says that it runs.
    crash(&node, &proxy, &mut 1).await;
    let settled = async || {
        let script = node.script();
        script.settled == script.state.index
    };
    poll_async(settled).secs(20).expect_async("the view").await;
    assert!(node.containers().await.is_empty());
    assert_nothing_left(&node, Point::Before(0)).await;
}

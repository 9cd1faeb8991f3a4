//! Routes to the other nodes' containers.
//!
//! Never uses a host but the test's own.

use super::*;
use crate::node::mesh::Way;
use std::sync::Arc;
use std::task::Poll;

#[test]
fn other_nodes_containers_are_routed_and_see_who_calls() {
    on_host(async |host| {
        let net = host.open().await;
        let other = host.outside().await;
        let ns = other.display().to_string();
        run(&format!("nsenter --net={ns} ip address add 10.101.16.2/32 dev lo"));
        run(&format!("nsenter --net={ns} ip link set lo up"));
        run(&format!("nsenter --net={ns} ip route add 10.101.8.0/21 via {HOST}"));
        serve(&other, 80, "other").await;
        let container = net.attach(&id("a"), ip(2)).await.unwrap();
        let there: Subnet = "10.101.16.0/21".parse().unwrap();
        let here: Subnet = "10.101.24.0/21".parse().unwrap();
        let neighbours = Neighbours { subnets: [there, here].into(), ..Neighbours::default() };
        net.neighbours(neighbours).await.unwrap();
        assert!(
            net.route([(there, Way::Plain(OUTSIDE)), (here, Way::Plain(HOST))].into())
                .await
                .unwrap()
                .is_empty()
        );
        let routes = run("ip route show");
        assert!(routes.contains("10.101.16.0/21 via 192.0.2.10"), "{routes}");
        assert!(!routes.contains("10.101.24.0"), "its node is on this host: {routes}");
        let heard = ask_from(&container, ([10, 101, 16, 2].into(), 80)).await;
        assert_eq!(heard, format!("other {}", ip(2)), "no address is translated between nodes");
        let nowhere = Ipv4Addr::new(192, 0, 2, 99);
        assert!(net.route([(there, Way::Plain(nowhere))].into()).await.unwrap().is_empty());
        assert!(run("ip route show").contains("10.101.16.0/21 via 192.0.2.99"));
        let far = Ipv4Addr::new(203, 0, 113, 1);
        run("ip route del default");
        assert_eq!(
            net.route([(there, Way::Plain(far))].into()).await.unwrap().len(),
            1,
            "no way there"
        );
        net.route([(there, Way::Plain(OUTSIDE))].into()).await.unwrap();
        net.close().await.unwrap();
        assert!(!run("ip route show").contains("10.101."));
    });
}

#[test]
fn the_mesh_is_routed_through_its_interface_and_containers_know_its_mtu() {
    on_host(async |host| {
        let net = host.open().await;
        let _outside = host.outside().await;
        let make = || {
            run("ip link add mill-a101m type veth peer name far0");
            run("ip link set far0 up");
        };
        // Whoever wants the network to rest waits until the interface is there.
        let make_it = async {
            let rest = net.rest();
            tokio::pin!(rest);
            assert!(futures_util::poll!(&mut rest).is_pending(), "it is being made");
            make();
            Ok::<_, NetError>(())
        };
        net.open_mesh(1_320, make_it).await.unwrap();
        assert!(!net.rest().await.unwrap(), "its interface is there, and is about to be used");
        let passes_on = || run("cat /proc/sys/net/ipv4/conf/mill-a101m/forwarding");
        assert_eq!(passes_on().trim(), "1");
        run("ip link del mill-a101m");
        let make_again = async {
            make();
            Ok::<_, NetError>(())
        };
        net.open_mesh(1_320, make_again).await.unwrap();
        assert_eq!(passes_on().trim(), "1", "also once it was made again");
        let before = net.attach(&id("a"), ip(2)).await.unwrap();
        let there: Subnet = "10.101.16.0/21".parse().unwrap();
        assert!(net.route([(there, Way::Plain(OUTSIDE))].into()).await.unwrap().is_empty());
        assert!(run("ip link show mill-a101m").contains("mtu 1320"));
        assert!(net.route([(there, Way::Mesh(Some(OUTSIDE)))].into()).await.unwrap().is_empty());
        let routes = run("ip route show 10.101.16.0/21");
        assert!(routes.contains("dev mill-a101m") && routes.contains("src 10.101.8.1"), "{routes}");
        assert!(!routes.contains("via"), "the plain way is gone: {routes}");
        net.limit_far(1_320).await.unwrap();
        let after = net.attach(&id("b"), ip(3)).await.unwrap();
        for container in [before, after] {
            let ns = container.display();
            let routes = run(&format!("nsenter --net={ns} ip route show 10.101.0.0/16"));
            assert!(routes.contains("via 10.101.8.1") && routes.contains("mtu 1320"), "{routes}");
        }
        assert!(run("nft list chain ip mill_a101 clamp").contains("rt mtu"));
        net.close_mesh().await.unwrap();
        let lost = net.route([(there, Way::Mesh(None))].into()).await.unwrap();
        assert_eq!(lost.len(), 1, "no interface, no way");
        net.close().await.unwrap();
    });
}

#[test]
fn many_ask_the_kernel_for_lists_at_once() {
    on_host(async |host| {
        let net = Arc::new(host.open().await);
        // More than the kernel tells at a time.
        let more =
            (0..3_000).map(|n| format!("address add 10.9.{}.{}/32 dev lo\n", n / 200, n % 200));
        let more: Vec<String> = more.collect();
        let batch = host.dir.join("batch");
        std::fs::write(&batch, more.concat()).unwrap();
        run(&format!("ip -batch {}", batch.display()));
        // A runtime with enough to do hears late that the kernel has answered.
        let ask = |turns: usize| {
            let (net, mut left) = (Arc::clone(&net), turns);
            tokio::spawn(async move {
                let turn = std::future::poll_fn(|context| {
                    context.waker().wake_by_ref();
                    left = left.saturating_sub(1);
                    if left == 0 { Poll::Ready(()) } else { Poll::Pending }
                });
                turn.await;
                net.own_addresses().await
            })
        };
        for list in futures_util::future::join_all((0..10).map(ask)).await {
            let list = list.unwrap();
            assert!(list.unwrap().len() > 3_000);
        }
        net.close().await.unwrap();
    });
}

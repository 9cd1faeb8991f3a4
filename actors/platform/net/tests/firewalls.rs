//! Other programs that change the kernel's rules, and what is passed on for others.
//!
//! Never uses a host but the test's own.

use super::*;

/// Polls until it holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WAIT, "{what}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn rules_that_another_program_removed_come_back() {
    on_host(async |host| {
        let outside = host.outside().await;
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        net.publish(tcp(&[(9000, &[(ip(2), 80)])])).await.unwrap();
        net.inspect(true).await.unwrap();
        assert_eq!(net.trouble(), Vec::<String>::new());
        for broken in [
            "nft flush ruleset",
            "nft delete table ip mill_a101",
            "nft delete table bridge mill_a101",
            "nft flush chain ip mill_a101 forward",
            "nft flush chain ip mill_a101 publish",
            "nft flush set bridge mill_a101 members",
        ] {
            run(broken);
            net.inspect(true).await.unwrap();
            assert_eq!(ask_from(&outside, (HOST, 9000)).await, "a 192.0.2.10", "{broken}");
            net.inspect(true).await.unwrap();
        }
        assert!(net.trouble()[0].contains("made again"), "{:?}", net.trouble());
        let rules = || {
            // Tables are listed in the order in which they were made.
            let text = run("nft list ruleset");
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines.join("\n")
        };
        let whole = rules();
        let repaired = async {
            run("nft flush ruleset");
            // Nobody asks for it: the kernel's news is heard.
            until("the rules are back", || rules() == whole).await;
        };
        tokio::select! {
            () = net.look_after() => {}
            () = repaired => {}
        }
        net.close().await.unwrap();
        assert_eq!(rules(), "");
    });
}

#[test]
fn a_firewall_that_drops_everything_is_told_until_it_lets_us_through() {
    on_host(async |host| {
        let net = host.open().await;
        net.inspect(true).await.unwrap();
        assert_eq!(net.trouble(), Vec::<String>::new());
        run_nft("add table ip filter");
        let hook = "{ type filter hook forward priority 0; policy drop; }";
        run_nft(&format!("add chain ip filter FORWARD {hook}"));
        net.inspect(true).await.unwrap();
        let told = net.trouble();
        assert!(told[0].contains("iptables -I FORWARD -i mill-a101 -j ACCEPT"), "{told:?}");
        for end in ["iifname", "oifname"] {
            run_nft(&format!("add rule ip filter FORWARD {end} \"mill-a101\" counter accept"));
        }
        net.inspect(true).await.unwrap();
        assert_eq!(net.trouble(), Vec::<String>::new());
        net.close().await.unwrap();
    });
}

fn run_nft(rule: &str) {
    let output = Command::new("nft").arg(rule).output().unwrap();
    assert!(output.status.success(), "{rule}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn packets_are_passed_on_for_containers_and_not_for_others() {
    on_host(async |host| {
        // A namespace inherits what the host has; the second write undoes it for each interface.
        for value in ["1", "0"] {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
        }
        let outside = host.outside().await;
        let third = host.dir.join("third");
        drop(netns::ensure(&third).await.unwrap());
        let ns = third.display().to_string();
        run("ip link add dmz type veth peer name dmz0");
        run(&format!("ip link set dmz0 netns {ns}"));
        run("ip address add 203.0.113.1/24 dev dmz");
        run("ip link set dmz up");
        run(&format!("nsenter --net={ns} ip address add 203.0.113.2/24 dev dmz0"));
        run(&format!("nsenter --net={ns} ip link set dmz0 up"));
        run(&format!("nsenter --net={ns} ip route add default via 203.0.113.1"));
        let route = format!("ip route add 203.0.113.0/24 via {HOST}");
        run(&format!("nsenter --net={} {route}", outside.display()));
        serve(&third, 80, "third").await;
        let far = (Ipv4Addr::new(203, 0, 113, 2), 80);
        let passes = || within(&outside, move || dial(far, REFUSED).is_ok());
        assert!(!passes().await.unwrap(), "the host is no router");
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        assert_eq!(ask_from(&a, far).await, "third 203.0.113.1", "a container gets out");
        assert!(!passes().await.unwrap(), "and is still none for others");
        let switch = |name: &str| {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/forwarding");
            std::fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!((switch("all"), switch("wan")), ("0".into(), "1".into()));
        // Somebody makes it one: that is none of ours.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        net.inspect(false).await.unwrap();
        assert!(passes().await.unwrap(), "the administrator decides");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        net.inspect(false).await.unwrap();
        assert!(!passes().await.unwrap(), "and again");
        assert_eq!(ask_from(&a, far).await, "third 203.0.113.1", "containers get out again");
        net.close().await.unwrap();
        assert_eq!((switch("all"), switch("wan")), ("0".into(), "0".into()));
        assert!(!host.config().forwarding.exists());
    });
}

//! The services' stable addresses: where they lead from, and that they refuse what leads nowhere.
//!
//! Never uses a host but the test's own.

use super::reach::{REMOTE, Scene, reaches};
use super::*;
use std::collections::BTreeSet;

/// A service's own address, and one that no service has.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 101, 248, 2);
const NOBODYS: Ipv4Addr = Ipv4Addr::new(10, 101, 249, 9);

fn virtuals(targets: &[Ipv4Addr]) -> Virtuals {
    let targets: BTreeSet<Ipv4Addr> = targets.iter().copied().collect();
    let targets = match targets.is_empty() {
        true => BTreeMap::new(),
        false => [80, 5353].map(|port| ((SERVICE, port), targets.clone())).into(),
    };
    Virtuals { range: Some("10.101.248.0/21".parse().unwrap()), targets }
}

/// Who answers at the address, of many tries.
async fn heard(from: Option<&PathBuf>) -> BTreeSet<String> {
    let asks = || (0..40).map(|_| ask((SERVICE, 80))).collect::<Vec<_>>();
    let said = match from {
        Some(namespace) => within(namespace, asks).await.unwrap(),
        None => asks(),
    };
    said.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_stable_address_leads_to_all_replicas_from_all_who_may() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        scene.net.lead(virtuals(&[ip(2), ip(3), REMOTE])).await.unwrap();
        for bridge_meets_rules in ["1", "0"] {
            let _ = std::fs::write(BRIDGE_RULES, bridge_meets_rules);
            let all = names(&["a", "b", "remote"]);
            assert_eq!(heard(Some(&scene.a)).await, all, "a container, to itself as well");
            assert_eq!(heard(None).await, all, "the host");
            let stranger = Some(&scene.stranger);
            assert!(!reaches(stranger, (SERVICE, 80), false).await, "a stranger");
        }
        let mut old = within(&scene.b, || dial((SERVICE, 80), WAIT).unwrap()).await.unwrap();
        greeting(&mut old);
        scene.net.lead(virtuals(&[ip(3)])).await.unwrap();
        assert_eq!(heard(Some(&scene.a)).await, names(&["b"]));
        old.write_all(b"still here\n").unwrap();
        assert_eq!(greeting(&mut old), "still here");
        scene.net.close().await.unwrap();
    });
}

#[test]
fn what_leads_nowhere_is_refused_at_once() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        let refused = async |to: (Ipv4Addr, u16)| {
            let kind = move || dial(to, WAIT).unwrap_err().kind();
            let inside = within(&scene.a, kind).await.unwrap();
            assert_eq!([inside, kind()], [io::ErrorKind::ConnectionRefused; 2], "{to:?}");
        };
        scene.net.lead(virtuals(&[ip(3)])).await.unwrap();
        refused((NOBODYS, 80)).await;
        refused((SERVICE, 81)).await;
        scene.net.lead(virtuals(&[])).await.unwrap();
        refused((SERVICE, 80)).await;
        scene.net.close().await.unwrap();
    });
}

#[test]
fn datagrams_follow_a_change_of_replicas() {
    on_host(async |host| {
        let scene = Scene::new(&host).await;
        let (first, second) = (hear(&scene.a, 5353).await, hear(&scene.b, 5353).await);
        let client = hear(&scene.b, 6000).await;
        let mut bytes = [0; 8];
        scene.net.lead(virtuals(&[ip(2)])).await.unwrap();
        client.send_to(b"one", (SERVICE, 5353)).unwrap();
        assert_eq!(first.recv(&mut bytes).unwrap(), 3);
        scene.net.lead(virtuals(&[ip(3)])).await.unwrap();
        client.send_to(b"second", (SERVICE, 5353)).unwrap();
        assert_eq!(second.recv(&mut bytes).unwrap(), 6);
        scene.net.close().await.unwrap();
    });
}

#[test]
fn addresses_go_on_leading_without_the_process_and_are_led_again_where_rules_were_lost() {
    on_host(async |host| {
        // So that the host has a way out, and an address to ask with.
        host.outside().await;
        let net = host.open().await;
        let a = net.attach(&id("a"), ip(2)).await.unwrap();
        serve(&a, 80, "a").await;
        net.lead(virtuals(&[ip(2)])).await.unwrap();
        drop(net);
        assert_eq!(ask((SERVICE, 80)), "a 192.0.2.1");
        let net = host.open().await;
        assert_eq!(ask((SERVICE, 80)), "a 192.0.2.1", "before the first time");
        net.lead(virtuals(&[ip(2)])).await.unwrap();
        net.inspect(true).await.unwrap();
        run("nft flush chain ip mill_a101 lead");
        net.inspect(true).await.unwrap();
        assert_eq!(ask((SERVICE, 80)), "a 192.0.2.1", "made again");
        net.close().await.unwrap();
        // Whoever wakes the network finds them led.
        net.lead(virtuals(&[ip(4)])).await.unwrap();
        let again = net.attach(&id("again"), ip(4)).await.unwrap();
        serve(&again, 80, "again").await;
        assert_eq!(ask((SERVICE, 80)), "again 192.0.2.1");
        net.close().await.unwrap();
    });
}

//! The machines that cluster tests stand on: they reach each other, and can be cut off.

use crate::support::TestCluster;
use crate::support::netns::address;

#[test]
fn machines_reach_each_other_until_they_are_cut_off() {
    let cluster = TestCluster::unclaimed(2);
    let hears = |n: usize, other: &str| {
        let mut ping = cluster.node(n).namespace().command("curl");
        let url = format!("http://{other}/v2/");
        ping.args(["--silent", "--max-time", "1", "--output", "/dev/null", &url]);
        ping.status().unwrap().success()
    };
    let registry = cluster.image("x").split('/').next().unwrap().to_owned();
    assert!(hears(1, &registry) && hears(2, &registry));
    for number in [1, 2] {
        assert_eq!(cluster.node(number).api().request("GET", "/v1/health").send().status, 200);
    }
    cluster.hub().cut(2);
    assert!(hears(1, &registry) && !hears(2, &registry));
    cluster.hub().heal(2);
    cluster.hub().mute(1);
    assert!(!hears(1, &registry) && hears(2, &registry));
    cluster.hub().heal(1);
    assert!(hears(1, &registry), "{}", address(1));
}

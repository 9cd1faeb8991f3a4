//! A node's life as a person sees it: started, claimed, stopped, started again, gone.

use crate::support::TestDaemon;

#[test]
fn a_node_starts_is_claimed_and_leaves_nothing() {
    let mut node = TestDaemon::start();
    let nodes = node.api().get("/v1/nodes");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert!(!node.leftovers().is_empty(), "a running node has processes");
    assert_eq!(node.stop(), Some(0));
    node.restart();
    assert_eq!(node.api().get("/v1/nodes")[0]["name"], nodes[0]["name"]);
}

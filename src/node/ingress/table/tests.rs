//! Tests of the table: which replicas a host and path lead to, and which one is chosen.

use super::*;
use crate::fsm::command::Action;
use crate::fsm::model::Health;
use crate::node::ingress::fixture::Case;
use yare::parameterized;

type Plain = Table<(), ()>;

impl Case {
    fn table(&self, local_names: bool) -> Plain {
        let mut maker =
            Maker { node: NodeId(1), local_names, figures: &mut |_| (), gauge: &mut |_| () };
        Table::of(&self.state, &mut maker)
    }

    /// Where a request may go.
    fn leads(&self, host: &str, path: &str) -> Option<Vec<String>> {
        let rule = self.table(false).find(host, path)?;
        Some(rule.replicas.iter().map(|r| r.address.to_string()).collect())
    }
}

const SHOP: &str = "app \"shop\"
service \"web\" { image \"a\"; port 3000; route \"app.example.com\"; route \"*.example.com\" }
service \"api\" { image \"b\"; port 4000; port 9000 name=\"admin\"
    route \"app.example.com\" path=\"/api\"
    route \"app.example.com\" path=\"/api/admin\" port=\"admin\" }
";

#[parameterized(
    root = { "app.example.com", "/", Some("10.99.0.2:3000") },
    deep = { "app.example.com", "/x/y", Some("10.99.0.2:3000") },
    prefix = { "app.example.com", "/api/x", Some("10.99.0.3:4000") },
    prefix_itself = { "app.example.com", "/api", Some("10.99.0.3:4000") },
    not_a_segment = { "app.example.com", "/apix", Some("10.99.0.2:3000") },
    longest = { "app.example.com", "/api/admin/x", Some("10.99.0.3:9000") },
    wildcard = { "other.example.com", "/api", Some("10.99.0.2:3000") },
    two_labels = { "a.b.example.com", "/", None },
    apex = { "example.com", "/", None },
    unknown = { "app.example.org", "/", None },
)]
fn a_request_leads_to_the_longest_prefix_of_its_host(
    host: &str,
    path: &str,
    expected: Option<&str>,
) {
    let mut case = Case::new(SHOP);
    case.run("web", 0, [10, 99, 0, 2], Health::Healthy);
    case.run("api", 0, [10, 99, 0, 3], Health::Healthy);
    let found = case.leads(host, path);
    assert_eq!(found, expected.map(|address| vec![address.to_owned()]));
}

#[test]
fn only_what_is_healthy_and_not_draining_gets_requests() {
    let mut case = Case::new(SHOP);
    assert_eq!(case.leads("app.example.com", "/"), Some(vec![]));
    case.run("web", 0, [10, 99, 0, 2], Health::Unhealthy);
    assert_eq!(case.leads("app.example.com", "/"), Some(vec![]));
    let old = case.run("web", 0, [10, 99, 0, 3], Health::Healthy);
    case.act(Action::Drain { allocation: old.clone() });
    assert_eq!(case.leads("app.example.com", "/"), Some(vec!["10.99.0.3:3000".to_owned()]));
    case.run("web", 0, [10, 99, 0, 4], Health::Healthy);
    assert_eq!(case.leads("app.example.com", "/"), Some(vec!["10.99.0.4:3000".to_owned()]));
}

#[test]
fn a_route_that_changes_hands_stays_where_it_is_until_the_other_is_ready() {
    let mut case = Case::new("service \"web\" { image \"a\"; port 3000; route \"a.example\" }");
    case.run("web", 0, [10, 99, 0, 2], Health::Healthy);
    let app = crate::id::AppName::from("default");
    let mut next = case.state.apps[&app].as_ref().clone();
    let web = next.services.get_mut(&WorkloadName::from("web")).unwrap();
    web.stable = web.target.clone();
    case.state.apps.insert(app, Arc::new(next));
    case.deploy(
        "service \"web\" { image \"a\"; port 3000 }
         service \"new\" { image \"a\"; port 4000; route \"a.example\" }",
    );
    assert_eq!(case.leads("a.example", "/"), Some(vec!["10.99.0.2:3000".to_owned()]));
    case.run("new", 0, [10, 99, 0, 3], Health::Healthy);
    assert_eq!(case.leads("a.example", "/"), Some(vec!["10.99.0.3:4000".to_owned()]));
}

#[test]
fn a_developer_has_names_below_localhost() {
    let mut case = Case::new(SHOP);
    case.run("web", 0, [10, 99, 0, 2], Health::Healthy);
    let found = |host: &str| case.table(true).find(host, "/").is_some();
    assert!(found("web.localhost") && found("api.localhost"));
    assert!(found("app.example.com.localhost") && found("app.example.com"));
    assert!(case.table(false).find("web.localhost", "/").is_none());
}

fn replicas(of: &[(u32, bool, bool)]) -> Vec<Replica<Load>> {
    let one = |(n, (active, out, here)): (usize, &(u32, bool, bool))| Replica {
        id: AllocId::from(format!("web-{n}")),
        address: SocketAddrV4::new([10, 99, 0, 1].into(), 80),
        here: *here,
        gauge: Load { active: *active, out: *out },
    };
    of.iter().enumerate().map(one).collect()
}

/// How often each is chosen.
fn chosen(of: &[(u32, bool, bool)], tried: &[&str]) -> Vec<u32> {
    let replicas = replicas(of);
    let tried: Vec<AllocId> = tried.iter().map(|id| AllocId::from(*id)).collect();
    let mut counts = vec![0; of.len()];
    for random in (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let Some(one) = choose(&replicas, random, |load| *load, &tried) else { continue };
        let at = replicas.iter().position(|replica| replica.id == one.id).unwrap();
        counts[at] += 1;
    }
    counts
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    assert_eq!(chosen(&[(5, false, false), (1, false, false)], &[]), [0, 1000]);
    let even = chosen(&[(1, false, false), (1, false, false), (1, false, false)], &[]);
    assert!(even.iter().all(|count| (200..500).contains(count)), "{even:?}");
    let most = chosen(&[(9, false, false), (1, false, false), (1, false, false)], &[]);
    assert_eq!(most[0], 0);
}

#[test]
fn this_nodes_is_preferred_at_equal_load_only() {
    assert_eq!(chosen(&[(1, false, false), (1, false, true)], &[]), [0, 1000]);
    assert_eq!(chosen(&[(0, false, false), (1, false, true)], &[]), [1000, 0]);
}

#[test]
fn who_failed_is_the_last_resort_and_who_was_tried_none() {
    assert_eq!(chosen(&[(0, true, true), (9, false, false)], &[]), [0, 1000]);
    assert_eq!(chosen(&[(0, true, true)], &[]), [1000]);
    assert_eq!(chosen(&[(0, false, true), (9, true, false)], &["web-0"]), [0, 1000]);
    assert_eq!(chosen(&[(0, false, true)], &["web-0"]), [0]);
}

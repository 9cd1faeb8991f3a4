//! Orders of certificates where something is in the way: an account elsewhere, a host that isn't
//! found, an authority that has had enough, a leader that dies.

use crate::certificates::{Plan, Site, port};
use crate::poll::poll;
use crate::support::front::{Front, Manner};
use crate::support::netns::address;
use crate::support::pebble::Pebble;
use crate::support::{TestCluster, files};
use serde_json::Value;

const HOST: &str = "app.acme.test";
const ROUTE: &str = "    route \"app.acme.test\"";
/// The authority's own words, in its log.
const NEW_ORDER: &str = "POST /order-plz";
const ISSUED: &str = "Issued certificate serial";

impl Site {
    /// Waits for so many failures; the host's document then.
    #[track_caller]
    fn failed(&self, failures: u32) -> Value {
        poll(|| {
            let one = self.certificate(HOST);
            if one["failures"] == failures { Ok(one) } else { Err(one) }
        })
        .secs(60)
        .expect("a failure")
    }

    fn renew(&self) {
        let _ = self.node.mill(["cert", "renew", HOST]).ok();
    }
}

#[test]
fn an_account_elsewhere() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let external = Some(("kid-1", key));
    let site = Site::of(&Plan { routes: ROUTE, external, ..Plan::default() });
    let directory = site.pebble.directory();
    let setup = format!("mill cert setup --email ops@acme.test --directory {directory}");
    let told = format!("the authority wants an external account: {setup} --eab KID:HMAC");
    assert_eq!(site.failed(1)["error"], told);
    assert!(site.node.mill(["status"]).ok().contains(&told));
    let list = site.node.mill(["cert", "list"]).ok();
    assert!(list.contains(&format!("{HOST}  {told}")), "{list}");

    let set = |eab: &str| {
        let fixed = ["cert", "setup", "--email", "ops@acme.test", "--directory", &directory];
        site.node.mill(fixed.into_iter().chain(["--eab", eab]))
    };
    let _ = set("kid-1").code(2).says("is no pair");
    let _ = set("kid-1:a+b/").code(2).says("is no base64url");
    for (eab, id) in [("kid-2:c2VjcmV0", "kid-2"), ("kid-1:c2VjcmV0", "kid-1")] {
        let _ = set(eab).ok();
        let one = site.failed(1);
        println!("{one}");
        let error = one["error"].as_str().unwrap().to_owned();
        let begin = format!("the authority does not take the external account {id}: ");
        assert!(error.starts_with(&begin) && error.contains(&setup), "{error}");
        assert!(site.node.mill(["status"]).ok().contains(&begin));
        assert!(!error.contains("c2VjcmV0"), "{error}");
    }
    let _ = set(&format!("kid-1:{key}")).ok();
    let valid = site.valid(HOST);
    assert_eq!((&valid["failures"], valid["error"].is_null()), (&0.into(), true), "{valid}");
}

#[test]
fn after_a_failure_it_is_tried_first() {
    let mut trial = Pebble::new();
    trial.start(1, 1);
    let site = Plan { routes: ROUTE, trial: Some(&trial), blind: true, ..Plan::default() };
    let mut site = Site::of(&site);
    site.failed(1);
    let counts = |site: &Site, trial: &Pebble| (site.pebble.said(NEW_ORDER), trial.said(NEW_ORDER));
    assert_eq!(counts(&site, &trial).1, 0, "the first order is no try");
    let before = counts(&site, &trial).0;
    site.renew();
    site.failed(2);
    let (orders, tries) = counts(&site, &trial);
    assert!(orders == before && tries > 0, "{before}, {orders}, {tries}");
    assert_eq!(trial.said(ISSUED), 0);

    // The host is found there: then it is ordered, at once.
    trial.stop();
    let (http, https) = (port(&site.node.http_address()), port(&site.node.https_address()));
    trial.start(http, https);
    site.pebble.stop();
    site.pebble.start(http, https);
    site.renew();
    site.valid(HOST);
    let (orders, tries) = counts(&site, &trial);
    assert!(orders > 0 && tries > 0, "{orders}, {tries}");
    assert_eq!((site.pebble.said(ISSUED), trial.said(ISSUED)), (1, 0));
    let _ = site.https(HOST, &site.pebble.root()).ok();
}

#[test]
fn without_the_place_for_tries_it_is_ordered_all_the_same() {
    let trial = Pebble::new();
    let plan = Plan { routes: ROUTE, trial: Some(&trial), blind: true, ..Plan::default() };
    let mut site = Site::of(&plan);
    site.failed(1);
    site.pebble.stop();
    site.pebble.start(port(&site.node.http_address()), port(&site.node.https_address()));
    site.renew();
    site.valid(HOST);
}

#[test]
fn whoever_has_had_enough_is_left_alone() {
    let front = Some(Manner { refuses: Some("7200"), ..Manner::default() });
    let site = Site::of(&Plan { routes: ROUTE, front, ..Plan::default() });
    let one = site.failed(1);
    assert_eq!(one["error"], "too many orders", "{one}");
    let now: jiff::Timestamp = jiff::Timestamp::now();
    let next: jiff::Timestamp = one["next"].as_str().unwrap().parse().unwrap();
    let wait = next.as_second() - now.as_second();
    assert!((7_000..=7_200).contains(&wait), "{wait} s: {one}");

    // Who asks for one doesn't wait, and a date is as good as seconds.
    let front = site.front.as_ref().unwrap();
    front.behave(|manner| manner.refuses = Some("Wed, 30 Jan 2030 10:00:00 GMT"));
    site.renew();
    let one = site.failed(2);
    let next: jiff::Timestamp = one["next"].as_str().unwrap().parse().unwrap();
    let days = (next.as_second() - now.as_second()) / 86_400;
    assert!((6..=7).contains(&days), "the longest wait there is: {one}");
    front.behave(|manner| manner.refuses = None);
    site.renew();
    site.valid(HOST);
}

/// Seconds since 1970 of a document's time.
fn second(one: &Value, field: &str) -> i64 {
    let time: jiff::Timestamp = one[field].as_str().unwrap().parse().unwrap();
    time.as_second()
}

#[test]
fn the_authority_says_when_to_renew() {
    let front = Some(Manner::default());
    let mut site = Site::of(&Plan { routes: ROUTE, front, ..Plan::default() });
    let first = site.valid(HOST);
    let (from, until) = (second(&first, "not_before"), second(&first, "not_after"));
    let share = (second(&first, "next") - from) as f64 / (until - from) as f64;
    assert!((0.63..0.71).contains(&share), "two thirds of the life: {share}");
    let asked = |site: &Site, part: &str| site.front.as_ref().unwrap().asked(part);
    assert!(asked(&site, "/renewal/").is_empty());

    // A window that is to come is followed.
    let at = |seconds: i64| jiff::Timestamp::from_second(seconds).unwrap().to_string();
    let now = jiff::Timestamp::now().as_second();
    let (start, end) = (now + 40 * 86_400, now + 41 * 86_400);
    let window = Some((at(start), at(end)));
    site.front.as_ref().unwrap().behave(|manner| manner.window = window);
    site.node.kill();
    site.node.restart();
    let follows = |one: &Value| (start..=end).contains(&second(one, "next"));
    let planned = poll(|| {
        let one = site.certificate(HOST);
        if follows(&one) { Ok(one) } else { Err(one) }
    });
    let planned = planned.secs(60).expect("a time in the window");
    assert_eq!(planned["not_after"], first["not_after"]);
    let questions = asked(&site, "/renewal/");
    assert!(questions[0].starts_with("GET /renewal/"), "{questions:?}");

    // One that is past is now, and says what it replaces.
    let window = Some((at(now - 7_200), at(now - 3_600)));
    site.front.as_ref().unwrap().behave(|manner| manner.window = window);
    site.node.kill();
    site.node.restart();
    let renewed = || site.node.mill(["events"]).ok().contains("certificate  renewed");
    poll(renewed).secs(60).expect("another certificate");
    let id = questions[0].trim_start_matches("GET /renewal/").to_owned();
    let orders = asked(&site, "POST /order-plz");
    assert!(orders.last().unwrap().ends_with(&id), "{orders:?} {id}");
}

/// The host as a node of a cluster sees it.
fn one(cluster: &TestCluster, n: usize) -> Value {
    let all = cluster.node(n).mill(["cert", "list", "--json"]).json();
    all.as_array().unwrap().iter().find(|one| one["host"] == HOST).cloned().unwrap()
}

#[test]
fn an_order_outlives_the_leader() {
    let mut cluster = TestCluster::start_certified(3);
    cluster.await_voters(3);
    let front = Front::new(cluster.authority(), Some(cluster.hub().namespace.path()));
    front.behave(|manner| manner.holds = true);
    let leader = cluster.leader();
    let follower = (1..=3).find(|n| *n != leader).unwrap();
    cluster.authority().lead(HOST, &address(follower));
    let text = files::hello(&cluster.image("hello:v1"), 2);
    let text = format!("{}{ROUTE}\n}}\n", text.trim_end().trim_end_matches('}'));
    let _ = cluster.node(follower).up(&text).ok();
    let to = ["--email", "ops@acme.test", "--directory", &front.directory()];
    let _ = cluster.node(follower).mill(["cert", "setup"].into_iter().chain(to)).ok();
    let held = || front.asked("POST /finalize-order/").len() == 1;
    poll(held).secs(60).expect("an order that the authority holds");

    // Nobody else orders meanwhile, not even for who asks.
    assert_eq!(one(&cluster, follower)["status"], "ordering");
    let _ = cluster.node(follower).mill(["cert", "renew", HOST]).ok();
    let accounts = |cluster: &TestCluster| cluster.authority().said("POST /sign-me-up");
    let (first_orders, first_accounts) = (front.asked("POST /order-plz").len(), accounts(&cluster));
    assert_eq!(front.asked("POST /finalize-order/").len(), 1);

    cluster.node_mut(leader).kill();
    front.behave(|manner| manner.holds = false);
    let valid = poll(|| {
        let one = one(&cluster, follower);
        if one["status"] == "valid" { Ok(one) } else { Err(one) }
    });
    valid.secs(90).expect("the certificate, by another node");
    let (orders, finals) = (front.asked("POST /order-plz"), front.asked("POST /finalize-order/"));
    println!("{} and then {} orders: {finals:?}", first_orders, orders.len());
    assert_ne!(cluster.leader(), leader);
    assert_eq!(accounts(&cluster), first_accounts, "the account is the cluster's");
    assert_eq!(cluster.authority().said(ISSUED), 1, "one certificate");
    for n in (1..=3).filter(|n| *n != leader) {
        assert_eq!(one(&cluster, n)["failures"], 0);
    }
}

//! Deploying a file and following it.

use super::support::{Node, Sse};
use crate::actors::root::ProposeError;
use crate::api::wire::{
    AppView, DeploymentStatus, DeploymentView, ErrorCode, ErrorDocument, RevisionView,
};
use crate::fsm::model::{AllocationStatus, DeployStatus, Health, Phase};
use crate::id::Digest;
use crate::node::oci::pull::LayerPull;

const FILE: &str = "app \"shop\"\nservice \"web\" {\n    image \"nginx:1\"\n    port 80\n}\n";

fn ids(events: &[Sse]) -> Vec<(&str, &str)> {
    events.iter().map(|event| (event.name.as_str(), event.id.as_str())).collect()
}

#[tokio::test]
async fn a_deployment_is_followed_to_its_end_and_resumed_without_gap_or_double() {
    let node = Node::start().await;
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    let mut seen = vec![stream.next().await.unwrap()];
    assert_eq!(seen[0].data, serde_json::json!({"revision": 1, "plan": null}));
    let id = node.place("web", 0);
    seen.push(stream.next().await.unwrap());
    // The client loses its connection; meanwhile the deployment goes on.
    drop(stream);
    node.report(&id, Phase::Running, Health::Unhealthy);
    node.report(&id, Phase::Running, Health::Healthy);
    node.finish(1, DeployStatus::Succeeded);
    let last = seen.last().unwrap().id.clone();
    let again = node.local().header("last-event-id", last);
    let rest = again.events("GET", "/v1/deployments/r1/events", "").await.rest().await;
    seen.extend(rest);
    let all = node.local().events("GET", "/v1/deployments/1/events", "").await.rest().await;
    assert_eq!(seen, all);
    let want = [
        ("accepted", "1-0"),
        ("progress", "1-1"),
        ("progress", "1-2"),
        ("progress", "1-3"),
        ("progress", "1-4"),
        ("done", "1-5"),
    ];
    assert_eq!(ids(&all), want);
    assert_eq!(all[1].data["phase"], "scheduled");
    assert_eq!(all[2].data["phase"], "healthy");
    assert_eq!(all[2].data["node"], "n1");
    assert_eq!(all[2].data["allocation"], id.to_string());
    assert_eq!(all[5].data["success"], true);
    // The same request again, with the last event: the stream goes on, nothing is deployed.
    let again = node.local().header("last-event-id", "1-4");
    let rest = again.events("POST", "/v1/deploy", FILE).await.rest().await;
    assert_eq!(ids(&rest), [("done", "1-5")]);
    assert_eq!(node.state().last_revision.0, 1);
}

#[tokio::test]
async fn figures_of_a_pull_have_places_between_the_steps() {
    let node = Node::start().await;
    let mut stream = node.local().events("POST", "/v1/deploy", FILE).await;
    let id = node.place("web", 0);
    let again = |phase, health| {
        let attempt = crate::id::Attempt(2);
        node.observe(
            &id,
            AllocationStatus { attempt, phase, health, ..AllocationStatus::default() },
        );
    };
    again(Phase::Pulling, Health::None);
    let digest = Digest::from("sha256:aa");
    let layer = |digest: &str, total| LayerPull { digest: digest.into(), bytes: 0, total };
    let pulls = &node.images.pulls;
    pulls.send_modify(|p| p.begin(&digest, vec![layer("sha256:l0", 10), layer("sha256:l1", 30)]));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last: &Sse| last.data["bytes"] != 25) {
        pulls.send_modify(|pulls| pulls.advance(&digest, 1, 25));
        seen.push(stream.next().await.unwrap());
    }
    let last = seen.last().unwrap().clone();
    assert_eq!((last.name.as_str(), &last.data["phase"]), ("progress", &"pulling".into()));
    assert_eq!((&last.data["total"], &last.data["node"]), (&40.into(), &"n1".into()));
    assert_eq!(last.data["allocation"], id.as_str());
    assert_eq!(last.data["layers"][1]["bytes"], 25);
    let places: std::collections::BTreeSet<&str> = seen.iter().map(|e| e.id.as_str()).collect();
    assert_eq!(places.len(), seen.len(), "each has a place of its own");
    assert!(last.id.starts_with("1-3"), "behind the step that says pulling: {}", last.id);

    // Whoever saw a figure goes on behind it, with the next step, and with further figures.
    drop(stream);
    let mut stream = node
        .local()
        .header("last-event-id", last.id.clone())
        .events("GET", "/v1/deployments/1/events", "")
        .await;
    pulls.send_modify(|pulls| pulls.advance(&digest, 0, 10));
    let mut figure = stream.next().await.unwrap();
    while figure.data["bytes"] != 35 {
        figure = stream.next().await.unwrap();
    }
    assert!(figure.id.starts_with("1-3.") && !places.contains(figure.id.as_str()));
    again(Phase::Running, Health::Healthy);
    node.finish(1, DeployStatus::Succeeded);
    let rest = stream.rest().await;
    assert_eq!(ids(&rest), [("progress", "1-4"), ("done", "1-5")]);
}

#[tokio::test]
async fn an_unchanged_file_is_done_with_the_current_revision() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    let first = json.send("POST", "/v1/deploy", FILE).await;
    assert_eq!((first.status, first.json::<RevisionView>().revision), (202, 1));
    assert_eq!(first.header("mill-index"), "3");
    node.place("web", 0);
    node.finish(1, DeployStatus::Succeeded);
    let events = node.local().events("POST", "/v1/deploy", FILE).await.rest().await;
    assert_eq!(ids(&events), [("accepted", "1-2"), ("done", "1-3")]);
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.json::<RevisionView>().revision, 1);
    // A tag that moved is a change.
    node.images.know("nginx:1", "sha256:bb");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.json::<RevisionView>().revision, 2);
}

#[tokio::test]
async fn a_failed_deployment_says_why_and_what_runs_again() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    json.send("POST", "/v1/deploy", FILE).await;
    node.finish(1, DeployStatus::Succeeded);
    node.images.know("nginx:1", "sha256:bb");
    let stream = node.local().events("POST", "/v1/deploy", FILE).await;
    node.steps(crate::fsm::command::Action::Revert {
        revision: crate::id::Revision(2),
        service: "web".into(),
        reason: "web-0-aaaa not healthy in 60s".to_owned(),
    });
    node.finish(2, DeployStatus::Failed);
    let events = stream.rest().await;
    let last = events.last().unwrap();
    assert_eq!((last.name.as_str(), &last.data["service"]), ("failed", &"web".into()));
    assert_eq!(last.data["reason"], "web-0-aaaa not healthy in 60s");
    assert_eq!(last.data["restored"], 1);
    let shown: DeploymentView = node.local().get("/v1/deployments/2").await.json();
    assert_eq!(shown.status, DeploymentStatus::Failed);
    let all: Vec<DeploymentView> = node.local().get("/v1/deployments?limit=1").await.json();
    assert_eq!(all.iter().map(|d| d.revision).collect::<Vec<_>>(), [2]);
    let older: Vec<DeploymentView> = node.local().get("/v1/deployments?before=r2").await.json();
    assert_eq!(older.iter().map(|d| d.revision).collect::<Vec<_>>(), [1]);
    let of_app: Vec<DeploymentView> = node.local().get("/v1/deployments?app=shop").await.json();
    assert_eq!(of_app.len(), 2);
    let unknown = node.local().get("/v1/deployments?app=nope").await;
    let error = unknown.json::<ErrorDocument>().error;
    assert_eq!((unknown.status, error.message.as_str()), (404, "no app nope"));
}

#[tokio::test]
async fn a_second_deployment_meanwhile_takes_the_place_of_the_first() {
    let node = Node::start().await;
    let first = node.local().events("POST", "/v1/deploy", FILE).await;
    let id = node.place("web", 0);
    // The same again joins in, from the beginning.
    let joined = node.local().events("POST", "/v1/deploy", FILE).await;
    let json = node.local().header("accept", "application/json");
    let answer = json.send("POST", "/v1/deploy", FILE.replace("80", "81")).await;
    assert_eq!((answer.status, answer.json::<RevisionView>().revision), (202, 2));
    let (first, joined) = (first.rest().await, joined.rest().await);
    assert_eq!(first, joined);
    let last = first.last().unwrap();
    assert_eq!((last.name.as_str(), last.id.as_str()), ("failed", "1-3"));
    assert_eq!(
        (&last.data["reason"], &last.data["status"]),
        (&"superseded by r2".into(), &"superseded".into())
    );
    assert_eq!(last.data["restored"], serde_json::Value::Null);
    assert_eq!(first[1].data["allocation"], id.as_str());
    let shown: DeploymentView = node.local().get("/v1/deployments/1").await.json();
    let seen = (shown.status, shown.ended_at.is_some());
    assert_eq!(seen, (DeploymentStatus::Superseded, true));
}

#[tokio::test]
async fn wrong_files_are_refused_with_every_line() {
    let node = Node::start().await;
    let cases = [
        ("service \"web\" {\n  imge \"a\"\n  port 99999\n}\n", &[2, 3][..]),
        ("service \"web\" {\n  image \"a\"\n  route \"a.example\"\n}\n", &[3]),
        ("service \"web\" {\n  image \"nginx:1\"\n  cpu 64\n}\n", &[3]),
        ("service \"web\" {\n  image \"nginx:1\"\n  memory \"64G\"\n}\n", &[3]),
        ("service \"web\" {\n  image \"nginx:1\"\n  constraint \"zone\" \"x\"\n}\n", &[3]),
        ("{{{{", &[1]),
    ];
    for (file, lines) in cases {
        let answer = node.local().send("POST", "/v1/deploy", file).await;
        let error = answer.json::<ErrorDocument>().error;
        assert_eq!((answer.status, &error.code), (422, &ErrorCode::InvalidFile), "{file}");
        let found: Vec<u32> = error.details.iter().map(|detail| detail.line).collect();
        assert!(lines.iter().all(|line| found.contains(line)), "{file}: {:?}", error.details);
    }
    let json = node.local().header("content-type", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.code(), "bad_request");
    assert_eq!(node.local().send("POST", "/v1/deploy", &b"\xff\xfe"[..]).await.status, 400);
    let plan = node.local().send("POST", "/v1/deploy?plan=aa", FILE).await;
    assert_eq!(plan.code(), "bad_request");
    assert_eq!(node.state().last_revision.0, 0);
}

#[tokio::test]
async fn a_file_of_another_cluster_is_refused() {
    let node = Node::start().await;
    let foreign = format!("cluster \"staging\"\n{FILE}");
    let answer = node.local().send("POST", "/v1/deploy", foreign).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "conflict"));
    let ours = format!("cluster \"prod\"\n{FILE}");
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", ours).await.status, 202);
    // Nor is it taken down by the file of another.
    let down = async |cluster: &str| {
        let path = format!("/v1/apps/shop?cluster={cluster}");
        let answer = node.local().send("DELETE", &path, "").await;
        (answer.status, if answer.status == 202 { String::new() } else { answer.code() })
    };
    assert_eq!(down("staging").await, (409, "conflict".to_owned()));
    assert_eq!(down("prod").await.0, 202);
}

#[tokio::test]
async fn dev_runs_a_file_of_any_cluster_and_constraint() {
    let node = Node::dev().await;
    let constrained = FILE.replace("port 80", "constraint \"zone\" \"x\"");
    let file = format!("cluster \"staging\"\n{constrained}");
    let json = node.local().header("accept", "application/json");
    let answer = json.send("POST", "/v1/deploy", file.clone()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let shown: AppView = node.local().get("/v1/apps/shop").await.json();
    assert_eq!(shown.file, file);
}

#[tokio::test]
async fn images_are_pinned_overridden_and_kept_while_the_registry_is_down() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    let missing = json.send("POST", "/v1/deploy", FILE.replace("nginx:1", "nginx:9")).await;
    let error = missing.json::<ErrorDocument>().error;
    assert_eq!((missing.status, error.message.as_str()), (404, "web: nginx:9 not found (404)"));
    assert!(error.hint.unwrap().contains("mill image load -"));
    node.images.know("nginx:2", "sha256:cc");
    let path = "/v1/deploy?image=web=nginx:2";
    assert_eq!(json.send("POST", path, FILE).await.status, 202);
    node.finish(1, DeployStatus::Succeeded);
    let digest_of = |node: &Node| {
        let state = node.state();
        let target = state.owner(&"web".into()).unwrap().services[&"web".into()].target.clone();
        state.spec(&target.unwrap()).unwrap().spec.run().digest.clone()
    };
    assert_eq!(digest_of(&node), Some(Digest::from("sha256:cc")));
    let nothing = json.send("POST", "/v1/deploy?image=db=nginx:2", FILE).await;
    assert_eq!((nothing.status, nothing.code().as_str()), (400, "bad_request"));
    let wrong = json.send("POST", "/v1/deploy?image=web=a%20b", FILE).await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "bad_request"));
    node.images.outage();
    // The same image needs no registry; another one does.
    let same = json.send("POST", path, FILE.replace("80", "81")).await;
    assert_eq!(same.status, 202, "{}", same.body);
    assert_eq!(digest_of(&node), Some(Digest::from("sha256:cc")));
    node.finish(2, DeployStatus::Succeeded);
    let other = json.send("POST", "/v1/deploy", FILE).await;
    assert_eq!((other.status, other.code().as_str()), (500, "internal"));
    assert!(other.body.contains("connection refused"), "{}", other.body);
}

#[tokio::test]
async fn a_name_of_another_app_and_a_file_that_shares_nothing_are_refused() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    json.send("POST", "/v1/deploy", FILE).await;
    node.finish(1, DeployStatus::Succeeded);
    let owned = json.send("POST", "/v1/deploy", FILE.replace("shop", "other")).await;
    assert_eq!((owned.status, owned.code().as_str()), (409, "conflict"));
    let strange = FILE.replace("\"web\"", "\"api\"");
    let refused = json.send("POST", "/v1/deploy", strange.clone()).await;
    let error = refused.json::<ErrorDocument>().error;
    assert_eq!(refused.status, 409);
    assert!(error.hint.unwrap().contains("--replace"));
    assert_eq!(json.send("POST", "/v1/deploy?replace=true", strange).await.status, 202);
}

#[tokio::test]
async fn a_published_port_of_another_app_is_refused_with_its_line() {
    let node = Node::start().await;
    let json = node.local().header("accept", "application/json");
    let file = "service \"web\" {\n  image \"nginx:1\"\n  port 80\n  publish 8080\n}\n";
    json.send("POST", "/v1/deploy", file).await;
    let second = format!("app \"two\"\n{}", file.replace("web", "api"));
    let answer = json.send("POST", "/v1/deploy", second).await;
    let error = answer.json::<ErrorDocument>().error;
    assert_eq!((answer.status, error.details[0].line), (422, 5), "{error:?}");
    assert!(error.message.contains("published by web"), "{}", error.message);
}

#[tokio::test]
async fn a_lost_leader_is_no_leader_with_a_time_to_try_again() {
    let node = Node::start().await;
    node.shared.lock().unwrap().refuse = Some(ProposeError::NoLeader);
    let answer = node.local().send("POST", "/v1/deploy", FILE).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_leader"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("mill-unconfirmed"), "", "it is certain that nothing was done");
}

#[tokio::test]
async fn a_change_that_may_have_been_carried_out_is_marked() {
    let node = Node::start().await;
    node.shared.lock().unwrap().refuse = Some(ProposeError::Unconfirmed);
    let answer = node.local().send("POST", "/v1/deploy", FILE).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_leader"));
    assert_eq!(answer.header("mill-unconfirmed"), "true");
    // Whoever had it ended without a word.
    node.shared.lock().unwrap().refuse = None;
    node.shared.lock().unwrap().silent = true;
    let before = node.shared.lock().unwrap().state.tokens.len();
    let answer = node.local().send("POST", "/v1/tokens", r#"{"role": "read"}"#).await;
    assert_eq!((answer.status, answer.header("mill-unconfirmed")), (503, "true"));
    assert_eq!(node.shared.lock().unwrap().state.tokens.len(), before + 1, "it was carried out");
}

#[tokio::test]
async fn a_registry_that_limits_its_rate_is_waited_for() {
    let node = Node::start().await;
    node.images.limit("nginx:1");
    let json = node.local().header("accept", "application/json");
    assert_eq!(json.send("POST", "/v1/deploy", FILE).await.status, 202);
    node.finish(1, DeployStatus::Succeeded);
    // What has its digest already goes without.
    node.images.limit("nginx:1");
    let same = json.send("POST", "/v1/deploy", FILE).await;
    assert_eq!((same.status, same.json::<RevisionView>().revision), (202, 1));
}

//! Tests of how revisions are made.

use super::*;
use crate::fsm::command::Action;
use crate::fsm::command::{Init, Steps};
use crate::fsm::model::DeployStatus;
use crate::fsm::volumes::{VOLUMES_LEVEL, Volume};
use crate::fsm::{Command, Outcome, apply_next, fixture};
use crate::id::NodeId;
use crate::spec;
use crate::units::Bytes;

const FILE: &str = "app \"shop\"
service \"web\" {
    image \"web:1\"
    replicas 2
}
service \"db\" {
    image \"db:1\"
}
";

fn change(state: &mut State, command: Command) -> Outcome {
    let time = state.time;
    apply_next(state, time, command).outcome.unwrap()
}

fn found(images: &[(&str, &str)]) -> Resolved {
    images.iter().map(|(image, digest)| ((*image).to_owned(), Ok((*digest).into()))).collect()
}

fn file(text: &str) -> Up {
    let spec = spec::parse("file", text).unwrap();
    Up { spec, file: text.to_owned(), replace: false }
}

fn digest(deploy: &Deploy, name: &str) -> String {
    deploy.services[&WorkloadName::from(name)].run().digest.clone().unwrap().to_string()
}

/// A cluster of one node that runs the file.
fn running() -> State {
    let mut state = State::default();
    let init =
        Init { labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]), ..fixture::init() };
    change(&mut state, Command::Init(init));
    change(&mut state, Command::Register(fixture::register()));
    let resolved = found(&[("web:1", "sha256:w1"), ("db:1", "sha256:d1")]);
    let deploy = up(&state, file(FILE), &resolved).unwrap();
    assert_eq!(deploy.base, Some(Revision(0)));
    change(&mut state, Command::Deploy(deploy));
    finish(&mut state, 1);
    state
}

fn finish(state: &mut State, revision: u64) {
    let (revision, status) = (Revision(revision), DeployStatus::Succeeded);
    let actions = vec![Action::Finish { revision, status, degraded: vec![] }];
    change(state, Command::Steps(Steps { actions, ..Default::default() }));
}

#[test]
fn the_same_file_is_the_same_revision_and_a_moved_tag_a_new_one() {
    let mut state = running();
    let resolved = found(&[("web:1", "sha256:w1"), ("db:1", "sha256:d1")]);
    let same = up(&state, file(FILE), &resolved).unwrap();
    let outcome = change(&mut state, Command::Deploy(same));
    assert_eq!(outcome, Outcome::Revision { revision: Revision(1), new: false });
    let moved = found(&[("web:1", "sha256:w2"), ("db:1", "sha256:d1")]);
    let moved = up(&state, file(FILE), &moved).unwrap();
    assert_eq!(digest(&moved, "web"), "sha256:w2");
    let outcome = change(&mut state, Command::Deploy(moved));
    assert_eq!(outcome, Outcome::Revision { revision: Revision(2), new: true });
}

#[test]
fn with_the_registry_down_only_what_changed_is_refused() {
    let state = running();
    let unreachable = |image: &str| {
        let (reference, reason) = (image.to_owned(), "connection refused".to_owned());
        (image.to_owned(), Err(ResolveError::Unreachable { reference, reason }))
    };
    let down: Resolved = ["web:1", "db:1", "db:2"].map(unreachable).into();
    let same = up(&state, file(FILE), &down).unwrap();
    assert_eq!(
        (digest(&same, "web"), digest(&same, "db")),
        ("sha256:w1".into(), "sha256:d1".into())
    );
    assert!(is_kept(&state, "db:1") && !is_kept(&state, "db:2"));
    let error = up(&state, file(&FILE.replace("db:1", "db:2")), &down).unwrap_err();
    assert_eq!(error.to_string(), "db: connection refused");
    // A registry that answers that it has no such image is no outage.
    let mut gone = found(&[("db:1", "sha256:d1")]);
    let reference = "web:1".to_owned();
    gone.insert(reference.clone(), Err(ResolveError::NotFound { reference }));
    let error = up(&state, file(FILE), &gone).unwrap_err();
    assert_eq!(error.to_string(), "web: web:1 not found (404)");
}

#[test]
fn an_image_given_by_hand_replaces_the_files() {
    let mut spec = spec::parse("file", FILE).unwrap();
    override_images(&mut spec, &[("web".into(), "web:9".to_owned())]).unwrap();
    let expected: BTreeSet<String> = ["web:9".to_owned(), "db:1".to_owned()].into();
    assert_eq!(references(&spec), expected);
    let nobody = override_images(&mut spec, &[("cache".into(), "x".to_owned())]);
    assert_eq!(nobody, Err(ReviseError::NothingToOverride { name: "cache".into() }));
}

#[test]
fn a_change_of_one_service_leaves_the_others_as_they_are() {
    let mut state = running();
    let scaled = scale(&state, &"web".into(), 5).unwrap();
    assert_eq!((scaled.base, scaled.services.len()), (Some(Revision(1)), 2));
    assert_eq!(scaled.services[&"web".into()].service().unwrap().replicas, 5);
    assert_eq!(digest(&scaled, "db"), "sha256:d1");
    assert_eq!(scaled.file, FILE);
    change(&mut state, Command::Deploy(scaled));
    let deployment = &state.deployments[&Revision(2)];
    assert_eq!(*deployment.touched, [WorkloadName::from("web")].into());
    finish(&mut state, 2);
    let less = without(&state, &"web".into()).unwrap();
    assert_eq!(less.services.keys().collect::<Vec<_>>(), [&WorkloadName::from("db")]);
    change(&mut state, Command::Deploy(less));
    finish(&mut state, 3);
    let no_service = ReviseError::NoService { name: "web".into() };
    assert_eq!(without(&state, &"web".into()), Err(no_service.clone()));
    assert_eq!(scale(&state, &"web".into(), 1), Err(no_service));
    let nothing = down(&state, &"shop".into()).unwrap();
    assert!(nothing.services.is_empty() && nothing.tasks.is_empty());
    assert_eq!(down(&state, &"x".into()), Err(ReviseError::NoApp { name: "x".into() }));
    let mut deploy = scale(&state, &"db".into(), 1).unwrap();
    let text = "service \"db\" { image \"db:1\"; volume \"data\" path=\"/d\" size=\"1G\" }";
    let run = spec::parse("file", text).unwrap().services.remove(&"db".into()).unwrap().run;
    let Some(WorkloadSpec::Service(db)) = deploy.services.get_mut(&"db".into()) else { panic!() };
    db.run.volumes = run.volumes;
    change(&mut state, Command::Deploy(deploy));
    let one = ReviseError::OneReplica { name: "db".into(), volume: "data".into() };
    assert_eq!(scale(&state, &"db".into(), 2), Err(one));
    assert!(scale(&state, &"db".into(), 1).is_ok() && scale(&state, &"db".into(), 0).is_ok());
    let many = scale(&state, &"db".into(), REPLICAS_MAX + 1).unwrap_err();
    assert_eq!(many, ReviseError::TooMany { name: "db".into(), replicas: REPLICAS_MAX + 1 });
}

#[test]
fn what_no_node_could_ever_hold_is_found() {
    let state = running();
    let fields = |lines: &str| {
        let text = format!("app \"x\"\nservice \"big\" {{\n image \"a\"\n port 80\n {lines}\n}}\n");
        let found = obstacles(&state, &spec::parse("file", &text).unwrap());
        found.into_iter().map(|obstacle| obstacle.field).collect::<Vec<_>>()
    };
    assert_eq!(fields("cpu 4\n memory \"8G\""), [""; 0]);
    assert_eq!(fields("cpu 4.1"), ["cpu"]);
    assert_eq!(fields("memory \"9G\""), ["memory"]);
    assert_eq!(fields("constraint \"zone\" \"a\""), [""; 0]);
    assert_eq!(fields("constraint \"zone\" \"b\""), ["constraint"]);
    // Before a node has said what it has, nothing is refused.
    let text = FILE.replace("replicas 2", "cpu 64");
    assert_eq!(obstacles(&State::default(), &spec::parse("file", &text).unwrap()), []);
}

#[yare::parameterized(
    binary = { 5 << 30, "5Gi" },
    decimal = { 16_400_000_000, "16400M" },
    odd = { 5_000_000_001, "5000000.001K" },
)]
fn a_volume_that_would_shrink_says_what_may_be_written(had: u64, written: &str) {
    let mut state = running();
    state.feature_level = VOLUMES_LEVEL;
    let volume = Volume { size: Bytes(had), ..fixture::volume(NodeId(1)) };
    state.volumes.insert("data".into(), Arc::new(volume));
    let found = |size: &str| {
        let volume = format!("volume \"data\" path=\"/d\" size=\"{size}\"");
        let text = format!("app \"x\"\nservice \"db2\" {{\n image \"a\"\n {volume}\n}}\n");
        let found = obstacles(&state, &spec::parse("file", &text).unwrap()).into_iter();
        found.filter(|one| one.field == "volume").collect::<Vec<_>>()
    };
    let refused = found("1M");
    assert_eq!(refused[0].message, format!("db2: volume data has {written}: it only grows"));
    assert_eq!(refused[0].hint, Some(format!("write size=\"{written}\"")));
    assert_eq!(found(written), []);
}

/// Deploys the file with other images, and lets it end so.
fn next(state: &mut State, web: &str, status: Option<DeployStatus>) {
    let resolved = found(&[(web, "sha256:w"), ("db:1", "sha256:d1")]);
    let deploy = up(state, file(&FILE.replace("web:1", web)), &resolved).unwrap();
    change(state, Command::Deploy(deploy));
    let Some(status) = status else { return };
    let revision = state.last_revision;
    if status == DeployStatus::Failed {
        let (service, reason) = ("web".into(), "web-0-x: exited 1 3×\nlast line".to_owned());
        let actions = vec![Action::Revert { revision, service, reason }];
        change(state, Command::Steps(Steps { actions, ..Default::default() }));
    }
    let actions = vec![Action::Finish { revision, status, degraded: vec![] }];
    change(state, Command::Steps(Steps { actions, ..Default::default() }));
}

fn web(deploy: &Deploy) -> String {
    deploy.services[&WorkloadName::from("web")].run().image.clone()
}

#[test]
fn a_rollback_is_the_last_that_worked_before_with_its_digests_and_file() {
    let mut state = running();
    let shop = AppName::from("shop");
    let none = ReviseError::NoneBefore { app: shop.clone() };
    assert_eq!(rollback(&state, None, None), Err(none));
    next(&mut state, "web:2", Some(DeployStatus::Succeeded));
    next(&mut state, "web:3", Some(DeployStatus::Failed));
    // r2 runs, so r1 is before it.
    let back = rollback(&state, None, None).unwrap();
    assert_eq!((back.kind, back.base), (DeployKind::Rollback, Some(Revision(3))));
    assert_eq!((digest(&back, "web"), back.file.as_str()), ("sha256:w1".to_owned(), FILE));
    // While one is on its way, what it began with; also on the way back.
    next(&mut state, "web:4", None);
    assert_eq!(web(&rollback(&state, None, None).unwrap()), "web:2");
    let back = rollback(&state, Some(&shop), None).unwrap();
    change(&mut state, Command::Deploy(back));
    finish(&mut state, 5);
    // Once more: what was before that, not the same again.
    assert_eq!(web(&rollback(&state, None, None).unwrap()), "web:1");
}

#[test]
fn a_rollback_goes_back_to_no_removal_unless_it_is_named() {
    let mut state = running();
    let gone = down(&state, &"shop".into()).unwrap();
    change(&mut state, Command::Deploy(gone));
    finish(&mut state, 2);
    // Taken down, what ran before; up again, not the removal but what was before that.
    assert_eq!(web(&rollback(&state, None, None).unwrap()), "web:1");
    next(&mut state, "web:3", Some(DeployStatus::Succeeded));
    assert_eq!(web(&rollback(&state, None, None).unwrap()), "web:1");
    let named = rollback(&state, None, Some(Revision(2))).unwrap();
    assert!(named.services.is_empty() && named.tasks.is_empty());
}

#[test]
fn a_rollback_to_a_revision_that_is_not_there_or_never_worked_says_so() {
    let mut state = running();
    let at = |state: &State, n| rollback(state, None, Some(Revision(n)));
    next(&mut state, "web:2", Some(DeployStatus::Failed));
    next(&mut state, "web:3", Some(DeployStatus::Superseded));
    assert_eq!(web(&at(&state, 1).unwrap()), "web:1");
    assert_eq!(web(&at(&state, 3).unwrap()), "web:3");
    let failed = at(&state, 2).unwrap_err().to_string();
    assert_eq!(failed, "r2 never worked: web-0-x: exited 1 3×");
    for unknown in [0, 99] {
        let error = ReviseError::NoRevision { revision: Revision(unknown) };
        assert_eq!(at(&state, unknown), Err(error));
    }
    state.deployments.remove(&Revision(1));
    assert_eq!(at(&state, 1), Err(ReviseError::NotKept { revision: Revision(1) }));
    let (owner, app) = ("shop".into(), AppName::from("two"));
    let other = ReviseError::OtherApp { revision: Revision(3), owner, app: app.clone() };
    assert_eq!(rollback(&state, Some(&app), Some(Revision(3))), Err(other));
    assert_eq!(rollback(&state, Some(&app), None), Err(ReviseError::NoApp { name: app }));
    assert_eq!(rollback(&State::default(), None, None), Err(ReviseError::NoApps));
    let resolved = found(&[("a", "sha256:a")]);
    let text = "app \"two\"\nservice \"api\" {\n image \"a\"\n}\n";
    let two = up(&state, file(text), &resolved).unwrap();
    change(&mut state, Command::Deploy(two));
    let error = rollback(&state, None, None).unwrap_err();
    assert_eq!(error, ReviseError::WhichApp { apps: "shop two".to_owned() });
}

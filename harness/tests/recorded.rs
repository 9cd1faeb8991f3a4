//! Logs that earlier versions wrote: today's build reads them to the same state.
//!
//! `harness/recorded/VERSION/` has a version's log and its state at the end, as JSON. They stay as
//! they are: `make record` adds those of the version that runs it (`recorded/record.rs`).

mod record;

use crate::real_root::RealRoot;
use flate2::read::GzDecoder;
use mill::fsm::command::{Action, RunAction, Steps};
use mill::fsm::model::DeployStatus;
use mill::fsm::{Command, FEATURE_LEVEL, State};
use mill::id::{NodeId, TokenId, WorkloadName};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where they are.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/recorded")
}

/// One version's.
struct Recording {
    name: String,
    /// The log, as that version left it.
    log: TempDir,
    state: Vec<u8>,
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn recordings() -> Vec<Recording> {
    let all = std::fs::read_dir(recorded()).unwrap().map(|one| one.unwrap().path());
    let read = |dir: PathBuf| {
        let log = tempfile::tempdir().unwrap();
        let mut state = Vec::new();
        for file in std::fs::read_dir(&dir).unwrap().map(|one| one.unwrap().path()) {
            let name = file.file_stem().unwrap();
            if name == "state.json" {
                state = unpacked(&file);
            } else {
                std::fs::write(log.path().join(name), unpacked(&file)).unwrap();
            }
        }
        Recording { name: dir.file_name().unwrap().to_string_lossy().into_owned(), log, state }
    };
    let all: Vec<Recording> = all.map(read).collect();
    assert!(!all.is_empty());
    all
}

/// Every value of the one is in the other; the other may have more fields.
fn is_within(one: &Value, other: &Value, at: &str) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in one {
                let at = format!("{at}.{key}");
                is_within(value, other.get(key).unwrap_or(&Value::Null), &at);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            assert_eq!(one.len(), other.len(), "{at}");
            let both = one.iter().zip(other).enumerate();
            both.for_each(|(n, (one, other))| is_within(one, other, &format!("{at}[{n}]")));
        }
        _ => assert_eq!(one, other, "{at}"),
    }
}

/// What `apply` makes of a log: the states at an index, read by a build of a level.
async fn replayed(dir: &Path, level: u32, until: u64) -> State {
    use mill::fsm;
    let entries = record::entries(dir, level, until).await;
    let mut state = State::default();
    for (index, entry) in entries {
        match entry {
            Some(entry) => {
                let _ = fsm::apply(&mut state, index, entry);
            }
            None => state.index = index,
        }
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_log_gives_the_state_that_its_version_had() {
    for recording in recordings() {
        let name = &recording.name;
        let kept = State::decode(&recording.state).unwrap();
        let again = replayed(recording.log.path(), FEATURE_LEVEL, kept.index.0).await;
        assert_eq!(again.index, kept.index, "{name}");
        // One node has it from the log, another from a snapshot: they must not differ.
        let of = |state: &State| serde_json::to_value(state).unwrap();
        is_within(&of(&kept), &of(&again), name);
        assert_eq!(again.hash(), kept.hash(), "{name}");
        assert_eq!(again.derived, kept.derived, "{name}");
        let as_it_was: Value = serde_json::from_slice(&recording.state).unwrap();
        is_within(&as_it_was, &of(&again), name);
        facts(&again);
    }
}

/// What the script of the recording comes to.
fn facts(state: &State) {
    let texts = |all: Vec<&str>| all.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let tokens: Vec<&str> = state.tokens.keys().map(TokenId::as_str).collect();
    assert_eq!(texts(tokens), ["t1"]);
    assert_eq!(state.nodes.keys().copied().collect::<Vec<_>>(), [NodeId(1)]);
    assert!(state.removed.contains(&NodeId(2)) && state.removed.contains(&NodeId(3)));
    assert_eq!(state.logins.keys().collect::<Vec<_>>(), ["r.example.com"]);
    assert_eq!(state.keyring_id(), Some("k2"));
    let ends: Vec<DeployStatus> = state.deployments.values().map(|d| d.status).collect();
    let (ok, failed) = (DeployStatus::Succeeded, DeployStatus::Failed);
    assert_eq!(ends[..4], [ok, failed, DeployStatus::Superseded, ok]);
    let name = WorkloadName::from("web");
    assert_eq!(state.allocations_of(&name).filter(|a| a.is_routable()).count(), 2);
    assert!(state.runs.len() >= 3, "{}", state.runs.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_has_every_command_of_its_version() {
    for recording in recordings() {
        let until = State::decode(&recording.state).unwrap().index.0;
        let mut kinds = BTreeSet::new();
        for (_, entry) in record::entries(recording.log.path(), FEATURE_LEVEL, until).await {
            let Some(entry) = entry else { continue };
            kinds.insert(kind(&serde_json::to_value(&entry.command).unwrap()));
            let Command::Steps(Steps { actions, .. }) = entry.command else { continue };
            kinds.extend(actions.iter().map(|action| match action {
                Action::Run(action) => format!("run {}", kind_of(action)),
                action => kind(&serde_json::to_value(action).unwrap()),
            }));
        }
        let all = "init register join members label drain undrain remove raise rotate node_down \
                   deploy restart_service restart_allocation spawn kill steps report create_token \
                   revoke_token set_login remove_login place settled stop forget wait revert \
                   finish run-place run-fail run-kill run-forget run-fire run-hook";
        for wanted in all.split_whitespace() {
            assert!(kinds.contains(&wanted.replace('-', " ")), "no {wanted} in {kinds:?}");
        }
    }
}

fn kind_of(action: &RunAction) -> String {
    kind(&serde_json::to_value(action).unwrap())
}

/// The name of an enum's variant.
fn kind(value: &Value) -> String {
    value.as_object().unwrap().keys().next().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_of_the_next_level_goes_on_with_it_and_back_until_the_level_is_raised() {
    for recording in recordings() {
        let kept = State::decode(&recording.state).unwrap();
        let (dir, until) = (recording.log.path(), kept.index.0);
        let (old, new) = (kept.level(), kept.level() + 1);
        let today = replayed(dir, old, until).await.hash();
        assert_eq!(replayed(dir, new, until).await.hash(), today, "{}", recording.name);
        for (boot, level) in [(101, new), (102, old), (103, new)] {
            let real = RealRoot::start_at(dir, boot, level).await;
            let _ = real.token(&format!("at-{boot}"), 200).await.unwrap();
            assert_eq!(real.view().state.level(), old);
            if boot == 103 {
                let _ = real.propose(&Command::Raise { level: new }).await.unwrap();
            }
            real.stop().await;
        }
        let why = RealRoot::refusal(dir, 104, old).await;
        assert!(why.contains(&format!("needs feature level {new}, this build has {old}")), "{why}");
        let real = RealRoot::start_at(dir, 105, new).await;
        assert_eq!((real.view().state.level(), real.view().state.tokens.len()), (new, 4));
        real.stop().await;
    }
}

//! That documents stay byte for byte what they are.
//!
//! Owns a recorded sample of each, `documents.txt`. A line there is only ever added, or gets fields
//! that are new.

use super::*;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// A document read and written again.
type Again = fn(&str) -> serde_json::Result<String>;

fn again<T: Serialize + DeserializeOwned + Debug>(json: &str) -> serde_json::Result<String> {
    let read: T = serde_json::from_str(json)?;
    assert!(!format!("{read:?}").contains("Other("), "a word that isn't known: {read:?}");
    serde_json::to_string(&read)
}

macro_rules! documents {
    ($($name:ident)+) => { &[$((stringify!($name), again::<$name>)),+] };
}

/// Every document that is no part of another one only.
const DOCUMENTS: &[(&str, Again)] = documents!(
    AcceptedEvent AccessView AcmeRequest AllocationView AllocationWhyView AppView BackupsView
    CanaryView CertificateRequest CertificateView DeploymentView DiffView DoneEvent DrainRequest
    ErrorDocument EventView FailedEvent HealthView ImageView InitRequest InitView JoinRequest
    JoinView LabelsRequest LeaveRequest LeaveView LeftView LogLineView LoginRequest LoginView
    MeshKeysView MoveRequest MoveView NewTokenView NodeView PauseRequest PeerCheckView PlanView
    ProgressEvent ProviderRequest RestoreView RevisionView RollbackRequest RotatedView RouteView
    RunView ScaleRequest ScheduleRequest SecretRequest SecretValueView SecretView SecretsRequest
    ServiceView SpawnRequest StatusView TaskView TokenRequest TokenView VolumeView WhyView
);

#[test]
fn every_document_is_written_as_recorded() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, json) in include_str!("documents.txt").lines().filter_map(|l| l.split_once(' ')) {
        let (_, again) = DOCUMENTS.iter().find(|known| known.0 == name).expect(name);
        assert_eq!(again(json).map_err(|error| format!("{name}: {error}")).as_deref(), Ok(json));
        seen.insert(name);
    }
    let missing = DOCUMENTS.iter().filter(|known| !seen.contains(known.0)).map(|known| known.0);
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "without a sample in documents.txt");
}

#[test]
fn a_word_of_a_later_version_stays_what_it_is() {
    let read: NodeStatus = serde_json::from_str("\"frozen\"").unwrap();
    assert_eq!(read, NodeStatus::Other("frozen".to_owned()));
    assert_eq!(NodeStatus::from("frozen"), read);
    assert_eq!(serde_json::to_string(&read).unwrap(), "\"frozen\"");
    assert_eq!(format!("{read:8}|{:8}|", NodeStatus::Ready), "frozen  |ready   |");
    assert_eq!(UpdateOrder::from("start-first"), UpdateOrder::StartFirst);
    let later: EventView = serde_json::from_str(
        "{\"id\":1,\"ts\":\"\",\"kind\":\"node-frozen\",\"app\":null,\"revision\":null,\
         \"service\":null,\"allocation\":null,\"node\":null,\"message\":null}",
    )
    .unwrap();
    assert_eq!(later.kind.to_string(), "node-frozen");
}

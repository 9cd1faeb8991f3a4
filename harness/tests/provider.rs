//! The client of a provider's block storage against the stand-in: pages, refusals, lost answers.

use crate::provider::{Provider, REGION, TOKEN, Trouble, address};
use mill::actors::platform::block_storage::{BlockStorage, Http, StorageError};
use mill::actors::provider::carry_out::carry_out;
use mill::fsm::command::Init;
use mill::fsm::volumes::{AttachStep, Attachment, DROPLET, Provided, ProvidedStep, Volume};
use mill::fsm::{Command, State, apply_next};
use mill::id::{Incarnation, NodeId, VolumeName};
use mill::scheduler::provided::Work;
use mill::secret::Secret;
use mill::units::{Bytes, Timestamp};

fn storage(provider: &Provider, token: &str) -> BlockStorage {
    BlockStorage::new(Http::new().unwrap(), &provider.api(), Secret::new(token), REGION)
}

fn volume(name: &str) -> Volume {
    let attachment = None;
    let (id, error, region) = (None, None, REGION.to_owned());
    let made = Bytes(0);
    Volume {
        size: Bytes(5 << 30),
        node: NodeId(1),
        service: "db".into(),
        holder: "db-0-aaaa".into(),
        fence: 1,
        used: false,
        deleting: false,
        created_at: Timestamp(0),
        copy: 0,
        moving: None,
        left: None,
        stayed: None,
        provided: Some(Provided { name: name.to_owned(), region, id, made, attachment, error }),
    }
}

/// One node, n1, which has the address of machine 101 and says to be this one.
fn cluster(droplet: &str) -> State {
    let mut state = State::default();
    let init = Init {
        cluster: "prod".to_owned(),
        cluster_id: "c".to_owned(),
        incarnation: Incarnation(1),
        subnet: [10, 99, 0, 0].into(),
        prefix: 16,
        node_name: "n1".to_owned(),
        address: address(101),
        labels: [(DROPLET.to_owned(), droplet.to_owned())].into(),
        peer_port: 4401,
        public_key: String::new(),
        keyring: String::new(),
        ca: String::new(),
        ca_key: None,
    };
    apply_next(&mut state, Timestamp(1), Command::Init(init)).outcome.unwrap();
    state
}

async fn once(
    storage: &BlockStorage,
    volume: &Volume,
    (droplet, work): (&str, Work),
) -> Result<ProvidedStep, StorageError> {
    let name = VolumeName::from("data");
    carry_out(storage, &cluster(droplet), (&name, volume), work).await
}

fn at(droplet: &str) -> Attachment {
    let (node, droplet, step) = (NodeId(1), droplet.to_owned(), AttachStep::Attaching);
    Attachment { node, droplet, number: 7, step }
}

/// Asks until the provider has done it, as the actor does.
async fn insist(storage: &BlockStorage, volume: &Volume, work: &Work) -> ProvidedStep {
    let mut last = None;
    for _ in 0..60 {
        match once(storage, volume, ("101", work.clone())).await {
            Ok(step) => return step,
            Err(error) => last = Some(error),
        }
    }
    panic!("{work:?}: {last:?}");
}

#[tokio::test]
async fn a_volume_is_found_on_whichever_page_it_is() {
    let provider = Provider::start(Trouble::default());
    let storage = storage(&provider, TOKEN);
    for n in 0..5 {
        storage.make(&format!("mill-c-{n}"), 1).await.unwrap();
    }
    for n in 0..5 {
        let name = format!("mill-c-{n}");
        assert_eq!(storage.find(&name).await.unwrap().unwrap().name, name);
    }
    assert_eq!(storage.find("mill-c-5").await.unwrap(), None);
    let twice = storage.make("mill-c-0", 1).await.unwrap_err().to_string();
    assert!(twice.contains("already exists"), "{twice}");
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let provider = Provider::start(Trouble::default());
    let stranger = storage(&provider, "dop_v1_wrong").find("x").await.unwrap_err();
    assert_eq!(stranger, StorageError::Unknown);
    let storage = storage(&provider, TOKEN);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(storage.make(&format!("mill-c-{n}"), 1).await.unwrap().id);
    }
    for id in &ids[..7] {
        storage.attach(id, 101).await.unwrap();
    }
    let full = storage.attach(&ids[7], 101).await.unwrap_err().to_string();
    assert!(full.contains("droplet has 7 volumes"), "{full}");
    let again = storage.attach(&ids[0], 102).await.unwrap_err().to_string();
    assert!(again.contains("already attached"), "{again}");
    let attached = storage.delete(&ids[0]).await.unwrap_err().to_string();
    assert!(attached.contains("attached"), "{attached}");
    provider.trouble(Trouble { limits: 100, ..Trouble::default() });
    let often = storage.get(&ids[0]).await.unwrap_err();
    assert_eq!(often.wait(), Some(std::time::Duration::from_secs(1)));
    let own = Http::new().unwrap().own(&provider.api(), "region").await.unwrap();
    assert_eq!(own, REGION);
}

#[tokio::test]
async fn what_is_lost_on_the_way_is_done_once() {
    for seed in 0..3 {
        let (fails, limits, loses, errs, slow) = (10, 0, 30, 20, 0);
        let provider = Provider::start(Trouble { seed, fails, limits, loses, errs, slow });
        let storage = storage(&provider, TOKEN);
        let mut volume = volume("mill-c-data");
        let step = insist(&storage, &volume, &Work::Make).await;
        let ProvidedStep::Made { id, size } = step else { panic!("{step:?}") };
        assert_eq!((provider.count(), size), (1, Bytes(5 << 30)));
        let provided = volume.provided.as_mut().unwrap();
        (provided.id, provided.made) = (Some(id), size);
        let attached = insist(&storage, &volume, &Work::Attach(at("101"))).await;
        assert_eq!(attached, ProvidedStep::Attached { number: 7 });
        assert_eq!(provider.attached_to("data"), Some(101));
        volume.size = Bytes((9 << 30) + 1);
        let grown = insist(&storage, &volume, &Work::Grow).await;
        assert_eq!(grown, ProvidedStep::Grown { size: Bytes(10 << 30) });
        // Of a machine that nobody knows it is not taken.
        let foreign = once(&storage, &volume, ("102", Work::Attach(at("102")))).await;
        assert!(foreign.is_err() && provider.attached_to("data") == Some(101));
        let detached = insist(&storage, &volume, &Work::Detach(at("101"))).await;
        assert_eq!(detached, ProvidedStep::Detached { number: 7 });
        assert_eq!(provider.attached_to("data"), None);
        assert_eq!(insist(&storage, &volume, &Work::Delete).await, ProvidedStep::Deleted);
        assert_eq!(provider.count(), 0);
    }
}

#[tokio::test]
async fn one_that_is_gone_there_is_never_made_anew() {
    let provider = Provider::start(Trouble::default());
    let storage = storage(&provider, TOKEN);
    let mut volume = volume("mill-c-data");
    volume.used = true;
    let make = once(&storage, &volume, ("101", Work::Make)).await;
    assert!(make.unwrap_err().to_string().contains("it has had data"));
    volume.provided.as_mut().unwrap().id = Some("506f78a4".to_owned());
    let attach = once(&storage, &volume, ("101", Work::Attach(at("101")))).await;
    assert!(attach.unwrap_err().to_string().contains("its data is gone"));
    assert_eq!(provider.count(), 0);
}

/// A volume that the provider has made, of 5 GiB.
async fn made(storage: &BlockStorage) -> Volume {
    let mut volume = volume("mill-c-data");
    let step = once(storage, &volume, ("101", Work::Make)).await.unwrap();
    let ProvidedStep::Made { id, size } = step else { panic!("{step:?}") };
    let provided = volume.provided.as_mut().unwrap();
    (provided.id, provided.made) = (Some(id), size);
    volume
}

/// What a node says of itself, or a label that was mistyped, brings the data nowhere.
#[tokio::test]
async fn it_is_attached_only_to_the_machine_that_has_the_nodes_address() {
    let provider = Provider::start(Trouble::default());
    let storage = storage(&provider, TOKEN);
    let volume = made(&storage).await;
    for (droplet, why) in [
        ("102", "droplet 102 has 203.0.113.102, 172.31.0.102 by the provider, and not n1's"),
        ("999", "the provider has no droplet 999. Say which one n1 is: mill label n1 droplet=ID"),
        ("n1", "label droplet=n1 isn't the id of a droplet"),
    ] {
        let refused = once(&storage, &volume, (droplet, Work::Attach(at(droplet)))).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    assert_eq!((provider.attached_to("data"), provider.asked("POST actions")), (None, 0));
    once(&storage, &volume, ("101", Work::Attach(at("101")))).await.unwrap();
    assert_eq!(provider.attached_to("data"), Some(101));
}

#[tokio::test]
async fn what_the_provider_says_is_compared_and_nothing_is_changed() {
    let provider = Provider::start(Trouble::default());
    let storage = storage(&provider, TOKEN);
    let mut volume = made(&storage).await;
    let attachment = Attachment { step: AttachStep::Attached, ..at("101") };
    volume.provided.as_mut().unwrap().attachment = Some(attachment);
    let compare = async || match once(&storage, &volume, ("101", Work::Compare)).await? {
        ProvidedStep::Hindered { why } => Ok(why),
        other => panic!("{other:?}"),
    };
    let told = async || compare().await.unwrap().unwrap_or_default();
    assert!(told().await.contains("attached to nothing at the provider, and n1 uses it"));
    provider.meddle("data", Some(101));
    assert_eq!(told().await, "");
    provider.meddle("data", Some(77));
    assert!(told().await.contains("attached to droplet 77 at the provider, which is no node"));
    provider.trouble(Trouble { fails: 100, ..Trouble::default() });
    assert!(compare().await.is_err_and(|error: StorageError| error.is_passing()));
    provider.trouble(Trouble::default());
    provider.lose("data");
    assert!(told().await.contains("mill volume delete data"));
    assert_eq!(provider.asked("POST actions"), 0);
}

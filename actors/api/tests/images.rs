//! Loaded images: one node has them, and all know.

use super::support::{Client, Node};
use crate::actors::api::Lenders;
use crate::actors::platform::image::Members as _;
use crate::actors::root::{ProposeError, View};
use crate::api::wire::{ErrorCode, ErrorDocument, ImageView};
use crate::fsm::command::{Join, Register};
use crate::fsm::model::Role;
use crate::fsm::{Command, Touched, fixture};
use crate::id::{BootId, Digest, NodeId};
use futures_util::TryStreamExt as _;
use std::sync::Arc;

const WEB: &str = "docker.io/library/web:v1";
const FILE: &str = "service \"web\" {\n    image \"web:v1\"\n}\n";

/// Two nodes of a cluster that knows of loaded images.
async fn two() -> (Node, Node) {
    let first = Node::start().await;
    let join = Join { address: "192.0.2.2".to_owned(), ..fixture::join("n2", "k") };
    first.apply(Command::Join(join)).unwrap();
    for id in [1, 2] {
        let (node, boot) = (NodeId(id), BootId(id));
        let register = Register { node, boot, feature_level: 2, ..fixture::register() };
        first.apply(Command::Register(register)).unwrap();
    }
    first.apply(Command::Raise { level: 2 }).unwrap();
    let mut state = first.state();
    let mut node = (*state.nodes[&NodeId(1)]).clone();
    node.address = "192.0.2.1".to_owned();
    node.peer_port = 4401;
    state.nodes.insert(NodeId(1), Arc::new(node));
    first.become_node(NodeId(1), state.clone());
    let second = Node::start().await;
    second.become_node(NodeId(2), state);
    first.neighbours.know(NodeId(2), NodeId(1), &second.args.ports.members);
    second.neighbours.know(NodeId(1), NodeId(2), &first.args.ports.members);
    second.images.known.lock().unwrap().clear();
    (first, second)
}

/// Loads `web:v1` on the first node, and tells the second.
async fn load(first: &Node, second: &Node, digest: &str) {
    first.images.known.lock().unwrap().clear();
    first.images.know(WEB, digest);
    let loaded = first.local().send("POST", "/v1/images", "archive").await;
    assert_eq!(loaded.status, 200, "{}", loaded.body);
    assert_eq!(loaded.header("mill-index"), first.state().index.0.to_string(), "all know by then");
    let images: Vec<ImageView> = loaded.json();
    assert_eq!((images.len(), &images[0].nodes), (1, &vec!["n1".to_owned()]));
    second.become_node(NodeId(2), first.state());
}

fn json(node: &Node) -> Client {
    node.local().header("accept", "application/json")
}

fn pinned(node: &Node) -> Option<Digest> {
    let state = node.state();
    let app = state.apps.values().next()?;
    let hash = app.services.values().next()?.target.clone()?;
    state.spec(&hash)?.spec.run().digest.clone()
}

#[tokio::test]
async fn what_one_node_has_loaded_every_node_deploys() {
    let (first, second) = two().await;
    load(&first, &second, "sha256:ab").await;
    let settled = first.images.settled.lock().unwrap().clone();
    assert!(settled.len() == 1 && settled[0].1 == Some(first.state().index), "{settled:?}");
    let deployed = json(&second).send("POST", "/v1/deploy", FILE).await;
    assert_eq!(deployed.status, 202, "{}", deployed.body);
    assert_eq!(pinned(&second), Some("sha256:ab".into()));
    let task = second.local().send("POST", "/v1/tasks", "{\"image\": \"web:v1\"}").await;
    assert_eq!(task.status, 202, "{}", task.body);

    // Another one under the same name is a change, and a file that is the same is not.
    let state = second.state();
    first.become_node(NodeId(1), state);
    load(&first, &second, "sha256:cd").await;
    let again = json(&second).send("POST", "/v1/deploy", FILE).await;
    assert_eq!((again.status, pinned(&second)), (202, Some("sha256:cd".into())));

    // With the node down that has it, it is named; what runs keeps its digest.
    let down = Command::NodeDown { node: NodeId(1), boot: BootId(1) };
    second.apply(down).unwrap();
    let same = json(&second).send("POST", "/v1/deploy", FILE).await;
    assert_eq!(same.status, 202, "{}", same.body);
    let other = "app \"other\"\nservice \"two\" {\n    image \"web:v1\"\n}\n";
    let lost = json(&second).send("POST", "/v1/deploy", other).await;
    let ErrorDocument { error } = lost.json();
    assert_eq!((lost.status, &error.code), (404, &ErrorCode::NotFound));
    assert_eq!(error.message, "two: web:v1 was loaded on n1, which is down");
    assert!(error.hint.unwrap().contains("mill image load"));
}

#[tokio::test]
async fn images_are_listed_with_their_nodes_and_removed_everywhere() {
    let (first, second) = two().await;
    load(&first, &second, "sha256:ab").await;
    second.images.know("docker.io/library/pulled:v1", "sha256:ee");
    for node in [&first, &second] {
        let all: Vec<ImageView> = node.local().get("/v1/images").await.json();
        let all: Vec<(&str, String)> =
            all.iter().map(|image| (&*image.reference, image.nodes.join(","))).collect();
        let pulled = ("docker.io/library/pulled:v1", "n2".to_owned());
        assert_eq!(all, [pulled, (WEB, "n1".to_owned())]);
    }
    // One that can't be reached is left out, but for what the state knows of it.
    second.neighbours.cut(NodeId(1));
    let all: Vec<ImageView> = second.local().get("/v1/images").await.json();
    assert_eq!(all.len(), 2);
    second.images.know(WEB, "sha256:ab");
    assert_eq!(first.local().send("DELETE", "/v1/images/web:v1", "").await.status, 204);
    assert!(first.state().loaded.is_empty());
    assert!(!first.images.known.lock().unwrap().contains_key("web:v1"));
    assert_eq!(first.local().send("DELETE", "/v1/images/web:v2", "").await.status, 404);
}

#[tokio::test]
async fn a_load_that_the_cluster_does_not_take_is_given_up() {
    let (first, _second) = two().await;
    first.shared.lock().unwrap().refuse = Some(ProposeError::NoLeader);
    let refused = first.local().send("POST", "/v1/images", "archive").await;
    assert_eq!((refused.status, &*refused.code()), (503, "no_leader"));
    let settled = first.images.settled.lock().unwrap().clone();
    assert!(settled.iter().all(|(_, index)| index.is_none()) && !settled.is_empty());
    first.shared.lock().unwrap().refuse = None;
    for (role, status) in [(Role::Read, 403), (Role::Deploy, 200)] {
        let client = first.network().token(&first.token(role));
        assert_eq!(client.send("POST", "/v1/images", "archive").await.status, status);
        assert_eq!(client.get("/v1/images").await.status, 200);
    }
}

#[tokio::test]
async fn a_member_lends_its_blobs() {
    let (first, second) = two().await;
    let blob: Vec<u8> = (0..100).collect();
    first.images.blobs.lock().unwrap().insert("sha256:ab".into(), blob.clone());
    let state = second.state();
    let view = View {
        index: state.index,
        state: Arc::new(state),
        touched: Arc::new(Touched::everything()),
        current: true,
        leader: None,
        node: NodeId(2),
        time: None,
        boot: BootId(2),
        removed: false,
    };
    let lenders = Lenders::new(Arc::clone(&second.neighbours) as _);
    let of = async |digest: &str, from| {
        let lent = lenders.blob(&view, NodeId(1), &digest.into(), from).await?;
        let pieces: Vec<bytes::Bytes> = lent.try_collect().await.unwrap();
        Ok::<_, crate::actors::platform::image::LendError>(pieces.concat())
    };
    assert_eq!(of("sha256:ab", 0).await.unwrap(), blob);
    assert_eq!(of("sha256:ab", 30).await.unwrap(), blob[30..]);
    let missing = of("sha256:ff", 0).await.unwrap_err();
    assert!(missing.to_string().contains("sha256:ff"), "{missing}");
    second.neighbours.cut(NodeId(1));
    let cut = of("sha256:ab", 0).await.unwrap_err();
    assert!(cut.to_string().starts_with("n1 can't be reached"), "{cut}");
    // It is no route of the API that clients see.
    assert_eq!(first.local().get("/v1/blobs/sha256:ab").await.status, 404);
}

//! Tests of who is to have a loaded image.

use super::*;
use crate::fsm::command::{Command, Init, Members, Register};
use crate::fsm::loaded::ImageChange;
use crate::fsm::{apply_next, fixture};
use crate::id::BootId;
use crate::units::Timestamp;

const WEB: &str = "docker.io/library/web:v1";

fn pin(digest: &str) -> Pin {
    Pin { reference: WEB.to_owned(), digest: digest.into() }
}

fn change(state: &mut State, command: Command) {
    let time = state.time;
    apply_next(state, time, command).outcome.unwrap();
}

/// A cluster of so many ready nodes, whose identity is `c`.
fn cluster(nodes: u64) -> State {
    let mut state = State::default();
    change(&mut state, Command::Init(Init { ..fixture::init() }));
    for id in 1..=nodes {
        if id > 1 {
            change(&mut state, Command::Join(fixture::join(&format!("n{id}"), &format!("k{id}"))));
        }
        let (node, boot) = (NodeId(id), BootId(id));
        change(&mut state, Command::Register(Register { node, boot, ..fixture::register() }));
    }
    state
}

fn load(state: &mut State, node: u64, digest: &str) {
    let images = vec![(pin(digest), Bytes(10))];
    change(state, Command::Images(ImageChange::Load { node: NodeId(node), images, late: false }));
}

fn held(digest: &str, cluster: Option<&str>) -> Held {
    Held { pin: pin(digest), size: Bytes(10), cluster: cluster.map(str::to_owned) }
}

/// The nodes that fetch an image now; they get it.
fn fetching(state: &mut State) -> Vec<u64> {
    let holds = |id: NodeId| state.loaded[WEB].copies.values().any(|c| c.nodes.contains(&id));
    let own = |id: &NodeId| if holds(*id) { vec![held("sha256:aa", Some("c"))] } else { vec![] };
    let ids: Vec<NodeId> = state.nodes.keys().copied().collect();
    let chosen: Vec<NodeId> =
        ids.into_iter().filter(|id| !duties(state, *id, &own(id)).fetch.is_empty()).collect();
    for node in &chosen {
        let has = BTreeSet::from([pin("sha256:aa")]);
        let hold = ImageChange::Hold { node: *node, has, lacks: BTreeSet::new() };
        change(state, Command::Images(hold));
    }
    chosen.into_iter().map(|id| id.0).collect()
}

fn down(state: &mut State, id: u64) {
    change(state, Command::NodeDown { node: NodeId(id), boot: BootId(id) });
}

#[test]
fn a_few_nodes_have_it_however_many_there_are() {
    for (nodes, more) in [(1, 0), (2, 1), (3, 2), (9, 2)] {
        let mut state = cluster(nodes);
        load(&mut state, 1, "sha256:aa");
        assert_eq!(fetching(&mut state).len(), more, "{nodes} nodes");
        assert_eq!(fetching(&mut state).len(), 0, "{nodes} nodes");
    }
}

#[test]
fn others_take_the_place_of_those_that_are_gone() {
    let mut state = cluster(5);
    load(&mut state, 1, "sha256:aa");
    let first = fetching(&mut state);
    down(&mut state, first[0]);
    assert!(fetching(&mut state).is_empty(), "it may be back in a moment");
    state.time = Timestamp(state.time.0 + Millis::from(limits::LOADED_PATIENCE).0);
    let second = fetching(&mut state);
    assert_eq!(second.len(), 1);
    change(&mut state, Command::Drain { node: NodeId(second[0]), deadline: None });
    let third = fetching(&mut state);
    assert!(third.len() == 1 && !first.contains(&third[0]), "{third:?}");
    assert!(!is_last(&state, NodeId(1)), "others have it");
    // Where nobody is left who could lend it, nobody asks.
    let mut state = cluster(3);
    load(&mut state, 1, "sha256:aa");
    assert!(is_last(&state, NodeId(1)) && !is_last(&state, NodeId(2)));
    assert!(!is_last(&cluster(1), NodeId(1)), "nobody else could have it");
    down(&mut state, 1);
    state.time = Timestamp(state.time.0 + 1_000_000);
    assert!(fetching(&mut state).is_empty());
}

#[test]
fn not_the_same_nodes_have_every_image() {
    let state = cluster(9);
    let first = |n: u64| {
        let digest = Digest::from(format!("sha256:{n:064x}"));
        state.nodes.keys().copied().min_by_key(|id| rank(&digest, *id))
    };
    let chosen: BTreeSet<_> = (0..100).map(first).collect();
    assert!(chosen.len() > 5, "{chosen:?}");
}

#[test]
fn what_a_node_has_and_the_state_says_are_brought_together() {
    let mut state = cluster(2);
    load(&mut state, 1, "sha256:aa");
    let of = |id, held: &[Held]| duties(&state, NodeId(id), held);
    let nothing = Duties::default();
    assert_eq!(of(1, &[held("sha256:aa", Some("c"))]), nothing);
    let pins = || BTreeSet::from([pin("sha256:aa")]);
    assert_eq!(of(1, &[]), Duties { lacks: pins(), ..nothing.clone() });
    let has = Duties { has: pins(), ..nothing.clone() };
    assert_eq!(of(2, &[held("sha256:aa", Some("c"))]), has);
    let mark = vec![pin("sha256:aa")];
    assert_eq!(of(2, &[held("sha256:aa", None)]), Duties { mark, ..has });
    // Removed meanwhile, or never known.
    let others = [held("sha256:aa", Some("c")), held("sha256:bb", Some("c"))];
    let drop = vec![pin("sha256:bb")];
    assert_eq!(of(1, &others), Duties { drop, ..nothing });
}

#[test]
fn a_cluster_is_told_of_what_was_loaded_before_it_knew_of_such() {
    let old = |cluster| Held {
        pin: Pin { reference: "docker.io/library/old:v1".to_owned(), digest: "sha256:cc".into() },
        ..held("sha256:cc", cluster)
    };
    let mut state = cluster(1);
    load(&mut state, 1, "sha256:aa");
    let of = |state: &State, one: Held| {
        let duties = duties(state, NodeId(1), &[held("sha256:aa", Some("c")), one]);
        (duties.tell.len(), duties.drop.len())
    };
    assert_eq!(of(&state, old(None)), (1, 0));
    assert_eq!(of(&state, old(Some("another"))), (1, 0), "whoever begins a cluster brings it");
    assert_eq!(of(&state, old(Some("c"))), (0, 1), "it was removed");
    assert_eq!(of(&state, held("sha256:bb", None)), (0, 1), "the reference leads elsewhere");
    let several = cluster(2);
    assert_eq!(duties(&several, NodeId(1), &[old(None)]).tell.len(), 1);
    let joined = duties(&several, NodeId(2), &[old(Some("another"))]);
    assert_eq!((joined.tell.len(), joined.drop.len()), (0, 1), "whoever joins doesn't");
}

#[test]
fn whoever_has_it_and_is_there_lends_it() {
    let mut state = cluster(3);
    let digest = Digest::from("sha256:aa");
    assert_eq!(lenders(&state, None, &digest), None);
    load(&mut state, 1, "sha256:aa");
    let of = |state: &State, me: Option<u64>| {
        let found = lenders(state, me.map(NodeId), &digest).unwrap();
        (found.nodes.iter().map(|id| id.0).collect::<Vec<_>>(), found.reason, found.may_return)
    };
    assert_eq!(of(&state, Some(2)).0, [1]);
    assert_eq!(of(&state, None).0, [1]);
    let gone = "was loaded on n1, and no node has it any more".to_owned();
    assert_eq!(of(&state, Some(1)), (vec![], gone.clone(), false), "not of itself");
    down(&mut state, 1);
    let silent = "was loaded on n1, which is down".to_owned();
    assert_eq!(of(&state, Some(2)), (vec![], silent, true));
    let has = BTreeSet::from([pin("sha256:aa")]);
    let hold = ImageChange::Hold { node: NodeId(3), has, lacks: BTreeSet::new() };
    change(&mut state, Command::Images(hold));
    assert_eq!(of(&state, Some(2)).0, [3]);
    down(&mut state, 3);
    assert_eq!(of(&state, None).1, "is on n1, n3, which are down");
    let (voters, learners) = ([NodeId(2)].into(), [NodeId(1), NodeId(3)].into());
    change(&mut state, Command::Members(Members { voters, learners }));
    for node in [1, 3] {
        change(&mut state, Command::Remove { node: NodeId(node) });
    }
    assert_eq!(of(&state, None), (vec![], gone, false));
}

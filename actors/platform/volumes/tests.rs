//! Folders of volumes: made once, copied whole, never in the place of lost data.

use super::*;
use crate::fsm::volumes::{Attachment, Provided, Volume};
use crate::fsm::{Command, State, apply_next, fixture};
use crate::id::NodeId;
use crate::spec::model::VolumeSpec;
use crate::units::Timestamp;

fn known(used: bool) -> Volumes {
    let volume = Volume { used, ..fixture::volume(NodeId(1)) };
    [(VolumeName::from("data"), Arc::new(volume))].into_iter().collect()
}

fn store(folder: PathBuf) -> VolumeStore {
    VolumeStore::new(folder, Attached::new("/nowhere".into(), "/nowhere".into()))
}

#[test]
fn a_folder_is_made_once_and_never_in_the_place_of_lost_data() {
    let place = tempfile::tempdir().unwrap();
    let store = store(place.path().join("volumes"));
    let (mut run, id) = (RunSpec::of("x"), AllocId::from("db-0-aaaa"));
    let (name, path) = ("data".to_owned(), "/data".to_owned());
    run.volumes.push(VolumeSpec { name, path, ephemeral: false, size: Some(Bytes(5)) });
    let owner = [nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()];
    let missing = store.mounts(&run, &id, owner).unwrap_err();
    assert!(matches!(missing, VolumeError::Elsewhere { .. }));
    store.use_volumes(NodeId(1), &known(false), &Nodes::new());
    let mounts = store.mounts(&run, &id, owner).unwrap();
    let folder = mounts[0].source.clone();
    std::fs::write(folder.join("file"), [7; 10_000]).unwrap();
    store.use_volumes(NodeId(1), &known(true), &Nodes::new());
    assert_eq!(store.mounts(&run, &id, owner).unwrap(), mounts);
    assert!(store.used()[&VolumeName::from("data")].0 >= 10_000);
    std::fs::rename(&folder, place.path().join("elsewhere")).unwrap();
    let missing = store.mounts(&run, &id, owner).unwrap_err().to_string();
    assert!(missing.contains("the data of volume data is missing"), "{missing}");
    assert!(!folder.exists());
    std::fs::rename(place.path().join("elsewhere"), &folder).unwrap();
    store.remove(&"data".into()).unwrap();
    store.remove(&"data".into()).unwrap();
    assert!(!folder.exists() && store.used().is_empty());
}

#[test]
fn a_copy_is_the_volume_only_once_the_state_says_so() {
    let place = tempfile::tempdir().unwrap();
    let there = store(place.path().join("there"));
    let here = store(place.path().join("here"));
    let name = VolumeName::from("data");
    std::fs::create_dir_all(there.path(&name)).unwrap();
    std::fs::write(there.path(&name).join("file"), "new").unwrap();
    let (mut sealed, mut plain) = (Vec::new(), Vec::new());
    archive::pack(&there.path(&name), &mut sealed, true).unwrap();
    archive::pack(&there.path(&name), &mut plain, false).unwrap();
    let names = || {
        let list = std::fs::read_dir(&here.folder).unwrap();
        list.map(|one| one.unwrap().file_name()).collect::<BTreeSet<_>>()
    };
    assert!(here.receive(&name, 7, &sealed[..sealed.len() - 1]).is_err());
    assert!(names().is_empty() && !here.has_copy(&name, 7), "nothing of a part is left");
    here.receive(&name, 7, &sealed[..]).unwrap();
    assert!(here.has_copy(&name, 7) && here.find(&name).is_none());
    assert_eq!(here.copied(), [name.clone()].into());
    let mut known = known(true);
    let seventh = Volume { copy: 7, ..Volume::clone(&known[&name]) };
    known.insert(name.clone(), Arc::new(seventh));
    here.use_volumes(NodeId(1), &known, &Nodes::new());
    let file = here.find(&name).unwrap().join("file");
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    std::fs::write(&file, "later").unwrap();
    assert!(here.replace(&name, &plain[..plain.len() / 2]).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"later");
    here.replace(&name, &plain[..]).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"new");
    assert_eq!(names(), ["data.7".into()].into(), "nothing else is left");
    let lock = here.lock(&name, "being copied").unwrap();
    assert!(here.lock(&name, "being copied").is_err());
    drop(lock);
    assert!(here.lock(&name, "being copied").is_ok());
    here.remove(&name).unwrap();
    assert!(names().is_empty());
}

#[test]
fn what_a_volume_waits_for_names_the_node_that_has_it() {
    let mut volume = Volume::clone(&known(true)[&VolumeName::from("data")]);
    let (node, number, step) = (NodeId(2), 1, AttachStep::Releasing);
    let attachment = Some(Attachment { node, droplet: "102".into(), number, step });
    let (name, region, id) = ("mill-data".into(), "fra1".into(), Some("id".into()));
    let (made, error) = (Bytes(1 << 30), None);
    volume.provided = Some(Provided { name, region, id, made, attachment, error });
    let mut state = State::default();
    let _ = apply_next(&mut state, Timestamp(1), Command::Init(fixture::init()));
    let there = Node { id: node, name: "n2".into(), ..Node::clone(&state.nodes[&NodeId(1)]) };
    state.nodes.insert(node, Arc::new(there));
    assert_eq!(waits_for(NodeId(1), &volume, &state.nodes), "still attached to n2");
    let gone = "still attached to node 2, which was removed";
    assert_eq!(waits_for(NodeId(1), &volume, &Nodes::new()), gone);
    assert_eq!(waits_for(node, &volume, &state.nodes), "still being detached");
}

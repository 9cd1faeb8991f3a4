//! Copies into and out of trees that a test has made.

use super::*;
use std::os::unix::fs::symlink;

/// A root of our own: that of this process would be the machine's.
fn root(path: &Path) -> Root {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let root = nix::fcntl::open(path, flags, Mode::empty()).unwrap();
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    Root { root, owner: [uid.as_raw(), gid.as_raw()] }
}

fn archive(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut all = Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o640);
        // As it is, also where the library would refuse the name.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if *kind == EntryType::Symlink {
            header.set_link_name(content).unwrap();
            header.set_size(0);
            header.set_cksum();
            all.append(&header, io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            all.append(&header, content.as_bytes()).unwrap();
        }
    }
    all.into_inner().unwrap()
}

#[test]
fn what_is_packed_is_unpacked_the_same_under_the_name_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::write(tree.join("a/b/file"), "content").unwrap();
    symlink("b/file", tree.join("a/link")).unwrap();
    nix::unistd::mkfifo(&tree.join("a/pipe"), Mode::S_IRUSR).unwrap();
    let root = root(dir.path());
    let mut bytes = Vec::new();
    root.find(Path::new("/tree/a")).unwrap().pack(&mut bytes).unwrap();
    root.unpack(Path::new("/copy"), &bytes[..]).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("copy/link")).unwrap(), "content");
    assert!(!dir.path().join("copy/pipe").exists());
    root.unpack(Path::new("/copy"), &bytes[..]).unwrap();
    assert!(dir.path().join("copy/a/b/file").exists(), "into a folder that is there");
    let mut one = Vec::new();
    root.find(Path::new("tree/a/link")).unwrap().pack(&mut one).unwrap();
    root.unpack(Path::new("/copy/b/file"), &one[..]).unwrap();
    assert_eq!(std::fs::read(dir.path().join("copy/b/file")).unwrap(), b"content");
    let missing = root.find(Path::new("/no")).unwrap_err();
    assert_eq!(missing.to_string(), "/no: isn't there");
    let nowhere = root.unpack(Path::new("/no/where"), &one[..]).unwrap_err();
    assert_eq!(nowhere.to_string(), "/no/where: its folder isn't there");
}

#[test]
fn the_deepest_tree_is_copied_whole_or_refused_and_never_ends_the_process() {
    // In memory: the disk has better to do.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut at = dir.path().join("deep");
    std::fs::create_dir(&at).unwrap();
    for _ in 0..600 {
        at.push("d");
        std::fs::create_dir(&at).unwrap();
    }
    std::fs::write(at.join("file"), "content").unwrap();
    let top = root(dir.path());
    let mut bytes = Vec::new();
    top.find(Path::new("/deep")).unwrap().pack(&mut bytes).unwrap();
    top.unpack(Path::new("/copy"), &bytes[..]).unwrap();
    let copied = dir.path().join("copy").join(at.strip_prefix(dir.path().join("deep")).unwrap());
    assert_eq!(std::fs::read_to_string(copied.join("file")).unwrap(), "content");
    let mut folder = nix::fcntl::open(&at, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..15_000 {
        mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
        folder = openat(&folder, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
    }
    let refused = top.find(Path::new("/deep")).unwrap().pack(io::sink()).unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("too deep"), "{why}");
    tree::remove(&dir.path().join("deep")).unwrap();
}

#[test]
fn nothing_leads_out_of_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("inside");
    std::fs::create_dir_all(inside.join("sub")).unwrap();
    std::fs::write(dir.path().join("secret"), "outside").unwrap();
    symlink("/../secret", inside.join("up")).unwrap();
    symlink(dir.path(), inside.join("out")).unwrap();
    let root = root(&inside);
    for path in ["/up", "/out/secret", "/../secret", "../../secret"] {
        assert!(root.find(Path::new(path)).is_err(), "{path}");
    }
    let evil = archive(&[("../evil", EntryType::Regular, "x")]);
    assert!(root.unpack(Path::new("/sub"), &evil[..]).is_err());
    let up = dir.path().to_str().unwrap();
    let linked = archive(&[("l", EntryType::Symlink, up), ("l/evil", EntryType::Regular, "x")]);
    assert!(root.unpack(Path::new("/sub"), &linked[..]).is_err(), "a link isn't followed");
    let device = archive(&[("d", EntryType::Block, "")]);
    assert!(root.unpack(Path::new("/sub"), &device[..]).is_err());
    let through = archive(&[("evil", EntryType::Regular, "x")]);
    root.unpack(Path::new("/out"), &through[..]).unwrap();
    assert!(inside.join("out").is_file(), "the link is replaced");
    // A link in the place of the file is replaced, not written through.
    symlink(dir.path().join("secret"), inside.join("sub/target")).unwrap();
    let over = archive(&[("target", EntryType::Regular, "mine")]);
    root.unpack(Path::new("/sub"), &over[..]).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("secret")).unwrap(), "outside");
    assert_eq!(std::fs::read_to_string(inside.join("sub/target")).unwrap(), "mine");
    assert!(!dir.path().join("evil").exists());
}

//! Trees of files that a container or an image has made, whatever their shape.
//!
//! Owns that depth, length of paths and number of files bound nothing: there is no recursion, no
//! path is put together, and a few descriptors are enough. Never follows a link, never enters what
//! is mounted in a tree that it removes. Blocks: call it where that may be.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// How a folder is opened: never through a link.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Names that a walk holds at once.
const NAMES_MAX: usize = 1_000_000;
/// A block of `st_blocks`, in bytes.
const BLOCK: u64 = 512;
/// Folders are moved aside under names that begin like this.
const ASIDE: &str = ".aside-";

/// Removes a folder with all that is in it.
///
/// # Errors
/// It isn't there, or something in it can't be removed; what can be is.
pub fn remove(path: &Path) -> io::Result<()> {
    while !empty(path, usize::MAX)? {}
    std::fs::remove_dir(path)
}

/// Removes what is in a folder, at most so many things. Whether it is empty now.
///
/// # Errors
/// Something in it can't be removed; everything else is.
pub fn empty(path: &Path, most: usize) -> io::Result<bool> {
    let flags = FOLDER.difference(OFlag::O_NOFOLLOW);
    let mut work = Work { top: open(path, flags, Mode::empty())?, left: most, done: 0, aside: 0 };
    loop {
        let (before, mut failed) = (work.done, None);
        let top = work.top.try_clone()?;
        let whole = each(top.as_fd(), |name, _| {
            if work.left == 0 {
                return false;
            }
            if let Err(errno) = work.discard(name) {
                failed.get_or_insert(errno);
            }
            true
        })?;
        match failed {
            _ if !whole => return Ok(false),
            // Others may have made room for it: only a round that does nothing is the last.
            Some(errno) if work.done == before => return Err(errno.into()),
            None if work.done == before => return Ok(true),
            _ => {}
        }
    }
}

/// A folder that is being emptied.
struct Work {
    top: OwnedFd,
    /// So many things may still be removed or moved.
    left: usize,
    /// So many have been.
    done: usize,
    /// So many folders were moved aside.
    aside: u64,
}

impl Work {
    fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.done += 1;
    }

    /// Removes one thing from the top; of a folder, what is in it comes up to the top first.
    fn discard(&mut self, name: &OsStr) -> nix::Result<()> {
        match unlinkat(&self.top, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Ok(()) => {
                self.count();
                return Ok(());
            }
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        let how = OpenHow::new().flags(FOLDER).resolve(
            ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_BENEATH,
        );
        let inner = openat2(&self.top, name, how)?;
        let mut failed = None;
        let whole = each(inner.as_fd(), |entry, _| {
            if self.left == 0 {
                return false;
            }
            if let Err(errno) = self.lift(inner.as_fd(), entry) {
                failed.get_or_insert(errno);
            }
            true
        })?;
        if let Some(errno) = failed {
            return Err(errno);
        }
        if whole {
            unlinkat(&self.top, name, UnlinkatFlags::RemoveDir)?;
            self.count();
        }
        Ok(())
    }

    /// Removes a thing from a folder of the top, or moves it there: a folder with something in it.
    fn lift(&mut self, inner: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
        let removed = match unlinkat(inner, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR | Errno::EPERM) => unlinkat(inner, name, UnlinkatFlags::RemoveDir),
            other => other,
        };
        match removed {
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Ok(()) => {
                self.count();
                return Ok(());
            }
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        loop {
            self.aside += 1;
            let to = format!("{ASIDE}{}", self.aside);
            match renameat(inner, name, &self.top, to.as_str()) {
                // Of an earlier time. An empty folder of that name is replaced, and so goes.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Ok(()) => {
                    self.count();
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Hands out a folder's entries until one of them is the last that is wanted. Whether it came to
/// the end.
fn each(
    folder: BorrowedFd<'_>,
    mut take: impl FnMut(&OsStr, Option<nix::dir::Type>) -> bool,
) -> nix::Result<bool> {
    // Opened anew, so that each reading has a position of its own.
    for entry in Dir::from_fd(openat(folder, ".", FOLDER, Mode::empty())?)?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." && !take(name, entry.file_type()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a folder.
///
/// # Errors
/// It can't be read, or has more names than are held at once.
pub fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let whole = each(folder, |name, _| {
        names.push(name.to_owned());
        names.len() <= NAMES_MAX
    })?;
    if whole { Ok(names) } else { Err(io::Error::other("a folder has too many files")) }
}

/// A way through a tree, folder by folder. Only the folder where it is at the moment is open.
#[derive(Debug)]
pub struct Walk {
    folder: OwnedFd,
    levels: Vec<Level>,
    held: usize,
}

#[derive(Debug)]
struct Level {
    id: (u64, u64),
    /// The last one is next.
    left: Vec<OsString>,
}

impl Walk {
    /// Begins in a folder of which these entries are wanted, in this order.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(folder: OwnedFd, entries: Vec<OsString>) -> io::Result<Self> {
        let mut walk = Self { folder: folder.try_clone()?, levels: Vec::new(), held: 0 };
        walk.enter(folder, entries)?;
        Ok(walk)
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The next entry of the folder where it is.
    pub fn next_entry(&mut self) -> Option<OsString> {
        let name = self.levels.last_mut()?.left.pop()?;
        self.held -= 1;
        Some(name)
    }

    /// Goes into a folder of the one where it is.
    ///
    /// # Errors
    /// The system refuses, or more names would be held than may be.
    pub fn enter(&mut self, folder: OwnedFd, mut entries: Vec<OsString>) -> io::Result<()> {
        self.held += entries.len();
        if self.held > NAMES_MAX {
            return Err(io::Error::other("there are too many files"));
        }
        entries.reverse();
        self.levels.push(Level { id: identity(&fstat(&folder)?), left: entries });
        self.folder = folder;
        Ok(())
    }

    /// Goes back to the folder above; false at the top.
    ///
    /// # Errors
    /// The folder was moved meanwhile: what is above it is another one.
    pub fn leave(&mut self) -> io::Result<bool> {
        self.levels.pop();
        let Some(above) = self.levels.last() else { return Ok(false) };
        let folder = openat(&self.folder, "..", FOLDER, Mode::empty())?;
        if identity(&fstat(&folder)?) != above.id {
            return Err(io::Error::other("a folder was moved meanwhile"));
        }
        self.folder = folder;
        Ok(true)
    }
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The kind of a file.
#[must_use]
pub fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// What a tree takes on its disk, in bytes, as far as `more` is told of no more than it allows: it
/// is given the sum and the number of entries so far, and ends the measuring by false. Of a tree
/// that changes meanwhile, what was seen.
///
/// # Errors
/// It isn't there, or the system refuses.
pub fn measure(path: &Path, mut more: impl FnMut(u64, usize) -> bool) -> io::Result<u64> {
    let top = open(path, FOLDER, Mode::empty())?;
    let (device, mut sum, mut seen) = (fstat(&top)?.st_dev, 0, 0);
    let (folders, mut goes_on) = weigh(top.as_fd(), device, &mut sum, &mut seen, &mut more)?;
    let mut walk = Walk::new(top, folders)?;
    while goes_on {
        let Some(name) = walk.next_entry() else {
            match walk.leave() {
                Ok(true) => continue,
                // At the end; or what is above is no longer known, and what was seen is all.
                Ok(false) | Err(_) => break,
            }
        };
        let inner = match openat(walk.folder(), name.as_os_str(), FOLDER, Mode::empty()) {
            // Gone, or another thing by now.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            other => other?,
        };
        let folders;
        (folders, goes_on) = weigh(inner.as_fd(), device, &mut sum, &mut seen, &mut more)?;
        walk.enter(inner, folders)?;
    }
    Ok(sum)
}

/// Adds what the entries of a folder take. Answers which of them are folders of the same disk, and
/// whether it goes on.
fn weigh(
    folder: BorrowedFd<'_>,
    device: u64,
    sum: &mut u64,
    seen: &mut usize,
    more: &mut impl FnMut(u64, usize) -> bool,
) -> nix::Result<(Vec<OsString>, bool)> {
    let mut folders = Vec::new();
    let goes_on = each(folder, |name, _| {
        // What goes meanwhile counts for nothing.
        let Ok(stat) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { return true };
        *sum = sum.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK);
        *seen += 1;
        if kind(&stat) == SFlag::S_IFDIR && stat.st_dev == device {
            folders.push(name.to_owned());
        }
        more(*sum, *seen)
    })?;
    Ok((folders, goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use nix::sys::stat::mkdirat;
    use std::os::fd::AsRawFd as _;

    /// So many folders within each other, a file in each hundredth.
    fn nest(path: &Path, depth: usize) {
        let mut at = open(path, FOLDER, Mode::empty()).unwrap();
        for level in 0..depth {
            mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
            if level % 100 == 0 {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
                drop(openat(&at, "file", flags, Mode::S_IRUSR).unwrap());
            }
            at = openat(&at, "d", FOLDER, Mode::empty()).unwrap();
        }
    }

    /// Runs something with only so many more descriptors than are open now.
    fn with_few<T>(more: u64, run: impl FnOnce() -> T) -> T {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let next = std::fs::File::open("/").unwrap().as_raw_fd();
        let few = u64::try_from(next).unwrap() + more;
        setrlimit(Resource::RLIMIT_NOFILE, few, hard).unwrap();
        let done = run();
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        done
    }

    #[test]
    fn the_deepest_tree_goes_with_a_few_descriptors_and_in_pieces() {
        const ALONE: &str = "MILL_TEST_ALONE";
        if std::env::var_os(ALONE).is_none() {
            // In a process of its own: others need more descriptors.
            let name = "platform::tree::tests::the_deepest_tree_goes_with_a_few_descriptors";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            let done = alone.args([name, "--nocapture"]).env(ALONE, "").output().unwrap();
            let said = String::from_utf8_lossy(&done.stdout);
            assert!(done.status.success() && said.contains("pieces"), "{done:?}");
            return;
        }
        // In memory: the disk has better to do.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        nest(&tree, 15_000);
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let at = tree.clone();
        let (taken, pieces) = small
            .spawn(move || {
                with_few(5, || {
                    let taken = measure(&at, |_, _| true).unwrap();
                    let mut pieces = 1;
                    while !empty(&at, 1_000).unwrap() {
                        pieces += 1;
                    }
                    (taken, pieces)
                })
            })
            .unwrap()
            .join()
            .unwrap();
        println!("{taken} bytes, {pieces} pieces");
        assert!(pieces > 15, "{pieces}");
        remove(&tree).unwrap();
        assert!(!tree.exists());
        assert_eq!(remove(&tree).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn links_are_removed_and_not_followed_and_a_wide_tree_goes_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        std::fs::create_dir_all(other.join("kept")).unwrap();
        for n in 0..50 {
            let folder = tree.join(format!("{n}/x/y/.aside-{n}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("file"), "x").unwrap();
            std::os::unix::fs::symlink(&other, folder.join("link")).unwrap();
        }
        std::os::unix::fs::symlink(&other, tree.join("link")).unwrap();
        std::fs::create_dir_all(tree.join(".aside-3/y")).unwrap();
        std::fs::write(tree.join(".aside-1"), "x").unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists() && other.join("kept").exists());
    }

    #[test]
    fn what_is_mounted_in_a_tree_is_left_and_told_and_all_else_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        std::fs::create_dir_all(tree.join("a/mounted")).unwrap();
        std::fs::create_dir_all(tree.join("b/c")).unwrap();
        std::fs::create_dir_all(other.join("kept")).unwrap();
        let (mount, none) = (tree.join("a/mounted"), None::<&str>);
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(&other), &mount, none, flags, none).unwrap();
        let refused = remove(&tree);
        let left = [mount.join("kept").exists(), tree.join("b").exists()];
        nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH).unwrap();
        assert!(refused.is_err(), "it is busy");
        assert_eq!(left, [true, false]);
        remove(&tree).unwrap();
        assert!(other.join("kept").exists());
    }

    #[test]
    fn what_is_on_the_disk_counts_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/b"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("c")).unwrap();
        let taken = measure(folder.path(), |_, _| true).unwrap();
        assert!((100_000..200_000).contains(&taken), "{taken}");
        assert!(measure(folder.path(), |_, seen| seen < 1).unwrap() < 90_000);
    }
}

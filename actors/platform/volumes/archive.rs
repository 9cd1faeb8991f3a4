//! A volume's folder as a tar archive and back: owners, modes, times, links, extended attributes.
//!
//! Owns that a cut archive is never taken for a whole one. Never follows a link out of the folder.
//! Blocks: call it where that may be.

use crate::actors::platform::tree::{self, Walk, kind};
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};
use tar::{Archive, Builder, EntryType, Header};

/// How extended attributes are named in an archive, as other programs do.
const XATTR: &str = "SCHILY.xattr.";
/// Bytes at the end of every archive, all zero.
const END: usize = 1024;
/// Bytes of a checksum.
const DIGEST: usize = 32;

/// Writes a folder's archive, and behind it the checksum of it if that is wanted.
///
/// # Errors
/// The system refuses, or whoever reads it is gone.
pub fn pack(folder: &Path, to: impl Write, sealed: bool) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = open(folder, flags, Mode::empty())?;
    let mut hashing = Hashing { inner: to, hash: Sha256::new() };
    let mut packing = Packing { archive: Builder::new(&mut hashing), links: BTreeMap::new() };
    packing.whole(top)?;
    packing.archive.finish()?;
    drop(packing);
    let Hashing { mut inner, hash } = hashing;
    if sealed {
        inner.write_all(&hash.finalize())?;
    }
    inner.flush()
}

struct Hashing<T> {
    inner: T,
    hash: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}

struct Packing<W: Write> {
    archive: Builder<W>,
    /// Files with several names, by device and number: the first name.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packing<W> {
    fn whole(&mut self, top: OwnedFd) -> io::Result<()> {
        let mut path = PathBuf::new();
        self.folder(Path::new("./"), &top, &fstat(&top)?)?;
        let names = sorted(&top)?;
        let mut walk = Walk::new(top, names)?;
        loop {
            let Some(name) = walk.next_entry() else {
                if !walk.leave()? {
                    return Ok(());
                }
                path.pop();
                continue;
            };
            path.push(&name);
            if path.as_os_str().len() > limits::PATH_MAX {
                return Err(io::Error::other("holds folders that are too deep for an archive"));
            }
            match self.one(&path, walk.folder(), &name)? {
                Some(inner) => {
                    let names = sorted(&inner)?;
                    walk.enter(inner, names)?;
                }
                None => drop(path.pop()),
            }
        }
    }

    /// Writes an entry; of a folder only its head, which is answered.
    fn one(
        &mut self,
        path: &Path,
        at: BorrowedFd<'_>,
        name: &OsStr,
    ) -> io::Result<Option<OwnedFd>> {
        let seen = match fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        match kind(&seen) {
            SFlag::S_IFLNK => {
                let to = readlinkat(at, name)?;
                let mut header = header(&seen, EntryType::Symlink, 0);
                self.archive.append_link(&mut header, path, &to)?;
            }
            SFlag::S_IFIFO => {
                let mut header = header(&seen, EntryType::Fifo, 0);
                self.archive.append_data(&mut header, path, io::empty())?;
            }
            SFlag::S_IFREG | SFlag::S_IFDIR => {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let inner = match openat(at, name, flags, Mode::empty()) {
                    // Gone, or another thing by now.
                    Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
                    other => other?,
                };
                let stat = fstat(&inner)?;
                if kind(&stat) == SFlag::S_IFDIR {
                    self.folder(path, &inner, &stat)?;
                    return Ok(Some(inner));
                }
                self.file(path, inner, &stat)?;
            }
            // Sockets and devices mean nothing elsewhere.
            _ => {}
        }
        Ok(None)
    }

    fn folder(&mut self, path: &Path, fd: &OwnedFd, stat: &FileStat) -> io::Result<()> {
        self.attributes(fd)?;
        let mut header = header(stat, EntryType::Directory, 0);
        self.archive.append_data(&mut header, path, io::empty())
    }

    /// A file, with exactly the length that its header says: it may change meanwhile.
    fn file(&mut self, path: &Path, fd: OwnedFd, stat: &FileStat) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                let mut header = header(stat, EntryType::Link, 0);
                return self.archive.append_link(&mut header, path, first);
            }
            self.links.insert(id, path.to_owned());
        }
        self.attributes(&fd)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let content = File::from(fd).take(size).chain(io::repeat(0)).take(size);
        let mut header = header(stat, EntryType::Regular, size);
        self.archive.append_data(&mut header, path, content)
    }

    fn attributes(&mut self, fd: &OwnedFd) -> io::Result<()> {
        let all = attributes(fd);
        if all.is_empty() {
            return Ok(());
        }
        let pairs = all.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(pairs)
    }
}

/// The extended attributes that can be read, as they are named in an archive.
fn attributes(fd: &OwnedFd) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; limits::XATTRS_MAX];
    let length = rustix::fs::flistxattr(fd, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut value = vec![0; limits::XATTRS_MAX];
    let mut all = Vec::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()) {
        if let Ok(length) = rustix::fs::fgetxattr(fd, name, &mut value[..]) {
            all.push((format!("{XATTR}{name}"), value[..length].to_vec()));
        }
    }
    all
}

fn sorted(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = tree::names(folder.as_fd())?;
    names.sort();
    Ok(names)
}

fn header(stat: &FileStat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}

/// Unpacks an archive into an empty folder that nobody else knows; with a checksum behind it if it
/// has one. All of it is on the disk when this returns.
///
/// # Errors
/// It is none, isn't whole, leads out of the folder, or the system refuses.
pub fn unpack(from: impl Read, folder: &Path, sealed: bool) -> io::Result<()> {
    let mut hashing = Hashing { inner: from, hash: Sha256::new() };
    let mut archive = Archive::new(&mut hashing);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    let mut folders = Vec::new();
    let mut any = false;
    for entry in archive.entries()? {
        any = true;
        one_back(&mut entry?, folder, &mut folders)?;
    }
    let Hashing { mut inner, mut hash } = hashing;
    let mut rest = Vec::new();
    inner.by_ref().take(limits::VOLUME_TAIL_MAX).read_to_end(&mut rest)?;
    let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut off");
    if sealed {
        let tail = rest.len().checked_sub(DIGEST).ok_or_else(cut)?;
        hash.update(&rest[..tail]);
        if hash.finalize().as_slice() != &rest[tail..] {
            return Err(io::Error::other("the checksum of the copy doesn't fit"));
        }
    } else if !any || rest.len() < END / 2 || rest[..END / 2].iter().any(|byte| *byte != 0) {
        // The first block of zeros at the end is read already.
        return Err(cut());
    }
    // What is made in a folder changes its time.
    for (path, time) in folders.into_iter().rev() {
        File::open(&path)?.set_modified(time)?;
    }
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok(())
}

fn one_back(
    entry: &mut tar::Entry<'_, impl Read>,
    folder: &Path,
    folders: &mut Vec<(PathBuf, SystemTime)>,
) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    let mut target = folder.to_owned();
    for part in path.components() {
        match part {
            Component::Normal(part) => target.push(part),
            Component::CurDir => {}
            _ => {
                let message = format!("the archive leads out of its folder: {}", path.display());
                return Err(io::Error::other(message));
            }
        }
    }
    let attributes: Vec<(String, Vec<u8>)> = match entry.pax_extensions()? {
        Some(all) => all
            .filter_map(Result::ok)
            .filter_map(|one| {
                let name = one.key().ok()?.strip_prefix(XATTR)?.to_owned();
                Some((name, one.value_bytes().to_vec()))
            })
            .collect(),
        None => Vec::new(),
    };
    let header = entry.header();
    let (kind, mode) = (header.entry_type(), header.mode()?);
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(header.mtime()?);
    let owner = (u32::try_from(header.uid()?), u32::try_from(header.gid()?));
    let (Ok(uid), Ok(gid)) = owner else {
        return Err(io::Error::other("the archive has an owner that there is not"));
    };
    let dress = |path: &Path| {
        std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode & 0o7777))
    };
    if target == folder {
        dress(folder)?;
    } else if kind.is_fifo() {
        nix::unistd::mkfifo(&target, Mode::from_bits_truncate(mode & 0o7777))?;
        dress(&target)?;
    } else if kind.is_character_special() || kind.is_block_special() {
        return Ok(());
    } else if !entry.unpack_in(folder)? {
        return Err(io::Error::other("the archive leads out of its folder"));
    }
    if kind.is_dir() {
        folders.push((target.clone(), time));
    }
    for (name, value) in attributes {
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::lsetxattr(&target, name.as_str(), &value, flags) {
            // The file system here has none.
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    fn packed(folder: &Path, sealed: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(folder, &mut bytes, sealed).unwrap();
        bytes
    }

    fn of(bytes: &[u8], sealed: bool) -> (tempfile::TempDir, io::Result<()>) {
        let to = tempfile::tempdir().unwrap();
        let unpacked = unpack(bytes, to.path(), sealed);
        (to, unpacked)
    }

    fn filled() -> tempfile::TempDir {
        let from = tempfile::tempdir().unwrap();
        let deep = from.path().join("a").join("n".repeat(200));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![7; 100_000]).unwrap();
        fs::hard_link(deep.join("file"), from.path().join("same")).unwrap();
        fs::set_permissions(deep.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
        symlink("/etc/passwd", from.path().join("out")).unwrap();
        symlink("x".repeat(300), from.path().join("long")).unwrap();
        nix::unistd::mkfifo(&from.path().join("pipe"), Mode::S_IRWXU).unwrap();
        fs::set_permissions(from.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let owned = std::os::unix::fs::chown(from.path().join("same"), Some(1000), Some(2000));
        owned.unwrap();
        fs::set_permissions(from.path().join("same"), fs::Permissions::from_mode(0o4750)).unwrap();
        from
    }

    #[test]
    fn all_of_a_folder_comes_back() {
        let from = filled();
        let file = File::open(from.path().join("same")).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        let has = rustix::fs::fsetxattr(&file, "user.mill", b"\0x", flags).is_ok();
        for sealed in [false, true] {
            let (to, done) = of(&packed(from.path(), sealed), sealed);
            done.unwrap();
            let same = fs::metadata(to.path().join("same")).unwrap();
            assert_eq!((same.uid(), same.gid(), same.mode() & 0o7777), (1000, 2000, 0o4750));
            let deep = to.path().join("a").join("n".repeat(200)).join("file");
            assert_eq!(fs::metadata(&deep).unwrap().ino(), same.ino(), "one file, two names");
            assert_eq!(fs::read(deep).unwrap(), vec![7; 100_000]);
            assert_eq!(fs::read_link(to.path().join("out")).unwrap(), Path::new("/etc/passwd"));
            assert_eq!(fs::read_link(to.path().join("long")).unwrap().as_os_str().len(), 300);
            let pipe = fs::symlink_metadata(to.path().join("pipe")).unwrap().mode();
            assert_eq!(pipe & SFlag::S_IFMT.bits(), SFlag::S_IFIFO.bits());
            assert_eq!(fs::metadata(to.path()).unwrap().mode() & 0o7777, 0o1777);
            if has {
                let file = File::open(to.path().join("same")).unwrap();
                let mut value = [0; 8];
                assert_eq!(rustix::fs::fgetxattr(&file, "user.mill", &mut value[..]), Ok(2));
            }
        }
    }

    #[test]
    fn a_part_is_never_taken_for_the_whole() {
        let from = filled();
        for sealed in [false, true] {
            let bytes = packed(from.path(), sealed);
            for length in [0, 512, bytes.len() / 2, bytes.len() - 1100, bytes.len() - 600] {
                assert!(of(&bytes[..length], sealed).1.is_err(), "{length} of {}", bytes.len());
            }
        }
        let mut changed = packed(from.path(), true);
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        let error = of(&changed, true).1.unwrap_err();
        assert!(error.to_string().contains("checksum"), "{error}");
        assert!(of(&[7; 4096], false).1.is_err(), "another program's");
    }

    #[test]
    fn an_archive_writes_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let mut evil = Builder::new(Vec::new());
        let mut link = Header::new_gnu();
        link.set_entry_type(EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        link.set_uid(0);
        link.set_gid(0);
        link.set_mtime(1);
        evil.append_link(&mut link, "top", place.path()).unwrap();
        let mut file = Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        file.set_uid(0);
        file.set_gid(0);
        file.set_mtime(1);
        evil.append_data(&mut file, "top/evil", &b"x"[..]).unwrap();
        let evil = evil.into_inner().unwrap();
        assert!(of(&evil, false).1.is_err());
        assert!(!place.path().join("evil").exists());
    }
}

//! Files into and out of a running container, as tar streams.
//!
//! Owns the container's root as the kernel shows it to us: nothing is needed in the image, and
//! every path is resolved inside that root, whatever links the container has put there. The other
//! end of a copy is such a root, too. Blocks: call it where that may be.

use crate::actors::platform::tree::{self, Walk, kind};
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, symlinkat, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use tar::{Archive, Builder, EntryType, Header};

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The path isn't there, or is something else than it should be.
    #[error("{path}: {reason}", path = path.display())]
    Path {
        /// In the container.
        path: PathBuf,
        /// In a few words.
        reason: &'static str,
    },
    /// The archive holds what can't be copied.
    #[error("the archive has {name:?}, which {reason}")]
    Entry { name: PathBuf, reason: &'static str },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    System {
        /// In the container.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The stream broke.
    #[error("the stream broke off")]
    Stream(#[from] io::Error),
}

type Result<T> = std::result::Result<T, CopyError>;

fn system(path: &Path) -> impl Fn(Errno) -> CopyError {
    move |errno| CopyError::System { path: path.to_owned(), source: errno.into() }
}

/// The root of a container's files.
#[derive(Debug)]
pub struct Root {
    root: OwnedFd,
    owner: [u32; 2],
}

/// Something in a container that is to be copied out.
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    stat: FileStat,
    name: OsString,
    path: PathBuf,
}

impl Root {
    /// That of the process with this id on the host; what is made in it belongs to the owner.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of(pid: u32, owner: [u32; 2]) -> io::Result<Self> {
        let path = format!("/proc/{pid}/root");
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { root: nix::fcntl::open(path.as_str(), flags, Mode::empty())?, owner })
    }

    /// A folder of this machine; what is made in it belongs to the caller.
    ///
    /// # Errors
    /// It isn't there, or can't be opened.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let owner = [Uid::effective().as_raw(), Gid::effective().as_raw()];
        Ok(Self { root: nix::fcntl::open(folder, flags, Mode::empty())?, owner })
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        openat2(&self.root, path, how)
    }

    /// Finds what is to be copied out: a file or a folder.
    ///
    /// # Errors
    /// It isn't there, or is neither.
    pub fn find(&self, path: &Path) -> Result<Source> {
        let told = |reason| CopyError::Path { path: path.to_owned(), reason };
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = self.open(path, flags).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENOTDIR => told("isn't there"),
            errno => system(path)(errno),
        })?;
        let stat = fstat(&fd).map_err(system(path))?;
        if !matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFDIR) {
            return Err(told("is neither a file nor a folder"));
        }
        let name = path.file_name().unwrap_or_else(|| OsStr::new("root")).to_owned();
        Ok(Source { fd, stat, name, path: path.to_owned() })
    }

    /// Copies an archive with one file or folder in it to a path: into it if it is a folder, else
    /// as it.
    ///
    /// # Errors
    /// The folder isn't there, the archive leads out of it, or the system refuses.
    pub fn unpack(&self, path: &Path, from: impl Read) -> Result<()> {
        let folder = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let (base, name) = match self.open(path, folder) {
            Ok(base) => (base, None),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                let told = |reason| CopyError::Path { path: path.to_owned(), reason };
                let name = path.file_name().ok_or_else(|| told("isn't there"))?;
                let above = path.parent().unwrap_or_else(|| Path::new("/"));
                let base = self.open(above, folder).map_err(|_| told("its folder isn't there"))?;
                (base, Some(name))
            }
            Err(errno) => return Err(system(path)(errno)),
        };
        for entry in Archive::new(from).entries()? {
            let mut entry = entry?;
            let named = entry.path()?.into_owned();
            let mut parts = parts(&named)?;
            if let (Some(name), Some(first)) = (name, parts.first_mut()) {
                *first = name.to_owned();
            }
            self.place(&base, &parts, &mut entry)?;
        }
        Ok(())
    }

    fn place<R: Read>(
        &self,
        base: &OwnedFd,
        parts: &[OsString],
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<()> {
        let Some((last, above)) = parts.split_last() else { return Ok(()) };
        let shown: PathBuf = parts.iter().collect();
        let mut folder: Option<OwnedFd> = None;
        for part in above {
            let at = folder.as_ref().unwrap_or(base).as_fd();
            folder = Some(self.enter(at, part, 0o755).map_err(system(&shown))?);
        }
        let at = folder.as_ref().unwrap_or(base).as_fd();
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        match entry.header().entry_type() {
            EntryType::Directory => drop(self.enter(at, last, mode).map_err(system(&shown))?),
            EntryType::Regular | EntryType::Continuous => {
                let mut file = self.create(at, last, mode).map_err(system(&shown))?;
                let copied = io::copy(entry, &mut file);
                copied.map_err(|source| CopyError::System { path: shown, source })?;
            }
            EntryType::Symlink => {
                let to = entry.link_name()?.unwrap_or_default().into_owned();
                self.link(at, last, &to).map_err(system(&shown))?;
            }
            EntryType::XGlobalHeader | EntryType::XHeader => {}
            _ => {
                let reason = "is neither a file, a folder nor a symbolic link";
                return Err(CopyError::Entry { name: shown, reason });
            }
        }
        Ok(())
    }

    /// A folder in another one, made if it isn't there. A link isn't followed.
    fn enter(&self, at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = mkdirat(at, name, Mode::from_bits_truncate(mode | 0o700));
        let fd = openat(at, name, flags, Mode::empty())?;
        match made {
            Ok(()) => {
                self.own(&fd)?;
                // Whatever this process masks.
                fchmod(&fd, Mode::from_bits_truncate(mode | 0o700))?;
            }
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        Ok(fd)
    }

    /// An empty file: a new one, or the old one emptied. A link isn't followed.
    fn create(&self, at: BorrowedFd<'_>, name: &OsStr, mode: u32) -> nix::Result<File> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match openat(at, name, flags | OFlag::O_TRUNC, Mode::empty()) {
            Ok(fd) if kind(&fstat(&fd)?) == SFlag::S_IFREG => return Ok(File::from(fd)),
            Ok(_) => return Err(Errno::EEXIST),
            Err(Errno::ENOENT) => {}
            Err(Errno::ELOOP) => unlinkat(at, name, UnlinkatFlags::NoRemoveDir)?,
            Err(errno) => return Err(errno),
        }
        let flags = flags | OFlag::O_CREAT | OFlag::O_EXCL;
        let fd = openat(at, name, flags, Mode::from_bits_truncate(0o600))?;
        self.own(&fd)?;
        fchmod(&fd, Mode::from_bits_truncate(mode))?;
        Ok(File::from(fd))
    }

    fn link(&self, at: BorrowedFd<'_>, name: &OsStr, to: &Path) -> nix::Result<()> {
        match unlinkat(at, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        symlinkat(to, at, name)?;
        let (uid, gid) = (Uid::from_raw(self.owner[0]), Gid::from_raw(self.owner[1]));
        fchownat(at, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn own(&self, fd: &OwnedFd) -> nix::Result<()> {
        let [uid, gid] = self.owner;
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }
}

impl Source {
    /// Writes it as an archive. What is neither a file, a folder nor a symbolic link is left out.
    ///
    /// # Errors
    /// The system refuses, or nobody takes the archive.
    pub fn pack(self, to: impl Write) -> Result<()> {
        let mut archive = Builder::new(to);
        let name = PathBuf::from(&self.name);
        if kind(&self.stat) == SFlag::S_IFREG {
            file(&mut archive, &name, self.fd, &self.stat)?;
        } else {
            folder(&mut archive, &name, self.fd, &self.stat)
                .map_err(|source| CopyError::System { path: self.path, source })?;
        }
        archive.into_inner()?.flush()?;
        Ok(())
    }
}

/// The parts of an archive's path, none of which leads up.
fn parts(path: &Path) -> Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_owned()),
            Component::CurDir => {}
            _ => {
                let reason = "leads out of the folder";
                return Err(CopyError::Entry { name: path.to_owned(), reason });
            }
        }
    }
    if path.as_os_str().len() > limits::PATH_MAX {
        return Err(CopyError::Entry { name: path.to_owned(), reason: "is too deep" });
    }
    Ok(parts)
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

/// A file, with exactly the length that its header says: it may change meanwhile.
fn file<W: Write>(
    archive: &mut Builder<W>,
    name: &Path,
    fd: OwnedFd,
    stat: &FileStat,
) -> io::Result<()> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let content = File::from(fd).take(size).chain(io::repeat(0)).take(size);
    archive.append_data(&mut header(stat, EntryType::Regular, size), name, content)
}

fn folder<W: Write>(
    archive: &mut Builder<W>,
    name: &Path,
    fd: OwnedFd,
    stat: &FileStat,
) -> io::Result<()> {
    archive.append_data(&mut header(stat, EntryType::Directory, 0), name, io::empty())?;
    let (names, mut path) = (sorted(&fd)?, name.to_owned());
    let mut walk = Walk::new(fd, names)?;
    loop {
        let Some(entry) = walk.next_entry() else {
            if !walk.leave()? {
                return Ok(());
            }
            path.pop();
            continue;
        };
        path.push(&entry);
        if path.as_os_str().len() > limits::PATH_MAX {
            return Err(io::Error::other("holds folders that are too deep for an archive"));
        }
        match one(archive, &path, walk.folder(), &entry)? {
            Some(inner) => {
                let names = sorted(&inner)?;
                walk.enter(inner, names)?;
            }
            None => drop(path.pop()),
        }
    }
}

fn sorted(folder: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = tree::names(folder.as_fd())?;
    names.sort();
    Ok(names)
}

/// Writes an entry of a folder; of a folder only its head, which is answered.
fn one<W: Write>(
    archive: &mut Builder<W>,
    path: &Path,
    at: BorrowedFd<'_>,
    entry: &OsStr,
) -> io::Result<Option<OwnedFd>> {
    let seen = match fstatat(at, entry, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    match kind(&seen) {
        SFlag::S_IFLNK => {
            let to = readlinkat(at, entry)?;
            let mut header = header(&seen, EntryType::Symlink, 0);
            if header.set_link_name_literal(to.as_bytes()).is_ok() {
                archive.append_data(&mut header, path, io::empty())?;
            } else {
                // Too long for a header by itself.
                archive.append_link(&mut header, path, &to)?;
            }
        }
        SFlag::S_IFREG | SFlag::S_IFDIR => {
            let inner = match openat(at, entry, flags, Mode::empty()) {
                // Gone, or another thing by now.
                Err(Errno::ENOENT | Errno::ELOOP) => return Ok(None),
                other => other?,
            };
            let stat = fstat(&inner)?;
            match kind(&stat) {
                SFlag::S_IFREG => file(archive, path, inner, &stat)?,
                SFlag::S_IFDIR => {
                    let mut header = header(&stat, EntryType::Directory, 0);
                    archive.append_data(&mut header, path, io::empty())?;
                    return Ok(Some(inner));
                }
                _ => {}
            }
        }
        _ => {}
    }
    Ok(None)
}

#[cfg(test)]
mod tests;

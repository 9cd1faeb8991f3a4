//! Volumes of the provider on this node: their devices, file systems and mounts, and the lease
//! under which this node may write them.
//!
//! Owns that a file system is made once, and only on what has none. Never mounts what the state
//! doesn't give to this node, and never takes a mount for gone before the device is free.

use crate::fsm::volumes::{Attachment, Provided};
use crate::id::VolumeName;
use crate::limits;
use crate::node::provided::{Mount, Opening, opening};
use crate::units::Bytes;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Instant;

/// How the provider names a volume's device: this and the volume's name there.
const DEVICE: &str = "scsi-0DO_Volume_";
/// The folder of a volume's file system that holds its data: beside it is `lost+found`.
const DATA: &str = "data";

/// Why a volume of the provider can't be had now.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It isn't attached yet, or something else keeps it.
    #[error("volume {name} is {what}")]
    Waits {
        name: VolumeName,
        /// What is waited for.
        what: String,
    },
    /// It has had data, and there is none.
    #[error(
        "volume {name} has had data, and {device} has no {lacks}. It is left as it is: look at it, \
         or give it up: mill down the service, then mill volume delete {name}",
        device = device.display()
    )]
    Empty {
        name: VolumeName,
        device: PathBuf,
        /// What isn't there.
        lacks: &'static str,
    },
    /// Something else is on its device.
    #[error(
        "{device} of volume {name} isn't empty and has no ext4: {found}",
        device = device.display()
    )]
    Foreign {
        name: VolumeName,
        device: PathBuf,
        /// What is there.
        found: String,
    },
    /// The system refuses.
    #[error("volume {name}: {source}")]
    System {
        name: VolumeName,
        #[source]
        source: io::Error,
    },
}

/// The mounts of this node; all clones share them.
#[derive(Clone, Debug)]
pub struct Attached {
    folder: PathBuf,
    devices: PathBuf,
    /// When a leader last confirmed that this node is a member that it hears.
    confirmed: Arc<Mutex<Option<Instant>>>,
    /// One mounts or unmounts at a time.
    one: Arc<Mutex<()>>,
    /// How large each file system was made.
    grown: Arc<Mutex<BTreeMap<Mount, Bytes>>>,
}

impl Attached {
    /// Mounts below `folder`, of devices in `devices`.
    #[must_use]
    pub fn new(folder: PathBuf, devices: PathBuf) -> Self {
        let (confirmed, one, grown) = (Arc::default(), Arc::default(), Arc::default());
        Self { folder, devices, confirmed, one, grown }
    }

    /// A leader has confirmed the node, which asked then.
    pub fn confirm(&self, asked: Instant) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = confirmed.map_or(Some(asked), |before| Some(before.max(asked)));
    }

    /// This node may write: a leader has confirmed it lately.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.confirmed.lock().is_some_and(|at| at.elapsed() < limits::VOLUME_LEASE)
    }

    /// Where an attachment is mounted: its number is in the name, so that no other is taken for it.
    fn place(&self, (name, number): &Mount) -> PathBuf {
        self.folder.join(format!("{name}.{number}"))
    }

    /// The folder with a mounted volume's data.
    #[must_use]
    pub fn data(&self, mount: &Mount) -> PathBuf {
        self.place(mount).join(DATA)
    }

    fn device(&self, provided: &Provided) -> PathBuf {
        self.devices.join(format!("{DEVICE}{}", provided.name))
    }

    /// What is mounted here at the moment.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn mounts(&self) -> io::Result<Vec<Mount>> {
        let all = std::fs::read_to_string("/proc/self/mountinfo")?;
        let places = all.lines().filter_map(|line| line.split(' ').nth(4));
        let ours = places.filter_map(|place| Path::new(place).strip_prefix(&self.folder).ok());
        let named = ours.filter_map(|one| {
            let (name, number) = one.to_str()?.rsplit_once('.')?;
            Some((VolumeName::from(name), number.parse().ok()?))
        });
        Ok(named.collect())
    }

    /// Mounts a volume that is attached here, and answers where its data is. Blocks.
    ///
    /// # Errors
    /// It isn't there yet, its data is missing, or the system refuses.
    pub fn open(
        &self,
        name: &VolumeName,
        (provided, at): (&Provided, &Attachment),
        used: bool,
        [uid, gid]: [u32; 2],
    ) -> Result<PathBuf, AttachError> {
        let failed = |source| AttachError::System { name: name.clone(), source };
        let waits = |what: String| AttachError::Waits { name: name.clone(), what };
        let _one = self.one.lock();
        let unconfirmed =
            || waits("not to be touched: no leader has confirmed this node".to_owned());
        if !self.holds_lease() {
            return Err(unconfirmed());
        }
        let wanted = (name.clone(), at.number);
        let mounted = self.mounts().map_err(failed)?;
        if mounted.iter().any(|one| one.0 == *name && *one != wanted) {
            return Err(waits("still mounted here from before".to_owned()));
        }
        if !mounted.contains(&wanted) {
            let device = self.device(provided);
            if !device.exists() {
                return Err(waits(format!("attached, and {} isn't there yet", device.display())));
            }
            self.prepare(name, &device, used)?;
            // Making a file system takes its time.
            if !self.holds_lease() {
                return Err(unconfirmed());
            }
            self.mount(&wanted, &device).map_err(failed)?;
            self.grown.lock().insert(wanted.clone(), provided.made);
        }
        let data = self.data(&wanted);
        if !data.is_dir() {
            if used {
                let (name, device) = (name.clone(), self.device(provided));
                return Err(AttachError::Empty { name, device, lacks: "folder data" });
            }
            let made = make_data(&data, [uid, gid]);
            made.map_err(failed)?;
        }
        Ok(data)
    }

    /// Makes a file system on what has none; one that is there is brought in order, and grows with
    /// its device.
    fn prepare(&self, name: &VolumeName, device: &Path, used: bool) -> Result<(), AttachError> {
        let failed = |source| AttachError::System { name: name.clone(), source };
        let found = found(device).map_err(failed)?;
        if let Some(found) = found.clone().filter(|found| found != "ext4") {
            let device = device.to_owned();
            return Err(AttachError::Foreign { name: name.clone(), device, found });
        }
        match opening(found.is_some(), used) {
            Opening::Refuse => {
                let (name, device) = (name.clone(), device.to_owned());
                Err(AttachError::Empty { name, device, lacks: "file system" })
            }
            Opening::Format => {
                tracing::info!(volume = %name, device = %device.display(), "making a file system");
                let made = run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(device));
                made.map(drop).map_err(failed)
            }
            Opening::Mount => {
                // After a power cut mounting plays its journal back. A check of all takes minutes,
                // and only one that grows may need it.
                let is_smaller = is_smaller(device).map_err(failed)?;
                if is_smaller && run(Command::new("resize2fs").arg(device)).is_err() {
                    let checked = run(Command::new("e2fsck").args(["-f", "-p"]).arg(device));
                    let grown = checked.and_then(|_| run(Command::new("resize2fs").arg(device)));
                    if let Err(error) = grown {
                        tracing::warn!(volume = %name, %error, "its file system doesn't grow");
                    }
                }
                Ok(())
            }
        }
    }

    fn mount(&self, wanted: &Mount, device: &Path) -> io::Result<()> {
        let place = self.place(wanted);
        DirBuilder::new().recursive(true).mode(0o700).create(&place)?;
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOATIME;
        // Under its own name, which is what people see of a mount.
        let device = std::fs::canonicalize(device)?;
        mount(Some(&device), &place, Some("ext4"), flags, None::<&str>)?;
        Ok(())
    }

    /// Whether the file system of a mounted volume was let grow with its device.
    #[must_use]
    pub fn is_grown(&self, name: &VolumeName, number: u64, provided: &Provided) -> bool {
        let grown = self.grown.lock();
        grown.get(&(name.clone(), number)).is_some_and(|size| *size >= provided.made)
    }

    /// Lets the file system of a mounted volume grow with its device. Blocks.
    ///
    /// # Errors
    /// The system refuses: it grows with the next start.
    pub fn grow(&self, name: &VolumeName, provided: &Provided, number: u64) -> io::Result<()> {
        if self.is_grown(name, number, provided) {
            return Ok(());
        }
        // Asked for once: where the system refuses, the next start does it.
        self.grown.lock().insert((name.clone(), number), provided.made);
        run(Command::new("resize2fs").arg(self.device(provided))).map(drop)
    }

    /// Unmounts; it is done only once nothing has the device any more. Blocks.
    ///
    /// # Errors
    /// A container still has it.
    pub fn close(&self, mount: &Mount, provided: Option<&Provided>) -> io::Result<()> {
        let _one = self.one.lock();
        let place = self.place(mount);
        if self.mounts()?.contains(mount) {
            umount2(&place, MntFlags::empty())?;
        }
        self.grown.lock().remove(mount);
        let device = provided.map(|provided| self.device(provided));
        if let Some(device) = device.filter(|device| device.exists()) {
            is_free(&device)?;
        }
        match std::fs::remove_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What a mounted volume's file system has in use.
    #[must_use]
    pub fn used(&self, mount: &Mount) -> Option<Bytes> {
        let seen = statvfs(&self.place(mount)).ok()?;
        let blocks = seen.blocks().saturating_sub(seen.blocks_free());
        Some(Bytes(blocks.saturating_mul(seen.fragment_size())))
    }
}

/// The system gives a device exclusively only if nothing, in no container, has it mounted.
fn is_free(device: &Path) -> io::Result<()> {
    let flag = nix::libc::O_EXCL;
    match OpenOptions::new().read(true).custom_flags(flag).open(device) {
        // Detached meanwhile: nobody has it.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => Ok(()),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENXIO) => Ok(()),
        other => other.map(drop),
    }
}

fn make_data(data: &Path, [uid, gid]: [u32; 2]) -> io::Result<()> {
    // Under its own name only once it is complete.
    let partial = data.with_extension("new");
    DirBuilder::new().recursive(true).create(&partial)?;
    std::os::unix::fs::chown(&partial, Some(uid), Some(gid))?;
    std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(&partial, data)?;
    let above = data.parent().unwrap_or(data);
    File::open(above)?.sync_all()
}

/// What is on a device: the type of its file system or partitions; none: nothing that is known.
fn found(device: &Path) -> io::Result<Option<String>> {
    let mut command = Command::new("blkid");
    let output = command.args(["-p", "-o", "export"]).arg(device).output().map_err(lacking)?;
    // blkid(8): 2 is "nothing was found".
    if output.status.code() == Some(2) {
        return Ok(None);
    }
    let told = checked(&command, output)?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
    let what =
        value("TYPE=").or_else(|| value("PTTYPE=").map(|kind| format!("partitions, {kind}")));
    Ok(Some(what.unwrap_or_else(|| "something".to_owned())))
}

/// The file system is smaller than its device, by more than a rest (the superblock's fields, ext4
/// disk layout, "The Super Block").
fn is_smaller(device: &Path) -> io::Result<bool> {
    let mut open = File::open(device)?;
    let size = open.seek(SeekFrom::End(0))?;
    let mut block = [0u8; 1024];
    open.seek(SeekFrom::Start(1024))?;
    open.read_exact(&mut block)?;
    let word =
        |at: usize| block[at..].first_chunk::<4>().map_or(0, |four| u32::from_le_bytes(*four));
    let blocks = u64::from(word(0x4)) | u64::from(word(0x150)) << 32;
    let bytes = blocks << (10 + word(0x18).min(6));
    Ok(bytes.saturating_add(16 << 20) < size)
}

fn lacking(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => {
            io::Error::other("mkfs.ext4, resize2fs or blkid is missing: install e2fsprogs")
        }
        _ => error,
    }
}

fn run(command: &mut Command) -> io::Result<Output> {
    let output = command.output().map_err(lacking)?;
    checked(command, output)
}

fn checked(command: &Command, output: Output) -> io::Result<Output> {
    // e2fsck(8): 1 is "errors were corrected".
    let is_check = command.get_program() == "e2fsck";
    if output.status.success() || is_check && output.status.code() == Some(1) {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    let name = command.get_program().to_string_lossy().into_owned();
    Err(io::Error::other(format!("{name}: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_over_unless_somebody_confirms_it() {
        let attached = Attached::new("/nowhere".into(), "/nowhere".into());
        assert!(!attached.holds_lease(), "nobody has confirmed it yet");
        let now = Instant::now();
        attached.confirm(now);
        attached.confirm(now - limits::VOLUME_LEASE);
        assert!(attached.holds_lease(), "an answer that comes late takes nothing back");
        let attached = Attached::new("/nowhere".into(), "/nowhere".into());
        attached.confirm(now - limits::VOLUME_LEASE);
        assert!(!attached.holds_lease(), "it counts from when it was asked for");
    }

    #[test]
    fn what_is_on_a_device_is_seen_before_anything_is_made() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = place.path().join(name);
            File::create(&path).unwrap().set_len(32 << 20).unwrap();
            path
        };
        let attached = Attached::new(place.path().join("mounts"), place.path().to_owned());
        let (name, empty) = (VolumeName::from("data"), file("empty"));
        assert_eq!(found(&empty).unwrap(), None);
        let missing = attached.prepare(&name, &empty, true).unwrap_err();
        assert!(matches!(missing, AttachError::Empty { .. }), "{missing}");
        assert_eq!(found(&empty).unwrap(), None, "it is left as it was");
        attached.prepare(&name, &empty, false).unwrap();
        assert_eq!(found(&empty).unwrap().as_deref(), Some("ext4"));
        // It grows with its device, and nothing is made anew.
        File::options().write(true).open(&empty).unwrap().set_len(64 << 20).unwrap();
        let uuid =
            || run(Command::new("blkid").args(["-p", "-s", "UUID", "-o", "value"]).arg(&empty));
        let before = uuid().unwrap().stdout;
        attached.prepare(&name, &empty, true).unwrap();
        assert_eq!(uuid().unwrap().stdout, before);
        let other = file("other");
        run(Command::new("mkfs.ext2").arg("-q").arg(&other)).unwrap();
        let foreign = attached.prepare(&name, &other, false).unwrap_err().to_string();
        assert!(foreign.contains("ext2"), "{foreign}");
    }
}

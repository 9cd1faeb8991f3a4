//! Volumes as loop devices: a file each, and a link where the machine finds the device.
//!
//! Owns both. What is torn from a machine that has it mounted keeps its old file, which nobody
//! reads any more: what is written from then on is lost, as on a disk that is gone.

use crate::registry::run;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A volume's file, and where it is attached.
pub struct Disk {
    file: PathBuf,
    torn: u32,
    attached: Option<(PathBuf, PathBuf)>,
}

impl Disk {
    /// An empty one.
    pub fn new(file: &Path, gigabytes: u64) -> Self {
        File::create(file).unwrap().set_len(gigabytes << 30).unwrap();
        Self { file: file.to_owned(), torn: 0, attached: None }
    }

    /// Gives it to the machine with that folder of devices.
    pub fn attach(&mut self, devices: &Path, name: &str) {
        assert!(self.attached.is_none(), "{name} is attached already");
        fs::create_dir_all(devices).unwrap();
        let made = run(Command::new("losetup").args(["-f", "--show"]).arg(&self.file));
        let device = PathBuf::from(made.trim());
        let link = devices.join(format!("scsi-0DO_Volume_{name}"));
        std::os::unix::fs::symlink(&device, &link).unwrap();
        self.attached = Some((device, link));
    }

    /// Takes it away; whether it was mounted still.
    pub fn detach(&mut self) -> bool {
        let Some((device, link)) = self.attached.take() else { return false };
        fs::remove_file(&link).unwrap();
        let alone = OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(&device);
        let torn = alone.is_err();
        drop(alone);
        if torn {
            self.torn += 1;
            let copy = self.file.with_extension(format!("torn{}", self.torn));
            // All of it as of one moment, as a disk that is taken away.
            let place = mounted(&device);
            if let Some(place) = &place {
                run(Command::new("fsfreeze").arg("-f").arg(place));
            }
            run(Command::new("cp").args(["--sparse=always"]).arg(&self.file).arg(&copy));
            if let Some(place) = &place {
                run(Command::new("fsfreeze").arg("-u").arg(place));
            }
            self.file = copy;
        }
        // One that is mounted goes with its mount.
        run(Command::new("losetup").arg("-d").arg(&device));
        torn
    }

    /// Makes it larger, also for a machine that has it.
    pub fn resize(&mut self, gigabytes: u64) {
        let file = OpenOptions::new().write(true).open(&self.file).unwrap();
        file.set_len(gigabytes << 30).unwrap();
        if let Some((device, _)) = &self.attached {
            run(Command::new("losetup").arg("-c").arg(device));
        }
    }
}

/// Where a device is mounted (proc_pid_mountinfo(5)).
fn mounted(device: &Path) -> Option<PathBuf> {
    let number = run(Command::new("stat").args(["-c", "%Hr:%Lr"]).arg(device));
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut fields = all.lines().map(|line| line.split(' '));
    let found = fields.find(|line| line.clone().nth(2) == Some(number.trim()));
    found.and_then(|mut line| line.nth(4)).map(PathBuf::from)
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some((device, _)) = self.attached.take() {
            let _ = Command::new("losetup").arg("-d").arg(device).output();
        }
    }
}

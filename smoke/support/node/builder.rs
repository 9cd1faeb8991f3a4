//! What a test says of its node before it starts.
//!
//! Owns the order in which a node's place is made. Never stops one.

use super::{TestDaemon, data_of, free_port, sweep};
use crate::registry::run;
use crate::support::dials::Dials;
use crate::support::disk::Disk;
use crate::support::keeper::Keeper;
use crate::support::netns::Namespace;
use crate::support::slot::Slot;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a node is started with.
pub struct Builder {
    pub(super) flags: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) disk: Option<&'static str>,
    pub(super) own_disk: bool,
    pub(super) dials: Option<PathBuf>,
    pub(super) containerd: &'static str,
    pub(super) init: bool,
    pub(super) kept: bool,
}

impl Builder {
    /// Gives containerd a disk of its own of this size, for example `64M`.
    #[must_use]
    pub fn containerd_disk(mut self, size: &'static str) -> Self {
        self.disk = Some(size);
        self
    }

    /// Gives the data directory a disk of its own, which a test can fill.
    #[must_use]
    pub fn own_disk(mut self, wanted: bool) -> Self {
        self.own_disk = wanted;
        self
    }

    /// Gives the daemon dials of its own, with this library in front of libc.
    #[must_use]
    pub fn dials(mut self, library: PathBuf) -> Self {
        self.dials = Some(library);
        self
    }

    /// Adds flags of `mill daemon`.
    #[must_use]
    pub fn flags<'a>(mut self, flags: impl IntoIterator<Item = &'a str>) -> Self {
        self.flags.extend(flags.into_iter().map(str::to_owned));
        self
    }

    /// Sets a variable of the daemon's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps its listeners over a restart, as systemd does.
    #[must_use]
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// Leaves the node unclaimed.
    #[must_use]
    pub fn unclaimed(mut self) -> Self {
        self.init = false;
        self
    }

    /// Starts it and waits until it is ready.
    #[must_use]
    pub fn start(self) -> TestDaemon {
        self.start_on(|_| None)
    }

    /// Starts it in a namespace of its own, which `connect` gives its address.
    #[must_use]
    pub fn start_in(self, address: String, connect: impl FnOnce(&Namespace)) -> TestDaemon {
        self.start_on(|data| {
            let namespace = Namespace::of(data);
            connect(&namespace);
            Some((namespace, address))
        })
    }

    fn start_on(self, machine: impl FnOnce(&Path) -> Option<(Namespace, String)>) -> TestDaemon {
        let Self { mut flags, environment, disk, own_disk, dials, containerd, init, kept } = self;
        flags.extend(["--containerd".to_owned(), containerd.to_owned()]);
        let slot = Slot::claim();
        sweep(&slot.folder());
        fs::create_dir_all(slot.folder()).unwrap();
        let own_disk =
            own_disk.then(|| Disk::new(&slot.folder().join("disk.img"), data_of(&slot.folder())));
        let dials = dials.map(|library| Dials::new(&library, &slot.folder()));
        if let Some(size) = disk {
            let place = data_of(&slot.folder()).join("containerd");
            fs::create_dir_all(&place).unwrap();
            let size = format!("size={size}");
            run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(place));
        }
        let keeper = kept.then(|| Keeper::new(&slot.folder()));
        let machine = machine(&data_of(&slot.folder()));
        let [api, peer, http, https] = match machine {
            Some(_) => [4400, 4401, 80, 443],
            None => std::array::from_fn(|_| free_port()),
        };
        let mut node = TestDaemon {
            slot,
            api,
            peer,
            http,
            https,
            flags,
            environment,
            process: None,
            init: None,
            machine,
            dials,
            disk: own_disk,
            paused: false,
            keeper,
        };
        node.launch();
        node.wait_for_socket();
        if init {
            node.init(&[]);
        }
        node
    }
}

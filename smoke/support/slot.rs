//! A place on this machine that one test has to itself: a folder and a subnet.
//!
//! Owns the claim on it, a lock that ends with the process. Never cleans the place: its holder
//! does.

use crate::registry::shared;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::PathBuf;

/// Second octets of the subnets: 10.120.0.0/16 to 10.199.0.0/16.
const FIRST: u8 = 120;
const LAST: u8 = 199;

/// A claimed place.
pub struct Slot {
    number: u8,
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Slot {
    /// Claims the first free one.
    ///
    /// # Panics
    /// When none is free.
    #[must_use]
    pub fn claim() -> Self {
        let base = shared().join("mill-smoke");
        fs::create_dir_all(&base).unwrap();
        (FIRST..=LAST)
            .find_map(|number| {
                let file = File::create(base.join(format!("{number}.lock"))).unwrap();
                let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
                Some(Self { number, folder: base.join(number.to_string()), _lock: lock })
            })
            .expect("a free subnet; 80 tests at a time are enough")
    }

    /// Its folder; the same for each who claims this slot, so leftovers of a killed test are found.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Its subnet, `10.N.0.0/16`.
    #[must_use]
    pub fn subnet(&self) -> String {
        format!("10.{}.0.0/16", self.number)
    }
}

#[test]
fn two_claims_differ() {
    let (one, two) = (Slot::claim(), Slot::claim());
    assert_ne!(one.folder(), two.folder());
    assert_ne!(one.subnet(), two.subnet());
    assert!(one.subnet().starts_with("10.1"));
}

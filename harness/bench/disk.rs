//! What the disk can do: the floor under every durable write.
//!
//! Never uses anything of mill.

use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 2000;
/// Bytes of one append.
pub const RECORD: usize = 512;

/// The median of one append with fdatasync to a file that grows, and to one with room set aside.
#[must_use]
pub fn append(folder: &Path) -> (Duration, Duration) {
    let growing = File::create(folder.join("growing")).unwrap();
    let reserved = File::create(folder.join("reserved")).unwrap();
    let room = i64::try_from(ROUNDS * RECORD).unwrap();
    fallocate(&reserved, FallocateFlags::empty(), 0, room).unwrap();
    // Writing zeros first turns reserved extents into written ones: no metadata changes later.
    (&reserved).write_all(&vec![0; ROUNDS * RECORD]).unwrap();
    reserved.sync_all().unwrap();
    let reserved = File::options().write(true).open(folder.join("reserved")).unwrap();
    (measure(&growing), measure(&reserved))
}

fn measure(mut file: &File) -> Duration {
    let record = [7; RECORD];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        times.push(start.elapsed());
    }
    super::report::median(&mut times)
}

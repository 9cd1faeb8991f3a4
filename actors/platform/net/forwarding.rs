//! Whether the host passes packets on between its interfaces.
//!
//! Owns the switches of the kernel for it, and the record of those that this program has turned on.
//! Never turns on the host's own switch: others take that for leave to forward anything.

use super::NetError;
use super::switches::{aside, set_kernel};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::Path;

/// One at a time: who gave up waiting has not stopped it.
static WRITER: Mutex<()> = Mutex::new(());

const HOST: &str = "/proc/sys/net/ipv4/ip_forward";
const EACH: &str = "/proc/sys/net/ipv4/conf";
/// No interfaces, and the one that needs none; `default` would reach into containers.
const NOT_THESE: [&str; 3] = ["all", "default", "lo"];

/// Whether the host forwards for everybody, as somebody else has decided.
pub(super) fn is_on() -> bool {
    std::fs::read_to_string(HOST).is_ok_and(|value| value.trim() == "1")
}

/// Makes the interfaces forward that there are, where the host doesn't. The rules let only what is
/// of this program pass. Tells whether it is for this program alone.
pub(super) async fn turn_on(record: &Path) -> Result<bool, NetError> {
    let record = record.to_owned();
    aside(move || turn_all_on(&record)).await
}

fn turn_all_on(record: &Path) -> Result<bool, NetError> {
    let _one = WRITER.lock();
    if is_on() {
        return Ok(false);
    }
    let mut turned = read(record);
    let before = turned.len();
    for name in names().filter(|name| !NOT_THESE.contains(&name.as_str())) {
        let path = switch(&name);
        if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0") {
            match set_kernel(&path) {
                Ok(()) => {
                    turned.insert(name);
                }
                // It has gone meanwhile.
                Err(_) if !Path::new(&path).exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
    if turned.len() > before {
        tracing::info!(
            "the host passes packets on, for containers only; other packets are dropped as before"
        );
        let text: String = turned.iter().map(|name| format!("{name}\n")).collect();
        let written = record.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| std::fs::write(record, text))
            .map_err(|source| NetError::Write { path: record.to_owned(), source })?;
    }
    Ok(true)
}

/// Turns off again what was turned on.
pub(super) async fn turn_off(record: &Path) {
    let record = record.to_owned();
    let turned_off = aside(move || {
        let _one = WRITER.lock();
        if !is_on() {
            for name in read(&record) {
                // An interface may have gone.
                let _ = std::fs::write(switch(&name), "0");
            }
        }
        // Not there where nothing was turned on.
        let _ = std::fs::remove_file(&record);
        Ok(())
    });
    // It fails on nothing.
    let _ = turned_off.await;
}

fn switch(name: &str) -> String {
    format!("{EACH}/{name}/forwarding")
}

fn names() -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(EACH).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn read(record: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(record).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

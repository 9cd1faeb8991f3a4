//! Bounds of persistent volumes.

use super::{NAME_MAX, NODE_DOWN};
use std::time::Duration;

/// Files and folders that are counted to measure a volume.
pub const VOLUME_ENTRIES_MAX: usize = 200_000;
/// How often volumes are measured, if somebody asks.
pub const VOLUME_MEASURE: Duration = Duration::from_secs(60);
/// Time before a volume that was dealt with is looked at again.
pub const VOLUME_DONE: Duration = Duration::from_secs(1);
/// Time before what could not be done about a volume is tried again.
pub const VOLUME_AGAIN: Duration = Duration::from_secs(10);
/// Hundredths of its size that a volume may use before `status` warns.
pub const VOLUME_FULL: u64 = 85;
/// Bytes of the names of a file's extended attributes, and of the value of one.
pub const XATTRS_MAX: usize = 64 << 10;
/// Bytes behind an archive that are read to its end.
pub const VOLUME_TAIL_MAX: u64 = 64 << 20;
/// How often a node tries to copy a volume before it stays where it is.
pub const VOLUME_TRIES: u32 = 5;
/// Bytes of the reason why a volume was not moved.
pub const VOLUME_WHY_MAX: usize = 1024;
/// What writes a volume of the provider ends so long after a leader has confirmed the node last.
pub const VOLUME_LEASE: Duration = Duration::from_secs(4);
/// How often a node that has one lets itself be confirmed.
pub const VOLUME_CONFIRM: Duration = Duration::from_millis(500);
/// How often a node whose lease is over tries to end what writes and to unmount.
pub const VOLUME_CUT: Duration = Duration::from_millis(100);
/// How often a volume that the state gives to another is tried to be unmounted before that is told.
pub const VOLUME_CLOSE_TRIES: u32 = 50;
/// A node is down for so long before its volume is taken from it: it has stopped by then.
pub const VOLUME_LEASE_OVER: Duration = Duration::from_secs(6);
const _: () = assert!(VOLUME_LEASE.as_millis() < NODE_DOWN.as_millis());
const _: () = assert!(VOLUME_LEASE.as_millis() < VOLUME_LEASE_OVER.as_millis());
const _: () = assert!(VOLUME_CONFIRM.as_millis() * 4 < VOLUME_LEASE.as_millis());
/// A volume that nothing uses stays attached for so long: its service may go on there.
pub const VOLUME_UNUSED: Duration = Duration::from_secs(30);
/// A container that waits for its volume looks so often.
pub const VOLUME_WAIT: Duration = Duration::from_millis(500);
/// Volumes that a machine of the provider takes.
pub const PROVIDER_ATTACHED_MAX: usize = 7;
/// Characters that tell volumes of one name apart at the provider: with the longest name of a
/// volume that is as long as a name may be there.
pub const PROVIDER_TAG: usize = 8;
const _: () = assert!("mill--".len() + PROVIDER_TAG + NAME_MAX <= 64);
/// How long an answer of the provider is waited for.
pub const PROVIDER_ANSWER: Duration = Duration::from_secs(30);
/// Bytes of an answer of the provider.
pub const PROVIDER_BODY_MAX: usize = 4 << 20;
/// Pages of a list of the provider.
pub const PROVIDER_PAGES: usize = 100;
/// Volumes on a page.
pub const PROVIDER_PAGE: usize = 200;
/// How often an action of the provider is looked at.
pub const PROVIDER_LOOK: Duration = Duration::from_secs(1);
/// And for how long before it is asked for anew.
pub const PROVIDER_ACTION: Duration = Duration::from_secs(120);
/// First and longest pause after something that the provider did not do.
pub const PROVIDER_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Longest time that the provider may ask to be left alone.
pub const PROVIDER_WAIT_MAX: Duration = Duration::from_secs(600);
/// How often the leader looks whether something is due that no change tells of.
pub const PROVIDER_TICK: Duration = Duration::from_secs(1);
/// How often the leader compares a volume with what the provider says of it.
pub const PROVIDER_COMPARED: Duration = Duration::from_secs(300);
/// How often a node asks which machine of the provider it is, until it knows.
pub const PROVIDER_WHO: Duration = Duration::from_secs(30);
/// Bytes of the provider's token.
pub const PROVIDER_TOKEN_MAX: usize = 1024;

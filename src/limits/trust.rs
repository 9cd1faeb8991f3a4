//! The bounds of trust: certificates, joining and leaving, failed authentication.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// How long a new member may take to have the log and to be ready.
pub const JOIN_READY: Duration = Duration::from_secs(60);
/// The name of a node that was let in is its own for so long, though it has not registered.
pub const NAME_HELD: Duration = JOIN_READY;
/// How long a member may take to find whether a joiner can be reached.
pub const DIAL_BACK: Duration = Duration::from_secs(3);
/// How long a cluster's CA is good.
pub const CA_LIFE: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// How long a node's certificate is good; it is renewed when two thirds are over.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// A new certificate begins so long in the past: clocks differ.
pub const CERTIFICATE_LEEWAY: Duration = Duration::from_secs(3600);
/// A node whose clock is further from the cluster's may not join.
pub const JOIN_CLOCK: Duration = Duration::from_secs(60);
const _: () = assert!(JOIN_CLOCK.as_secs() < CERTIFICATE_LEEWAY.as_secs());
/// How long a member may take to answer a node that wants to join.
pub const JOIN_ANSWER: Duration = Duration::from_secs(25);
/// How long a join token is good where nobody says otherwise.
pub const JOIN_TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Nodes that one member lets in at once.
pub const JOINS_AT_ONCE: usize = 16;
/// What unknown connections do is logged that often, by kind.
pub const STRANGERS_TOLD: Duration = Duration::from_secs(10);
/// Wrong tokens of one source in a row that are answered; then one at a time.
pub const AUTH_FAILURES: u32 = 30;
/// And so much time between them.
pub const AUTH_FAILURE_EVERY: Duration = Duration::from_secs(1);
/// Sources of wrong tokens that are remembered.
pub const AUTH_SOURCES: usize = 4_096;
/// How often a node looks at least whether its certificate is due.
pub const RENEW_LOOK: Duration = Duration::from_secs(60);
/// One that is good no more is tried again with each newer state, after this long at the earliest.
pub const RENEW_SOON: Duration = Duration::from_millis(100);
/// After a certificate was not renewed it is tried again this much later, at most.
pub const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// How long a member may take to sign.
pub const RENEW_ANSWER: Duration = Duration::from_secs(5);
/// Members that are asked for one renewal.
pub const RENEW_ASKS: usize = 3;
/// How long a node that leaves waits until others have its work and its vote.
pub const LEAVE: Duration = Duration::from_secs(4 * 3_600);
/// How long a daemon may take to wipe what a member has.
pub const LEAVE_WIPED: Duration = Duration::from_secs(60);
/// How long a member may take to say whether a node is one of them.
pub const MEMBER_ANSWER: Duration = Duration::from_secs(5);
/// So many ids are left out after a lost quorum: the lost nodes may have given them.
pub const UNHEARD_NODES: u64 = 100;
/// A keyring that could not be changed is tried again after this long.
pub const ROTATE_AGAIN: Duration = Duration::from_secs(1);
/// A joiner's token that a member doesn't know yet may arrive there for so long.
pub const JOIN_TOKEN_WAIT: Duration = Duration::from_secs(1);
/// Clients connected to the API over TCP that have shown no token: in all, and of one source. One
/// that comes on top takes the place of another.
pub const API_STRANGERS: usize = 256;
/// See [`API_STRANGERS`].
pub const API_STRANGERS_EACH: usize = 64;
/// Without a token, a request's head must be there in this time; also how long a silent connection
/// is kept.
pub const API_STRANGER_IDLE: Duration = Duration::from_secs(5);
/// A connection lasts so long at most without a token.
pub const API_STRANGER: Duration = Duration::from_secs(60);

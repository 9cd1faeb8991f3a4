//! Bounds of names: their server, and what it asks of resolvers.

use super::DNS_TTL;
use std::time::Duration;

/// Where names are answered for containers.
pub const DNS_PORT: u16 = 53;
/// Threads that answer, each with sockets of its own.
pub const DNS_THREADS: usize = 2;
/// Questions that are taken in, and answers that are sent, at once.
pub const DNS_BATCH: usize = 32;
/// Longest question over UDP.
pub const DNS_QUESTION_MAX: usize = 1500;
/// Questions under way to resolvers; more fail at once.
pub const DNS_FORWARDS: usize = 256;
/// How long a resolver's answer is kept, whatever it says itself.
pub const DNS_CACHE: Duration = Duration::from_secs(30);
/// Answers of resolvers that are kept.
pub const DNS_CACHE_ENTRIES: u64 = 4096;
/// One resolver has this long, then another is asked.
pub const DNS_RESOLVER: Duration = Duration::from_secs(2);
/// All of them together have this long: what resolver libraries wait for at least.
pub const DNS_FORWARD: Duration = Duration::from_millis(4_500);
/// How old what is known of the host's resolvers may be.
pub const DNS_RESOLVERS_LOOK: Duration = Duration::from_secs(5);
/// TCP connections to a listener; further ones wait.
pub const DNS_CONNECTIONS: usize = 64;
/// A connection without a question ends after this long.
pub const DNS_IDLE: Duration = Duration::from_secs(10);

const _: () = assert!(DNS_RESOLVER.as_millis() * 2 < DNS_FORWARD.as_millis());
const _: () = assert!(DNS_TTL.as_secs() <= DNS_CACHE.as_secs());

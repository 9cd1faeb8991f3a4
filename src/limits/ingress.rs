//! Bounds and durations of the ingress.
//!
//! Never holds a value that a person sets.

use std::time::Duration;

/// Largest head of a request, in bytes.
pub const HEAD_MAX: usize = 32 << 10;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 100;
/// Largest head of an answer, in bytes.
pub const REPLY_HEAD_MAX: usize = 128 << 10;
/// Most headers of an answer.
pub const REPLY_HEADERS_MAX: usize = 256;
/// Longest line with the size of a chunk, in bytes.
pub const CHUNK_LINE_MAX: usize = 1 << 10;
/// Most bytes of trailers.
pub const TRAILERS_MAX: usize = 8 << 10;
/// How long a head may take from its first byte.
pub const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long a connection may be without a request.
pub const KEEP_WAIT: Duration = Duration::from_secs(60);
/// How long a body may stand still.
pub const BODY_WAIT: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a stream that has begun may stand still.
pub const STREAM_WAIT: Duration = Duration::from_secs(3_600);
/// How long the container's node may take to answer a new connection.
pub const UPSTREAM_CONNECT: Duration = Duration::from_secs(3);
/// How long an idle connection to a container is kept: servers close theirs after 5 s.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(4);
/// Idle connections to containers that each thread keeps.
pub const UPSTREAM_KEPT: usize = 512;
/// Replicas that a request is tried on.
pub const UPSTREAM_TRIES: u32 = 3;
/// Until the answer's head, unless the route says otherwise.
pub const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest body of a request, unless the route says otherwise.
pub const ROUTE_BODY: u64 = 100_000_000;
/// Failures in a row after which a replica is left out.
pub const EJECT_AFTER: u32 = 3;
/// First time for which it is left out; then twice as long each time.
pub const EJECT_FIRST: Duration = Duration::from_secs(1);
/// Longest time for which it is left out.
pub const EJECT_MOST: Duration = Duration::from_secs(16);
/// Most connections at once.
pub const INGRESS_CONNECTIONS: usize = 20_000;
/// Most connections of one source (IPv6: one /64) at once.
pub const INGRESS_SOURCE: usize = 2_000;
/// Most threads of the proxy.
pub const INGRESS_THREADS: usize = 16;
/// Bytes that are gathered before they are written.
pub const INGRESS_BUFFER: usize = 16 << 10;
/// Bytes that are read at once; each thread has room for them once.
pub const INGRESS_PIECE: usize = 64 << 10;
/// Bytes that are read at once where a head is awaited.
pub const HEAD_PIECE: usize = 8 << 10;
/// A head that is written anew is usually at most so much longer, in bytes.
pub const HEAD_MORE: usize = 256;
/// Connections without a request are kept for so long after the node began to stop.
pub const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long requests under way may take after the node began to stop.
pub const DRAIN_MOST: Duration = Duration::from_secs(4);
/// How often a request that waits for a replica looks for one.
pub const WAIT_LOOK: Duration = Duration::from_millis(50);
/// Client addresses whose requests are counted for one route.
pub const LIMIT_SOURCES: usize = 10_000;
/// Figures cover so many slots, each of this length.
pub const FIGURE_SLOTS: usize = 12;
/// Length of a slot of figures.
pub const FIGURE_SLOT: Duration = Duration::from_secs(5);
/// How long connections wait to be accepted while the node doesn't know the routes yet.
pub const INGRESS_HELD: Duration = Duration::from_secs(8);
/// Passwords that are checked at once.
pub const AUTH_CHECKS: usize = 2;
/// Requests whose passwords are checked or wait for it; more are told to come again.
pub const AUTH_WAITING: usize = 64;
/// Headers with a right password that are remembered of a secret.
pub const AUTH_KNOWN: usize = 1_000;
/// Requests that wait to be written down.
pub const ACCESS_WAITING: usize = 8_192;
/// Requests that are written down at once.
pub const ACCESS_BATCH: usize = 1_000;
/// Longest path of a request that is written down, in bytes.
pub const ACCESS_PATH_MAX: usize = 2_048;
/// Longest of its other parts.
pub const ACCESS_TEXT_MAX: usize = 256;
/// Most hosts that are paused at once.
pub const PAUSES_MAX: usize = 1_000;
/// Longest message of a paused host, in bytes.
pub const PAUSE_MESSAGE_MAX: usize = 500;
const _: () = assert!(UPSTREAM_IDLE.as_secs() < 5);
const _: () = assert!(HEAD_PIECE < HEAD_MAX && HEAD_MAX < INGRESS_PIECE);
const _: () = assert!(DRAIN_MOST.as_secs() < super::CHILD_STOP.as_secs());

//! Bounds of the API: connections, streams, bodies, waiting.

use super::{CHILD_STOP, FILE_MAX};
use std::time::Duration;

/// Clients connected to the API over TCP at once that have shown a token.
pub const API_CONNECTIONS: usize = 512;
/// Clients connected to the API's UNIX socket at once: their own bound, so that a flood from the
/// network never locks out the person on the machine.
pub const API_LOCAL_CONNECTIONS: usize = 128;
/// Streams that the API keeps open at once: of the UNIX socket, and of all tokens together.
pub const API_STREAMS: usize = 256;
/// Requests that one HTTP/2 connection may have open at once.
pub const API_H2_STREAMS: u32 = 64;
/// Refusals on their way to clients beyond the bound; further ones are cut off.
pub const API_REFUSALS: usize = 32;
/// How long a refused client may take to read why.
pub const API_REFUSAL: Duration = Duration::from_secs(2);
/// After a connection could not be accepted, the next try waits so long.
pub const API_ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A request's head must be there in this time; also how long a silent connection is kept.
pub const API_IDLE: Duration = Duration::from_secs(30);
/// A client that takes nothing of an answer for so long, or sends nothing of a body, is cut off.
pub const API_STALL: Duration = Duration::from_secs(30);
/// How long requests may take to end when the API stops.
pub const API_SHUTDOWN: Duration = Duration::from_secs(3);
/// Largest JSON body, in bytes.
pub const API_JSON_MAX: usize = 64 << 10;
/// Of a body that is too large, so much is read and dropped, so that the client sees the answer.
pub const API_DRAIN_MAX: usize = 16 << 20;
/// And for so long.
pub const API_DRAIN: Duration = Duration::from_secs(2);
/// Largest image archive, in bytes.
pub const API_ARCHIVE_MAX: u64 = 16 << 30;
/// Longest `Idempotency-Key`, in bytes.
pub const API_KEY_MAX: usize = 255;
/// How long a change may take to be applied before the client is told that it may still come.
pub const API_PROPOSE: Duration = Duration::from_secs(10);
/// How long an answer waits until this node's view has reached the change.
pub const API_VIEW: Duration = Duration::from_secs(5);
/// How long figures of use are waited for.
pub const API_USAGE: Duration = Duration::from_millis(300);
/// How long the digests of a file's images may take to be found.
pub const API_RESOLVE: Duration = Duration::from_secs(30);
/// A registry that limits its rate is waited for, so long at most.
pub const API_RESOLVE_LIMITED: Duration = Duration::from_secs(300);
/// References resolved at once for one file.
pub const API_RESOLVES: usize = 8;
/// A change that lost a race is made anew so often.
pub const API_RETRIES: u32 = 5;
/// A comment goes out on an event stream after so long.
pub const SSE_COMMENT: Duration = Duration::from_secs(15);
/// Events that wait for a slow reader.
pub const SSE_BUFFER: usize = 32;
/// Deployments in an answer, unless fewer are asked for.
pub const DEPLOYMENTS_LISTED: usize = 50;
/// Most deployments in an answer.
pub const DEPLOYMENTS_LISTED_MAX: usize = 1_000;
/// Allocations named when the start of an id fits several.
pub const FITS_SHOWN: usize = 4;
/// API tokens kept at once.
pub const TOKENS_MAX: usize = 1_000;

const _: () = assert!(FILE_MAX < API_DRAIN_MAX && API_JSON_MAX < API_DRAIN_MAX);
const _: () = assert!(SSE_COMMENT.as_secs() < API_STALL.as_secs());
const _: () = assert!(API_SHUTDOWN.as_secs() < CHILD_STOP.as_secs());

/// The largest number in a request: every client can write it exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;
/// How long a token may be good, in seconds.
pub const TOKEN_TTL_MAX: u64 = 100 * 366 * 86_400;
/// How many nodes one token may let in.
pub const TOKEN_USES_MAX: u64 = 1_000_000;

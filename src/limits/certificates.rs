//! Bounds of certificates and the way to them.

use std::time::Duration;

/// Hosts whose certificates are kept at once.
pub const CERTIFICATES_MAX: usize = 1_000;
/// Bytes of a certificate with those of its authorities.
pub const CERTIFICATE_CHAIN_MAX: usize = 64 << 10;
/// Bytes of a certificate's key.
pub const CERTIFICATE_KEY_MAX: usize = 16 << 10;
/// Characters kept of what keeps a host from its certificate.
pub const CERTIFICATE_ERROR: usize = 500;
/// A certificate that ends within this time is worth a warning.
pub const CERTIFICATE_WARNED: Duration = Duration::from_secs(14 * 24 * 3600);
/// Waits after the first failure of an order and those that follow, in minutes; then the last.
pub const ORDER_BACKOFF: [u64; 18] =
    [1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 60, 60, 120, 180, 360];
/// The longest wait that an authority can ask for: what it limits, it limits by the week.
pub const ORDER_ASKED_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long one order may take, tried first or not.
pub const ORDER_MOST: Duration = Duration::from_secs(300);
/// How often it is begun again at once because a nonce was not taken.
pub const ORDER_TRIES: u32 = 3;
/// How long an authority may take for one answer.
pub const ACME_CALL: Duration = Duration::from_secs(30);
/// How long it may take to look at the hosts, or to issue.
pub const ACME_POLL: Duration = Duration::from_secs(90);
/// Orders under way at once.
pub const ORDERS_AT_ONCE: usize = 5;
/// Between the beginnings of two orders: never more than ten in ten seconds.
pub const ORDER_GAP: Duration = Duration::from_secs(1);
/// After an order that came to an end, its host is looked at again this much later.
pub const ORDER_AGAIN: Duration = Duration::from_secs(1);
/// A host without a certificate that doesn't lead to the cluster is looked up again so often.
pub const HOST_LOOK: Duration = Duration::from_secs(5);
/// And one with a certificate.
pub const HOST_LOOK_CALM: Duration = Duration::from_secs(60);
/// How long the look-up of a host may take.
pub const HOST_RESOLVE: Duration = Duration::from_secs(3);
/// How often an authority is asked when the next certificates are due.
pub const RENEWAL_LOOK: Duration = Duration::from_secs(6 * 3600);
/// A host that no route names any more keeps its certificate so long beyond its end.
pub const CERTIFICATE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// Longest wait until every node knows certificates.
pub const CERTIFICATES_READY: Duration = Duration::from_secs(10);
/// How often a change of certificates is made anew when the keyring has changed meanwhile.
pub const CERTIFICATE_RETRIES: u32 = 5;

const _: () = assert!(HOST_LOOK.as_secs() + HOST_RESOLVE.as_secs() < 10);
const _: () = assert!(ACME_POLL.as_secs() * 3 < ORDER_MOST.as_secs());

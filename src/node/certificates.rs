//! Which hosts need a certificate, and when: state → what is to be ordered.
//!
//! Owns the waits after failures, and what a host must be to be ordered for. Never orders
//! anything, and never draws a number.

pub mod read;

#[cfg(test)]
mod tests;

use super::ingress::host;
use crate::fsm::State;
use crate::fsm::certificates::{Acme, Certificate, Source};
use crate::limits::{CERTIFICATE_KEPT, CERTIFICATE_WARNED, ORDER_ASKED_MOST, ORDER_BACKOFF};
use crate::units::{Millis, Timestamp};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Endings of names that no authority knows (RFC 6761, 6762, 8375, and ICANN's `internal`).
const PRIVATE: [&str; 4] = ["localhost", "local", "home.arpa", "internal"];

/// Let's Encrypt's directory.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// Its directory for tries.
pub const STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// The hosts of all routes that are wanted, or served until what follows is ready.
#[must_use]
pub fn routed(state: &State) -> BTreeSet<&str> {
    let services = state.apps.values().flat_map(|app| app.services.values());
    let specs = services.flat_map(|service| service.target.iter().chain(&service.stable));
    let specs = specs.filter_map(|hash| state.spec(hash)?.spec.service());
    specs.flat_map(|spec| spec.routes.iter().map(|route| route.host.as_str())).collect()
}

/// Whether an authority can be asked for a certificate of that host.
#[must_use]
pub fn is_public(host: &str) -> bool {
    let is_private = |ending: &str| {
        host == ending || host.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'))
    };
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let is_name = host.contains('.') && !host.contains(['*', '_']);
    is_name && !is_address && !PRIVATE.iter().any(|ending| is_private(ending))
}

/// The certificate that a host is served by: its own, else a wildcard's.
#[must_use]
pub fn serving<'a>(state: &'a State, name: &str) -> Option<&'a Certificate> {
    let own = state.certificates.of(name);
    let above = || state.certificates.of(&format!("*.{}", host::parent(name)?));
    own.or_else(above).map(|certificate| &**certificate)
}

/// When a certificate of that host is to be ordered; absent: it isn't at all.
#[must_use]
pub fn due(state: &State, host: &str) -> Option<Timestamp> {
    state.certificates.acme.as_ref()?;
    if !is_public(host) {
        return None;
    }
    let next = state.certificates.hosts.get(host).and_then(|one| one.next);
    let due = match serving(state, host) {
        Some(certificate) if certificate.source == Source::Import => return None,
        Some(certificate) => certificate.renew_at.unwrap_or(certificate.not_after),
        None => Timestamp::default(),
    };
    Some(due.max(next.unwrap_or_default()))
}

/// The hosts that are to be ordered for, each with the time when.
#[must_use]
pub fn all_due(state: &State) -> Vec<(String, Timestamp)> {
    let hosts = routed(state).into_iter();
    hosts.filter_map(|host| Some((host.to_owned(), due(state, host)?))).collect()
}

/// Hosts that no route names and whose certificate is past, or never came.
#[must_use]
pub fn forgotten(state: &State, now: Timestamp) -> Vec<String> {
    let routed = routed(state);
    let others = state.certificates.hosts.iter().filter(|(host, _)| !routed.contains(&***host));
    let gone = others.filter(|(_, one)| {
        let until = one.certificate.as_ref().map(|certificate| certificate.not_after);
        until.is_none_or(|until| until.plus(CERTIFICATE_KEPT.into()) < now)
    });
    gone.map(|(host, _)| host.clone()).collect()
}

/// How long to wait after so many failures.
#[must_use]
pub fn backoff(failures: u32) -> Millis {
    let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
    let minutes = ORDER_BACKOFF.get(at).or(ORDER_BACKOFF.last());
    Millis(minutes.map_or(0, |minutes| minutes * 60_000))
}

/// The same, and as long as the authority asks for if that is longer, within bounds.
#[must_use]
pub fn wait(failures: u32, asked: Option<Millis>) -> Millis {
    let asked = asked.unwrap_or_default().min(ORDER_ASKED_MOST.into());
    backoff(failures).max(asked)
}

/// The directory where an order can be tried at no cost, of an authority that has one.
#[must_use]
pub fn trial(directory: &str) -> Option<&'static str> {
    (directory == LETS_ENCRYPT).then_some(STAGING)
}

/// The command that sets an authority up anew, with an external account.
#[must_use]
pub fn setup_line(acme: &Acme) -> String {
    let email = acme.email.as_ref().map(|email| format!(" --email {email}"));
    let directory = match acme.directory.as_str() {
        LETS_ENCRYPT => String::new(),
        STAGING => " --staging".to_owned(),
        other => format!(" --directory {other}"),
    };
    format!("mill cert setup{}{directory} --eab KID:HMAC", email.unwrap_or_default())
}

/// When a certificate is to be renewed: two thirds of its life are over, a thirtieth more or less.
#[must_use]
pub fn renew_at(from: Timestamp, until: Timestamp, random: u64) -> Timestamp {
    let life = until.since(from).0;
    let jitter = random % (life / 15).max(1);
    from.plus(Millis(life / 3 * 2 - life / 30 + jitter))
}

/// A moment in the time that an authority asks for; early enough, whatever it asks for.
#[must_use]
pub fn renew_within(
    (start, end): (Timestamp, Timestamp),
    (from, until): (Timestamp, Timestamp),
    random: u64,
) -> Timestamp {
    let at = start.plus(Millis(random % end.since(start).0.max(1)));
    let last = Timestamp(until.0.saturating_sub(until.since(from).0 / 20));
    at.min(last)
}

/// It ends soon, and what was to replace it is not there.
#[must_use]
pub fn ends_soon(certificate: &Certificate, now: Timestamp) -> bool {
    let life = certificate.not_after.since(certificate.not_before).0;
    // One that lives for less is renewed at two thirds of its life.
    let warned = Millis::from(CERTIFICATE_WARNED).0.min(life / 6);
    certificate.not_after.since(now).0 < warned
}

//! Certificates as documents.
//!
//! Never has a key.

use crate::api::wire::{CertificateStatus, CertificateView};
use crate::fsm::State;
use crate::node::certificates::{due, is_public, routed, serving};
use crate::node::ingress::host;
use crate::units::Timestamp;
use std::collections::BTreeSet;

/// How a host stands.
#[must_use]
pub fn certificate(state: &State, name: &str, now: Timestamp) -> CertificateView {
    let known = state.certificates.hosts.get(name);
    let own = known.and_then(|one| one.certificate.as_deref());
    let serving = serving(state, name);
    let covered = own.is_none().then_some(serving).flatten();
    let ordering = known.is_some_and(|one| one.order.is_some());
    let error = known.and_then(|one| one.error.clone());
    let next = due(state, name).filter(|_| !ordering);
    let status = match serving {
        Some(one) if one.not_after > now => CertificateStatus::Valid,
        Some(_) => CertificateStatus::Expired,
        None if ordering => CertificateStatus::Ordering,
        None if next.is_some() => CertificateStatus::Waiting,
        None => CertificateStatus::None,
    };
    let error = error.or_else(|| missing(state, name).filter(|_| serving.is_none()));
    let time = |time: Timestamp| time.to_string();
    CertificateView {
        host: name.to_owned(),
        status,
        source: serving.map(|one| one.source.into()),
        issuer: serving.map(|one| one.issuer.clone()),
        not_before: serving.map(|one| time(one.not_before)),
        not_after: serving.map(|one| time(one.not_after)),
        next: next.map(|next| time(next.max(now))),
        failures: known.map_or(0, |one| one.failures),
        error,
        covered_by: covered.and(host::parent(name)).map(|parent| format!("*.{parent}")),
    }
}

/// Why nobody orders a certificate for a host.
fn missing(state: &State, name: &str) -> Option<String> {
    let why = if name.starts_with("*.") {
        "a wildcard's certificate is imported"
    } else if !is_public(name) {
        "no authority knows this name"
    } else if state.certificates.acme.is_none() {
        "no authority is set up: mill cert setup --email ADDRESS"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// Every host that has a certificate or a route, by name.
#[must_use]
pub fn certificates(state: &State, now: Timestamp) -> Vec<CertificateView> {
    let hosts = state.certificates.hosts.keys().map(String::as_str);
    let all: BTreeSet<&str> = hosts.chain(routed(state)).collect();
    all.into_iter().map(|name| certificate(state, name, now)).collect()
}

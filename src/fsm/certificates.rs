//! Certificates of hosts: by which each is served, and how far the next one is.
//!
//! Owns that a host has one order at a time in the whole cluster. Never holds a key in the clear,
//! and never speaks to an authority.

mod change;

pub use change::{CertificateChange, Shown};

use super::State;
use super::command::NEXT_LEVEL;
use crate::id::{BootId, Index, NodeId};
use crate::secret::Sealed;
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The feature level from which on the state knows certificates.
pub const CERTIFICATES_LEVEL: u32 = NEXT_LEVEL;

/// What the key of the account is sealed for.
pub const ACCOUNT_PURPOSE: &str = "acme account";
/// What the key of an external account is sealed for.
pub const EAB_PURPOSE: &str = "acme external account";

/// What the key of a host's certificate is sealed for.
#[must_use]
pub fn key_purpose(host: &str) -> String {
    format!("certificate key {host}")
}

/// Certificates, and who the cluster is to the authority that it orders them from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    /// Where they are ordered; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acme: Option<Arc<Acme>>,
    /// By host; `*.example.com` for a wildcard.
    #[serde(default, skip_serializing_if = "OrdMap::is_empty")]
    pub hosts: OrdMap<String, Arc<Hosted>>,
}

/// An authority that speaks ACME (RFC 8555), and who the cluster is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// Its directory's address.
    pub directory: String,
    /// Whom it writes to.
    pub email: Option<String>,
    /// An account elsewhere that it asks for.
    pub eab: Option<Eab>,
    /// The cluster's account, sealed; absent: none was made yet.
    pub account: Option<Sealed>,
}

/// An account elsewhere (RFC 8555, 7.3.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eab {
    /// Its name.
    pub id: String,
    /// Its key as it was given, sealed.
    pub key: Sealed,
}

/// A host and how it stands with its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hosted {
    /// By which it is served.
    pub certificate: Option<Arc<Certificate>>,
    /// The order under way.
    pub order: Option<Order>,
    /// Failures since the last success.
    pub failures: u32,
    /// What keeps it from the next one.
    pub error: Option<String>,
    /// No attempt before.
    pub next: Option<Timestamp>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Where it is from.
    pub source: Source,
    /// With those of its authorities, the host's own first: PEM.
    pub chain: String,
    /// Its key (PEM), sealed.
    pub key: Sealed,
    pub issuer: String,
    /// Good from then on.
    pub not_before: Timestamp,
    /// Good until then.
    pub not_after: Timestamp,
    /// When the next one is due; absent: never.
    pub renew_at: Option<Timestamp>,
}

/// Where a certificate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// It was ordered.
    Acme,
    /// A person brought it.
    Import,
}

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Whose it is.
    pub claim: Claim,
    pub since: Timestamp,
    /// What the authority gets to see.
    pub shown: Option<Shown>,
    /// The entry that brought it.
    pub index: Index,
    /// And when that was.
    pub shown_at: Timestamp,
    /// Since when every node that is there shows it.
    pub settled: Option<Timestamp>,
}

/// Who carries out an order: a node in one of its lives, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub node: NodeId,
    /// Which life of it.
    pub boot: BootId,
    /// Which order of that life.
    pub number: u64,
}

impl Certificates {
    /// Nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.acme.is_none() && self.hosts.is_empty()
    }

    /// The certificate of a host itself.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<&Arc<Certificate>> {
        self.hosts.get(host)?.certificate.as_ref()
    }

    /// The orders of which the authority is to see something that not every node shows yet.
    pub fn unsettled(&self) -> impl Iterator<Item = (&String, &Order)> {
        let orders = self.hosts.iter().filter_map(|(host, one)| Some((host, one.order.as_ref()?)));
        orders.filter(|(_, order)| order.shown.is_some() && order.settled.is_none())
    }
}

impl State {
    /// Whether every node knows certificates.
    #[must_use]
    pub fn knows_certificates(&self) -> bool {
        self.level() >= CERTIFICATES_LEVEL
    }

    /// Every sealed text of certificates, with what it is for.
    pub(super) fn sealed_for_certificates(&self) -> Vec<(String, &Sealed)> {
        let acme = self.certificates.acme.as_deref();
        let account = acme.and_then(|acme| acme.account.as_ref());
        let account = account.map(|sealed| (ACCOUNT_PURPOSE.to_owned(), sealed));
        let eab = acme.and_then(|acme| acme.eab.as_ref());
        let eab = eab.map(|eab| (EAB_PURPOSE.to_owned(), &eab.key));
        let hosts = self.certificates.hosts.iter();
        let keys = hosts
            .filter_map(|(host, one)| Some((key_purpose(host), &one.certificate.as_deref()?.key)));
        account.into_iter().chain(eab).chain(keys).collect()
    }

    /// Puts other sealed texts in the place of those that there are.
    pub(super) fn reseal_certificates<E>(
        &mut self,
        find: impl Fn(&Sealed) -> Result<Sealed, E>,
    ) -> Result<(), E> {
        if let Some(acme) = self.certificates.acme.take() {
            let account = acme.account.as_ref().map(&find).transpose()?;
            let anew = |eab: &Eab| Ok(Eab { key: find(&eab.key)?, ..eab.clone() });
            let eab = acme.eab.as_ref().map(anew).transpose()?;
            let acme = Acme { account, eab, ..Acme::clone(&acme) };
            self.certificates.acme = Some(Arc::new(acme));
        }
        for (host, one) in self.certificates.hosts.clone() {
            let Some(certificate) = &one.certificate else { continue };
            let key = find(&certificate.key)?;
            let certificate = Certificate { key, ..Certificate::clone(certificate) };
            let certificate = Some(Arc::new(certificate));
            let one = Hosted { certificate, ..Hosted::clone(&one) };
            self.certificates.hosts.insert(host, Arc::new(one));
        }
        Ok(())
    }
}

#[cfg(test)]
impl State {
    pub(crate) fn reseal_for_test(&mut self, find: impl Fn(&Sealed) -> Result<Sealed, ()>) {
        self.reseal_certificates(find).unwrap();
    }
}

//! Changes of certificates and their orders.
//!
//! Owns which of them come too late. Never decides when an order is due.

use super::{Acme, Certificate, Certificates, Claim, Hosted, Order, Source};
use crate::fsm::allocation::not_found;
use crate::fsm::{Outcome, Rejection, State, Touched};
use crate::limits;
use crate::secret::Sealed;
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A change of the certificates. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateChange {
    /// Order certificates there from now on; absent: nowhere.
    Authority(Option<Acme>),
    /// The cluster has this account there; absent: none any more.
    Account {
        /// Where.
        directory: String,
        account: Option<Sealed>,
    },
    /// A person brings a certificate.
    Put {
        host: String,
        /// Itself.
        certificate: Certificate,
    },
    /// Somebody orders one.
    Claim {
        host: String,
        /// Who.
        claim: Claim,
        /// In whose place; absent: nobody had.
        over: Option<Claim>,
    },
    /// The authority is to see something at a host.
    Show {
        host: String,
        /// In which order.
        claim: Claim,
        shown: Shown,
    },
    /// Every node that is there shows it, or has had its time.
    Settled {
        /// At which host.
        host: String,
        /// In which order.
        claim: Claim,
    },
    /// An order has come to a certificate.
    Issued {
        host: String,
        /// Which order.
        claim: Claim,
        /// Itself.
        certificate: Certificate,
    },
    /// An order has failed.
    Failed {
        host: String,
        /// Which order.
        claim: Claim,
        error: String,
        /// No attempt before.
        next: Timestamp,
    },
    /// This keeps a host from being ordered for; absent: nothing does.
    Hindered { host: String, error: Option<String> },
    /// Order anew, whatever there is.
    Renew { host: String },
    /// The next one is due then.
    RenewAt { host: String, at: Timestamp },
    /// A host is no host any more.
    Forget { host: String },
}

/// What an authority gets to see at a host (RFC 8555, 8.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Where.
    pub token: String,
    pub authorization: String,
}

impl State {
    pub(in crate::fsm) fn change_certificates(
        &mut self,
        change: CertificateChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        use CertificateChange as Change;
        match change {
            Change::Authority(acme) => return self.set_authority(acme, touched),
            Change::Account { directory, account } => {
                return self.set_account(&directory, account, touched);
            }
            Change::Put { host, certificate } => {
                self.check_key(&certificate.key.key)?;
                self.change_host(&host, |one| *one = Hosted::with(certificate))?;
                touched.certificates.insert(host);
            }
            Change::Claim { host, claim, over } => self.claim(&host, claim, over, touched)?,
            Change::Show { host, claim, shown } => {
                let (index, shown_at) = (self.index, self.time);
                self.of_order(&host, claim, |one, order| {
                    let shown = Some(shown);
                    one.order = Some(Order { shown, index, shown_at, settled: None, ..order });
                })?;
                touched.certificates.insert(host);
            }
            Change::Settled { host, claim } => {
                let time = self.time;
                self.of_order(&host, claim, |one, order| {
                    one.order = Some(Order { settled: Some(time), ..order });
                })?;
                touched.certificates.insert(host);
            }
            Change::Issued { host, claim, certificate } => {
                self.check_key(&certificate.key.key)?;
                self.of_order(&host, claim, |one, _| *one = Hosted::with(certificate))?;
                touched.certificates.insert(host);
            }
            Change::Failed { host, claim, error, next } => {
                self.of_order(&host, claim, |one, _| {
                    one.order = None;
                    one.failures = one.failures.saturating_add(1);
                    one.error = Some(bounded(error));
                    one.next = Some(next);
                })?;
                touched.certificates.insert(host);
            }
            Change::Hindered { host, error } => {
                let error = error.map(bounded);
                self.change_host(&host, |one| one.error = error)?;
                touched.certificates.insert(host);
            }
            Change::Renew { host } => self.renew(&host, touched)?,
            Change::RenewAt { host, at } => {
                let one = self.hosted(&host)?;
                let certificate = one.certificate.as_deref().cloned();
                let certificate = certificate.ok_or_else(|| not_found("certificate of", &host))?;
                let certificate = Certificate { renew_at: Some(at), ..certificate };
                self.change_host(&host, |one| one.certificate = Some(Arc::new(certificate)))?;
                touched.certificates.insert(host);
            }
            Change::Forget { host } => {
                self.hosted(&host)?;
                self.certificates.hosts.remove(&host);
                touched.certificates.insert(host);
            }
        }
        Ok(Outcome::Done)
    }

    fn set_authority(
        &mut self,
        acme: Option<Acme>,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let sealed = acme.as_ref().and_then(|acme| acme.eab.as_ref()).map(|eab| &eab.key);
        sealed.map_or(Ok(()), |sealed| self.check_key(&sealed.key))?;
        self.certificates.acme = acme.map(Arc::new);
        // What another authority refused, this one may not.
        for (host, one) in self.certificates.hosts.clone() {
            let one = Hosted { failures: 0, error: None, next: None, ..Hosted::clone(&one) };
            self.certificates.hosts.insert(host.clone(), Arc::new(one));
            touched.certificates.insert(host);
        }
        touched.certificates.insert(String::new());
        Ok(Outcome::Done)
    }

    fn set_account(
        &mut self,
        directory: &str,
        account: Option<Sealed>,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        account.as_ref().map_or(Ok(()), |sealed| self.check_key(&sealed.key))?;
        let acme = self.certificates.acme.as_ref().filter(|acme| acme.directory == directory);
        let acme = acme.ok_or(Rejection::Stale)?;
        let acme = Acme { account, ..Acme::clone(acme) };
        self.certificates.acme = Some(Arc::new(acme));
        touched.certificates.insert(String::new());
        Ok(Outcome::Done)
    }

    /// A claim counts in the place of the one that its maker saw, and of no other.
    fn claim(
        &mut self,
        host: &str,
        claim: Claim,
        over: Option<Claim>,
        touched: &mut Touched,
    ) -> Result<(), Rejection> {
        let known = self.certificates.hosts.get(host).and_then(|one| one.order.as_ref());
        if known.map(|order| order.claim) != over {
            return Err(Rejection::Stale);
        }
        let (since, index) = (self.time, self.index);
        let order = Order { claim, since, shown: None, index, shown_at: since, settled: None };
        touched.certificates.insert(host.to_owned());
        self.change_host(host, |one| one.order = Some(order))
    }

    fn renew(&mut self, host: &str, touched: &mut Touched) -> Result<(), Rejection> {
        let now = self.time;
        let one = self.certificates.hosts.get(host).cloned().unwrap_or_default();
        let mut certificate = one.certificate.as_deref().cloned();
        if certificate.as_ref().is_some_and(|known| known.source == Source::Import) {
            let what = format!("the certificate of {host} was imported: import the next one");
            return Err(Rejection::Illegal { what });
        }
        if let Some(certificate) = &mut certificate {
            certificate.renew_at = Some(now);
        }
        touched.certificates.insert(host.to_owned());
        self.change_host(host, |one| {
            one.certificate = certificate.map(Arc::new);
            one.next = None;
        })
    }

    fn hosted(&self, host: &str) -> Result<&Arc<Hosted>, Rejection> {
        self.certificates.hosts.get(host).ok_or_else(|| not_found("certificate of", host))
    }

    /// Changes a host that may be new.
    fn change_host(
        &mut self,
        host: &str,
        change: impl FnOnce(&mut Hosted),
    ) -> Result<(), Rejection> {
        let Certificates { hosts, .. } = &mut self.certificates;
        if hosts.len() >= limits::CERTIFICATES_MAX && !hosts.contains_key(host) {
            let what = format!("hosts: the cluster keeps {}", limits::CERTIFICATES_MAX);
            return Err(Rejection::TooMany { what });
        }
        let mut one = hosts.get(host).map(|one| Hosted::clone(one)).unwrap_or_default();
        change(&mut one);
        hosts.insert(host.to_owned(), Arc::new(one));
        Ok(())
    }

    /// Changes a host whose order is that one still.
    fn of_order(
        &mut self,
        host: &str,
        claim: Claim,
        change: impl FnOnce(&mut Hosted, Order),
    ) -> Result<(), Rejection> {
        let known = self.certificates.hosts.get(host).and_then(|one| one.order.clone());
        let order = known.filter(|order| order.claim == claim).ok_or(Rejection::Stale)?;
        self.change_host(host, |one| change(one, order))
    }
}

impl Hosted {
    fn with(certificate: Certificate) -> Self {
        Self { certificate: Some(Arc::new(certificate)), ..Self::default() }
    }
}

fn bounded(text: String) -> String {
    text.chars().filter(|c| !c.is_control()).take(limits::CERTIFICATE_ERROR).collect()
}

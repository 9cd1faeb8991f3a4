//! One order, from the claim to the certificate (RFC 8555).
//!
//! Owns its steps and what becomes of a failure. Never begins one by itself.

use super::http::Client;
use super::{Desk, is_ordered, time};
use crate::actors::root::View;
use crate::fsm::certificates::{
    ACCOUNT_PURPOSE, Certificate, CertificateChange, Claim, EAB_PURPOSE, Shown, Source, key_purpose,
};
use crate::limits;
use crate::node::certificates::{all_due, backoff, read, renew_at, renew_within};
use crate::secret::{Sealed, Secret};
use crate::units::{Millis, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What an authority says of an account that it doesn't have.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// What an authority says of a request whose nonce it doesn't take: it has done nothing.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// The account that was opened last, with what it was opened from.
#[derive(Default)]
pub(super) struct Cashier(Mutex<Option<(Sealed, Account)>>);

/// Why an order failed.
enum Failed {
    /// The authority, or the way to it.
    Acme(Error),
    /// Anything else.
    Other(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Failed {
    fn text(&self) -> String {
        match self {
            Self::Acme(Error::Api(problem)) => {
                problem.detail.clone().unwrap_or_else(|| problem.to_string())
            }
            Self::Acme(error) => error.to_string(),
            Self::Other(why) => why.clone(),
        }
    }

    fn is(&self, kind: &str) -> bool {
        let Self::Acme(Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some(kind)
    }
}

/// Claims a host and orders its certificate. Whatever comes of it is in the state then.
pub(super) async fn carry_out(desk: &Desk, host: &str, view: &View) {
    let claim = Claim { node: view.node, boot: view.boot, number: rand::random() };
    let known = view.state.certificates.hosts.get(host);
    let failures = known.map_or(0, |one| one.failures);
    let over = known.and_then(|one| one.order.as_ref()).map(|order| order.claim);
    let claimed = CertificateChange::Claim { host: host.to_owned(), claim, over };
    if let Err(why) = desk.propose(claimed).await {
        // Somebody else has it.
        return tracing::debug!(host, why, "no certificate is ordered");
    }
    let ordered = async {
        let mut tries = 0;
        loop {
            match order(desk, host, (claim, failures)).await {
                // Not the host's fault, and no reason to wait.
                Err(failed) if failed.is(BAD_NONCE) && tries < limits::ORDER_TRIES => tries += 1,
                ended => return ended,
            }
        }
    };
    let ordered = tokio::time::timeout(limits::ORDER_MOST, ordered).await;
    let late = || Err(Failed::Other("the order did not come to its end in time".to_owned()));
    let Err(failed) = ordered.unwrap_or_else(|_| late()) else {
        return tracing::info!(host, "a certificate was issued");
    };
    let error = failed.text();
    tracing::warn!(host, error, "a certificate could not be had");
    let now = desk.views.borrow().as_ref().map_or(view.state.time, time);
    let next = now.plus(backoff(failures + 1));
    let failed = CertificateChange::Failed { host: host.to_owned(), claim, error, next };
    if let Err(why) = desk.propose(failed).await {
        // The claim stays, and the next leader takes it over.
        tracing::warn!(host, why, "that an order failed is not in the log");
    }
}

async fn order(desk: &Desk, host: &str, (claim, failures): (Claim, u32)) -> Result<(), Failed> {
    let identifiers = [Identifier::Dns(host.to_owned())];
    let new = NewOrder::new(&identifiers);
    let begun = desk.account().await?.new_order(&new).await.map_err(Failed::from);
    let mut order = match begun {
        // It has forgotten the cluster: one more try as somebody new.
        Err(failed) if failed.is(NO_ACCOUNT) => {
            desk.forget_account().await?;
            desk.account().await?.new_order(&new).await?
        }
        begun => begun?,
    };
    authorize(desk, host, (claim, failures), &mut order).await?;
    let policy = RetryPolicy::new().timeout(limits::ACME_POLL);
    match order.poll_ready(&policy).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => {}
        Ok(_) => return Err(Failed::Other(reason(&mut order).await)),
        Err(error @ Error::Api(_)) => {
            // What it found at the host says more than that the order is invalid.
            return Err(found(&mut order).await.map_or(error.into(), Failed::Other));
        }
        Err(error) => return Err(error.into()),
    }
    let key = Secret::new(order.finalize().await?);
    let chain = order.poll_certificate(&policy).await?;
    keep(desk, host, claim, &chain, &key).await.map_err(Failed::Other)
}

/// Shows the authority on every node what it wants to see, and lets it look then: over HTTP, and
/// over TLS after a failure, for port 80 may be closed.
async fn authorize(
    desk: &Desk,
    host: &str,
    (claim, failures): (Claim, u32),
    order: &mut Order,
) -> Result<(), Failed> {
    let mut all = order.authorizations();
    while let Some(authorization) = all.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut ways = [ChallengeType::Http01, ChallengeType::TlsAlpn01];
        if failures % 2 == 1 {
            ways.reverse();
        }
        let offered = |way: &ChallengeType| {
            authorization.challenges.iter().any(|challenge| challenge.r#type == *way)
        };
        let way = ways.into_iter().find(offered);
        let none = || "the authority offers neither HTTP-01 nor TLS-ALPN-01".to_owned();
        let mut challenge = authorization.challenge(way.ok_or_else(none)?).ok_or_else(none)?;
        let shown = Shown {
            token: challenge.token.clone(),
            authorization: challenge.key_authorization().as_str().to_owned(),
        };
        let change = CertificateChange::Show { host: host.to_owned(), claim, shown };
        let done = desk.propose(change).await?;
        let is_settled = |view: &View| {
            let one = view.state.certificates.hosts.get(host);
            let order = one.and_then(|one| one.order.as_ref());
            let is_its = order.is_some_and(|order| order.claim == claim && order.settled.is_none());
            view.index >= done.index && !is_its
        };
        desk.view_where(is_settled).await.ok_or_else(|| "the node stops".to_owned())?;
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why an order is invalid.
async fn reason(order: &mut Order) -> String {
    let found = found(order).await;
    found.unwrap_or_else(|| "the authority calls the order invalid and says no more".to_owned())
}

/// What the authority found when it looked at the host.
async fn found(order: &mut Order) -> Option<String> {
    let mut all = order.authorizations();
    while let Some(Ok(mut authorization)) = all.next().await {
        let state = authorization.refresh().await.ok()?;
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(problem.detail.clone().unwrap_or_else(|| problem.to_string()));
        }
    }
    None
}

/// Puts a new certificate into the state, sealed by the keyring of now.
async fn keep(
    desk: &Desk,
    host: &str,
    claim: Claim,
    chain: &str,
    key: &Secret,
) -> Result<(), String> {
    let now = crate::actors::platform::now();
    let told = |error: read::ReadError| {
        format!("the certificate that the authority issued can't be used: {error}")
    };
    let known = read::read(chain, key.reveal(), host, now).map_err(told)?;
    let mut tries = 0;
    loop {
        let sealed = desk.keyring.seal(&key_purpose(host), key, rand::random());
        let certificate = Certificate {
            source: Source::Acme,
            chain: chain.to_owned(),
            key: sealed.map_err(|error| error.to_string())?,
            issuer: known.issuer.clone(),
            not_before: known.not_before,
            not_after: known.not_after,
            renew_at: Some(renew_at(known.not_before, known.not_after, rand::random())),
        };
        let issued = CertificateChange::Issued { host: host.to_owned(), claim, certificate };
        match desk.propose(issued).await {
            // The keyring may be another one since it was sealed.
            Err(_) if tries < limits::CERTIFICATE_RETRIES => tries += 1,
            done => return done.map(drop),
        }
    }
}

impl Desk {
    /// The cluster's account; made if there is none.
    async fn account(&self) -> Result<Account, Failed> {
        // One at a time: two would make two accounts.
        let mut opened = self.cashier.0.lock().await;
        let view = self.views.borrow().clone();
        let acme = view.and_then(|view| view.state.certificates.acme.clone());
        let acme = acme.ok_or_else(|| "no authority is set up".to_owned())?;
        if let (Some((from, account)), Some(sealed)) = (&*opened, &acme.account)
            && from == sealed
        {
            return Ok(account.clone());
        }
        let client = Client::new(self.settings.ca.as_deref())?;
        let builder = Account::builder_with_http(Box::new(client));
        if let Some(sealed) = &acme.account {
            let text = self.keyring.open(ACCOUNT_PURPOSE, sealed);
            let text = text.map_err(|error| format!("the account: {error}"))?;
            let damaged = |error: serde_json::Error| format!("the account: {error}");
            let credentials = serde_json::from_str(text.reveal()).map_err(damaged)?;
            let account = builder.from_credentials(credentials).await?;
            *opened = Some((sealed.clone(), account.clone()));
            return Ok(account);
        }
        let external = match &acme.eab {
            Some(eab) => {
                let key = self.keyring.open(EAB_PURPOSE, &eab.key);
                let key = key.map_err(|error| format!("the external account: {error}"))?;
                let key = URL_SAFE_NO_PAD.decode(key.reveal().trim_end_matches('='));
                let key = key.map_err(|_| "the key of --acme-eab is no base64url".to_owned())?;
                Some(ExternalAccountKey::new(eab.id.clone(), &key))
            }
            None => None,
        };
        let contact = acme.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let directory = acme.directory.clone();
        let made = builder.create(&new, directory.clone(), external.as_ref()).await?;
        let (account, credentials) = made;
        let text = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
        let sealed = self.keyring.seal(ACCOUNT_PURPOSE, &Secret::new(text), rand::random());
        let sealed = sealed.map_err(|error| error.to_string())?;
        let change = CertificateChange::Account { directory, account: Some(sealed.clone()) };
        let done = self.propose(change).await?;
        self.view_where(|view| view.index >= done.index).await;
        *opened = Some((sealed, account.clone()));
        Ok(account)
    }

    /// The authority has no such account: another is made.
    async fn forget_account(&self) -> Result<(), String> {
        *self.cashier.0.lock().await = None;
        let view = self.views.borrow().clone();
        let acme = view.and_then(|view| view.state.certificates.acme.clone());
        let Some(acme) = acme else { return Ok(()) };
        let directory = acme.directory.clone();
        let done = self.propose(CertificateChange::Account { directory, account: None }).await?;
        self.view_where(|view| view.index >= done.index).await;
        Ok(())
    }
}

/// Asks when the next certificates are due (RFC 9773), where the authority says so.
pub(super) async fn look_at_renewals(desk: Arc<Desk>, view: View) {
    if view.state.certificates.acme.as_ref().is_none_or(|acme| acme.account.is_none()) {
        return;
    }
    let Ok(account) = desk.account().await else { return };
    for (host, due) in all_due(&view.state) {
        let known = view.state.certificates.of(&host).filter(|_| is_ordered(&view, &host));
        let Some(certificate) = known.filter(|_| due > time(&view)) else { continue };
        let Ok(own) = CertificateDer::from_pem_slice(certificate.chain.as_bytes()) else {
            continue;
        };
        let Ok(id) = CertificateIdentifier::try_from(&own) else { continue };
        let asked = tokio::time::timeout(limits::ACME_CALL, account.renewal_info(&id)).await;
        let window = match asked {
            Ok(Ok((info, _))) => info.suggested_window,
            Ok(Err(Error::Unsupported(_))) => return,
            _ => continue,
        };
        let at = |seconds: i64| Timestamp(u64::try_from(seconds).unwrap_or(0) * 1000);
        let (start, end) = (at(window.start.unix_timestamp()), at(window.end.unix_timestamp()));
        if certificate.renew_at.is_some_and(|at| start <= at && at <= end) {
            continue;
        }
        let life = (certificate.not_before, certificate.not_after);
        let at = renew_within((start, end), life, rand::random());
        // A window that was missed is as good as now, and once is enough.
        let is_news = certificate.renew_at.is_none_or(|known| {
            known.since(at).0.max(at.since(known).0) > Millis::from(limits::HOST_LOOK_CALM).0
        });
        if is_news {
            tracing::info!(host, %at, "the authority asks for a renewal then");
            desk.tell(CertificateChange::RenewAt { host, at });
        }
    }
}

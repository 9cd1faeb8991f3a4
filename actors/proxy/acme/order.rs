//! One order, from the claim to the certificate (RFC 8555).
//!
//! Owns its steps and what becomes of a failure. Never begins one by itself.

use super::failed::Failed;
use super::http::heeding;
use super::renewal::identifier;
use super::{Desk, time};
use crate::actors::root::View;
use crate::fsm::certificates::{Certificate, CertificateChange, Claim, Shown, Source, key_purpose};
use crate::limits;
use crate::node::certificates::{read, renew_at, trial, wait};
use crate::secret::Secret;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};

/// What an authority says of an account that it doesn't have.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// What an authority says of a request whose nonce it doesn't take: it has done nothing.
const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// What an authority says to whom it has given enough.
const LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

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
    let (ordered, asked) = heeding(tokio::time::timeout(limits::ORDER_MOST, ordered)).await;
    let late = || Err("the order did not come to its end in time".to_owned().into());
    let Err(failed) = ordered.unwrap_or_else(|_| late()) else {
        return tracing::info!(host, "a certificate was issued");
    };
    let error = failed.text();
    tracing::warn!(host, error, "a certificate could not be had");
    let now = desk.views.borrow().as_ref().map_or(view.state.time, time);
    let next = now.plus(wait(failures + 1, asked));
    let failed = CertificateChange::Failed { host: host.to_owned(), claim, error, next };
    if let Err(why) = desk.propose(failed).await {
        // The claim stays, and the next leader takes it over.
        tracing::warn!(host, why, "that an order failed is not in the log");
    }
}

async fn order(desk: &Desk, host: &str, (claim, failures): (Claim, u32)) -> Result<(), Failed> {
    try_first(desk, host, (claim, failures)).await?;
    let mut order = begin(desk, host).await?;
    authorize(desk, host, (claim, failures), &mut order).await?;
    let policy = RetryPolicy::new().timeout(limits::ACME_POLL);
    let key = Secret::new(order.finalize().await?);
    let chain = order.poll_certificate(&policy).await?;
    keep(desk, host, claim, &chain, &key).await.map_err(Failed::Other)
}

/// After a failure an order is tried first where that costs nothing. Only what is found at the host
/// counts there: anything else says nothing about the authority proper.
async fn try_first(desk: &Desk, host: &str, (claim, failures): (Claim, u32)) -> Result<(), Failed> {
    let view = desk.views.borrow().clone();
    let acme = view.and_then(|view| view.state.certificates.acme.clone());
    let known = acme.and_then(|acme| trial(&acme.directory).map(str::to_owned));
    let known = desk.settings.trial.clone().or(known);
    let Some(directory) = known.filter(|_| failures > 0) else { return Ok(()) };
    let mut tries = 0;
    loop {
        match try_at(&directory, desk, host, (claim, failures)).await {
            Err(failed) if failed.is(BAD_NONCE) && tries < limits::ORDER_TRIES => tries += 1,
            Err(failed @ Failed::Found(_)) => return Err(failed),
            Err(failed) => {
                tracing::debug!(host, why = failed.text(), "the order is not tried first");
                return Ok(());
            }
            Ok(()) => return Ok(()),
        }
    }
}

/// An order that never becomes a certificate, at an authority that is there for that.
async fn try_at(
    directory: &str,
    desk: &Desk,
    host: &str,
    (claim, failures): (Claim, u32),
) -> Result<(), Failed> {
    let identifiers = [Identifier::Dns(host.to_owned())];
    let new = NewOrder::new(&identifiers);
    let mut order = match begun(&desk.trial_account(directory).await?, &new).await {
        Err(failed) if failed.is(NO_ACCOUNT) => {
            desk.forget_trial_account().await;
            begun(&desk.trial_account(directory).await?, &new).await?
        }
        begun => begun?,
    };
    authorize(desk, host, (claim, failures), &mut order).await
}

/// A new order, in place of the certificate that there is.
async fn begin(desk: &Desk, host: &str) -> Result<Order, Failed> {
    let identifiers = [Identifier::Dns(host.to_owned())];
    let new = || NewOrder::new(&identifiers);
    let account = desk.account().await?;
    let view = desk.views.borrow().clone();
    let old = view.and_then(|view| identifier(view.state.certificates.of(host)?));
    if let Some(old) = old {
        match begun(&account, &new().replaces(old)).await {
            // It doesn't know what that is, or another has taken its place.
            Err(failed) if failed.is_answer() && !failed.is(BAD_NONCE) && !failed.is(LIMITED) => {}
            ended => return ended,
        }
    }
    match begun(&account, &new()).await {
        // It has forgotten the cluster: one more try as somebody new.
        Err(failed) if failed.is(NO_ACCOUNT) => {
            desk.forget_account().await?;
            begun(&desk.account().await?, &new()).await
        }
        begun => begun,
    }
}

async fn begun(account: &Account, new: &NewOrder<'_>) -> Result<Order, Failed> {
    Ok(account.new_order(new).await?)
}

/// Shows the authority on every node what it wants to see, and lets it look then: over HTTP, and
/// over TLS after a failure, for port 80 may be closed. The order is ready then.
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
    let invalid = || "the authority calls the order invalid and says no more".to_owned();
    match order.poll_ready(&RetryPolicy::new().timeout(limits::ACME_POLL)).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_) => Err(Failed::Found(found(order).await.unwrap_or_else(invalid))),
        // What it found at the host says more than that the order is invalid.
        Err(error @ Error::Api(_)) => Err(found(order).await.map_or(error.into(), Failed::Found)),
        Err(error) => Err(error.into()),
    }
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

//! Who the cluster is to an authority: its account, made once for all nodes.
//!
//! Owns where it is kept, and what is said if the authority doesn't want it. Never orders anything.

use super::Desk;
use super::failed::Failed;
use super::http::Client;
use crate::fsm::certificates::{ACCOUNT_PURPOSE, Acme, CertificateChange, EAB_PURPOSE};
use crate::node::certificates::setup_line;
use crate::secret::{Sealed, Secret};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountBuilder, AccountCredentials, ExternalAccountKey, NewAccount};
use std::sync::Arc;
use tokio::sync::Mutex;

/// What an authority says to whom it wants to know from elsewhere.
const NO_EXTERNAL: &str = "urn:ietf:params:acme:error:externalAccountRequired";
/// And of an external account that it doesn't take.
const REFUSED: [&str; 2] =
    ["urn:ietf:params:acme:error:unauthorized", "urn:ietf:params:acme:error:malformed"];

/// The accounts that were opened last.
#[derive(Default)]
pub(super) struct Cashier {
    /// With what it was opened from.
    own: Mutex<Option<(Sealed, Account)>>,
    /// With the directory that it is of.
    trial: Mutex<Option<(String, Account)>>,
}

impl Desk {
    fn acme(&self) -> Option<Arc<Acme>> {
        self.views.borrow().as_ref().and_then(|view| view.state.certificates.acme.clone())
    }

    fn builder(&self) -> Result<AccountBuilder, String> {
        let client = Client::new(self.settings.ca.as_deref())?;
        Ok(Account::builder_with_http(Box::new(client)))
    }

    /// The cluster's account; made if there is none.
    pub(super) async fn account(&self) -> Result<Account, Failed> {
        // One at a time: two would make two accounts.
        let mut opened = self.cashier.own.lock().await;
        let acme = self.acme().ok_or_else(|| "no authority is set up".to_owned())?;
        if let (Some((from, account)), Some(sealed)) = (&*opened, &acme.account)
            && from == sealed
        {
            return Ok(account.clone());
        }
        if let Some(sealed) = &acme.account {
            let text = self.keyring.open(ACCOUNT_PURPOSE, sealed);
            let text = text.map_err(|error| format!("the account: {error}"))?;
            let damaged = |error: serde_json::Error| format!("the account: {error}");
            let credentials = serde_json::from_str(text.reveal()).map_err(damaged)?;
            let account = self.builder()?.from_credentials(credentials).await?;
            *opened = Some((sealed.clone(), account.clone()));
            return Ok(account);
        }
        let external = self.external(&acme)?;
        let directory = acme.directory.clone();
        let made = make(self.builder()?, &acme, &directory, external.as_ref()).await;
        let (account, credentials) = made.map_err(|failed| told(failed, &acme))?;
        let text = serde_json::to_string(&credentials).map_err(|error| error.to_string())?;
        let sealed = self.keyring.seal(ACCOUNT_PURPOSE, &Secret::new(text), rand::random());
        let sealed = sealed.map_err(|error| error.to_string())?;
        let change = CertificateChange::Account { directory, account: Some(sealed.clone()) };
        let done = self.propose(change).await?;
        self.view_where(|view| view.index >= done.index).await;
        *opened = Some((sealed, account.clone()));
        Ok(account)
    }

    /// An account where orders are tried only. Another is made as easily: no state keeps it.
    pub(super) async fn trial_account(&self, directory: &str) -> Result<Account, Failed> {
        let mut opened = self.cashier.trial.lock().await;
        if let Some((_, account)) = opened.as_ref().filter(|(known, _)| known == directory) {
            return Ok(account.clone());
        }
        let acme = self.acme().ok_or_else(|| "no authority is set up".to_owned())?;
        let (account, _) = make(self.builder()?, &acme, directory, None).await?;
        *opened = Some((directory.to_owned(), account.clone()));
        Ok(account)
    }

    fn external(&self, acme: &Acme) -> Result<Option<ExternalAccountKey>, String> {
        let Some(eab) = &acme.eab else { return Ok(None) };
        let key = self.keyring.open(EAB_PURPOSE, &eab.key);
        let key = key.map_err(|error| format!("the external account: {error}"))?;
        let key = URL_SAFE_NO_PAD.decode(key.reveal().trim_end_matches('='));
        let key = key.map_err(|_| "the key of the external account is no base64url".to_owned())?;
        Ok(Some(ExternalAccountKey::new(eab.id.clone(), &key)))
    }

    /// The authority has no such account: another is made.
    pub(super) async fn forget_account(&self) -> Result<(), String> {
        *self.cashier.own.lock().await = None;
        let Some(acme) = self.acme() else { return Ok(()) };
        let directory = acme.directory.clone();
        let done = self.propose(CertificateChange::Account { directory, account: None }).await?;
        self.view_where(|view| view.index >= done.index).await;
        Ok(())
    }

    /// The same where orders are tried only.
    pub(super) async fn forget_trial_account(&self) {
        *self.cashier.trial.lock().await = None;
    }
}

async fn make(
    builder: AccountBuilder,
    acme: &Acme,
    directory: &str,
    external: Option<&ExternalAccountKey>,
) -> Result<(Account, AccountCredentials), Failed> {
    let contact = acme.email.as_ref().map(|email| format!("mailto:{email}"));
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    Ok(builder.create(&new, directory.to_owned(), external).await?)
}

/// What to do about an account that the authority doesn't make.
fn told(failed: Failed, acme: &Acme) -> Failed {
    let wants = failed.is(NO_EXTERNAL);
    let refuses = REFUSED.iter().any(|kind| failed.is(kind));
    let setup = setup_line(acme);
    match &acme.eab {
        None if wants => format!("the authority wants an external account: {setup}").into(),
        Some(eab) if wants || refuses => {
            let (id, why) = (&eab.id, failed.text());
            let what = format!("the authority does not take the external account {id}: {why}");
            format!("{what}; with what it gave out: {setup}").into()
        }
        _ => failed,
    }
}

//! Who may pass routes with `auth`: the names in their secrets, and who was let in lately.
//!
//! Owns how many passwords are checked at once. Never keeps one, nor says which name is right.

use crate::fsm::State;
use crate::fsm::secrets::{StoredSecret, secret_purpose};
use crate::id::SecretName;
use crate::limits::{AUTH_CHECKS, AUTH_KNOWN, AUTH_WAITING};
use crate::node::ingress::auth::{Users, credentials};
use crate::secret::Keyring;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a header with a name and password comes to.
type Sum = [u8; 32];

/// The gates of all secrets that routes name.
pub struct Gate {
    realms: ArcSwap<BTreeMap<SecretName, Arc<Realm>>>,
    /// Places to check and to wait for one: a check takes a core for tens of milliseconds.
    checks: Semaphore,
    waiting: Semaphore,
    /// So that sums mean nothing elsewhere.
    salt: [u8; 32],
}

/// One secret's.
struct Realm {
    version: u64,
    users: Users,
    /// Who was let in.
    known: Mutex<BTreeSet<Sum>>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in, under this name.
    Welcome(String),
    /// It is not.
    Stranger,
    /// Too many others wait to be checked.
    Crowded,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            realms: ArcSwap::default(),
            checks: Semaphore::new(AUTH_CHECKS),
            waiting: Semaphore::new(AUTH_WAITING),
            salt: rand::random(),
        }
    }
}

impl Gate {
    /// Opens the secrets that the state's routes name. One that is missing or can't be read lets
    /// nobody in.
    pub fn show(&self, state: &State, keyring: impl Fn() -> Keyring) {
        let before = self.realms.load();
        let mut realms = BTreeMap::new();
        for name in state.auth_secrets() {
            let secret = state.secrets.get(name);
            let version = secret.map_or(0, |secret| secret.version);
            let kept = before.get(name).filter(|realm| realm.version == version).cloned();
            let realm = kept.unwrap_or_else(|| {
                let users = secret.map(|secret| open(name, secret, &keyring())).unwrap_or_default();
                Arc::new(Realm { version, users, known: Mutex::default() })
            });
            realms.insert(name.clone(), realm);
        }
        self.realms.store(Arc::new(realms));
    }

    /// Whether a request with that `Authorization` may pass.
    pub async fn admit(&self, secret: &SecretName, header: Option<&str>) -> Verdict {
        let Some(header) = header else { return Verdict::Stranger };
        let Some((name, password)) = credentials(header) else { return Verdict::Stranger };
        let Some(realm) = self.realms.load().get(secret).cloned() else { return Verdict::Stranger };
        let mut sum = sha2::Sha256::new();
        sum.update(self.salt);
        sum.update(header.as_bytes());
        let sum: Sum = sum.finalize().into();
        if realm.known.lock().contains(&sum) {
            return Verdict::Welcome(name);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else { return Verdict::Crowded };
        // It is never closed.
        let Ok(_checking) = self.checks.acquire().await else { return Verdict::Crowded };
        let (asked, who) = (Arc::clone(&realm), name.clone());
        let checked = tokio::task::spawn_blocking(move || asked.users.check(&who, &password));
        if !checked.await.unwrap_or(false) {
            return Verdict::Stranger;
        }
        let mut known = realm.known.lock();
        if known.len() >= AUTH_KNOWN {
            known.clear();
        }
        known.insert(sum);
        Verdict::Welcome(name)
    }
}

fn open(name: &SecretName, secret: &StoredSecret, keyring: &Keyring) -> Users {
    let opened = keyring.unwrap(&secret_purpose(name, secret.version), &secret.envelope());
    let users = opened.map_err(|error| error.to_string());
    let users = users.and_then(|text| Users::parse(&text).map_err(|error| error.to_string()));
    users.unwrap_or_else(|error| {
        tracing::warn!(secret = %name, %error, "a route's auth lets nobody in");
        Users::default()
    })
}

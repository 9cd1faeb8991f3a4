//! Secrets: values that containers are given and nothing shows.
//!
//! Owns their record: name, version, and the value as the keyring sealed it. Never holds a value in
//! the clear.

use super::allocation::not_found;
use super::command::NEXT_LEVEL;
use super::{Outcome, Rejection, State, Touched};
use crate::id::{SecretName, WorkloadName};
use crate::limits;
use crate::secret::{Envelope, Sealed};
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The feature level from which on the state knows secrets.
pub const SECRETS_LEVEL: u32 = NEXT_LEVEL;

/// Secrets by name.
pub type Secrets = OrdMap<SecretName, Arc<StoredSecret>>;

/// A secret: its newest value, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// Number of the value, from 1; a name that was deleted goes on counting.
    pub version: u64,
    /// The value's own key, sealed by the keyring.
    pub key: Sealed,
    /// The value, sealed by its own key.
    pub text: String,
    /// Bytes of the value.
    pub size: u32,
    /// The value has a NUL or is no UTF-8: it can be a file, not a variable.
    pub binary: bool,
    /// When the name got its first value.
    pub created_at: Timestamp,
    /// When it got this one.
    pub updated_at: Timestamp,
}

/// A change of the secrets. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretChange {
    /// Give names new values: all or none.
    Set(Vec<NewSecret>),
    /// Forget a name and its value.
    Delete {
        name: SecretName,
        /// Even if something that runs needs it.
        force: bool,
    },
    /// Make another keyring and seal everything anew.
    NewKeyring,
}

/// A name's next value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSecret {
    pub name: SecretName,
    /// The version that it was sealed as: it must be the next one.
    pub version: u64,
    /// See [`StoredSecret::key`].
    pub key: Sealed,
    /// See [`StoredSecret::text`].
    pub text: String,
    /// See [`StoredSecret::size`].
    pub size: u32,
    /// See [`StoredSecret::binary`].
    pub binary: bool,
}

/// What a version of a secret is sealed for.
#[must_use]
pub fn secret_purpose(name: &SecretName, version: u64) -> String {
    format!("secret {name} v{version}")
}

impl StoredSecret {
    /// The sealed value.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        Envelope { key: self.key.clone(), text: self.text.clone() }
    }
}

impl State {
    /// Whether every node knows secrets.
    #[must_use]
    pub fn knows_secrets(&self) -> bool {
        self.level() >= SECRETS_LEVEL
    }

    /// The version that a name's next value gets.
    #[must_use]
    pub fn next_secret_version(&self, name: &SecretName) -> u64 {
        let known = self.secrets.get(name).map(|secret| secret.version);
        known.or_else(|| self.deleted_secrets.get(name).copied()).unwrap_or(0) + 1
    }

    /// The services and tasks whose wanted or running specification needs a secret.
    #[must_use]
    pub fn users_of_secret(&self, name: &SecretName) -> BTreeSet<WorkloadName> {
        let mut users = BTreeSet::new();
        let needs = |hash| {
            let Some(stored) = self.spec(hash) else { return false };
            let auth = stored.spec.service().into_iter().flat_map(|service| service.auth());
            stored.spec.run().secrets().into_iter().chain(auth).any(|one| one == name)
        };
        for app in self.apps.values() {
            for (workload, service) in &app.services {
                if service.target.iter().chain(&service.stable).any(needs) {
                    users.insert(workload.clone());
                }
            }
            let tasks = app.tasks.iter().filter(|(_, hash)| needs(hash));
            users.extend(tasks.map(|(task, _)| task.clone()));
        }
        let live = self.allocations.values().filter(|one| one.is_live() && needs(&one.spec));
        users.extend(live.map(|one| one.workload.clone()));
        users
    }

    /// The secrets that say who may pass a route.
    #[must_use]
    pub fn auth_secrets(&self) -> BTreeSet<&SecretName> {
        self.routed().flat_map(|spec| spec.auth()).collect()
    }

    /// The services of which a replica started with an older value, by secret, each with the
    /// oldest version that one runs with.
    #[must_use]
    pub fn outdated_secrets(&self) -> BTreeMap<SecretName, BTreeMap<WorkloadName, u64>> {
        let mut all: BTreeMap<SecretName, BTreeMap<WorkloadName, u64>> = BTreeMap::new();
        let replicas = self.allocations.values().filter(|one| one.replica().is_some());
        for one in replicas.filter(|one| one.is_live() && !one.observed.secrets.is_empty()) {
            for (name, version) in &one.observed.secrets {
                if self.secrets.get(name).is_some_and(|secret| secret.version > *version) {
                    let of = all.entry(name.clone()).or_default();
                    let oldest = of.entry(one.workload.clone()).or_insert(*version);
                    *oldest = (*oldest).min(*version);
                }
            }
        }
        all
    }

    pub(super) fn change_secrets(
        &mut self,
        change: SecretChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.secrets = true;
        match change {
            SecretChange::Set(values) => self.set_secrets(values),
            SecretChange::Delete { name, force } => self.delete_secret(&name, force),
            SecretChange::NewKeyring => {
                self.keyring_due = true;
                touched.nodes = true;
                Ok(Outcome::Done)
            }
        }
    }

    fn set_secrets(&mut self, values: Vec<NewSecret>) -> Result<Outcome, Rejection> {
        for new in values {
            self.check_key(&new.key.key)?;
            if new.version != self.next_secret_version(&new.name) {
                return Err(Rejection::Stale);
            }
            let created_at = self.secrets.get(&new.name).map_or(self.time, |old| old.created_at);
            let secret = StoredSecret {
                version: new.version,
                key: new.key,
                text: new.text,
                size: new.size,
                binary: new.binary,
                created_at,
                updated_at: self.time,
            };
            self.deleted_secrets.remove(&new.name);
            self.secrets.insert(new.name, Arc::new(secret));
        }
        let bytes: u64 = self.secrets.values().map(|secret| u64::from(secret.size)).sum();
        if self.secrets.len() > limits::SECRETS_MAX || bytes > limits::SECRETS_BYTES_MAX {
            let (count, most) = (limits::SECRETS_MAX, limits::SECRETS_BYTES_MAX >> 20);
            let what = format!("secrets: the cluster keeps {count}, of {most} MiB in all");
            return Err(Rejection::TooMany { what });
        }
        Ok(Outcome::Done)
    }

    fn delete_secret(&mut self, name: &SecretName, force: bool) -> Result<Outcome, Rejection> {
        let users = self.users_of_secret(name);
        let secret = self.secrets.get(name).ok_or_else(|| not_found("secret", name.as_str()))?;
        if !force && !users.is_empty() {
            let users: Vec<&str> = users.iter().map(WorkloadName::as_str).collect();
            let what = format!("secret {name} is needed by {}", users.join(", "));
            return Err(Rejection::Illegal { what });
        }
        self.deleted_secrets.insert(name.clone(), secret.version);
        self.secrets.remove(name);
        while self.deleted_secrets.len() > limits::SECRETS_MAX {
            let first = self.deleted_secrets.get_min().map(|(name, _)| name.clone());
            first.and_then(|name| self.deleted_secrets.remove(&name));
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::Command;
    use crate::fsm::deploy::tests::{change, running};
    use crate::fsm::model::Ca;

    fn sealed(key: &str, text: &str) -> Sealed {
        Sealed { key: key.to_owned(), text: text.to_owned() }
    }

    fn new(name: &str, version: u64) -> NewSecret {
        NewSecret {
            name: name.into(),
            version,
            key: sealed("k1", &format!("key of {name} {version}")),
            text: "…".to_owned(),
            size: 10,
            binary: false,
        }
    }

    fn set(names: &[(&str, u64)]) -> Command {
        let values = names.iter().map(|(name, version)| new(name, *version)).collect();
        Command::Secrets(SecretChange::Set(values))
    }

    fn delete(name: &str, force: bool) -> Command {
        Command::Secrets(SecretChange::Delete { name: name.into(), force })
    }

    fn with_keyring() -> State {
        let mut state = running();
        state.ca = Some(Ca { cert: "pem".to_owned(), key: sealed("k1", "ca") });
        state
    }

    #[test]
    fn values_have_versions_and_come_all_or_none() {
        let mut state = with_keyring();
        change(&mut state, set(&[("a", 1), ("b.c", 1)])).unwrap();
        assert_eq!(state.next_secret_version(&"a".into()), 2);
        let late = change(&mut state, set(&[("b.c", 2), ("a", 1)]));
        assert_eq!(late, Err(Rejection::Stale), "somebody was faster");
        assert_eq!(state.secrets[&SecretName::from("b.c")].version, 1, "none of it");
        change(&mut state, set(&[("a", 2)])).unwrap();
        let mut other = new("a", 3);
        other.key.key = "k0".to_owned();
        let other = Command::Secrets(SecretChange::Set(vec![other]));
        assert_eq!(change(&mut state, other), Err(Rejection::Stale), "of a keyring that is past");
    }

    #[test]
    fn a_deleted_name_goes_on_counting() {
        let mut state = with_keyring();
        assert!(change(&mut state, delete("a", false)).is_err(), "there is none");
        change(&mut state, set(&[("a", 1)])).unwrap();
        change(&mut state, delete("a", false)).unwrap();
        assert!(state.secrets.is_empty());
        assert_eq!(change(&mut state, set(&[("a", 1)])), Err(Rejection::Stale));
        change(&mut state, set(&[("a", 2)])).unwrap();
        assert!(state.deleted_secrets.is_empty());
    }

    #[test]
    fn there_is_a_most() {
        let mut state = with_keyring();
        let names: Vec<String> = (0..=limits::SECRETS_MAX).map(|n| format!("s{n}")).collect();
        let all: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert!(matches!(change(&mut state, set(&all)), Err(Rejection::TooMany { .. })));
        change(&mut state, set(&all[1..])).unwrap();
        let mut large = new("s1", 2);
        large.size = u32::try_from(limits::SECRETS_BYTES_MAX).unwrap();
        let large = Command::Secrets(SecretChange::Set(vec![large]));
        assert!(matches!(change(&mut state, large), Err(Rejection::TooMany { .. })));
    }
}

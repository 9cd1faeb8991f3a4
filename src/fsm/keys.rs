//! The cluster's keyring: which texts it seals, and another one when a node is gone that had it.
//!
//! Owns that all of it changes at once: every sealed text, for every node. Never opens or seals
//! anything.

use super::model::{Ca, Node};
use super::secrets::{StoredSecret, secret_purpose};
use super::volumes::{Provider, TOKEN_PURPOSE};
use super::{Outcome, Rejection, State, Touched};
use crate::id::NodeId;
use crate::secret::Sealed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the authority's key is sealed for.
pub const CA_PURPOSE: &str = "cluster ca key";

/// What the password of a login is sealed for.
#[must_use]
pub fn login_purpose(registry: &str) -> String {
    format!("registry login {registry}")
}

/// Another keyring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotate {
    /// By node: the new keyring, sealed for its X25519 key, base64.
    pub keyrings: BTreeMap<NodeId, String>,
    /// Every sealed text of the state, sealed by the new one.
    pub sealed: Vec<Resealed>,
}

/// A text that was sealed anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resealed {
    /// As it was.
    pub from: Sealed,
    /// As it is now.
    pub to: Sealed,
}

impl State {
    /// The keyring that seals now; absent: the cluster has none.
    #[must_use]
    pub fn keyring_id(&self) -> Option<&str> {
        self.ca.as_ref().map(|ca| ca.key.key.as_str())
    }

    /// Every sealed text, with what it is for.
    #[must_use]
    pub fn sealed(&self) -> Vec<(String, &Sealed)> {
        let ca = self.ca.iter().map(|ca| (CA_PURPOSE.to_owned(), &ca.key));
        let logins = self.logins.iter();
        let logins = logins.map(|(registry, login)| (login_purpose(registry), &login.password));
        let secrets = self.secrets.iter().map(|(name, secret)| {
            (format!("{} key", secret_purpose(name, secret.version)), &secret.key)
        });
        let provider = self.provider.iter().map(|one| (TOKEN_PURPOSE.to_owned(), &one.token));
        let all = ca.chain(logins).chain(secrets).chain(provider);
        all.chain(self.sealed_for_certificates()).collect()
    }

    /// What was sealed by another keyring than that of now comes too late.
    pub(super) fn check_key(&self, key: &str) -> Result<(), Rejection> {
        let is_past = self.keyring_id().is_some_and(|now| now != key);
        if is_past { Err(Rejection::Stale) } else { Ok(()) }
    }

    /// The keyring is another one from now on: for exactly the nodes and texts that there are.
    pub(super) fn rotate(
        &mut self,
        rotate: Rotate,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        let old = self.keyring_id().unwrap_or_default().to_owned();
        let new = rotate.sealed.first().map(|one| one.to.key.clone()).unwrap_or_default();
        if new == old || rotate.sealed.iter().any(|one| one.to.key != new) {
            return Err(Rejection::Illegal { what: "these texts have no new key".to_owned() });
        }
        let anew: BTreeMap<&str, &Resealed> =
            rotate.sealed.iter().map(|one| (one.from.text.as_str(), one)).collect();
        let find = |sealed: &Sealed| {
            let found = anew.get(sealed.text.as_str()).filter(|one| one.from == *sealed);
            found.map(|one| one.to.clone()).ok_or(Rejection::Stale)
        };
        if !self.nodes.keys().eq(rotate.keyrings.keys()) {
            return Err(Rejection::Stale);
        }
        if let Some(ca) = self.ca.take() {
            self.ca = Some(Ca { key: find(&ca.key)?, ..ca });
        }
        for (registry, login) in self.logins.clone() {
            let password = find(&login.password)?;
            self.logins.insert(
                registry,
                Arc::new(super::login::RegistryLogin { password, ..(*login).clone() }),
            );
        }
        for (name, secret) in self.secrets.clone() {
            let key = find(&secret.key)?;
            let secret = StoredSecret { key, ..StoredSecret::clone(&secret) };
            self.secrets.insert(name, Arc::new(secret));
        }
        if let Some(provider) = self.provider.take() {
            let token = find(&provider.token)?;
            self.provider = Some(Arc::new(Provider { token, ..Provider::clone(&provider) }));
        }
        self.reseal_certificates(find)?;
        for (id, keyring) in rotate.keyrings {
            let node = Node { keyring, ..Node::clone(self.node(id)?) };
            self.nodes.insert(id, Arc::new(node));
        }
        self.keyring_due = false;
        touched.nodes = true;
        touched.logins = true;
        touched.secrets = true;
        touched.volumes = true;
        touched.certificates.extend(self.certificates.hosts.keys().cloned());
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::deploy::tests::{change, running};
    use crate::fsm::{Command, fixture};

    fn sealed(key: &str, text: &str) -> Sealed {
        Sealed { key: key.to_owned(), text: text.to_owned() }
    }

    /// One node and one that is gone, with a login.
    fn due() -> State {
        let mut state = running();
        state.ca = Some(Ca { cert: "pem".to_owned(), key: sealed("k1", "ca") });
        let login = |password| Command::SetLogin {
            registry: "r".to_owned(),
            user: "ann".to_owned(),
            password,
        };
        change(&mut state, login(sealed("k1", "pw"))).unwrap();
        let late = change(&mut state, login(sealed("k0", "pw"))).unwrap_err();
        assert_eq!(late, Rejection::Stale, "sealed by a key that is past");
        let join = |key: &str| {
            let join = fixture::join("n2", "x");
            Command::Join(crate::fsm::command::Join { keyring_id: key.to_owned(), ..join })
        };
        assert_eq!(change(&mut state, join("k0")), Err(Rejection::Stale));
        change(&mut state, join("k1")).unwrap();
        assert!(!state.keyring_due);
        change(&mut state, Command::Remove { node: NodeId(2) }).unwrap();
        assert!(state.keyring_due, "a node that had it is gone");
        state
    }

    fn rotation() -> Rotate {
        let again = |text: &str| Resealed { from: sealed("k1", text), to: sealed("k2", text) };
        Rotate {
            keyrings: [(NodeId(1), "for 1".to_owned())].into(),
            sealed: vec![again("ca"), again("pw")],
        }
    }

    #[test]
    fn all_of_it_changes_at_once() {
        let mut state = due();
        change(&mut state, Command::Rotate(rotation())).unwrap();
        assert_eq!(state.keyring_id(), Some("k2"));
        assert!(state.sealed().iter().all(|(_, sealed)| sealed.key == "k2"));
        assert_eq!(state.nodes[&NodeId(1)].keyring, "for 1");
        assert!(!state.keyring_due);
        assert!(change(&mut state, Command::Rotate(rotation())).is_err(), "once more");
    }

    #[test]
    fn what_was_made_for_another_state_changes_nothing() {
        let state = due();
        let mut cases: Vec<(&str, Rotate)> = Vec::new();
        let mut one = rotation();
        one.keyrings.insert(NodeId(2), "for 2".to_owned());
        cases.push(("a node that isn't there", one));
        let one = Rotate { keyrings: BTreeMap::new(), ..rotation() };
        cases.push(("a node is missing", one));
        let mut one = rotation();
        one.sealed.pop();
        cases.push(("a text is missing", one));
        let mut one = rotation();
        one.sealed[1].from.text = "an older password".to_owned();
        cases.push(("a text has changed", one));
        let mut one = rotation();
        one.sealed[1].to.key = "k1".to_owned();
        cases.push(("a text keeps its key", one));
        for (what, rotate) in cases {
            let mut after = state.clone();
            assert!(change(&mut after, Command::Rotate(rotate)).is_err(), "{what}");
            assert_eq!((&after.ca, &after.logins), (&state.ca, &state.logins), "{what}");
            assert_eq!(after.nodes, state.nodes, "{what}");
        }
    }
}

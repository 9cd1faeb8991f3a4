//! Credentials of registries: who the cluster is to them.
//!
//! Owns their record. Never holds a password: only what a node's key sealed.

use super::allocation::not_found;
use super::{Outcome, Rejection, State, Touched};
use crate::limits;
use crate::secret::Sealed;
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who the cluster is to registries, by their hosts.
pub type Logins = OrdMap<String, Arc<RegistryLogin>>;

/// Who the cluster is to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryLogin {
    /// The name.
    pub user: String,
    pub password: Sealed,
    /// When it was given.
    pub since: Timestamp,
}

impl State {
    pub(super) fn set_login(
        &mut self,
        registry: String,
        (user, password): (String, Sealed),
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        self.check_key(&password.key)?;
        let is_full = self.logins.len() >= limits::LOGINS_MAX;
        if is_full && !self.logins.contains_key(&registry) {
            let what = format!("there are {} logins already", limits::LOGINS_MAX);
            return Err(Rejection::Illegal { what });
        }
        let login = RegistryLogin { user, password, since: self.time };
        self.logins.insert(registry, Arc::new(login));
        touched.logins = true;
        Ok(Outcome::Done)
    }

    pub(super) fn remove_login(
        &mut self,
        registry: &str,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        self.logins.remove(registry).ok_or_else(|| not_found("login for", registry))?;
        touched.logins = true;
        Ok(Outcome::Done)
    }
}

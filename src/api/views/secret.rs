//! Secrets as documents.
//!
//! Never has a value.

use crate::api::wire::SecretView;
use crate::fsm::State;
use crate::fsm::secrets::StoredSecret;
use crate::id::{SecretName, WorkloadName};

/// A secret.
#[must_use]
pub fn secret(state: &State, name: &SecretName, secret: &StoredSecret) -> SecretView {
    let outdated = state.outdated_secrets().remove(name).unwrap_or_default();
    SecretView {
        name: name.to_string(),
        version: secret.version,
        size: secret.size,
        binary: secret.binary,
        created_at: secret.created_at.to_string(),
        updated_at: secret.updated_at.to_string(),
        used_by: state.users_of_secret(name).iter().map(WorkloadName::to_string).collect(),
        outdated: outdated.into_iter().map(|(name, version)| (name.to_string(), version)).collect(),
    }
}

/// Every secret, by name.
#[must_use]
pub fn secrets(state: &State) -> Vec<SecretView> {
    state.secrets.iter().map(|(name, one)| secret(state, name, one)).collect()
}

//! What authorities see that look whether a host is ours (RFC 8555, 8.3), and what the cluster
//! itself looks for first.
//!
//! Owns where it is seen. Never says when an authority may look.

use crate::fsm::State;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What is answered, by token.
pub type Answers = BTreeMap<String, String>;

/// Where tokens are.
const FOLDER: &str = "/.well-known/acme-challenge/";

/// The token that a path asks for.
#[must_use]
pub fn token(path: &str) -> Option<&str> {
    let token = path.strip_prefix(FOLDER)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (!token.is_empty() && token.bytes().all(plain)).then_some(token)
}

/// The path of a token.
#[must_use]
pub fn path(token: &str) -> String {
    format!("{FOLDER}{token}")
}

/// The token by which every node of a cluster shows whose it is; with what it answers.
#[must_use]
pub fn sign(state: &State) -> Option<(String, String)> {
    let cluster = state.cluster.as_ref()?;
    let hash = |what: &str| {
        let digest = Sha256::digest(format!("{what} {}", cluster.id).as_bytes());
        hex::encode(&digest[..16])
    };
    Some((format!("mill-{}", hash("token")), hash("answer")))
}

/// All that is answered in a state.
#[must_use]
pub fn answers(state: &State) -> Answers {
    let orders = state.certificates.hosts.values().filter_map(|one| one.order.as_ref());
    let shown = orders.filter_map(|order| order.shown.as_ref());
    let shown = shown.map(|shown| (shown.token.clone(), shown.authorization.clone()));
    shown.chain(sign(state)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        whole = { "/.well-known/acme-challenge/aB-_9", Some("aB-_9") },
        none = { "/.well-known/acme-challenge/", None },
        deeper = { "/.well-known/acme-challenge/a/b", None },
        odd = { "/.well-known/acme-challenge/a%2f", None },
        elsewhere = { "/.well-known/other/a", None },
    )]
    fn a_token_has_one_place(path: &str, expected: Option<&str>) {
        assert_eq!(token(path), expected);
    }
}

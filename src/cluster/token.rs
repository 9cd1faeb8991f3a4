//! API tokens: how they look, and what is kept of them.
//!
//! Owns the form `mill_ID_SECRET_FINGERPRINT`, where the last part is the fingerprint of the
//! cluster's CA; a cluster without one leaves it out. Never draws a number: randomness is an input.
//! Never keeps the secret part: the state has a hash of the whole.

use crate::cluster::trust::Fingerprint;
use crate::fsm::State;
use crate::fsm::model::{Role, Token};
use crate::id::TokenId;
use crate::limits;
use crate::units::{Millis, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "mill";

/// A new token. Its text is shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct Minted {
    /// The public part.
    pub id: TokenId,
    /// The whole of it.
    pub text: String,
    /// What the state keeps.
    pub hash: String,
}

/// Why a token is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No such token.
    #[error("the token is not known to this cluster")]
    Unknown,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
}

/// Letters of the secret part: 32 bytes in base64url.
const SECRET_TEXT: usize = 43;

/// Makes a token of random numbers, for a cluster with that CA.
#[must_use]
pub fn mint(id: u64, secret: [u8; 32], ca: Option<Fingerprint>) -> Minted {
    let low = u32::try_from(id & u64::from(u32::MAX)).unwrap_or_default();
    let high = u32::try_from(id >> 32).unwrap_or_default();
    let id = TokenId::from(format!("{}{}", crate::id::suffix(low), crate::id::suffix(high)));
    let end = ca.map(|print| format!("_{print}")).unwrap_or_default();
    let text = format!("{PREFIX}_{id}_{}{end}", URL_SAFE_NO_PAD.encode(secret));
    Minted { hash: hash(&text), id, text }
}

/// The fingerprint of the cluster's CA in a token's text. Base64url has underlines of its own: only
/// the lengths tell the parts apart.
#[must_use]
pub fn fingerprint(text: &str) -> Option<Fingerprint> {
    let rest = text.splitn(3, '_').nth(2)?;
    let (_, print) = rest.split_at_checked(SECRET_TEXT)?;
    Fingerprint::parse(print.strip_prefix('_')?)
}

/// How long a token is good where nobody says otherwise; absent: for ever. A joiner is given the
/// cluster's keys.
#[must_use]
pub fn life(role: Role) -> Option<Millis> {
    (role == Role::Join).then(|| Millis::from(limits::JOIN_TOKEN_LIFE))
}

/// What the state keeps of a token: SHA-256 of its whole text, hexadecimal.
#[must_use]
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// The token that a text is, if the state lets it in.
///
/// # Errors
/// It is unknown or has ended.
pub fn find<'a>(state: &'a State, text: &str, now: Timestamp) -> Result<&'a Token, TokenError> {
    let mut parts = text.splitn(3, '_');
    let id = match (parts.next(), parts.next(), parts.next()) {
        (Some(PREFIX), Some(id), Some(_)) => TokenId::from(id),
        _ => return Err(TokenError::Unknown),
    };
    let token = state.tokens.get(&id).ok_or(TokenError::Unknown)?;
    // Two hashes are compared: how long that takes tells nothing about the token.
    if token.hash != hash(text) {
        return Err(TokenError::Unknown);
    }
    match token.expires_at {
        Some(end) if end <= now => Err(TokenError::Expired),
        _ => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_the_whole_text_of_a_live_token_is_let_in() {
        let minted = mint(7, [9; 32], None);
        let mut state = State::default();
        let token = Token {
            id: minted.id.clone(),
            role: Role::Read,
            hash: minted.hash.clone(),
            created_at: Timestamp(0),
            expires_at: Some(Timestamp(1_000)),
            uses: None,
        };
        state.tokens.insert(minted.id.clone(), Arc::new(token));
        let role = |text: &str, now| find(&state, text, Timestamp(now)).map(|token| token.role);
        assert_eq!(role(&minted.text, 999), Ok(Role::Read));
        assert_eq!(role(&minted.text, 1_000), Err(TokenError::Expired));
        let short = &minted.text[..minted.text.len() - 1];
        let other = mint(7, [8; 32], None).text;
        for wrong in [short, &other, "", "mill", "mill__", &minted.hash] {
            assert_eq!(role(wrong, 0), Err(TokenError::Unknown), "{wrong}");
        }
    }

    #[test]
    fn a_token_carries_the_cas_fingerprint() {
        let print = Fingerprint::of(b"ca");
        // 0xff makes underlines.
        for secret in [[9; 32], [0xff; 32]] {
            let text = mint(7, secret, Some(print)).text;
            assert_eq!(fingerprint(&text), Some(print), "{text}");
            assert_eq!(fingerprint(&mint(7, secret, None).text), None);
            assert_eq!(fingerprint(&text[..text.len() - 1]), None);
        }
        assert_eq!(fingerprint("mill_x"), None);
        assert_eq!(fingerprint(""), None);
    }
}

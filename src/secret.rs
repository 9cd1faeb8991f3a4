//! Secret texts: kept out of every message, and sealed where they are stored.
//!
//! Owns the form of what is sealed: AES-256-GCM under a 256-bit key, bound to what it is for, and
//! the key itself in sealed boxes (X25519) for each node. Never draws a random number and never
//! reads a key: both are inputs.

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::rand_core::CryptoRngCore;
use crypto_box::{PublicKey, SecretKey};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// A random number that is used once.
pub type OneTime = [u8; NONCE_LEN];

/// A secret text. It has no way into a log, an error or a document but [`Secret::reveal`], and its
/// memory is overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one who needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A value sealed by a key of its own, and that key sealed by the keyring: another keyring seals
/// only the short key anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The value's key.
    pub key: Sealed,
    /// Base64 of the one-time number and the encrypted value.
    pub text: String,
}

/// What making an [`Envelope`] draws: the value's key, and two one-time numbers.
pub type EnvelopeRandom = ([u8; KEY_LEN], [OneTime; 2]);

/// What the key of a value is sealed for.
fn key_purpose(purpose: &str) -> String {
    format!("{purpose} key")
}

/// A key to seal with.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    bytes: Zeroizing<[u8; KEY_LEN]>,
    id: String,
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id)
    }
}

/// A sealed text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which key opens it.
    pub key: String,
    /// Base64 of the one-time number and what was encrypted with it.
    pub text: String,
}

/// Why a text can't be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was sealed with another key.
    #[error("it was sealed with a key that this node doesn't have")]
    OtherKey,
    /// The node hasn't opened the keyring yet.
    #[error("this node has not read the cluster's keyring yet")]
    NoKey,
    /// It isn't what was sealed.
    #[error("it is damaged")]
    Damaged,
}

impl SealKey {
    /// A key of random bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        let id = hex::encode(&sha2::Sha256::digest(bytes)[..8]);
        Self { bytes: Zeroizing::new(bytes), id }
    }

    /// Which key it is: not secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bytes, for a backup.
    #[must_use]
    pub fn reveal(&self) -> &[u8; KEY_LEN] {
        &self.bytes
    }

    /// Seals a text for a purpose; `once` must never be used again with this key.
    ///
    /// # Errors
    /// Only for a text longer than the method takes, 64 GiB.
    pub fn seal(&self, purpose: &str, text: &Secret, once: OneTime) -> Result<Sealed, SealError> {
        self.seal_bytes(purpose, text.reveal().as_bytes(), once)
    }

    fn seal_bytes(&self, purpose: &str, value: &[u8], once: OneTime) -> Result<Sealed, SealError> {
        let mut bytes = value.to_vec();
        let (nonce, purpose) = (Nonce::assume_unique_for_key(once), Aad::from(purpose.as_bytes()));
        let sealed = self.key()?.seal_in_place_append_tag(nonce, purpose, &mut bytes);
        sealed.map_err(|_| SealError::Damaged)?;
        let text = STANDARD.encode([once.as_slice(), &bytes].concat());
        Ok(Sealed { key: self.id.clone(), text })
    }

    /// Opens what was sealed for that purpose.
    ///
    /// # Errors
    /// It was sealed by another key or for another purpose, or has been changed.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Secret, SealError> {
        if sealed.key != self.id {
            return Err(SealError::OtherKey);
        }
        let bytes = self.open_bytes(purpose, &sealed.text)?;
        std::str::from_utf8(&bytes).map(Secret::new).map_err(|_| SealError::Damaged)
    }

    fn open_bytes(&self, purpose: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let bytes = STANDARD.decode(text).map_err(|_| SealError::Damaged)?;
        let (once, rest) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Damaged)?;
        let (nonce, purpose) = (Nonce::assume_unique_for_key(*once), Aad::from(purpose.as_bytes()));
        let mut rest = Zeroizing::new(rest.to_vec());
        let opened = self.key()?.open_in_place(nonce, purpose, &mut rest);
        let length = opened.map_err(|_| SealError::Damaged)?.len();
        rest.truncate(length);
        Ok(rest)
    }

    /// The key itself, sealed for a node: only its own key opens it.
    ///
    /// # Errors
    /// That is no public key.
    pub fn for_node(
        &self,
        public: &str,
        random: &mut impl CryptoRngCore,
    ) -> Result<String, SealError> {
        let public = STANDARD.decode(public).map_err(|_| SealError::Damaged)?;
        let public = PublicKey::from_slice(&public).map_err(|_| SealError::Damaged)?;
        let sealed = public.seal(random, self.bytes.as_slice()).map_err(|_| SealError::Damaged)?;
        Ok(STANDARD.encode(sealed))
    }

    fn key(&self) -> Result<LessSafeKey, SealError> {
        let key =
            UnboundKey::new(&AES_256_GCM, self.bytes.as_slice()).map_err(|_| SealError::Damaged)?;
        Ok(LessSafeKey::new(key))
    }
}

/// A node's own key (X25519): what is sealed for it, it alone opens.
#[derive(Clone)]
pub struct OwnKey(SecretKey);

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnKey({})", self.public())
    }
}

impl OwnKey {
    /// A key of random bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(SecretKey::from_bytes(bytes))
    }

    /// The bytes, for the node's own disk.
    #[must_use]
    pub fn reveal(&self) -> [u8; KEY_LEN] {
        self.0.to_bytes()
    }

    /// What others seal for, base64.
    #[must_use]
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_bytes())
    }

    /// The same as bytes.
    #[must_use]
    pub fn public_bytes(&self) -> [u8; KEY_LEN] {
        self.0.public_key().to_bytes()
    }

    /// Opens a key that was sealed for this node.
    ///
    /// # Errors
    /// It was sealed for another one, or has been changed.
    pub fn open(&self, sealed: &str) -> Result<SealKey, SealError> {
        let bytes = STANDARD.decode(sealed).map_err(|_| SealError::Damaged)?;
        let opened = self.0.unseal(&bytes).map_err(|_| SealError::OtherKey)?;
        opened.try_into().map(SealKey::new).map_err(|_| SealError::Damaged)
    }
}

/// The cluster's keyring as a node has opened it; all clones share what they have.
#[derive(Clone, Debug)]
pub struct Keyring {
    own: OwnKey,
    opened: Arc<ArcSwap<Opened>>,
}

/// What was opened last, and the one before it: what it sealed may still be on its way.
#[derive(Debug, Default)]
struct Opened {
    sealed: String,
    newest: Option<SealKey>,
    older: Option<SealKey>,
}

impl Keyring {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(own: OwnKey) -> Self {
        Self { own, opened: Arc::default() }
    }

    /// Takes up the keyring that the state has for this node. Answers whether it is another one
    /// than before.
    ///
    /// # Errors
    /// It was sealed for another node, or has been changed.
    pub fn take_up(&self, sealed: &str) -> Result<bool, SealError> {
        let before = self.opened.load();
        if before.sealed == sealed {
            return Ok(false);
        }
        let (newest, older) = (Some(self.own.open(sealed)?), before.newest.clone());
        self.opened.store(Arc::new(Opened { sealed: sealed.to_owned(), newest, older }));
        Ok(true)
    }

    /// Seals as [`SealKey::seal`].
    ///
    /// # Errors
    /// As [`SealKey::seal`]; or nothing was taken up yet.
    pub fn seal(&self, purpose: &str, text: &Secret, once: OneTime) -> Result<Sealed, SealError> {
        let opened = self.opened.load();
        opened.newest.as_ref().ok_or(SealError::NoKey)?.seal(purpose, text, once)
    }

    /// The key of that id, if it is one of the last two.
    #[must_use]
    pub fn key(&self, id: &str) -> Option<SealKey> {
        let opened = self.opened.load();
        let mut all = opened.newest.iter().chain(&opened.older);
        all.find(|key| key.id == id).cloned()
    }

    /// Opens with the key that it was sealed by.
    ///
    /// # Errors
    /// There is no such key, or it was sealed for another purpose, or has been changed.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Secret, SealError> {
        self.key(&sealed.key).ok_or(SealError::OtherKey)?.open(purpose, sealed)
    }

    /// Seals a value of any bytes by a key of its own.
    ///
    /// # Errors
    /// As [`Keyring::seal`].
    pub fn wrap(
        &self,
        purpose: &str,
        value: &[u8],
        (key, [once, key_once]): EnvelopeRandom,
    ) -> Result<Envelope, SealError> {
        let text = SealKey::new(key).seal_bytes(purpose, value, once)?.text;
        let key = Secret::new(STANDARD.encode(key));
        Ok(Envelope { key: self.seal(&key_purpose(purpose), &key, key_once)?, text })
    }

    /// Opens what [`Keyring::wrap`] sealed.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn unwrap(
        &self,
        purpose: &str,
        envelope: &Envelope,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = self.open(&key_purpose(purpose), &envelope.key)?;
        let key = Zeroizing::new(STANDARD.decode(key.reveal()).map_err(|_| SealError::Damaged)?);
        let key = <[u8; KEY_LEN]>::try_from(key.as_slice()).map_err(|_| SealError::Damaged)?;
        SealKey::new(key).open_bytes(purpose, &envelope.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_purpose_open_it() {
        let key = SealKey::new([7; KEY_LEN]);
        let sealed = key.seal("login a", &Secret::new("hunter2"), [1; NONCE_LEN]).unwrap();
        assert!(!format!("{sealed:?}").contains("hunter2"));
        assert_eq!(key.open("login a", &sealed).unwrap().reveal(), "hunter2");
        assert_eq!(key.open("login b", &sealed), Err(SealError::Damaged), "another purpose");
        let other = SealKey::new([8; KEY_LEN]);
        assert_eq!(other.open("login a", &sealed), Err(SealError::OtherKey));
        for text in ["", "AAAA", "!", &sealed.text[4..]] {
            let cut = Sealed { text: text.to_owned(), ..sealed.clone() };
            assert_eq!(key.open("login a", &cut), Err(SealError::Damaged), "{text}");
        }
        let again = key.seal("login a", &Secret::new("hunter2"), [2; NONCE_LEN]).unwrap();
        assert_ne!(again.text, sealed.text, "equal texts don't look equal");
    }

    #[test]
    fn nothing_shows_it() {
        let shown = format!("{:?} {:?}", Secret::new("hunter2"), SealKey::new([7; KEY_LEN]));
        assert!(!shown.contains("hunter2") && !shown.contains("[7"), "{shown}");
    }

    #[test]
    fn a_key_is_sealed_for_one_node() {
        let (key, mine, other) =
            (SealKey::new([7; 32]), OwnKey::new([1; 32]), OwnKey::new([2; 32]));
        let mut random = crypto_box::aead::OsRng;
        let sealed = key.for_node(&mine.public(), &mut random).unwrap();
        assert_eq!(mine.open(&sealed).unwrap(), key);
        assert_eq!(other.open(&sealed), Err(SealError::OtherKey));
        assert_eq!(mine.open("!"), Err(SealError::Damaged));
        assert_eq!(mine.open(""), Err(SealError::OtherKey), "too short");
        assert_eq!(OwnKey::new(mine.reveal()).public(), mine.public());
        assert_eq!(key.for_node("AAAA", &mut random), Err(SealError::Damaged));
        assert!(!format!("{mine:?}").contains("[1"));
    }

    #[test]
    fn a_keyring_seals_with_the_newest_and_opens_what_the_one_before_sealed() {
        let (own, mut random) = (OwnKey::new([9; 32]), crypto_box::aead::OsRng);
        let (old, new) = (SealKey::new([1; 32]), SealKey::new([2; 32]));
        let mut sealed = |key: &SealKey| key.for_node(&own.public(), &mut random).unwrap();
        let (first, second) = (sealed(&old), sealed(&new));
        let ring = Keyring::new(own.clone());
        assert_eq!(ring.seal("x", &Secret::new("a"), [1; NONCE_LEN]), Err(SealError::NoKey));
        assert_eq!(ring.take_up(&first), Ok(true));
        assert_eq!(ring.take_up(&first), Ok(false));
        let before = ring.seal("x", &Secret::new("a"), [1; NONCE_LEN]).unwrap();
        let elsewhere = ring.clone();
        assert_eq!(ring.take_up(&second), Ok(true));
        assert_eq!(elsewhere.open("x", &before).unwrap().reveal(), "a");
        let now = elsewhere.seal("x", &Secret::new("b"), [2; NONCE_LEN]).unwrap();
        assert_eq!(new.open("x", &now).unwrap().reveal(), "b");
        assert_eq!(old.open("x", &now), Err(SealError::OtherKey));
        assert!(ring.take_up("!").is_err());
        assert_eq!(ring.open("x", &now).unwrap().reveal(), "b", "what it had stays");
    }

    #[test]
    fn an_envelope_opens_for_its_purpose_and_by_its_keyring_alone() {
        let (own, mut random) = (OwnKey::new([9; 32]), crypto_box::aead::OsRng);
        let key = SealKey::new([1; 32]);
        let ring = Keyring::new(own.clone());
        ring.take_up(&key.for_node(&own.public(), &mut random).unwrap()).unwrap();
        let drawn = ([5; KEY_LEN], [[1; NONCE_LEN], [2; NONCE_LEN]]);
        for value in [&b"x"[..], b"\0\xff binary", &[7; 64 << 10]] {
            let sealed = ring.wrap("secret a v1", value, drawn).unwrap();
            assert_eq!(ring.unwrap("secret a v1", &sealed).unwrap().as_slice(), value);
            assert!(ring.unwrap("secret a v2", &sealed).is_err(), "another version");
            let swapped = Envelope { text: sealed.text.replace('A', "B"), ..sealed.clone() };
            assert!(swapped == sealed || ring.unwrap("secret a v1", &swapped).is_err());
            // Another keyring seals only the key anew.
            let opened = key.open("secret a v1 key", &sealed.key).unwrap();
            let new = SealKey::new([2; 32]);
            let sealed_key = new.seal("secret a v1 key", &opened, [3; NONCE_LEN]).unwrap();
            let later = Keyring::new(own.clone());
            later.take_up(&new.for_node(&own.public(), &mut random).unwrap()).unwrap();
            assert!(later.unwrap("secret a v1", &sealed).is_err(), "the old key is gone");
            let anew = Envelope { key: sealed_key, ..sealed };
            assert_eq!(later.unwrap("secret a v1", &anew).unwrap().as_slice(), value);
        }
    }
}

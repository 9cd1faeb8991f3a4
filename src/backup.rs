//! A backup: what is kept of a cluster, as bytes.
//!
//! Owns the form: a line that says what it is, with a checksum, the keyring, the state. Never
//! encrypts it: whoever writes one to a disk does.

pub mod summary;

use crate::fsm::keys::CA_PURPOSE;
use crate::fsm::secrets::secret_purpose;
use crate::fsm::{FEATURE_LEVEL, State};
use crate::secret::{KEY_LEN, Keyring, OwnKey, SealError, SealKey};
use crate::units::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::rand_core::CryptoRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The number of the form.
const FORMAT: u32 = 1;

/// What is kept of a cluster.
pub struct Backup {
    /// Everything that all nodes agree on, at one index.
    pub state: State,
    /// What opens the sealed texts in it.
    pub keyring: SealKey,
    /// When it was taken, by the clock of the node that did.
    pub taken_at: Timestamp,
    /// The version of mill that took it.
    pub version: String,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    /// See [`FORMAT`].
    mill_backup: u32,
    version: String,
    taken_at: Timestamp,
    feature_level: u32,
    /// Bytes behind this line.
    bytes: u64,
    /// SHA-256 of them, hexadecimal.
    sha256: String,
}

/// The one field that every version's first line has.
#[derive(Deserialize)]
struct AnyHead {
    mill_backup: u32,
    #[serde(default)]
    version: String,
    #[serde(default)]
    feature_level: u32,
}

/// Why bytes are no backup that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something else was encrypted.
    #[error("it holds something else than a backup of mill")]
    Foreign,
    /// A later version made it.
    #[error(
        "it was made by mill {version}, and {own} doesn't read it. Install that version or a \
         newer one",
        own = env!("CARGO_PKG_VERSION")
    )]
    Newer { version: String },
    /// It isn't whole.
    #[error("it is damaged: {what}. Take another copy of it, or an older backup")]
    Damaged {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its keyring isn't that of its state.
    #[error("it is damaged: {what} can't be opened with its own keyring")]
    Sealed {
        what: String,
        #[source]
        source: SealError,
    },
    /// The state can't be written.
    #[error("encoding the state")]
    Encode(#[source] serde_json::Error),
}

impl Backup {
    /// The bytes, in the clear.
    ///
    /// # Errors
    /// Never for a state of this program.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, BackupError> {
        let key = Zeroizing::new(STANDARD.encode(self.keyring.reveal()));
        let state = self.state.encode().map_err(BackupError::Encode)?;
        let body = [key.as_bytes(), b"\n", &state];
        let mut hash = Sha256::new();
        body.iter().for_each(|part| hash.update(part));
        let head = Head {
            mill_backup: FORMAT,
            version: self.version.clone(),
            taken_at: self.taken_at,
            feature_level: self.state.level(),
            bytes: body.iter().map(|part| part.len() as u64).sum(),
            sha256: hex::encode(hash.finalize()),
        };
        let head = serde_json::to_vec(&head).map_err(BackupError::Encode)?;
        Ok(Zeroizing::new([&head, b"\n".as_slice(), key.as_bytes(), b"\n", &state].concat()))
    }

    /// The backup from such bytes.
    ///
    /// # Errors
    /// They are something else, of a later version, or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupError> {
        let (head, body) = line(bytes).ok_or(BackupError::Foreign)?;
        let any: AnyHead = serde_json::from_slice(head).map_err(|_| BackupError::Foreign)?;
        if any.mill_backup > FORMAT || any.feature_level > FEATURE_LEVEL {
            return Err(BackupError::Newer { version: any.version });
        }
        let damaged = |what| BackupError::Damaged { what };
        let head: Head =
            serde_json::from_slice(head).map_err(|_| damaged("its first line is incomplete"))?;
        if head.bytes != body.len() as u64 {
            return Err(damaged("a part of it is missing"));
        }
        if hex::encode(Sha256::digest(body)) != head.sha256 {
            return Err(damaged("its checksum doesn't fit"));
        }
        let (key, state) = line(body).ok_or(damaged("it has no keyring"))?;
        let key = Zeroizing::new(STANDARD.decode(key).unwrap_or_default());
        let key = <[u8; KEY_LEN]>::try_from(key.as_slice());
        let keyring = SealKey::new(key.map_err(|_| damaged("its keyring is no key"))?);
        let state = State::decode(state).map_err(|_| damaged("its state can't be read"))?;
        let Head { taken_at, version, .. } = head;
        Ok(Self { state, keyring, taken_at, version })
    }

    /// Opens every sealed text, as a restored cluster would.
    ///
    /// # Errors
    /// One can't be opened.
    pub fn check(&self, random: &mut impl CryptoRngCore) -> Result<(), BackupError> {
        let what = |what: &str| {
            let what = what.to_owned();
            move |source| BackupError::Sealed { what, source }
        };
        for (purpose, sealed) in self.state.sealed() {
            self.keyring.open(&purpose, sealed).map_err(what(&purpose))?;
        }
        let mut own = [0; KEY_LEN];
        random.fill_bytes(&mut own);
        let own = OwnKey::new(own);
        let ring = Keyring::new(own.clone());
        let sealed = self.keyring.for_node(&own.public(), random).map_err(what(CA_PURPOSE))?;
        ring.take_up(&sealed).map_err(what(CA_PURPOSE))?;
        for (name, secret) in &self.state.secrets {
            let purpose = secret_purpose(name, secret.version);
            ring.unwrap(&purpose, &secret.envelope()).map_err(what(&purpose))?;
        }
        Ok(())
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().take(1 << 16).position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests;

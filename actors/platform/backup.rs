//! Backups on the disk: encrypted by age, whole or not at all.
//!
//! Owns what the failures of age mean to a person. Never looks at what is encrypted.

use crate::backup::Backup;
use crate::fsm::State;
use crate::limits;
use crate::secret::{Keyring, Secret};
use crate::units::Timestamp;
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::iter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use zeroize::Zeroizing;

/// What opens an encrypted backup, or whom it is encrypted for.
#[derive(Clone)]
pub enum Key {
    Passphrase(Secret),
    /// The owner of a key pair; of those, the private keys if it is to be opened.
    Identities(Vec<x25519::Identity>),
}

/// Why a file is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another program's, or cut off at its beginning.
    #[error("it is no backup: it isn't encrypted by age, or its beginning is missing")]
    Foreign,
    /// The passphrase is another one.
    #[error("the passphrase is wrong")]
    Passphrase,
    /// It needs a passphrase.
    #[error("it is encrypted with a passphrase: leave --identity out")]
    WantsPassphrase,
    /// It needs a private key.
    #[error("it is encrypted for a recipient: pass --identity FILE with that one's private key")]
    WantsIdentity,
    /// It is for others.
    #[error("it is encrypted for another recipient than the one of this identity")]
    OtherIdentity,
    /// Opening it would take too long.
    #[error("its passphrase is protected with more work than this program does: 2^{0}")]
    Work(u8),
    /// It isn't whole.
    #[error("it is damaged or cut off. Take another copy of it, or an older backup")]
    Damaged,
}

/// The recipient of a text, such as `age1…`.
///
/// # Errors
/// It is none.
pub fn recipient(text: &str) -> Result<x25519::Recipient, String> {
    let parsed = text.trim().parse::<x25519::Recipient>();
    parsed.map_err(|why| format!("{text:?} is no recipient (age1…): {why}"))
}

/// The private keys in the text of an identity file, as `age-keygen` writes it.
///
/// # Errors
/// A line is none, or there is none.
pub fn identities(text: &str) -> Result<Vec<x25519::Identity>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let parsed = lines.map(|(at, line)| {
        let parsed = line.parse::<x25519::Identity>();
        parsed.map_err(|why| format!("line {} is no AGE-SECRET-KEY-1…: {why}", at + 1))
    });
    let all: Vec<_> = parsed.collect::<Result<_, _>>()?;
    if all.is_empty() { Err("there is no AGE-SECRET-KEY-1… in it".to_owned()) } else { Ok(all) }
}

/// A backup of this state, encrypted. Blocks.
///
/// # Errors
/// The keyring isn't that of the state, or something in it doesn't fit.
pub fn of(
    state: &State,
    keyring: &Keyring,
    taken_at: Timestamp,
    to: &[x25519::Recipient],
) -> Result<Vec<u8>, String> {
    let id = state.keyring_id().ok_or("this cluster has no keyring")?;
    let keyring = keyring.key(id).ok_or("this node has not read the cluster's keyring yet")?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let kept = Backup { state: state.clone(), keyring, taken_at, version };
    let plain = kept.encode().map_err(|error| error.to_string())?;
    encrypt(&plain, to).map_err(|error| error.to_string())
}

/// Encrypts for recipients.
///
/// # Errors
/// There are none, or no memory.
pub fn encrypt(plain: &[u8], recipients: &[x25519::Recipient]) -> io::Result<Vec<u8>> {
    let all = recipients.iter().map(|one| one as &dyn age::Recipient);
    sealed(plain, Encryptor::with_recipients(all).map_err(io::Error::other)?)
}

/// Encrypts with a passphrase. Takes about a second, and 256 MiB of memory.
///
/// # Errors
/// No memory.
pub fn encrypt_with(plain: &[u8], passphrase: &Secret) -> io::Result<Vec<u8>> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.reveal()));
    recipient.set_work_factor(limits::BACKUP_WORK);
    let all = iter::once(&recipient as &dyn age::Recipient);
    sealed(plain, Encryptor::with_recipients(all).map_err(io::Error::other)?)
}

fn sealed(plain: &[u8], encryptor: Encryptor) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 1024 + 1024);
    let mut writer = encryptor.wrap_output(&mut out)?;
    writer.write_all(plain)?;
    writer.finish()?;
    Ok(out)
}

/// Whether a passphrase opens a file, rather than a private key.
///
/// # Errors
/// It isn't encrypted by age.
pub fn wants_passphrase(file: &[u8]) -> Result<bool, OpenError> {
    Decryptor::new_buffered(file).map(|one| one.is_scrypt()).map_err(|_| OpenError::Foreign)
}

/// Opens an encrypted backup.
///
/// # Errors
/// It is none, the key doesn't fit, or it isn't whole.
pub fn decrypt(file: &[u8], key: &Key) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let opened = Decryptor::new_buffered(file).map_err(|_| OpenError::Foreign)?;
    let reader = match (key, opened.is_scrypt()) {
        (Key::Passphrase(_), false) => return Err(OpenError::WantsIdentity),
        (Key::Identities(_), true) => return Err(OpenError::WantsPassphrase),
        (Key::Passphrase(passphrase), true) => {
            let mut identity = scrypt::Identity::new(SecretString::from(passphrase.reveal()));
            identity.set_max_work_factor(limits::BACKUP_WORK_MAX);
            opened.decrypt(iter::once(&identity as &dyn age::Identity))
        }
        (Key::Identities(all), false) => {
            opened.decrypt(all.iter().map(|one| one as &dyn age::Identity))
        }
    };
    let mut reader = reader.map_err(|error| match error {
        DecryptError::ExcessiveWork { required, .. } => OpenError::Work(required),
        DecryptError::NoMatchingKeys => OpenError::OtherIdentity,
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => match key {
            Key::Passphrase(_) => OpenError::Passphrase,
            Key::Identities(_) => OpenError::OtherIdentity,
        },
        _ => OpenError::Damaged,
    })?;
    let mut plain = Zeroizing::new(Vec::with_capacity(file.len()));
    reader.read_to_end(&mut plain).map_err(|_| OpenError::Damaged)?;
    Ok(plain)
}

/// Writes a file that only its owner reads: whole or not at all, and durable when this returns.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let draft = folder.join(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        // What the error is about is what is told.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_recipient_opens_it_and_nobody_else() {
        let (mine, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let to = [recipient(&mine.to_public().to_string()).unwrap()];
        let file = encrypt(b"state", &to).unwrap();
        assert!(!wants_passphrase(&file).unwrap());
        let by = |one: &x25519::Identity| decrypt(&file, &Key::Identities(vec![one.clone()]));
        assert_eq!(by(&mine).unwrap().as_slice(), b"state");
        assert!(matches!(by(&other), Err(OpenError::OtherIdentity)));
        let passphrase = Key::Passphrase(Secret::new("x"));
        assert!(matches!(decrypt(&file, &passphrase), Err(OpenError::WantsIdentity)));
        let key = Key::Identities(vec![mine]);
        assert!(matches!(decrypt(&file[..file.len() - 1], &key), Err(OpenError::Damaged)));
        assert!(matches!(decrypt(&file[..40], &key), Err(OpenError::Foreign)));
        assert!(matches!(decrypt(b"PK\x03\x04", &key), Err(OpenError::Foreign)));
        assert!(recipient("age1nonsense").is_err() && recipient("ssh-ed25519 AAAA").is_err());
    }

    #[test]
    fn a_passphrase_opens_it_and_no_other() {
        let file = encrypt_with(b"state", &Secret::new("right")).unwrap();
        assert!(wants_passphrase(&file).unwrap());
        let by = |text: &str| decrypt(&file, &Key::Passphrase(Secret::new(text)));
        assert_eq!(by("right").unwrap().as_slice(), b"state");
        assert!(matches!(by("wrong"), Err(OpenError::Passphrase)));
        let key = Key::Identities(vec![x25519::Identity::generate()]);
        assert!(matches!(decrypt(&file, &key), Err(OpenError::WantsPassphrase)));
    }

    #[test]
    fn an_identity_file_is_read_as_its_program_writes_it() {
        use age::secrecy::ExposeSecret as _;
        let text = x25519::Identity::generate().to_string();
        let file = format!("# created: today\n# public key: age1…\n{}\n", text.expose_secret());
        assert_eq!(identities(&file).unwrap().len(), 1);
        assert!(identities("# nothing\n").is_err() && identities("AGE-SECRET-KEY-2").is_err());
    }

    #[test]
    fn a_file_is_its_owners_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.age");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("no/b.age"), b"x").is_err());
    }
}

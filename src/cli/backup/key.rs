//! What opens and closes a backup: a passphrase, or an identity file.
//!
//! Owns where it comes from. Never sends it anywhere.

use crate::actors::platform::backup::{self as files, Key};
use crate::backup::Backup;
use crate::cli::image::hidden;
use crate::cli::{Context, error::CliError};
use crate::limits;
use crate::secret::Secret;
use std::io::{BufRead as _, IsTerminal as _, Read as _};
use zeroize::Zeroizing;

/// The variable of the environment with the passphrase.
const VARIABLE: &str = "MILL_BACKUP_PASSPHRASE";

/// A backup that is to be opened.
pub struct KeyArgs {
    /// The backup.
    pub file: String,
    /// A file with the private key of a recipient of it.
    pub identity: Option<String>,
}

/// A backup, and its bytes in the clear.
pub type Opened = (Backup, Zeroizing<Vec<u8>>);

impl KeyArgs {
    /// Reads the backup, opens it and checks everything in it.
    ///
    /// # Errors
    /// It can't be read, is none, isn't whole, or the key doesn't fit.
    pub async fn read(self, context: &Context) -> Result<Opened, CliError> {
        blocking(context, move |passphrase| self.read_now(passphrase)).await
    }

    fn read_now(self, passphrase: Option<Secret>) -> Result<Opened, CliError> {
        let file = &self.file;
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(file).map_err(|e| unread(file, e))?;
        let most = limits::BACKUP_MAX as u64;
        opened.take(most).read_to_end(&mut bytes).map_err(|e| unread(file, e))?;
        let unusable = |error: files::OpenError| CliError::failed(format!("{file}: {error}"));
        let by_passphrase = files::wants_passphrase(&bytes).map_err(unusable)?;
        let key = match &self.identity {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| unread(path, e))?;
                let text = Zeroizing::new(text);
                let wrong = |why| CliError::usage(format!("{path}: {why}"), "age-keygen makes one");
                Key::Identities(files::identities(&text).map_err(wrong)?)
            }
            None if !by_passphrase => return Err(unusable(files::OpenError::WantsIdentity)),
            None => Key::Passphrase(asked(passphrase, false)?),
        };
        open(file, &bytes, &key)
    }
}

fn unread(path: &str, source: std::io::Error) -> CliError {
    CliError::Read { path: path.into(), source }
}

/// Opens a backup and everything in it.
///
/// # Errors
/// It is none, isn't whole, or the key doesn't fit.
pub fn open(file: &str, bytes: &[u8], key: &Key) -> Result<Opened, CliError> {
    let failed = |error: String| CliError::failed(format!("{file}: {error}"));
    let plain = files::decrypt(bytes, key).map_err(|error| failed(error.to_string()))?;
    let kept = Backup::decode(&plain).map_err(|error| failed(error.to_string()))?;
    kept.check(&mut crypto_box::aead::OsRng).map_err(|error| failed(error.to_string()))?;
    Ok((kept, plain))
}

/// A passphrase for a new backup, typed twice.
///
/// # Errors
/// None was given.
pub fn new_passphrase(given: Option<Secret>) -> Result<Secret, CliError> {
    asked(given, true)
}

/// Does what may ask somebody, with the passphrase of the environment: Ctrl-C has to end it.
///
/// # Errors
/// As the work.
pub async fn blocking<T: Send + 'static>(
    context: &Context,
    work: impl FnOnce(Option<Secret>) -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let given = context.env.get(VARIABLE).map(Secret::new);
    let done = tokio::task::spawn_blocking(move || work(given)).await;
    done.unwrap_or_else(|lost| Err(CliError::failed(lost.to_string())))
}

/// The passphrase of the environment, or a line that is typed unseen, or piped in.
fn asked(given: Option<Secret>, twice: bool) -> Result<Secret, CliError> {
    let passphrase = match given {
        Some(given) => given,
        None if std::io::stdin().is_terminal() => {
            let typed = text(&hidden("Passphrase of the backup: ")?)?;
            if twice && text(&hidden("Once more: ")?)? != typed {
                return Err(CliError::usage("The two passphrases differ", "Nothing was written"));
            }
            typed
        }
        None => {
            let mut line = Zeroizing::new(Vec::new());
            let failed = |source| CliError::Read { path: "<stdin>".into(), source };
            let stdin = std::io::stdin().lock().take(1 << 12);
            std::io::BufReader::new(stdin).read_until(b'\n', &mut line).map_err(failed)?;
            let end = line.iter().position(|byte| b"\r\n".contains(byte)).unwrap_or(line.len());
            text(&line[..end])?
        }
    };
    if passphrase.reveal().is_empty() {
        let hint = format!("Pipe it in, set {VARIABLE}, or pass --recipient or --identity");
        return Err(CliError::usage("The backup needs a passphrase", hint));
    }
    Ok(passphrase)
}

fn text(bytes: &[u8]) -> Result<Secret, CliError> {
    let bad = |_| CliError::usage("The passphrase is not UTF-8", "Give it as UTF-8");
    std::str::from_utf8(bytes).map(Secret::new).map_err(bad)
}

//! What a container is given of the file: variables, secret files, config files.
//!
//! Owns putting values in the places of references. Values of secrets go into memory only; what has
//! none lies in the allocation's folder. Never decides which version counts.

#![allow(clippy::result_large_err, reason = "made once a start, and handed on at once")]

use super::error::Failed;
use super::files;
use crate::actors::platform::Platform;
use crate::actors::platform::secrets::{Opened, SecretFile};
use crate::id::{AllocId, ContainerId, SecretName};
use crate::node::oci::{Account, BindMount};
use crate::spec::model::{EnvPart, EnvValue, RunSpec};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Permissions of a secret file.
const SECRET_MODE: u32 = 0o400;

/// What a container starts with.
pub(super) struct Given {
    /// Variables without a secret in them.
    pub env: BTreeMap<String, String>,
    /// Secret files and config files.
    pub mounts: Vec<BindMount>,
    /// The versions of its secrets.
    pub versions: BTreeMap<SecretName, u64>,
}

/// Opens the secrets and writes everything.
pub(super) async fn give(
    platform: &Platform,
    id: &AllocId,
    container: &ContainerId,
    run: &RunSpec,
    account: &Account,
) -> Result<Given, Failed> {
    let (store, run) = (platform.secrets.clone(), run.clone());
    let (container, owner) = (container.clone(), [account.uid, account.gid]);
    let plain = files::folder(platform, id).join("files");
    let write = move || {
        let opened = store.open(&run.secrets())?;
        let (env, secret_env) = env(&run, &opened)?;
        let texts = run.files.iter().map(|file| text(&file.path, &file.content, &opened));
        let texts: Vec<Zeroizing<Vec<u8>>> = texts.collect::<Result<_, _>>()?;
        let (mut mounts, mut kept, mut open) = (Vec::new(), Vec::new(), Vec::new());
        let of_secrets = run.secret_files.iter();
        let secret =
            of_secrets.map(|one| (&one.path, opened.value(&one.secret), SECRET_MODE, true));
        let config = run.files.iter().zip(&texts);
        let config = config
            .map(|(one, text)| (&one.path, text.as_slice(), one.mode, has_secret(&one.content)));
        for (number, (path, content, mode, is_secret)) in secret.chain(config).enumerate() {
            let name = format!("file-{number}");
            let folder = if is_secret { store.of(&container) } else { plain.clone() };
            let (source, target) = (folder.join(&name), PathBuf::from(path));
            mounts.push(BindMount { source, target, read_only: true });
            let file = SecretFile { name, content, mode, owner };
            if is_secret { kept.push(file) } else { open.push(file) }
        }
        store.write(&container, &secret_env, &kept)?;
        let failed = |source| Failed::Files { path: plain.clone(), source };
        write_plain(&plain, &open).map_err(failed)?;
        Ok(Given { env, mounts, versions: opened.versions })
    };
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|lost| {
        let path = files::folder(platform, id);
        Err(Failed::Files { path, source: io::Error::other(lost) })
    })
}

/// Variables without secrets, and those with.
type Variables = (BTreeMap<String, String>, BTreeMap<String, Zeroizing<Vec<u8>>>);

fn env(run: &RunSpec, opened: &Opened) -> Result<Variables, Failed> {
    let (mut plain, mut secret) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in &run.env {
        let bytes = text(name, value, opened)?;
        if !has_secret(value) {
            plain.insert(name.clone(), String::from_utf8_lossy(&bytes).into_owned());
            continue;
        }
        let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok() && !bytes.contains(&0);
        let binary = secrets(value).find(|one| !is_text(opened.value(one)));
        if let Some(one) = binary {
            return Err(Failed::Binary { name: name.clone(), secret: one.clone() });
        }
        secret.insert(name.clone(), bytes);
    }
    Ok((plain, secret))
}

/// A value with everything in the place of its references.
fn text(name: &str, value: &EnvValue, opened: &Opened) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let mut bytes = Zeroizing::new(Vec::new());
    for part in &value.0 {
        match part {
            EnvPart::Text(text) => bytes.extend_from_slice(text.as_bytes()),
            EnvPart::Secret(secret) => bytes.extend_from_slice(opened.value(secret)),
            EnvPart::Service(_) => return Err(Failed::Reference { name: name.to_owned() }),
        }
    }
    Ok(bytes)
}

fn secrets(value: &EnvValue) -> impl Iterator<Item = &SecretName> {
    value.0.iter().filter_map(|part| match part {
        EnvPart::Secret(name) => Some(name),
        EnvPart::Text(_) | EnvPart::Service(_) => None,
    })
}

fn has_secret(value: &EnvValue) -> bool {
    secrets(value).next().is_some()
}

fn write_plain(folder: &Path, files: &[SecretFile]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    for file in files {
        let path = folder.join(&file.name);
        let mut options = std::fs::OpenOptions::new();
        // One that is mounted in an earlier attempt's container stays as that one has it.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut open = options.write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut open, file.content)?;
        std::os::unix::fs::fchown(&open, Some(file.owner[0]), Some(file.owner[1]))?;
        open.set_permissions(std::fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

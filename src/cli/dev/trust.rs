//! `mill dev --trust`: the local CA in the stores where the system and browsers look.
//!
//! Owns which stores those are, and how the CA is taken away again. Never makes the CA.

use crate::cli::error::CliError;
use crate::config::Env;
use crate::daemon::local_ca_file;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian, Ubuntu and Alpine look, and where Fedora and its kin do; with what takes it up.
const STORES: [(&str, &[&str]); 2] = [
    ("/usr/local/share/ca-certificates", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", &["update-ca-trust", "extract"]),
];
/// The CA's name there.
const NAME: &str = "mill-dev";

/// Lets this system trust the CA of a data directory; what was done, and how to undo it.
///
/// # Errors
/// There is no store that is known, or it can't be written.
pub fn install(data: &Path, env: &Env) -> Result<Vec<String>, CliError> {
    let from = local_ca_file(data);
    let store = STORES.iter().find(|(folder, _)| Path::new(folder).is_dir());
    let Some((folder, update)) = store else {
        let message = "This system has no store of CAs that mill knows";
        let hint = format!("Import it by hand: {}", from.display());
        return Err(CliError::Failed { message: message.to_owned(), hint: Some(hint) });
    };
    let to = Path::new(folder).join(format!("{NAME}.crt"));
    let failed = |source| CliError::failed(format!("writing {}: {source}", to.display()));
    fs::copy(&from, &to).map_err(failed)?;
    run(update)?;
    let undo = format!("rm {} && {}", to.display(), update.join(" "));
    let mut told = vec![format!("this system trusts the local CA; take it away: {undo}")];
    if let Some(browsers) = browsers(env).filter(|_| is_there("certutil")) {
        let at = format!("sql:{}", browsers.display());
        let from = from.display().to_string();
        run(&["certutil", "-d", &at, "-A", "-t", "C,,", "-n", NAME, "-i", &from])?;
        told.push(format!("so does Chromium; take it away: certutil -d {at} -D -n {NAME}"));
    }
    Ok(told)
}

/// Where Chromium and its kin look.
fn browsers(env: &Env) -> Option<PathBuf> {
    let store = Path::new(env.get("HOME")?).join(".pki/nssdb");
    store.is_dir().then_some(store)
}

fn is_there(program: &str) -> bool {
    let mut asked = Command::new(program);
    asked.arg("-H").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok()
}

fn run(line: &[&str]) -> Result<(), CliError> {
    let [program, args @ ..] = line else { return Ok(()) };
    let failed = |why: String| CliError::failed(format!("{}: {why}", line.join(" ")));
    let done = Command::new(program).args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| failed(error.to_string()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
}

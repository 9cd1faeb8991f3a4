//! Credential helpers: programs named `docker-credential-NAME` that hold a registry's credentials.
//!
//! Owns their protocol: `get`, the server's name on standard input, JSON on standard output
//! (docker-credential-helpers). Never stores what they say.

use crate::limits;
use crate::node::oci::docker_config::Login;
use crate::secret::Secret;
use serde::Deserialize;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a helper calls the user of an identity token.
const IDENTITY_TOKEN: &str = "<token>";

/// Why a helper gave no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    /// Docker's file names something else than a program.
    #[error("is no name of a program")]
    Name,
    /// It can't be run.
    #[error("can't be run by the daemon: {0}")]
    Run(#[from] std::io::Error),
    /// It takes too long.
    #[error("did not answer in {}s", limits::CREDENTIAL_HELPER.as_secs())]
    Slow,
    /// It has none, or none for this user.
    #[error("says: {said}")]
    Refused {
        /// Its own words.
        said: String,
    },
    /// What it says is not understood.
    #[error("answers something else than credentials")]
    Strange(#[source] serde_json::Error),
    /// It has another kind of credentials.
    #[error("has an identity token, which mill can't use")]
    IdentityToken,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for a server's credentials, as Docker's file names the server.
pub(super) async fn ask(helper: &str, server: &str) -> Result<Login, HelperError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if helper.is_empty() || !helper.chars().all(is_plain) {
        return Err(HelperError::Name);
    }
    let mut child = Command::new(format!("docker-credential-{helper}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that needs no input may have ended already; what it says counts.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let output = tokio::time::timeout(limits::CREDENTIAL_HELPER, child.wait_with_output()).await;
    let output = output.map_err(|_| HelperError::Slow)??;
    if !output.status.success() {
        let said = super::bound(String::from_utf8_lossy(&output.stdout).trim(), 200);
        return Err(HelperError::Refused { said });
    }
    let answer: Answer = serde_json::from_slice(&output.stdout).map_err(HelperError::Strange)?;
    if answer.username == IDENTITY_TOKEN {
        return Err(HelperError::IdentityToken);
    }
    Ok(Login { user: answer.username, password: Secret::new(answer.secret) })
}

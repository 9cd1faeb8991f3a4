//! `mill login` and `mill logout`: an address and a token that are used from then on.
//!
//! Owns the file that keeps them, mode 0600. Never sends the token anywhere but to that address.

use super::client::Client;
use super::globals::Globals;
use super::{Context, error::CliError};
use crate::config::Env;
use argh::{ArgsInfo, FromArgs};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// Use a cluster from now on: its address and token are kept in ~/.config/mill.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "login",
    help_triggers("-h", "--help"),
    example = "mill login https://10.0.0.1:4400 --token T",
    note = "--address, --socket, --dev and their variables go before it. mill logout forgets it."
)]
pub struct LoginArgs {
    /// the API's address, such as https://10.0.0.1:4400
    #[argh(positional)]
    pub address: Option<String>,
}

/// Forget the address and token that mill login kept.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logout", help_triggers("-h", "--help"), example = "mill logout")]
pub struct LogoutArgs {}

/// What is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    address: String,
    token: String,
}

/// Where it is kept.
fn place(env: &Env) -> Option<PathBuf> {
    let variable = |name: &str| env.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))?;
    Some(config.join("mill/context.json"))
}

/// With what is kept, where neither a flag nor a variable says where the daemon is.
#[must_use]
pub fn with_kept(mut globals: Globals, env: &Env) -> Globals {
    if globals.address.is_some() || globals.socket.is_some() || globals.dev {
        return globals;
    }
    let text = place(env).and_then(|path| std::fs::read_to_string(path).ok());
    if let Some(kept) = text.and_then(|text| serde_json::from_str::<Kept>(&text).ok()) {
        globals.address = Some(kept.address);
        globals.token = globals.token.or(Some(kept.token));
    }
    globals
}

pub(super) async fn run(args: LoginArgs, context: &Context) -> Result<(), CliError> {
    let typed = args.address.or_else(|| context.globals.address.clone());
    let hint = "mill login https://HOST:4400 --token T";
    let address = typed.ok_or_else(|| CliError::usage("Which address?", hint))?;
    let token = context.globals.token.clone();
    let token = token.ok_or_else(|| CliError::usage("Which token?", hint))?;
    let address = if address.contains("://") { address } else { format!("https://{address}") };
    let globals = Globals { address: Some(address.clone()), ..Globals::default() };
    let client = Client::new(globals.targets()?, Some(token.clone()));
    let cluster = client.status().await?.cluster;
    keep(&context.env, &Kept { address: address.clone(), token })?;
    if context.ui.json {
        return context.ui.document(&json!({ "cluster": cluster, "address": address }));
    }
    context.ui.print(&format!("{cluster} at {address} is used from now on. Forget it: mill logout"))
}

pub(super) fn forget(context: &Context) -> Result<(), CliError> {
    let path = home(&context.env)?;
    let text = match std::fs::remove_file(&path) {
        Ok(()) => "Forgotten",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "There was no login",
        Err(source) => return Err(CliError::Read { path, source }),
    };
    if context.ui.json { context.ui.document(&json!({})) } else { context.ui.print(text) }
}

fn home(env: &Env) -> Result<PathBuf, CliError> {
    place(env).ok_or_else(|| CliError::failed("HOME isn't set: there is no place to keep a login"))
}

fn keep(env: &Env, kept: &Kept) -> Result<(), CliError> {
    let path = home(env)?;
    let failed = |source: std::io::Error| CliError::Read { path: path.clone(), source };
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(kept).unwrap_or_default();
    // Whole or not at all, and never readable by others.
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&new);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.and_then(|()| std::fs::rename(&new, &path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_login_is_used_where_nothing_else_is_said() {
        let home = tempfile::tempdir().unwrap();
        let env: Env = [("HOME".to_owned(), home.path().display().to_string())].into();
        assert_eq!(with_kept(Globals::default(), &env), Globals::default());
        let kept = Kept { address: "https://a:1".to_owned(), token: "t".to_owned() };
        keep(&env, &kept).unwrap();
        keep(&env, &kept).unwrap();
        let found = with_kept(Globals::default(), &env);
        assert_eq!(found.address.as_deref(), Some("https://a:1"));
        assert_eq!(found.token.as_deref(), Some("t"));
        let mode = place(&env).unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let dev = Globals { dev: true, ..Globals::default() };
        assert_eq!(with_kept(dev.clone(), &env), dev);
        let socket = Globals { socket: Some("/s".to_owned()), ..Globals::default() };
        assert_eq!(with_kept(socket.clone(), &env), socket);
    }
}

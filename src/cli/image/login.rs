//! `mill image login`, `logout` and `logins`: who mill is to registries.
//!
//! Owns asking for a password. Never takes one as an argument, where others could read it, and
//! never shows one.

use crate::api::wire::LoginRequest;
use crate::cli::error::CliError;
use crate::cli::table::{self, Table};
use crate::cli::{Context, client::Client};
use crate::secret::Secret;
use argh::{ArgsInfo, FromArgs};
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};
use zeroize::Zeroizing;

/// Longer than any password or access token, in bytes.
const PASSWORD_MAX: u64 = 32 << 10;

/// Log in to a registry; the password comes from standard input or is asked for.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "login",
    help_triggers("-h", "--help"),
    example = "mill image login ghcr.io --user ada"
)]
pub struct LoginArgs {
    /// the registry as images name it: HOST or HOST:PORT, docker.io for Docker Hub
    #[argh(positional)]
    pub registry: String,
    /// the user
    #[argh(option)]
    pub user: String,
}

/// Log out of a registry.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "logout",
    help_triggers("-h", "--help"),
    example = "mill image logout ghcr.io"
)]
pub struct LogoutArgs {
    /// the registry as mill image logins shows it
    #[argh(positional)]
    pub registry: String,
}

/// List the logins to registries, without their passwords.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logins", help_triggers("-h", "--help"), example = "mill image logins")]
pub struct LoginsArgs {}

pub(super) async fn login(args: LoginArgs, context: &Context) -> Result<(), CliError> {
    let user = args.user.clone();
    // Reading blocks, and Ctrl-C has to end it.
    let asked = tokio::task::spawn_blocking(move || password(&user)).await;
    let password = asked.map_err(|error| CliError::failed(error.to_string()))??;
    let request = LoginRequest { user: args.user, password: password.reveal().to_owned() };
    let made = context.client()?.log_in(&args.registry, &request).await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    context.ui.print(&format!("{}  logged in as {}", made.registry, made.user))
}

pub(super) async fn logout(args: LogoutArgs, context: &Context) -> Result<(), CliError> {
    let client: Client = context.client()?;
    client.log_out(&args.registry).await?;
    if context.ui.json {
        let document = serde_json::json!({ "registry": args.registry, "deleted": true });
        return context.ui.document(&document);
    }
    context.ui.print(&format!("{}  logged out", args.registry))
}

pub(super) async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.logins().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut table = Table::new(&["REGISTRY", "USER", "AGE"]);
    for login in all {
        let age = table::age(Some(&login.since), context.now());
        table.row(vec![login.registry.into(), login.user.into(), age.into()]);
    }
    context.ui.print(&table.render(context.ui))
}

/// The password: a line typed unseen, or all that standard input has.
fn password(user: &str) -> Result<Secret, CliError> {
    let stdin = std::io::stdin();
    let failed = |source| CliError::Read { path: "<stdin>".into(), source };
    let mut text = String::new();
    if stdin.is_terminal() {
        return checked(&typed(&format!("Password of {user}: "))?);
    }
    stdin.lock().take(PASSWORD_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    checked(&text)
}

/// A line that is typed unseen.
fn typed(question: &str) -> Result<Zeroizing<String>, CliError> {
    let failed = |source| CliError::Read { path: "<stdin>".into(), source };
    let mut text = Zeroizing::new(String::new());
    let _ = write!(std::io::stderr(), "{question}");
    let hidden = Hidden::new().map_err(failed)?;
    let read = std::io::stdin().lock().read_line(&mut text);
    drop(hidden);
    let _ = writeln!(std::io::stderr());
    read.map_err(failed)?;
    Ok(text)
}

/// A value that is typed unseen, without its line break.
///
/// # Errors
/// The terminal is gone.
pub fn hidden(question: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let text = typed(question)?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
}

fn checked(text: &str) -> Result<Secret, CliError> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let hint = "Pipe it in: mill image login REGISTRY --user USER < FILE";
    if text.is_empty() {
        return Err(CliError::usage("No password was given", hint));
    }
    if text.len() as u64 > PASSWORD_MAX || text.contains(['\n', '\r']) {
        return Err(CliError::usage("A password is one line", hint));
    }
    Ok(Secret::new(text))
}

/// A terminal that doesn't show what is typed, as long as this lives.
struct Hidden(nix::sys::termios::Termios);

impl Hidden {
    fn new() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut now = before.clone();
        now.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &now)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line() {
        assert_eq!(checked("a b\n").unwrap().reveal(), "a b");
        assert_eq!(checked("x\r\n").unwrap().reveal(), "x");
        for wrong in ["", "\n", "a\nb\n"] {
            assert_eq!(checked(wrong).unwrap_err().code(), 2, "{wrong:?}");
        }
        assert!(checked(&"x".repeat(40_000)).is_err());
    }
}

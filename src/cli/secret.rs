//! `mill secret`: values that containers are given and nothing shows.
//!
//! Owns where a value comes from. Never prints one but for `get`.

use super::image::hidden;
use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::api::wire::{Encoding, SecretRequest, SecretView};
use crate::compose::unquoted;
use crate::limits::{SECRET_IMPORT_MAX, SECRET_MAX};
use argh::{ArgsInfo, FromArgs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read, Write as _};
use zeroize::Zeroizing;

/// Set, show and delete secrets.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "secret", help_triggers("-h", "--help"))]
pub struct SecretArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: SecretCommand,
}

/// What `mill secret` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum SecretCommand {
    /// `mill secret set`.
    Set(SetArgs),
    /// `mill secret get`.
    Get(GetArgs),
    /// `mill secret list`.
    List(ListArgs),
    /// `mill secret delete`.
    Delete(DeleteArgs),
    /// `mill secret import`.
    Import(ImportArgs),
    /// `mill secret rotate-key`.
    RotateKey(RotateArgs),
}

/// Give a secret a value. What runs keeps the one that it started with.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "set",
    help_triggers("-h", "--help"),
    example = "mill secret set db-password"
)]
pub struct SetArgs {
    /// the name, such as web.database-url
    #[argh(positional)]
    pub name: String,
    /// the value; - or nothing reads standard input, @FILE a file
    #[argh(positional)]
    pub value: Option<String>,
}

/// Print a secret's value.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "get",
    help_triggers("-h", "--help"),
    example = "mill secret get db-password"
)]
pub struct GetArgs {
    /// the name
    #[argh(positional)]
    pub name: String,
}

/// List secrets, without their values.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill secret list")]
pub struct ListArgs {}

/// Delete a secret.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "delete",
    help_triggers("-h", "--help"),
    example = "mill secret delete db-password"
)]
pub struct DeleteArgs {
    /// the name
    #[argh(positional)]
    pub name: String,
    /// even if something that runs needs it
    #[argh(switch)]
    pub force: bool,
}

/// Set all secrets of a dotenv file, all or none: DATABASE_URL becomes database-url.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help"),
    example = "mill secret import .env --prefix web."
)]
pub struct ImportArgs {
    /// the file with a NAME=VALUE in each line; - is standard input
    #[argh(positional)]
    pub file: String,
    /// what the names begin with, such as web.
    #[argh(option)]
    pub prefix: Option<String>,
}

/// Make another key for the cluster and seal all secrets anew.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "rotate-key",
    help_triggers("-h", "--help"),
    example = "mill secret rotate-key"
)]
pub struct RotateArgs {}

pub(super) async fn run(args: SecretArgs, context: &Context) -> Result<(), CliError> {
    let ui = context.ui;
    match args.command {
        SecretCommand::Set(args) => set(args, context).await,
        SecretCommand::Get(args) => get(&args.name, context).await,
        SecretCommand::List(_) => list(context).await,
        SecretCommand::Import(args) => import(args, context).await,
        SecretCommand::Delete(args) => {
            let name = args.name;
            context.client()?.delete_secret(&name, args.force).await?;
            match ui.json {
                true => ui.document(&serde_json::json!({ "name": name, "deleted": true })),
                false => ui.print(&format!("{name}  deleted")),
            }
        }
        SecretCommand::RotateKey(_) => {
            let made = context.client()?.rotate_key().await?;
            if ui.json {
                return ui.document(&made);
            }
            let count =
                |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
            let (secrets, logins) = (count(made.secrets, "secret"), count(made.logins, "login"));
            ui.print(&format!("another key seals {secrets} and {logins}"))
        }
    }
}

async fn set(args: SetArgs, context: &Context) -> Result<(), CliError> {
    let (name, given) = (args.name.clone(), args.value);
    // Reading blocks, and Ctrl-C has to end it.
    let asked = tokio::task::spawn_blocking(move || value(&name, given.as_deref())).await;
    let value = asked.map_err(|error| CliError::failed(error.to_string()))??;
    let made = context.client()?.set_secret(&args.name, &request(&value)).await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    context.ui.print(&told(&made))
}

/// The value as the API takes it.
fn request(value: &[u8]) -> SecretRequest {
    match std::str::from_utf8(value) {
        Ok(text) => SecretRequest { value: text.to_owned(), encoding: None },
        Err(_) => {
            let encoding = Some(Encoding::Base64);
            SecretRequest { value: STANDARD.encode(value), encoding }
        }
    }
}

/// A value that was set, and what still runs with an older one.
fn told(made: &SecretView) -> String {
    let mut text = format!("{}  v{}", made.name, made.version);
    for (service, version) in &made.outdated {
        text.push_str(&format!("\n{service} runs with v{version} until: mill restart {service}"));
    }
    text
}

async fn get(name: &str, context: &Context) -> Result<(), CliError> {
    let found = context.client()?.secret(name).await?;
    if context.ui.json {
        return context.ui.document(&found);
    }
    let mut out = std::io::stdout().lock();
    let written = match found.encoding {
        None => {
            let newline = if std::io::stdout().is_terminal() { "\n" } else { "" };
            out.write_all(found.value.as_bytes()).and_then(|()| out.write_all(newline.as_bytes()))
        }
        Some(_) => {
            let bytes = STANDARD.decode(&found.value).map(Zeroizing::new);
            let bytes = bytes.map_err(|error| CliError::failed(error.to_string()))?;
            out.write_all(&bytes)
        }
    };
    written.and_then(|()| out.flush()).map_err(|source| CliError::Output { source })
}

async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.secrets().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut table = Table::new(&["NAME", "VERSION", "SIZE", "AGE", "USED BY"]);
    for one in all {
        let users: Vec<String> = one.used_by.iter().map(|user| used(user, &one)).collect();
        let users = if users.is_empty() { NONE.to_owned() } else { users.join(", ") };
        let age = table::age(Some(&one.updated_at), context.now());
        let (version, size) = (format!("v{}", one.version), format!("{}B", one.size));
        table.row(vec![one.name.into(), version.into(), size.into(), age.into(), users.into()]);
    }
    context.ui.print(&table.render(context.ui))
}

/// A service or task, with the version that it still runs with.
fn used(user: &str, secret: &SecretView) -> String {
    match secret.outdated.get(user) {
        Some(version) => format!("{user} (v{version})"),
        None => user.to_owned(),
    }
}

async fn import(args: ImportArgs, context: &Context) -> Result<(), CliError> {
    let text = match args.file.as_str() {
        "-" => bytes(std::io::stdin().lock(), "<stdin>", SECRET_IMPORT_MAX)?,
        path => file(path, SECRET_IMPORT_MAX)?,
    };
    let bad = |_| CliError::usage(format!("{}: it isn't text in UTF-8", args.file), "Save it so");
    let text = std::str::from_utf8(&text).map_err(bad)?;
    let found = dotenv(&args.file, text, args.prefix.as_deref().unwrap_or_default())?;
    if found.is_empty() {
        let message = format!("{}: there is no secret in it", args.file);
        return Err(CliError::usage(message, "Write a line for each: NAME=VALUE"));
    }
    let made = context.client()?.import_secrets(found).await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    made.iter().try_for_each(|one| context.ui.print(&told(one)))
}

/// The variables of a dotenv file, as names of secrets: lower case, with dashes, behind the prefix.
fn dotenv(file: &str, text: &str, prefix: &str) -> Result<BTreeMap<String, String>, CliError> {
    let mut found = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{file}:{}", at + 1);
        let Some((name, value)) = line.split_once('=') else {
            return Err(CliError::usage(format!("{place}: no NAME=VALUE"), "Nothing was set"));
        };
        let value = unquoted(value.trim());
        let fitting = |c: char| if c == '_' { '-' } else { c.to_ascii_lowercase() };
        let name = format!("{prefix}{}", name.trim().chars().map(fitting).collect::<String>());
        if let Err(why) = crate::spec::check_secret(&name) {
            let message = format!("{place}: the secret's name {name:?} {why}");
            return Err(CliError::usage(message, "Nothing was set"));
        }
        if value.is_empty() {
            return Err(CliError::usage(format!("{place}: no value"), "Nothing was set"));
        }
        if found.insert(name.clone(), value).is_some() {
            let message = format!("{place}: {name} is there twice");
            return Err(CliError::usage(message, "Nothing was set"));
        }
    }
    if found.is_empty() {
        let message = format!("{file} has no NAME=VALUE in it");
        return Err(CliError::usage(message, "Nothing was set"));
    }
    Ok(found)
}

/// The value that was given, or is read; a line break at its end doesn't count when it is typed or
/// piped in, but does in a file.
fn value(name: &str, given: Option<&str>) -> Result<Zeroizing<Vec<u8>>, CliError> {
    if let Some((name, _)) = name.split_once('=') {
        let name = name.to_lowercase().replace('_', "-");
        let hint = format!("Write: mill secret set {name} VALUE");
        return Err(CliError::usage("A value has a word of its own", hint));
    }
    let value = match given {
        Some(text) if text.starts_with('@') => file(&text[1..], SECRET_MAX)?,
        Some(text) if text != "-" => Zeroizing::new(text.as_bytes().to_vec()),
        _ if std::io::stdin().is_terminal() => hidden(&format!("Value of {name}: "))?,
        _ => line(bytes(std::io::stdin().lock(), "<stdin>", SECRET_MAX)?),
    };
    if value.is_empty() {
        let hint = format!("Pipe it in: mill secret set {name} - < FILE");
        return Err(CliError::usage("No value was given", hint));
    }
    Ok(value)
}

/// Without the line break at its end.
fn line(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

fn file(path: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let failed = |source| CliError::Read { path: path.into(), source };
    bytes(std::fs::File::open(path).map_err(failed)?, path, most)
}

fn bytes(from: impl Read, name: &str, most: usize) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = from.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| CliError::Read { path: name.into(), source })?;
    if bytes.len() > most {
        let message = format!("{name} is larger than {} KiB", most >> 10);
        return Err(CliError::usage(message, "Nothing was set"));
    }
    Ok(bytes)
}

/// What `mill dev --secret NAME=VALUE` gives.
///
/// # Errors
/// One names no secret or has no value.
pub(super) fn pairs(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut found = BTreeMap::new();
    for text in given {
        let hint = "Write it as --secret NAME=VALUE";
        let pair = text.split_once('=').filter(|(_, value)| !value.is_empty());
        let name = text.split('=').next().unwrap_or_default();
        let Some((name, value)) = pair else {
            return Err(CliError::usage(format!("--secret {name} has no value"), hint));
        };
        if let Err(why) = crate::spec::check_secret(name) {
            return Err(CliError::usage(format!("the secret's name {name:?} {why}"), hint));
        }
        found.insert(name.to_owned(), value.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_file_is_read_as_other_programs_do() {
        let text = "# comment\n\nDATABASE_URL=postgres://a:b@c/d?x=1\nexport KEY='a # b'\n\
                    PEM=\"-----\\nabc\\n\"\nPLAIN=x y # why\n";
        let found = dotenv(".env", text, "web.").unwrap();
        let want = [
            ("web.database-url", "postgres://a:b@c/d?x=1"),
            ("web.key", "a # b"),
            ("web.pem", "-----\nabc\n"),
            ("web.plain", "x y"),
        ];
        assert_eq!(found, want.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        for (text, why) in [
            ("A", ".env:1: no NAME=VALUE"),
            ("A=1\na=2", ".env:2: web.a is there twice"),
            ("A=", ".env:1: no value"),
            ("A.B!=1", ".env:1: the secret's name"),
            ("", ".env has no NAME=VALUE in it"),
        ] {
            let error = dotenv(".env", text, "web.").unwrap_err();
            assert_eq!(error.code(), 2);
            assert!(error.text().starts_with(why), "{}", error.text());
        }
    }

    #[test]
    fn what_is_piped_in_is_a_line_and_what_is_binary_travels_as_base64() {
        let value = |bytes: &[u8]| line(Zeroizing::new(bytes.to_vec())).to_vec();
        assert_eq!(value(b"pw\n"), b"pw");
        assert_eq!(value(b"pw\r\n"), b"pw");
        assert_eq!(value(b"a\n\n"), b"a\n");
        assert_eq!(request(b"pw").encoding, None);
        assert_eq!(request(b"\xff").value, "/w==");
    }

    #[test]
    fn a_value_is_no_part_of_the_name() {
        let refused = super::value("DB_PASS=x", None).unwrap_err().text();
        assert!(refused.contains("mill secret set db-pass VALUE"), "{refused}");
    }

    #[test]
    fn pairs_have_a_name_and_a_value() {
        let of = |text: &str| pairs(&[text.to_owned()]).map_err(|error| error.code());
        assert_eq!(of("a.b=x=y").unwrap()["a.b"], "x=y");
        for wrong in ["a", "a=", "=x", "A=x"] {
            assert_eq!(of(wrong), Err(2), "{wrong}");
        }
    }
}

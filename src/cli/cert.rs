//! `mill cert`: by which certificates hosts are served.
//!
//! Owns how they are shown and where an imported one is read. Never orders one by itself.

use super::table::{NONE, Table};
use super::ui::BAD;
use super::{Context, error::CliError};
use crate::api::wire::{AcmeRequest, CertificateRequest, CertificateStatus, CertificateView};
use crate::limits::{CERTIFICATE_CHAIN_MAX, CERTIFICATE_KEY_MAX};
use argh::{ArgsInfo, FromArgs};
use std::io::Read as _;

/// Show, renew and import certificates of hosts.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "cert", help_triggers("-h", "--help"))]
pub struct CertArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: CertCommand,
}

/// What `mill cert` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum CertCommand {
    /// `mill cert list`.
    List(ListArgs),
    /// `mill cert renew`.
    Renew(RenewArgs),
    /// `mill cert import`.
    Import(ImportArgs),
    /// `mill cert delete`.
    Delete(DeleteArgs),
    /// `mill cert setup`.
    Setup(SetupArgs),
}

/// List hosts with their certificates: until when they are good, and what comes next.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill cert list")]
pub struct ListArgs {}

/// Order a host's certificate anew, now.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "renew",
    help_triggers("-h", "--help"),
    example = "mill cert renew app.example.com"
)]
pub struct RenewArgs {
    /// the host, such as app.example.com
    #[argh(positional)]
    pub host: String,
}

/// Serve a host by this certificate. It is never renewed by mill.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help"),
    example = "mill cert import '*.example.com' chain.pem key.pem"
)]
pub struct ImportArgs {
    /// the host, such as app.example.com or *.example.com
    #[argh(positional)]
    pub host: String,
    /// the file with the certificate and those of its authorities, PEM
    #[argh(positional)]
    pub certificate: String,
    /// the file with its key, PEM
    #[argh(positional)]
    pub key: String,
}

/// Delete a host's certificate; one that can be ordered is ordered anew.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "delete",
    help_triggers("-h", "--help"),
    example = "mill cert delete app.example.com"
)]
pub struct DeleteArgs {
    /// the host
    #[argh(positional)]
    pub host: String,
}

/// Say where certificates are ordered, as mill init --acme-… does for a new cluster.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "setup",
    help_triggers("-h", "--help"),
    example = "mill cert setup --email ops@example.com"
)]
pub struct SetupArgs {
    /// whom the authority writes to
    #[argh(option)]
    pub email: Option<String>,
    /// the ACME directory; default Let's Encrypt
    #[argh(option)]
    pub directory: Option<String>,
    /// the directory of Let's Encrypt for tries, whose certificates no browser trusts
    #[argh(switch)]
    pub staging: bool,
    /// an external account that the authority asks for, KID:HMAC
    #[argh(option)]
    pub eab: Option<String>,
    /// order no more certificates
    #[argh(switch)]
    pub off: bool,
}

pub(super) async fn run(args: CertArgs, context: &Context) -> Result<(), CliError> {
    let ui = context.ui;
    match args.command {
        CertCommand::List(_) => list(context).await,
        CertCommand::Renew(args) => {
            let one = context.client()?.renew_certificate(&args.host).await?;
            match ui.json {
                true => ui.document(&one),
                false => ui.print(&format!("{}  ordered; follow it: mill events -f", one.host)),
            }
        }
        CertCommand::Import(args) => {
            let certificate = text(&args.certificate, CERTIFICATE_CHAIN_MAX)?;
            let key = text(&args.key, CERTIFICATE_KEY_MAX)?;
            let request = CertificateRequest { certificate, key };
            let one = context.client()?.import_certificate(&args.host, &request).await?;
            match ui.json {
                true => ui.document(&one),
                false => ui.print(&imported(&one)),
            }
        }
        CertCommand::Delete(args) => {
            context.client()?.delete_certificate(&args.host).await?;
            let host = args.host;
            match ui.json {
                true => ui.document(&serde_json::json!({ "host": host, "deleted": true })),
                false => ui.print(&format!("{host}  deleted")),
            }
        }
        CertCommand::Setup(args) => setup(args, context).await,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.certificates().await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    let mut table = Table::new(&["HOST", "STATUS", "SOURCE", "ISSUER", "VALID UNTIL", "NEXT"]);
    for one in &all {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
        let source = match &one.covered_by {
            Some(wildcard) => wildcard.clone(),
            None => one.source.as_ref().map_or_else(|| NONE.to_owned(), ToString::to_string),
        };
        table.row(vec![
            one.host.clone().into(),
            one.status.to_string().into(),
            source.into(),
            or_none(&one.issuer).into(),
            or_none(&one.not_after).into(),
            or_none(&one.next).into(),
        ]);
    }
    let errors = all.iter().filter_map(|one| {
        let text = format!("{}  {}", one.host, one.error.as_ref()?);
        Some(context.ui.paint(BAD, &text))
    });
    let errors: String = errors.map(|line| format!("\n{line}")).collect();
    context.ui.print(&format!("{}{errors}", table.render(context.ui)))
}

fn imported(one: &CertificateView) -> String {
    let until = one.not_after.as_deref().unwrap_or(NONE);
    format!("{}  imported, valid until {until}", one.host)
}

async fn setup(args: SetupArgs, context: &Context) -> Result<(), CliError> {
    let (client, ui) = (context.client()?, context.ui);
    let request = request(args.email, args.directory, args.staging, args.eab);
    match (request, args.off) {
        (Some(_), true) => return Err(CliError::usage("--off excludes the others", "Pass one")),
        (None, true) => drop(client.forget_authority().await?),
        (request, false) => {
            let hint = "Pass --email ADDRESS, or --directory URL";
            let none = || CliError::usage("Where certificates are ordered is missing", hint);
            drop(client.set_authority(&request.ok_or_else(none)?).await?);
        }
    }
    match (ui.json, args.off) {
        (true, off) => ui.document(&serde_json::json!({ "orders": !off })),
        (_, true) => ui.print("Certificates are ordered no more; those that there are stay"),
        _ => ui.print("Certificates are ordered for every routed host. Look: mill cert list"),
    }
}

/// Where certificates are ordered, if that is said at all.
pub(super) fn request(
    email: Option<String>,
    directory: Option<String>,
    staging: bool,
    eab: Option<String>,
) -> Option<AcmeRequest> {
    let is_said = email.is_some() || directory.is_some() || staging || eab.is_some();
    is_said.then_some(AcmeRequest { directory, staging, email, eab })
}

fn text(path: &str, most: usize) -> Result<String, CliError> {
    let failed = |source| CliError::Read { path: path.into(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(most as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() > most {
        let message = format!("{path} is larger than {} KiB", most >> 10);
        return Err(CliError::usage(message, "Nothing was changed"));
    }
    Ok(text)
}

/// What `mill why HOST` says.
pub(super) fn why(one: &CertificateView) -> String {
    let mut lines = vec![match (&one.not_after, &one.status) {
        (Some(until), status) => {
            let source = one.source.as_ref().map(ToString::to_string);
            let source = one.covered_by.clone().or(source).unwrap_or_else(|| NONE.to_owned());
            let issuer = one.issuer.as_deref().unwrap_or(NONE);
            format!("{} {status} until {until}, {source}, issued by {issuer}", one.host)
        }
        (None, CertificateStatus::Ordering) => {
            format!("{} has no certificate yet: it is being ordered", one.host)
        }
        (None, _) => format!("{} has no certificate", one.host),
    }];
    let failures = match one.failures {
        0 => String::new(),
        1 => " (1 failure)".to_owned(),
        count => format!(" ({count} failures)"),
    };
    lines.extend(one.error.as_ref().map(|error| format!("  {error}{failures}")));
    lines.extend(one.next.as_ref().map(|next| format!("  next order {next}")));
    lines.join("\n")
}

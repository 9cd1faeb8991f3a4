//! `mill show`: what is deployed.

use super::client::{Client, ClientError};
use super::history::took;
use super::table;
use super::ui::{BAD, GOOD, STRONG, Ui};
use super::{Context, error::CliError};
use crate::api::wire::{AppView, DeploymentView, ServiceView};
use crate::node::dns::{DOMAIN, VIRTUAL};
use crate::units::Timestamp;
use argh::{ArgsInfo, FromArgs};

/// Show what is deployed: every app's file, one app's, a service, or a revision with its file.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"), example = "mill show web r8")]
pub struct ShowArgs {
    /// services, apps, or revisions such as r8
    #[argh(positional)]
    pub name: Vec<String>,
}

/// What a name stands for.
enum Found {
    Service(Box<ServiceView>),
    Revision(Box<DeploymentView>),
    App(AppView),
}

pub(super) async fn run(args: ShowArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let ui = context.ui;
    if args.name.is_empty() {
        let apps = apps(&client).await?;
        if ui.json { ui.document(&apps) } else { ui.print(&render_apps(&apps, ui)) }?;
    } else {
        let mut all = Vec::new();
        for name in &args.name {
            all.push(find(&client, name).await?);
        }
        if ui.json { document(ui, &all) } else { ui.print(&render(&all, context.now(), ui)) }?;
    }
    context.note_stale(&client);
    Ok(())
}

fn document(ui: Ui, all: &[Found]) -> Result<(), CliError> {
    let value = |one: &Found| match one {
        Found::Service(one) => serde_json::to_value(one),
        Found::Revision(one) => serde_json::to_value(one),
        Found::App(one) => serde_json::to_value(one),
    };
    let values: Vec<_> = all.iter().filter_map(|one| value(one).ok()).collect();
    if let [one] = values.as_slice() { ui.document(one) } else { ui.document(&values) }
}

fn render(all: &[Found], now: Timestamp, ui: Ui) -> String {
    let one = |found: &Found| match found {
        Found::Service(one) => render_service(one, now, ui),
        Found::Revision(one) => render_revision(one, ui),
        Found::App(one) => render_apps(std::slice::from_ref(one), ui),
    };
    all.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A service, else a revision, else an app.
async fn find(client: &Client, name: &str) -> Result<Found, CliError> {
    let error = match client.service(name).await {
        Ok(one) => return Ok(Found::Service(one.into())),
        Err(error @ ClientError::Api { status: 404, .. }) => error,
        Err(error) => return Err(error.into()),
    };
    if let Some(number) = revision(name) {
        return Ok(Found::Revision(client.deployment(number).await?.into()));
    }
    match client.app(name).await {
        Ok(app) => Ok(Found::App(app)),
        Err(ClientError::Api { status: 404, .. }) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

async fn apps(client: &Client) -> Result<Vec<AppView>, CliError> {
    let mut apps = Vec::new();
    for app in client.status().await?.apps {
        match client.app(&app.name).await {
            Ok(app) => apps.push(app),
            // All of it was taken down.
            Err(ClientError::Api { status: 404, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(apps)
}

/// A revision as people write it: `8` or `r8`.
pub fn revision(text: &str) -> Option<u64> {
    text.strip_prefix('r').unwrap_or(text).parse().ok().filter(|revision| *revision > 0)
}

/// A revision that must be one.
///
/// # Errors
/// It is none.
pub fn parse_revision(text: &str) -> Result<u64, CliError> {
    let bad = || CliError::usage(format!("{text:?} is no revision"), "Write it as r8");
    revision(text).ok_or_else(bad)
}

fn render_apps(apps: &[AppView], ui: Ui) -> String {
    if apps.is_empty() {
        return "Nothing is deployed. Deploy: mill up FILE".to_owned();
    }
    let one = |app: &AppView| {
        let head = ui.paint(STRONG, &format!("// {} r{}", app.app, app.revision));
        format!("{head}\n{}\n", app.file.trim_end())
    };
    apps.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn fields(pairs: Vec<(&str, String)>) -> String {
    let shown = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:9} {value}\n")).collect()
}

/// The stable address, with its name.
fn stable(one: &ServiceView) -> Option<String> {
    let address = one.virtual_address.as_ref()?;
    Some(format!("{}.{VIRTUAL}.{DOMAIN}, {address}", one.name))
}

fn render_service(one: &ServiceView, now: Timestamp, ui: Ui) -> String {
    let replicas = &one.replicas;
    let whole = replicas.healthy >= replicas.desired;
    let count = format!("{}/{} healthy", replicas.healthy, replicas.desired);
    let degraded = if one.degraded { ", degraded: the way back failed too" } else { "" };
    let publish: Vec<String> = one.publish.iter().map(u16::to_string).collect();
    let head = ui.paint(STRONG, &one.name);
    let mut out = format!("{head}  app {}  r{}\n", one.app, one.revision);
    out.push_str(&fields(vec![
        ("image", one.image.clone()),
        ("digest", one.digest.clone().unwrap_or_default()),
        ("replicas", format!("{}{degraded}", ui.paint(if whole { GOOD } else { BAD }, &count))),
        ("address", one.address.clone().unwrap_or_default()),
        ("virtual", stable(one).unwrap_or_default()),
        ("routes", one.routes.join(" ")),
        ("publish", publish.join(" ")),
    ]));
    if !one.allocations.is_empty() {
        out.push_str(&super::ps::render(&one.allocations, now, ui));
    }
    out
}

fn render_revision(one: &DeploymentView, ui: Ui) -> String {
    let head = ui.paint(STRONG, &format!("r{}", one.revision));
    let mut out = format!("{head}  app {}  by {}\n", one.app, one.kind);
    let images: Vec<String> =
        one.images.iter().map(|(service, image)| format!("{service}={image}")).collect();
    let mut lines = one.reason.as_deref().unwrap_or_default().lines();
    let took = took(one);
    let took = if took == table::NONE { String::new() } else { format!(" after {took}") };
    out.push_str(&fields(vec![
        ("status", format!("{}{took}", one.status)),
        ("started", one.started_at.clone()),
        ("ended", one.ended_at.clone().unwrap_or_default()),
        ("images", images.join(" ")),
        ("reason", lines.next().unwrap_or_default().to_owned()),
    ]));
    // What the program wrote last.
    out.extend(lines.filter(|line| !line.trim().is_empty()).map(|line| format!("  | {line}\n")));
    if let Some(file) = &one.file {
        out.push_str(&format!("\n{}\n", file.trim_end()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::{NOW, PLAIN, allocation};
    use crate::cli::status::tests::{deployed, service};

    #[test]
    fn a_revision_is_written_in_two_ways() {
        assert_eq!((revision("8"), revision("r8")), (Some(8), Some(8)));
        assert_eq!((revision("r"), revision("web"), revision("0")), (None, None, None));
    }

    #[test]
    fn a_service_shows_with_its_allocations() {
        let mut web = service("web", 2, 1);
        web.address = Some("web.mill:3000".to_owned());
        web.publish = vec![15432];
        web.allocations = vec![allocation("web-0-k3f9", "web")];
        let expected = "\
web  app shop  r8
image     registry.example.com/web:v1
replicas  1/2 healthy
address   web.mill:3000
publish   15432
ID          NAME  NODE  STATUS   HEALTH   CPU        MEM       RESTARTS  AGE  ADDRESS
web-0-k3f9  web   n1    running  healthy  0.12/0.50  91M/512M  0         4m   10.99.8.7:3000
";
        assert_eq!(render_service(&web, NOW, PLAIN), expected);
    }

    #[test]
    fn a_revision_shows_how_it_ended() {
        let mut failed = deployed(8, "failed");
        failed.reason = Some("web-1-p02d: exited 3 3×\nno users\n".to_owned());
        let expected = "\
r8  app shop  by up
status    failed after 12s
started   2026-03-01T11:59:48Z
ended     2026-03-01T12:00:00Z
reason    web-1-p02d: exited 3 3×
  | no users
";
        assert_eq!(render_revision(&failed, PLAIN), expected);
        failed.file = Some("app \"shop\"\n".to_owned());
        let with_file = format!("{expected}\napp \"shop\"\n");
        assert_eq!(render_revision(&failed, PLAIN), with_file);
    }

    #[test]
    fn apps_show_with_their_files() {
        let app =
            AppView { app: "shop".to_owned(), revision: 8, file: "app \"shop\"\n".to_owned() };
        assert_eq!(render_apps(&[app], PLAIN), "// shop r8\napp \"shop\"\n");
        assert!(render_apps(&[], PLAIN).contains("mill up FILE"));
    }
}

//! `mill down`: stops and removes services, an app, or everything.

use super::args::DurationArg;
use super::client::{Client, Resuming};
use super::file::MillFile;
use super::follow::story::Change;
use super::follow::{Before, Follow};
use super::{Context, error::CliError};
use crate::api::wire::{RunView, ServiceView};
use crate::limits;
use crate::units::Millis;
use argh::{ArgsInfo, FromArgs};

/// Stop and remove services, the file's app, or everything. Volumes and secrets stay.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "down", help_triggers("-h", "--help"))]
pub struct DownArgs {
    /// only these services
    #[argh(positional)]
    pub services: Vec<String>,
    /// the app of this file; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// every app
    #[argh(switch)]
    pub all: bool,
    /// don't ask before removing everything
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: DownArgs, context: &Context) -> Result<(), CliError> {
    let ways = [!args.services.is_empty(), args.file.is_some(), args.all];
    if ways.iter().filter(|way| **way).count() > 1 {
        return Err(CliError::usage("Too much was said", "Name services, or -f FILE, or --all"));
    }
    let time = args.timeout.map(|timeout| timeout.0);
    if args.all {
        context.ui.confirm(args.yes, "This removes every service of every app")?;
        return everything(context, time).await;
    }
    if !args.services.is_empty() {
        if let Some(file) = args.services.iter().find(|name| name.ends_with(".mill")) {
            let hint = format!("mill down -f {file}");
            return Err(CliError::usage(format!("{file} is a file, not a service"), hint));
        }
        let client = context.client()?;
        for name in &args.services {
            service(context, &client, name, time).await?;
        }
        return Ok(());
    }
    let file = MillFile::open(context, args.file.as_deref())?;
    let spec = file.parse()?;
    let app = spec.app.to_string();
    let client = context.client()?;
    let before = Before::look(&client).await?;
    if !before.apps().contains(&app.as_str()) {
        return nothing(context, &format!("App {app} does not run: nothing to do"));
    }
    remove_app(context, &client, &before, (&app, spec.cluster.as_deref()), time).await
}

async fn everything(context: &Context, time: Option<Millis>) -> Result<(), CliError> {
    let client = context.client()?;
    let before = Before::look(&client).await?;
    let running = |app: &&str| {
        let has_tasks = before.tasks().iter().any(|task| task.app == **app);
        has_tasks || before.services().iter().any(|service| service.app == **app)
    };
    let apps: Vec<&str> = before.apps().into_iter().filter(running).collect();
    let killed = kill_spawned(&client).await?;
    if apps.is_empty() && !killed {
        return nothing(context, "Nothing runs: nothing to do");
    }
    for app in apps {
        remove_app(context, &client, &before, (app, None), time).await?;
    }
    runs_over(&client, |_| true).await
}

/// Kills what runs of images that were given with `mill spawn`; whether there was any.
pub(super) async fn kill_spawned(client: &Client) -> Result<bool, CliError> {
    let mut any = false;
    for run in client.tasks().await? {
        if run.app.is_none() && run.ended_at.is_none() {
            client.kill_task(&run.id).await?;
            any = true;
        }
    }
    Ok(any)
}

fn nothing(context: &Context, text: &str) -> Result<(), CliError> {
    if context.ui.json { Ok(()) } else { context.ui.print(text) }
}

async fn remove_app(
    context: &Context,
    client: &Client,
    before: &Before,
    (app, cluster): (&str, Option<&str>),
    time: Option<Millis>,
) -> Result<(), CliError> {
    let own = before.services().iter().filter(|service| service.app == app);
    let changes = own.map(Change::removed).collect();
    let revision = client.delete_app(app, cluster).await?.revision;
    follow(context, client, before, (app, revision), changes, time).await?;
    runs_over(client, |run| run.app.as_deref() == Some(app)).await
}

/// Waits until runs of tasks that were taken down with their app, or killed, are over.
pub(super) async fn runs_over(
    client: &Client,
    concerns: impl Fn(&RunView) -> bool,
) -> Result<(), CliError> {
    let wait = async {
        loop {
            let live = |run: &&RunView| run.ended_at.is_none() && concerns(run);
            if client.tasks().await?.iter().find(live).is_none() {
                return Ok(());
            }
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
        }
    };
    let late = || CliError::failed("A task did not end in time. Look: mill ps");
    tokio::time::timeout(limits::RUNS_OVER, wait).await.unwrap_or_else(|_| Err(late()))
}

async fn service(
    context: &Context,
    client: &Client,
    name: &str,
    time: Option<Millis>,
) -> Result<(), CliError> {
    let before = Before::look(client).await?;
    let app = before.service(name).map(|service| service.app.clone());
    let changes = before.service(name).map(Change::removed).into_iter().collect();
    let revision = client.delete_service(name).await?.revision;
    let app = app.unwrap_or_else(|| name.to_owned());
    follow(context, client, &before, (&app, revision), changes, time).await
}

async fn follow(
    context: &Context,
    client: &Client,
    before: &Before,
    (app, revision): (&str, u64),
    changes: Vec<Change>,
    time: Option<Millis>,
) -> Result<(), CliError> {
    let follow = Follow {
        context,
        client,
        app: app.to_owned(),
        revision: Some(revision),
        before: before.revision(app),
        story: before.story(context, app, changes),
    };
    let events = Resuming::new(client, Client::deployment_events(revision), true);
    follow.run(events, time).await
}

/// Follows a service's scaling: the same story with another change.
///
/// # Errors
/// As [`Follow::run`].
pub(super) async fn follow_scaled(
    context: &Context,
    client: &Client,
    before: &Before,
    (service, replicas, revision): (&ServiceView, u32, u64),
    time: Option<Millis>,
) -> Result<(), CliError> {
    let changes = vec![Change::scaled(service, replicas)];
    follow(context, client, before, (&service.app, revision), changes, time).await
}

//! `mill down`: stops and removes services, an app, or everything.

use super::client::{Client, ClientError, Resuming};
use super::duration::DurationArg;
use super::file::MillFile;
use super::follow::story::Change;
use super::follow::{Before, Follow, tasks};
use super::ps::is_ending;
use super::{Context, error::CliError};
use crate::api::wire::{ErrorCode, ErrorDocument, ErrorView, RunView, ServiceView};
use crate::limits;
use crate::units::Millis;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;

/// Stop and remove services, tasks, an app, or everything. Volumes and secrets stay.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "down", help_triggers("-h", "--help"), example = "mill down web")]
pub struct DownArgs {
    /// only these services, tasks or apps
    #[argh(positional, arg_name = "name")]
    pub services: Vec<String>,
    /// the app of this file; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// this app, without its file
    #[argh(option)]
    pub app: Option<String>,
    /// every app
    #[argh(switch)]
    pub all: bool,
    /// don't ask before removing everything
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// return as soon as it is accepted
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: DownArgs, context: &Context) -> Result<(), CliError> {
    let given = [!args.services.is_empty(), args.file.is_some(), args.app.is_some(), args.all];
    if given.iter().filter(|way| **way).count() > 1 {
        let hint = "Name services, tasks or apps, or -f FILE, or --app A, or --all";
        return Err(CliError::usage("Too much was said", hint));
    }
    let is_file = |name: &&String| name.ends_with(".mill") || name.contains('/');
    if let Some(file) = args.services.iter().find(is_file) {
        let hint = format!("mill down -f {file}");
        return Err(CliError::usage(format!("{file} is a file, not a service"), hint));
    }
    if args.all {
        context.ui.confirm(args.yes, "This removes every service of every app")?;
    }
    let file = match &given {
        [false, _, false, false] => Some(MillFile::open(context, args.file.as_deref())?.parse()?),
        _ => None,
    };
    let client = &context.client()?;
    let time = args.timeout.map(|timeout| timeout.0);
    let before = Before::look(client).await?;
    let down = Down { context, client, before, detach: args.detach, time };
    match (file, &args.app) {
        _ if args.all => down.everything().await,
        (Some(spec), _) => down.app(spec.app.as_str(), spec.cluster.as_deref()).await,
        (None, Some(app)) => down.app(app, None).await,
        (None, None) => down.named(&args.services).await,
    }
}

/// No service, task or app can be called so.
const NOBODY: &str = "-";

struct Down<'a> {
    context: &'a Context,
    client: &'a Client,
    before: Before,
    detach: bool,
    time: Option<Millis>,
}

/// What a name stands for.
enum Goes<'a> {
    /// A service or task, of an app.
    Part(&'a str, &'a str),
    /// All of an app.
    App(&'a str),
}

impl Down<'_> {
    /// What each name stands for is looked up before anything goes.
    async fn named(&self, names: &[String]) -> Result<(), CliError> {
        let mut all = Vec::new();
        for name in names {
            all.push(match self.find(name) {
                Some(found) => found,
                None => return Err(self.refusal(name).await),
            });
        }
        for one in all {
            match one {
                Goes::Part(name, app) => self.part(name, app).await?,
                Goes::App(app) => self.app(app, None).await?,
            }
        }
        Ok(())
    }

    fn find<'a>(&'a self, name: &'a str) -> Option<Goes<'a>> {
        let service = self.before.service(name).map(|service| &service.app);
        let task = self.before.tasks().iter().find(|task| task.name == name).map(|task| &task.app);
        if let Some(app) = service.or(task) {
            return Some(Goes::Part(name, app));
        }
        self.before.apps().contains(&name).then_some(Goes::App(name))
    }

    /// Why a name can't go: there is none, or who asks may not remove anything.
    async fn refusal(&self, name: &str) -> CliError {
        // Nothing has this name, also if somebody deploys meanwhile.
        match self.client.delete_service(NOBODY).await {
            Err(ClientError::Api { status: 400 | 404, .. }) | Ok(_) => {}
            Err(error) => return error.into(),
        }
        let error = ErrorView {
            code: ErrorCode::NotFound,
            message: format!("no service, task or app {name}; nothing was removed"),
            hint: Some("mill status shows what there is".to_owned()),
            details: vec![],
        };
        ClientError::Api { status: 404, document: ErrorDocument { error } }.into()
    }

    async fn everything(&self) -> Result<(), CliError> {
        let running = |app: &&str| {
            let has_tasks = self.before.tasks().iter().any(|task| task.app == **app);
            has_tasks || self.before.services().iter().any(|service| service.app == **app)
        };
        let apps: Vec<&str> = self.before.apps().into_iter().filter(running).collect();
        let killed = kill_spawned(self.client).await?;
        if apps.is_empty() && !killed {
            return self.nothing("Nothing runs: nothing to do");
        }
        for app in apps {
            self.app(app, None).await?;
        }
        self.runs_over(|_| true).await?;
        if self.detach { Ok(()) } else { ends_over(self.client).await }
    }

    async fn app(&self, app: &str, cluster: Option<&str>) -> Result<(), CliError> {
        if !self.before.apps().contains(&app) {
            return self.nothing(&format!("App {app} does not run: nothing to do"));
        }
        let services = self.before.services().iter().filter(|service| service.app == app);
        let tasks = self.before.tasks().iter().filter(|task| task.app == app);
        let changes = services.map(Change::removed);
        let changes = changes.chain(tasks.map(|task| tasks::removed(&task.name))).collect();
        let revision = self.client.delete_app(app, cluster).await?.revision;
        self.follow((app, revision), changes).await?;
        self.runs_over(|run| run.app.as_deref() == Some(app)).await
    }

    /// A service or task.
    async fn part(&self, name: &str, app: &str) -> Result<(), CliError> {
        let change = match self.before.service(name) {
            Some(service) => Change::removed(service),
            None => tasks::removed(name),
        };
        let revision = self.client.delete_service(name).await?.revision;
        self.follow((app, revision), vec![change]).await?;
        self.runs_over(|run| run.name == name).await
    }

    fn nothing(&self, text: &str) -> Result<(), CliError> {
        let ui = self.context.ui;
        if ui.json { ui.document(&json!({ "revision": null })) } else { ui.print(text) }
    }

    async fn follow(&self, (app, revision): (&str, u64), all: Vec<Change>) -> Result<(), CliError> {
        if self.detach {
            return accepted(self.context, revision);
        }
        let until = (self.time, false);
        follow(self.context, self.client, &self.before, (app, revision), all, until).await
    }

    async fn runs_over(&self, concerns: impl Fn(&RunView) -> bool) -> Result<(), CliError> {
        if self.detach { Ok(()) } else { runs_over(self.client, concerns).await }
    }
}

/// Says that a revision is accepted, to whoever doesn't wait for it.
///
/// # Errors
/// Nobody reads it.
pub(super) fn accepted(context: &Context, revision: u64) -> Result<(), CliError> {
    if context.ui.json {
        return context.ui.document(&json!({ "revision": revision }));
    }
    let text = format!("r{revision} accepted. Follow it: mill up --attach r{revision}");
    context.ui.print(&text)
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

/// Waits until no replica is about to end: also what an earlier revision took away.
pub(super) async fn ends_over(client: &Client) -> Result<(), CliError> {
    let wait = async {
        while client.allocations().await?.iter().any(is_ending) {
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
        }
        Ok(())
    };
    let late = || CliError::failed("A replica did not end in time. Look: mill ps");
    tokio::time::timeout(limits::RUNS_OVER, wait).await.unwrap_or_else(|_| Err(late()))
}

async fn follow(
    context: &Context,
    client: &Client,
    before: &Before,
    (app, revision): (&str, u64),
    changes: Vec<Change>,
    (time, wait_stopped): (Option<Millis>, bool),
) -> Result<(), CliError> {
    let follow = Follow {
        context,
        client,
        app: app.to_owned(),
        revision: Some(revision),
        before: before.revision(app),
        story: before.story(context, app, changes),
        wait_stopped,
        is_done: false,
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
    until: (Option<Millis>, bool),
) -> Result<(), CliError> {
    let changes = vec![Change::scaled(service, replicas)];
    follow(context, client, before, (&service.app, revision), changes, until).await
}

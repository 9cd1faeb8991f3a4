//! `mill rollback`: an earlier revision once more, as a new one.

use super::client::{Client, Resuming};
use super::duration::DurationArg;
use super::follow::tasks::{self, Tasks};
use super::follow::{Before, Follow, story};
use super::up::fresh_key;
use super::{Context, error::CliError};
use crate::api::wire::RollbackRequest;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;

/// Make an app what it was: a new revision with the old specifications and images.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rollback", help_triggers("-h", "--help"), example = "mill rollback r7")]
pub struct RollbackArgs {
    /// the revision, such as r7; default: the last that succeeded before what runs
    #[argh(positional)]
    pub revision: Option<String>,
    /// the app; default: the revision's, or the only one
    #[argh(option)]
    pub app: Option<String>,
    /// return as soon as it is accepted
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// follow at most that long; the deployment goes on
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// return only when what is replaced has ended, too
    #[argh(switch)]
    pub wait_stopped: bool,
}

pub(super) async fn run(args: RollbackArgs, context: &Context) -> Result<(), CliError> {
    let wanted = args.revision.as_deref().map(super::show::parse_revision).transpose()?;
    let client = context.client()?;
    let before = Before::look(&client).await?;
    let old = tasks_before(&client, &before, args.app.as_deref(), wanted).await;
    let request = RollbackRequest { revision: wanted, app: args.app };
    let revision = client.rollback(&request, &fresh_key()).await?.revision;
    if args.detach {
        if context.ui.json {
            return context.ui.document(&json!({ "revision": revision }));
        }
        let text = format!("r{revision} accepted. Follow it: mill up --attach r{revision}");
        return context.ui.print(&text);
    }
    let deployment = client.deployment(revision).await?;
    let after = Before::look(&client).await?;
    let mut changes = story::between(&deployment, before.services(), after.services());
    let app = deployment.app;
    if let (Some(old), Some(new)) = (old, after.tasks_of(&client, &app).await) {
        changes.extend(tasks::changes(&new, &old));
    }
    let follow = Follow {
        context,
        client: &client,
        revision: Some(revision),
        before: before.revision(&app),
        story: before.story(context, &app, changes),
        app,
        wait_stopped: args.wait_stopped,
        is_done: false,
    };
    let events = Resuming::new(&client, Client::deployment_events(revision), true);
    follow.run(events, args.timeout.map(|timeout| timeout.0)).await
}

/// The tasks that the app has before it goes back, if it is clear which app that is.
async fn tasks_before(
    client: &Client,
    before: &Before,
    app: Option<&str>,
    revision: Option<u64>,
) -> Option<Tasks> {
    let app = match (app, revision) {
        (Some(app), _) => app.to_owned(),
        (None, Some(revision)) => client.deployment(revision).await.ok()?.app,
        (None, None) => (*before.apps().first()?).to_owned(),
    };
    before.tasks_of(client, &app).await
}

//! `mill up`: deploys a file and follows it.

mod canary;

use super::client::{Client, ClientError, DeployOptions, Events, Resuming};
use super::file::{MillFile, either};
use super::follow::{Before, Follow, story, tasks};
use super::{Context, error::CliError};
use crate::api::wire::AcceptedEvent;
use crate::cli::duration::DurationArg;
use crate::id::WorkloadName;
use crate::spec::Spec;
use crate::spec::image::Reference;
use crate::units::Millis;
use argh::{ArgsInfo, FromArgs};

/// Deploy a file: its app is changed until it is as the file says.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "up", help_triggers("-h", "--help"), example = "mill up shop.mill")]
pub struct UpArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// return as soon as it is accepted
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// follow a deployment that is under way, such as r8
    #[argh(option)]
    pub attach: Option<String>,
    /// carry out exactly this plan, or refuse and say what has changed
    #[argh(option)]
    pub plan: Option<String>,
    /// another image for a service or task, NAME=REF
    #[argh(option)]
    pub image: Vec<String>,
    /// the file may share no name with what its app runs
    #[argh(switch)]
    pub replace: bool,
    /// let the canary under way replace the rest, without a file or with its app's
    #[argh(switch)]
    pub promote: bool,
    /// take the canary under way back
    #[argh(switch)]
    pub abort: bool,
    /// with --promote or --abort: whose canary, if several are under way
    #[argh(option)]
    pub app: Option<String>,
    /// follow at most that long, such as 5m; the deployment goes on
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// return only when what is replaced has ended, too
    #[argh(switch)]
    pub wait_stopped: bool,
}

/// How often a deploy is sent again when the connection broke before it was accepted.
const TRIES: usize = 3;

pub(super) async fn run(args: UpArgs, context: &Context) -> Result<(), CliError> {
    let time = args.timeout.map(|timeout| timeout.0);
    if args.promote || args.abort {
        return canary::end(&args, context).await;
    }
    if args.app.is_some() {
        let hint = "The file says its app: app \"shop\"";
        return Err(CliError::usage("--app goes with --promote or --abort", hint));
    }
    if let Some(revision) = &args.attach {
        return attach(revision, (time, args.wait_stopped), context).await;
    }
    let given = either(args.path.as_deref(), args.file.as_deref())?;
    let file = MillFile::open(context, given)?.complete()?;
    let mut spec = file.executable()?;
    let images = overrides(&mut spec, &args.image)?;
    let (replace, plan) = (args.replace, args.plan);
    let options = DeployOptions { replace, images, plan, idempotency_key: Some(fresh_key()) };
    let client = context.client()?;
    if args.detach {
        let accepted = client.deploy_detached(file.text.clone(), &options).await;
        let accepted = accepted.map_err(|error| placed(error, &file))?;
        return super::down::accepted(context, accepted.revision);
    }
    deploy(context, &client, &file, &spec, &options, (time, args.wait_stopped)).await
}

/// A key that no other deploy has.
pub(super) fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// Deploys and follows, for at most that long, and perhaps until what it replaces has ended.
///
/// # Errors
/// The file or the deployment is refused, or the deployment fails.
pub(super) async fn deploy(
    context: &Context,
    client: &Client,
    file: &MillFile,
    spec: &Spec,
    options: &DeployOptions,
    (time, wait_stopped): (Option<Millis>, bool),
) -> Result<(), CliError> {
    let before = Before::look(client).await?;
    let app = spec.app.to_string();
    let mut changes = story::changes(spec, before.services());
    if let Some(old) = before.tasks_of(client, &app).await {
        changes.extend(tasks::changes(&spec.tasks, &old));
    }
    let begun = begin(client, &file.text, options).await;
    let (revision, events) = begun.map_err(|error| placed(error, file))?;
    let path = Client::deployment_events(revision);
    let follow = Follow {
        context,
        client,
        revision: None,
        before: before.revision(&app),
        story: before.story(context, &app, changes),
        app,
        wait_stopped,
        is_done: false,
    };
    follow.run(Resuming::going_on(client, path, events), time).await
}

/// Sends the file until it is accepted: the key makes it one deployment however often it is sent.
async fn begin(
    client: &Client,
    text: &str,
    options: &DeployOptions,
) -> Result<(u64, Events), ClientError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let sent = async {
            let mut events = client.deploy(text.to_owned(), options).await?;
            let first = events.first().await?;
            let accepted: AcceptedEvent = first.decode()?;
            events.unread(first);
            Ok((accepted.revision, events))
        };
        match sent.await {
            Err(ClientError::Lost { .. } | ClientError::Silent { .. }) if tries < TRIES => {}
            other => return other,
        }
    }
}

async fn attach(
    revision: &str,
    until: (Option<Millis>, bool),
    context: &Context,
) -> Result<(), CliError> {
    follow(super::show::parse_revision(revision)?, until, context).await
}

async fn follow(
    revision: u64,
    (time, wait_stopped): (Option<Millis>, bool),
    context: &Context,
) -> Result<(), CliError> {
    let client = context.client()?;
    let before = Before::look(&client).await?;
    let deployment = client.deployment(revision).await?;
    let app = deployment.app;
    let follow = Follow {
        context,
        client: &client,
        revision: Some(revision),
        before: None,
        story: before.story(context, &app, vec![]),
        app,
        wait_stopped,
        is_done: false,
    };
    let path = Client::deployment_events(revision);
    follow.run(Resuming::new(&client, path, true), time).await
}

/// Puts `--image` into the file's services, so that what is shown is what is sent.
pub(super) fn overrides(spec: &mut Spec, images: &[String]) -> Result<Vec<String>, CliError> {
    for image in images {
        let hint = "Write it as --image NAME=REF";
        let Some((name, reference)) = image.split_once('=') else {
            return Err(CliError::usage(format!("--image {image} names no service or task"), hint));
        };
        if let Err(why) = Reference::parse(reference) {
            return Err(CliError::usage(format!("--image {image}: {why}"), hint));
        }
        let name = WorkloadName::from(name);
        let service = spec.services.get_mut(&name).map(|service| &mut service.run);
        let Some(run) = service.or(spec.tasks.get_mut(&name).map(|task| &mut task.run)) else {
            let message = format!("--image {image}: the file has no service or task \"{name}\"");
            return Err(CliError::usage(message, hint));
        };
        reference.clone_into(&mut run.image);
    }
    Ok(images.to_vec())
}

/// A refusal of the file, shown at its places in the file.
pub(super) fn placed(error: ClientError, file: &MillFile) -> CliError {
    match error {
        ClientError::Api { status: 422, mut document } if !document.error.details.is_empty() => {
            file.place(&mut document.error.details);
            CliError::Refused {
                name: file.name.clone(),
                text: file.written().to_owned(),
                document: Box::new(document),
            }
        }
        other => other.into(),
    }
}

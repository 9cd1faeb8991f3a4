//! `mill up --promote` and `--abort`: a canary that a person ends.
//!
//! Never judges one.

use super::{UpArgs, follow, fresh_key};
use crate::api::wire::{CanaryStage, DeploymentStatus};
use crate::cli::client::Client;
use crate::cli::file::{MillFile, either};
use crate::cli::{Context, error::CliError};
use serde_json::json;

/// Ends the canaries of an app and follows what comes of it.
///
/// # Errors
/// None is under way, or it isn't clear whose.
pub(super) async fn end(args: &UpArgs, context: &Context) -> Result<(), CliError> {
    let others = args.attach.is_some() || args.plan.is_some() || !args.image.is_empty();
    if args.promote && args.abort || others || args.replace {
        let hint = "Write mill up --promote, or mill up --abort";
        return Err(CliError::usage("one of --promote and --abort stands alone", hint));
    }
    let client = context.client()?;
    let app = app(args, context, &client).await?;
    let revision = client.end_canaries(&app, args.promote, &fresh_key()).await?.revision;
    if args.detach {
        if context.ui.json {
            return context.ui.document(&json!({ "revision": revision }));
        }
        let what = if args.promote { "promoted" } else { "taken back" };
        let text = format!("r{revision} is {what}. Follow it: mill up --attach r{revision}");
        return context.ui.print(&text);
    }
    let ended = follow(revision, args.timeout.map(|timeout| timeout.0), context).await;
    // That it is aborted is what was asked for.
    match ended {
        Err(CliError::Said { .. } | CliError::Failed { .. }) if args.abort => {
            let status = client.deployment(revision).await?.status;
            if status == DeploymentStatus::Aborted { Ok(()) } else { ended }
        }
        ended => ended,
    }
}

/// Whose canary: what is said, the file's, or the only one under way.
async fn app(args: &UpArgs, context: &Context, client: &Client) -> Result<String, CliError> {
    if let Some(app) = &args.app {
        return Ok(app.clone());
    }
    if let Some(given) = either(args.path.as_deref(), args.file.as_deref())? {
        return Ok(MillFile::open(context, Some(given))?.parse()?.app.to_string());
    }
    let apps = client.status().await?.apps;
    let is_over =
        |stage: &CanaryStage| matches!(stage, CanaryStage::Promoted | CanaryStage::TakenBack);
    let waiting = apps.iter().filter(|app| {
        let newest = app.deployment.as_ref().filter(|one| one.status == DeploymentStatus::Running);
        newest.is_some_and(|newest| newest.canaries.iter().any(|one| !is_over(&one.stage)))
    });
    let names: Vec<&str> = waiting.map(|app| app.name.as_str()).collect();
    match names.as_slice() {
        [] => {
            Err(CliError::failed("No canary is under way. mill history shows what became of one"))
        }
        [one] => Ok((*one).to_owned()),
        several => {
            let message = format!("Canaries of {} are under way", several.join(", "));
            Err(CliError::usage(message, "Say which: --app APP"))
        }
    }
}

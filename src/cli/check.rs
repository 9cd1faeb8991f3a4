//! `mill check`: what is wrong with a file, without a daemon.

use super::file::{MillFile, either};
use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};
use serde_json::json;

/// Check a file without a daemon.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help"))]
pub struct CheckArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
}

pub(super) fn run(args: CheckArgs, context: &Context) -> Result<(), CliError> {
    let given = either(args.path.as_deref(), args.file.as_deref())?;
    let file = MillFile::open(context, given)?.complete()?;
    let spec = file.parse()?;
    let (services, tasks) = (spec.services.len(), spec.tasks.len());
    if context.ui.json {
        let app = spec.app.as_str();
        let found = json!({ "valid": true, "app": app, "services": services, "tasks": tasks });
        return context.ui.document(&found);
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (services, tasks) = (count(services, "service"), count(tasks, "task"));
    context.ui.print(&format!("{}: valid: {services}, {tasks}", file.name))
}

//! `mill check`: what is wrong with files, without a daemon.
//!
//! Owns what is said of a file that is valid. Never reaches a daemon.

use super::file::MillFile;
use super::ui::CHANGE;
use super::{Context, error::CliError};
use crate::spec::{Report, Spec};
use argh::{ArgsInfo, FromArgs};
use serde_json::{Value, json};

/// Check files without a daemon.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help"), example = "mill check shop.mill")]
pub struct CheckArgs {
    /// files, or directories of them; without one the only *.mill file here
    #[argh(positional, arg_name = "file")]
    pub path: Vec<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
}

pub(super) fn run(args: CheckArgs, context: &Context) -> Result<(), CliError> {
    if args.file.is_some() && !args.path.is_empty() {
        return Err(CliError::usage("Two files were given", "Pass FILE or -f FILE"));
    }
    let given: Vec<String> = args.path.into_iter().chain(args.file).collect();
    let mut files = MillFile::open_all(context, &given)?;
    if files.len() == 1 {
        let file = files.remove(0)?;
        let found = check(file, context)?;
        return if context.ui.json { context.ui.document(&found) } else { Ok(()) };
    }
    let (mut all, mut failed) = (Vec::new(), None);
    for file in files {
        match file.and_then(|file| check(file, context)) {
            Ok(found) => all.push(found),
            Err(error) if context.ui.json => {
                all.push(json!({ "valid": false, "error": error.document().error }));
                failed = Some(error.code());
            }
            Err(error) => {
                context.ui.note(&context.ui.report(&error.text()));
                failed = Some(error.code());
            }
        }
    }
    if context.ui.json {
        context.ui.document(&all)?;
    }
    failed.map_or(Ok(()), |code| Err(CliError::Said { code }))
}

/// Checks a file; says that it is valid, and what of it this build can't run.
fn check(file: MillFile, context: &Context) -> Result<Value, CliError> {
    let file = file.complete()?;
    let (spec, unsupported) = file.judged()?;
    if context.ui.json {
        return Ok(document(&spec, unsupported.as_ref()));
    }
    if let Some(report) = &unsupported {
        context.ui.note(&context.ui.report(&warned(report)));
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let services = count(spec.services.len(), "service");
    let tasks = count(spec.tasks.len(), "task");
    let warnings = unsupported.map_or(0, |report| report.problems.len() + report.more);
    let warnings = match warnings {
        0 => String::new(),
        n => context.ui.paint(CHANGE, &format!(", {}", count(n, "warning"))),
    };
    context.ui.print(&format!("{}: valid: {services}, {tasks}{warnings}", file.name))?;
    Ok(Value::Null)
}

fn document(spec: &Spec, unsupported: Option<&Report>) -> Value {
    let (app, services, tasks) = (spec.app.as_str(), spec.services.len(), spec.tasks.len());
    let mut found = json!({ "valid": true, "app": app, "services": services, "tasks": tasks });
    if let (Some(report), Value::Object(fields)) = (unsupported, &mut found) {
        fields.insert("warnings".to_owned(), json!(report.details()));
    }
    found
}

/// The report's text, each problem as a warning.
fn warned(report: &Report) -> String {
    let text = report.to_string();
    let head = format!("{}:", report.file);
    let line = |line: &str| {
        let (place, message) = line.split_once(": ").filter(|_| line.starts_with(&head))?;
        Some(format!("{place}: warning: {message}"))
    };
    let lines = text.lines().map(|text| line(text).unwrap_or_else(|| text.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Source, Span};

    #[test]
    fn what_this_build_cant_run_is_a_warning() {
        let source = Source::new("a.mill", "service \"web\" {\n    canary 1\n}\n");
        let problem = source.problem(Span::new(20, 26), "can't run canaries yet", None);
        let text = warned(&source.report(vec![problem]));
        assert!(text.starts_with("a.mill:2:5: warning: can't run canaries yet\n  2 | "), "{text}");
    }
}

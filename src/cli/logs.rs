//! `mill logs`: what programs wrote, merged over replicas and nodes.

use super::args::DurationArg;
use super::client::{Client, Resuming, escape, query};
use super::ui::{CHANGE, FAINT, Ui};
use super::{Context, error::CliError, shown};
use crate::api::wire::LogLineView;
use argh::{ArgsInfo, FromArgs};

/// Show what programs wrote: of services, tasks and allocations, merged by time.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "logs", help_triggers("-h", "--help"))]
pub struct LogsArgs {
    /// services, tasks or allocations
    #[argh(positional)]
    pub names: Vec<String>,
    /// go on with what is written from now on
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// only the last so many lines
    #[argh(option, short = 'n')]
    pub tail: Option<u32>,
    /// only what is younger, such as 10m
    #[argh(option)]
    pub since: Option<DurationArg>,
    /// of the attempt before the last restart
    #[argh(switch, short = 'p')]
    pub previous: bool,
    /// of everything
    #[argh(switch)]
    pub all: bool,
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> Result<(), CliError> {
    let path = path(&args)?;
    let client = context.client()?;
    show(context, &client, path, args.follow).await
}

/// Where the lines are asked for; the daemon merges them.
fn path(args: &LogsArgs) -> Result<String, CliError> {
    match (args.all, args.names.is_empty()) {
        (true, false) => {
            return Err(CliError::usage("--all takes no names", "See mill logs --help"));
        }
        (false, true) => {
            return Err(CliError::usage("Whose logs?", "mill logs NAME, or mill logs --all"));
        }
        _ => {}
    }
    let mut pairs = vec![
        ("follow", args.follow.then(|| "true".to_owned())),
        ("tail", args.tail.map(|tail| tail.to_string())),
        ("since", args.since.map(|since| since.0.to_string())),
        ("previous", args.previous.then(|| "true".to_owned())),
    ];
    if let [name] = args.names.as_slice() {
        return Ok(query(&format!("/v1/logs/{}", escape(name)), &pairs));
    }
    pairs.extend(args.names.iter().map(|name| ("name", Some(name.clone()))));
    Ok(query("/v1/logs", &pairs))
}

/// Shows a stream of lines until it ends.
///
/// # Errors
/// The daemon refuses or is gone.
pub(super) async fn show(
    context: &Context,
    client: &Client,
    path: String,
    follow: bool,
) -> Result<(), CliError> {
    let mut lines = Resuming::lines(client, path, follow);
    while let Some(event) = lines.next().await? {
        print(context.ui, &event.decode()?)?;
    }
    Ok(())
}

fn print(ui: Ui, line: &LogLineView) -> Result<(), CliError> {
    if ui.json { ui.json_line(line) } else { ui.print(&render(line, ui)) }
}

/// A line as people read it: `12:04:01.220 web-0-k3f9 n1 | GET / 200 3ms`.
pub fn render(line: &LogLineView, ui: Ui) -> String {
    let LogLineView { ts, stream, line: text, allocation, node, .. } = line;
    if stream == "event" && allocation.is_empty() {
        // Of a node, which the text names.
        return ui.paint(CHANGE, &format!("--- {text}"));
    }
    if stream == "event" {
        return ui.paint(CHANGE, &format!("--- {allocation} {text}"));
    }
    let head = ui.paint(FAINT, &format!("{} {allocation} {node} |", clock(ts)));
    // Into a pipe it goes as the program wrote it.
    if ui.live { format!("{head} {}", shown::line(text)) } else { format!("{head} {text}") }
}

/// The time of day of an RFC 3339 time, in UTC, to milliseconds.
fn clock(ts: &str) -> String {
    let Ok(time) = ts.parse::<jiff::Timestamp>() else { return ts.to_owned() };
    let ms = time.as_millisecond().rem_euclid(86_400_000);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::PLAIN;

    fn line(stream: &str, text: &str) -> LogLineView {
        LogLineView {
            ts: "2026-03-01T12:04:01.220Z".to_owned(),
            stream: stream.to_owned(),
            line: text.to_owned(),
            bytes: None,
            open: false,
            allocation: "web-0-k3f9".to_owned(),
            node: "n1".to_owned(),
        }
    }

    fn args(names: &[&str]) -> LogsArgs {
        LogsArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            follow: true,
            tail: Some(20),
            since: Some(DurationArg(crate::units::Millis(1500))),
            previous: false,
            all: false,
        }
    }

    #[test]
    fn lines_read_as_documented() {
        let expected = "12:04:01.220 web-0-k3f9 n1 | GET / 200 3ms";
        assert_eq!(render(&line("stdout", "GET / 200 3ms"), PLAIN), expected);
        let event = render(&line("event", "exited 1, restarting in 5s"), PLAIN);
        assert_eq!(event, "--- web-0-k3f9 exited 1, restarting in 5s");
    }

    #[test]
    fn names_are_asked_for_in_one_stream() {
        let rest = "follow=true&tail=20&since=1500ms";
        assert_eq!(path(&args(&["web"])).unwrap(), format!("/v1/logs/web?{rest}"));
        let both = format!("/v1/logs?{rest}&name=web&name=db");
        assert_eq!(path(&args(&["web", "db"])).unwrap(), both);
        assert_eq!(path(&args(&[])).unwrap_err().code(), 2);
        let all = LogsArgs { all: true, follow: false, tail: None, since: None, ..args(&[]) };
        assert_eq!(path(&all).unwrap(), "/v1/logs");
        assert_eq!(path(&LogsArgs { all: true, ..args(&["web"]) }).unwrap_err().code(), 2);
    }
}

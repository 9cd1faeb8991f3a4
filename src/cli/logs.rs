//! `mill logs`: what programs wrote, merged over replicas and nodes.

use super::args::DurationArg;
use super::client::{Client, Resuming, escape, query};
use super::ui::{CHANGE, FAINT, Ui};
use super::{Context, error::CliError};
use crate::wire::LogLineView;
use argh::{ArgsInfo, FromArgs};
use futures_util::stream::{FuturesUnordered, StreamExt};

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
    let paths = paths(&args)?;
    let client = context.client()?;
    show(context, &client, paths, args.follow, args.tail).await
}

/// Where the lines are asked for: one stream a name.
fn paths(args: &LogsArgs) -> Result<Vec<String>, CliError> {
    let pairs = [
        ("follow", args.follow.then(|| "true".to_owned())),
        ("tail", args.tail.map(|tail| tail.to_string())),
        ("since", args.since.map(|since| format!("{}", since.0.0 as f64 / 1000.0))),
        ("previous", args.previous.then(|| "true".to_owned())),
    ];
    match (args.all, args.names.is_empty()) {
        (true, true) => Ok(vec![query("/v1/logs", &pairs)]),
        (false, false) => Ok(args
            .names
            .iter()
            .map(|name| query(&format!("/v1/logs/{}", escape(name)), &pairs))
            .collect()),
        (true, false) => Err(CliError::usage("--all takes no names", "See mill logs --help")),
        (false, true) => Err(CliError::usage("Whose logs?", "mill logs NAME, or mill logs --all")),
    }
}

/// Shows the lines of these streams until they end.
///
/// # Errors
/// The daemon refuses or is gone.
pub(super) async fn show(
    context: &Context,
    client: &Client,
    paths: Vec<String>,
    follow: bool,
    tail: Option<u32>,
) -> Result<(), CliError> {
    let streams: Vec<Resuming<'_>> =
        paths.into_iter().map(|path| Resuming::new(client, path, follow)).collect();
    if streams.len() > 1 && !follow {
        return merged(context, streams, tail).await;
    }
    let mut next: FuturesUnordered<_> = streams.into_iter().map(step).collect();
    while let Some(stepped) = next.next().await {
        let (stream, line) = stepped?;
        if let Some(line) = line {
            print(context.ui, &line)?;
            next.push(step(stream));
        }
    }
    Ok(())
}

type Stepped<'a> = Result<(Resuming<'a>, Option<LogLineView>), CliError>;

/// The stream's next line; none at its end.
async fn step(mut stream: Resuming<'_>) -> Stepped<'_> {
    while let Some(event) = stream.next().await? {
        if let Ok(line) = event.decode::<LogLineView>() {
            return Ok((stream, Some(line)));
        }
    }
    Ok((stream, None))
}

/// All streams to their ends, merged by time.
async fn merged(
    context: &Context,
    streams: Vec<Resuming<'_>>,
    tail: Option<u32>,
) -> Result<(), CliError> {
    let mut heads = Vec::new();
    for stream in streams {
        let (stream, line) = step(stream).await?;
        heads.extend(line.map(|line| (line, stream)));
    }
    let mut held = std::collections::VecDeque::new();
    while let Some(at) = (0..heads.len()).min_by(|a, b| heads[*a].0.ts.cmp(&heads[*b].0.ts)) {
        let (line, stream) = heads.swap_remove(at);
        match tail {
            // Each stream has its own last lines: those of all are the last of them together.
            Some(tail) => {
                held.push_back(line);
                if held.len() > tail as usize {
                    held.pop_front();
                }
            }
            None => print(context.ui, &line)?,
        }
        let (stream, line) = step(stream).await?;
        heads.extend(line.map(|line| (line, stream)));
    }
    held.iter().try_for_each(|line| print(context.ui, line))
}

fn print(ui: Ui, line: &LogLineView) -> Result<(), CliError> {
    if ui.json { ui.json_line(line) } else { ui.print(&render(line, ui)) }
}

/// A line as people read it: `12:04:01.220 web-0-k3f9 n1 | GET / 200 3ms`.
pub fn render(line: &LogLineView, ui: Ui) -> String {
    let LogLineView { ts, stream, line: text, allocation, node } = line;
    if stream == "event" {
        return ui.paint(CHANGE, &format!("--- {allocation} {text}"));
    }
    let head = ui.paint(FAINT, &format!("{} {allocation} {node} |", clock(ts)));
    format!("{head} {text}")
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
    fn each_name_is_a_stream() {
        let expected = [
            "/v1/logs/web?follow=true&tail=20&since=1.5",
            "/v1/logs/db?follow=true&tail=20&since=1.5",
        ];
        assert_eq!(paths(&args(&["web", "db"])).unwrap(), expected);
        assert_eq!(paths(&args(&[])).unwrap_err().code(), 2);
        let all = LogsArgs { all: true, follow: false, tail: None, since: None, ..args(&[]) };
        assert_eq!(paths(&all).unwrap(), ["/v1/logs"]);
    }
}

//! `mill logs`: what programs wrote, merged over replicas and nodes.

use super::client::{Client, Resuming, escape, query};
use super::clock::Clock;
use super::table::NONE;
use super::ui::{CHANGE, FAINT, Ui};
use super::{Context, error::CliError, shown};
use crate::api::wire::{LogLineView, LogStream};
use argh::{ArgsInfo, FromArgs};

/// Show what programs wrote: of services, tasks, apps and allocations, merged by time.
#[derive(Clone, Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "logs",
    help_triggers("-h", "--help"),
    example = "mill logs web -f --since 10m"
)]
pub struct LogsArgs {
    /// services, tasks, apps or allocations
    #[argh(positional)]
    pub names: Vec<String>,
    /// go on with what is written from now on
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// only the last so many lines
    #[argh(option, short = 'n')]
    pub tail: Option<u32>,
    /// only what is younger: 10m, 14:30, 2026-03-01 or 2026-03-01T14:30
    #[argh(option)]
    pub since: Option<String>,
    /// only lines with this text in them
    #[argh(option)]
    pub grep: Option<String>,
    /// times in UTC instead of this machine's zone
    #[argh(switch)]
    pub utc: bool,
    /// of the last attempt that has ended; of a task its last run
    #[argh(switch, short = 'p')]
    pub previous: bool,
    /// of everything
    #[argh(switch)]
    pub all: bool,
    /// the requests that proxies took, of these services or all
    #[argh(switch)]
    pub access: bool,
}

pub(super) async fn run(args: LogsArgs, context: &Context) -> Result<(), CliError> {
    let clock = Clock::new(args.utc);
    let path = path(&args, &clock)?;
    let client = context.client()?;
    let mut lines = Resuming::lines(&client, path, args.follow);
    while let Some(event) = lines.next().await? {
        print(context.ui, &event.decode()?, &clock)?;
    }
    Ok(())
}

/// Where the lines are asked for; the daemon merges them.
fn path(args: &LogsArgs, clock: &Clock) -> Result<String, CliError> {
    if args.access && args.previous {
        return Err(CliError::usage("--access takes no --previous", "See mill logs --help"));
    }
    match (args.all || args.access, args.names.is_empty()) {
        (true, false) if args.access && !args.all => {}
        (true, false) => {
            return Err(CliError::usage("--all takes no names", "See mill logs --help"));
        }
        (false, true) => {
            return Err(CliError::usage("Whose logs?", "mill logs NAME, or mill logs --all"));
        }
        _ => {}
    }
    let since = args.since.as_deref().map(|text| clock.since(text)).transpose()?;
    let mut pairs = vec![
        ("follow", args.follow.then(|| "true".to_owned())),
        ("tail", args.tail.map(|tail| tail.to_string())),
        ("since", since),
        ("grep", args.grep.clone().filter(|text| !text.is_empty())),
        ("previous", args.previous.then(|| "true".to_owned())),
        ("access", args.access.then(|| "true".to_owned())),
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
    let clock = Clock::new(false);
    let mut lines = Resuming::lines(client, path, follow);
    while let Some(event) = lines.next().await? {
        print(context.ui, &event.decode()?, &clock)?;
    }
    Ok(())
}

fn print(ui: Ui, line: &LogLineView, clock: &Clock) -> Result<(), CliError> {
    if ui.json {
        return ui.json_line(line);
    }
    let text = render(line, ui, clock);
    // That a node's lines are missing is none of the lines that were asked for.
    if !is_of_node(line) {
        return ui.print(&text);
    }
    ui.note(&text);
    Ok(())
}

fn is_of_node(line: &LogLineView) -> bool {
    line.stream == LogStream::Event && line.allocation.is_empty()
}

/// A line as people read it: `12:04:01.220 web-0-k3f9 n1 | GET / 200 3ms`.
pub fn render(line: &LogLineView, ui: Ui, clock: &Clock) -> String {
    let LogLineView { ts, stream, line: text, allocation, node, .. } = line;
    if is_of_node(line) {
        // Of a node, which the text names.
        return ui.paint(CHANGE, &format!("--- {text}"));
    }
    if *stream == LogStream::Event {
        return ui.paint(CHANGE, &format!("--- {allocation} {text}"));
    }
    let allocation = if allocation.is_empty() { NONE } else { allocation };
    let head = ui.paint(FAINT, &format!("{} {allocation} {node} |", clock.shown(ts)));
    // Into a pipe it goes as the program wrote it.
    if ui.live { format!("{head} {}", shown::line(text)) } else { format!("{head} {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::PLAIN;

    fn clock() -> Clock {
        Clock::at("2026-03-01T14:00:00Z".parse().unwrap(), jiff::tz::TimeZone::UTC)
    }

    fn line(stream: &str, text: &str) -> LogLineView {
        LogLineView {
            ts: "2026-03-01T12:04:01.220Z".to_owned(),
            stream: stream.into(),
            line: text.to_owned(),
            bytes: None,
            open: false,
            allocation: "web-0-k3f9".to_owned(),
            node: "n1".to_owned(),
            access: None,
        }
    }

    fn args(names: &[&str]) -> LogsArgs {
        LogsArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            follow: true,
            tail: Some(20),
            since: Some("1500ms".to_owned()),
            grep: None,
            utc: true,
            previous: false,
            all: false,
            access: false,
        }
    }

    #[test]
    fn lines_read_as_documented() {
        let expected = "12:04:01.220 web-0-k3f9 n1 | GET / 200 3ms";
        assert_eq!(render(&line("stdout", "GET / 200 3ms"), PLAIN, &clock()), expected);
        let event = render(&line("event", "exited 1, restarting in 5s"), PLAIN, &clock());
        assert_eq!(event, "--- web-0-k3f9 exited 1, restarting in 5s");
    }

    #[test]
    fn names_are_asked_for_in_one_stream() {
        let rest = "follow=true&tail=20&since=1500ms";
        assert_eq!(path(&args(&["web"]), &clock()).unwrap(), format!("/v1/logs/web?{rest}"));
        let both = format!("/v1/logs?{rest}&name=web&name=db");
        assert_eq!(path(&args(&["web", "db"]), &clock()).unwrap(), both);
        assert_eq!(path(&args(&[]), &clock()).unwrap_err().code(), 2);
        let all = LogsArgs { all: true, follow: false, tail: None, since: None, ..args(&[]) };
        assert_eq!(path(&all, &clock()).unwrap(), "/v1/logs");
        let access = LogsArgs { access: true, ..all.clone() };
        assert_eq!(path(&access, &clock()).unwrap(), "/v1/logs?access=true");
        let of_web = LogsArgs { access: true, ..args(&["web"]) };
        let expected = format!("/v1/logs/web?{rest}&access=true");
        assert_eq!(path(&of_web, &clock()).unwrap(), expected);
        let both = LogsArgs { previous: true, ..of_web };
        assert_eq!(path(&both, &clock()).unwrap_err().code(), 2);
        let grep = LogsArgs { grep: Some("a b".to_owned()), ..all };
        assert_eq!(path(&grep, &clock()).unwrap(), "/v1/logs?grep=a%20b");
        let all_and_one = LogsArgs { all: true, ..args(&["web"]) };
        assert_eq!(path(&all_and_one, &clock()).unwrap_err().code(), 2);
    }
}

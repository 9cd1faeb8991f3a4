//! `mill spawn` and `mill kill`: a task or an image, run once.
//!
//! Owns the exit codes of a run that is waited for. Never runs anything itself.

use super::client::{Client, ClientError, Resuming, escape, patiently, query};
use super::duration::DurationArg;
use super::up::fresh_key;
use super::{Context, error::CliError, shown};
use crate::api::wire::{ExitReason, LogLineView, LogStream, RunView, SpawnRequest};
use crate::units::{Bytes, Millis};
use argh::{ArgsInfo, FromArgs};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// mill's own failure, as in Docker.
const FAILED: u8 = 125;
/// The program timed out.
const TIMED_OUT: u8 = 124;
/// The program was killed before it could say anything.
const KILLED: u8 = 128 + 9;

/// Run a task of a file, or an image, once: mill spawn migrate --wait.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "spawn",
    help_triggers("-h", "--help"),
    note = "With --wait it exits with the program's code; 124 if it timed out, 125 if mill \
            failed, 126 if the program can't be executed, 127 if it isn't there.",
    example = "mill spawn --image busybox --wait date"
)]
pub struct SpawnArgs {
    /// the task; with --image: the program and its arguments, behind the flags
    #[argh(positional)]
    pub names: Vec<String>,
    /// run this image instead of a task
    #[argh(option)]
    pub image: Option<String>,
    /// cores for the image, such as 0.5
    #[argh(option)]
    pub cpu: Option<f64>,
    /// memory for the image, such as 512M
    #[argh(option)]
    pub memory: Option<String>,
    /// kill the image's program after that long, such as 10m; default 1h
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// a variable, K=V; may repeat
    #[argh(option, short = 'e')]
    pub env: Vec<String>,
    /// show what it writes and exit with its code
    #[argh(switch, short = 'w')]
    pub wait: bool,
}

/// Kill a run of a task: its program is asked to end, then killed.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "kill",
    help_triggers("-h", "--help"),
    example = "mill kill migrate-k3f9"
)]
pub struct KillArgs {
    /// runs' ids, the begin of them, or tasks that run once
    #[argh(positional)]
    pub id: Vec<String>,
}

pub(super) async fn kill(args: KillArgs, context: &Context) -> Result<(), CliError> {
    if args.id.is_empty() {
        return Err(CliError::usage("Which run?", "mill kill ID; mill ps shows them"));
    }
    let client = context.client()?;
    let mut killed = Vec::new();
    for id in &args.id {
        let run = client.kill_task(id).await?;
        let text = if run.status.is_ended() { "killed" } else { "is being stopped" };
        if !context.ui.json {
            context.ui.print(&format!("{} {text}", run.id))?;
        }
        killed.push(run);
    }
    match killed.as_slice() {
        _ if !context.ui.json => Ok(()),
        [run] => context.ui.document(run),
        several => context.ui.document(&several),
    }
}

pub(super) async fn run(args: SpawnArgs, context: &Context) -> Result<(), CliError> {
    let wait = args.wait;
    let request = request(args)?;
    if !wait {
        let run = spawn(&context.client()?, &request).await?;
        if context.ui.json {
            return context.ui.document(&run);
        }
        return context.ui.print(&run.id);
    }
    let code = match session(&request, context).await {
        Ok(code) => code,
        Err(error @ CliError::Interrupted) => return Err(error),
        Err(error) => {
            // What the program gave and what mill did are told apart by the code.
            if context.ui.json {
                context.ui.note(&serde_json::to_string(&error.document()).unwrap_or_default());
            } else if !error.is_silent() {
                context.ui.note(&error.text());
            }
            FAILED
        }
    };
    if code == 0 { Ok(()) } else { Err(CliError::Said { code }) }
}

/// What is sent.
fn request(args: SpawnArgs) -> Result<SpawnRequest, CliError> {
    let mut request =
        SpawnRequest { env: env(&args.env)?, image: args.image, ..SpawnRequest::default() };
    if request.image.is_some() {
        request.command = Some(args.names).filter(|command| !command.is_empty());
        request.cpu = args.cpu;
        let size = |text: String| {
            let bad = |_| CliError::usage(format!("--memory {text}"), "Write it as 512M");
            Bytes::parse(&text).map(|bytes| bytes.0).map_err(bad)
        };
        request.memory = args.memory.map(size).transpose()?;
        request.timeout = args.timeout.map(|timeout| timeout.0.duration().as_secs_f64());
        return Ok(request);
    }
    if args.cpu.is_some() || args.memory.is_some() || args.timeout.is_some() {
        let message = "--cpu, --memory and --timeout go with --image; a task has the file's";
        return Err(CliError::usage(message, "See mill spawn --help"));
    }
    match <[String; 1]>::try_from(args.names) {
        Ok([task]) => request.task = Some(task),
        Err(names) if names.is_empty() => {
            let hint = "mill spawn TASK, or mill spawn --image IMAGE CMD";
            return Err(CliError::usage("Which task?", hint));
        }
        Err(_) => {
            let message = "a task runs the file's command";
            return Err(CliError::usage(message, "mill spawn --image IMAGE CMD runs another"));
        }
    }
    Ok(request)
}

fn env(pairs: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let pair = |text: &String| {
        let found = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let bad = || CliError::usage(format!("--env {text} is no variable"), "Write --env K=V");
        found.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(bad)
    };
    pairs.iter().map(pair).collect()
}

/// Sends it until it is answered: the key makes it one run however often it is sent.
async fn spawn(client: &Client, request: &SpawnRequest) -> Result<RunView, ClientError> {
    let key = fresh_key();
    match client.spawn_task(request, &key).await {
        Err(error) if error.is_lost() => {
            patiently(async || client.spawn_task(request, &key).await).await
        }
        other => other,
    }
}

async fn session(request: &SpawnRequest, context: &Context) -> Result<u8, CliError> {
    let client = context.client()?;
    let run = spawn(&client, request).await?;
    let id = run.id;
    context.farewell(Some(format!(
        "{id} goes on. Its lines: mill logs -f {id}; end it: mill kill {id}"
    )));
    let pairs = [("follow", Some("true".to_owned()))];
    let path = query(&format!("/v1/logs/{}", escape(&id)), &pairs);
    let mut lines = Resuming::lines(&client, path, false).without_timeout();
    let ended = loop {
        match lines.next().await? {
            Some(event) => print(context, &event.decode()?)?,
            // The stream ends with the run, and where the daemon was stopped.
            None => {
                let now = patiently(async || client.task(&id).await).await?;
                if now.ended_at.is_some() {
                    break now;
                }
                lines.again().await;
            }
        }
    };
    context.farewell(None);
    if context.ui.json {
        context.ui.json_line(&ended)?;
    }
    let (code, said) = verdict(&ended);
    if let Some(text) = said.filter(|_| !context.ui.json) {
        context.ui.note(&format!("{id} {text}"));
    }
    Ok(code)
}

/// What the program wrote comes out where the program wrote it, byte for byte; on a terminal,
/// where control characters would do harm, as people can read it.
fn print(context: &Context, line: &LogLineView) -> Result<(), CliError> {
    if context.ui.json {
        return context.ui.json_line(line);
    }
    match line.stream {
        LogStream::Stdout => write(&mut io::stdout().lock(), line, context.ui.live),
        LogStream::Stderr => write(&mut io::stderr().lock(), line, io::stderr().is_terminal()),
        _ => Ok(()),
    }
}

fn write(to: &mut impl io::Write, line: &LogLineView, for_people: bool) -> Result<(), CliError> {
    let mut bytes = match &line.bytes {
        _ if for_people => shown::line(&line.line).into_owned().into_bytes(),
        Some(coded) => STANDARD.decode(coded).unwrap_or_default(),
        None => line.line.clone().into_bytes(),
    };
    bytes.extend((!line.open).then_some(b'\n'));
    to.write_all(&bytes).and_then(|()| to.flush()).map_err(|source| CliError::Output { source })
}

/// The exit code, and what is said where the program itself did not fail.
fn verdict(run: &RunView) -> (u8, Option<String>) {
    let Some(exit) = &run.exit else { return (FAILED, Some(run.status.to_string())) };
    let code = exit.code.and_then(|code| u8::try_from(code).ok());
    let message = exit.message.clone().unwrap_or_default();
    let because = |what: &str| {
        Some(if message.is_empty() { what.to_owned() } else { format!("{what}: {message}") })
    };
    match exit.reason {
        ExitReason::Completed => (0, None),
        ExitReason::Error => (code.unwrap_or(1), None),
        ExitReason::Timeout => (TIMED_OUT, Some(timed_out(run))),
        ExitReason::Oom => (code.unwrap_or(KILLED), Some("out of memory".to_owned())),
        ExitReason::Killed => (code.unwrap_or(KILLED), Some("was killed".to_owned())),
        ExitReason::StartFailed => (code.unwrap_or(FAILED), because("could not be started")),
        ExitReason::PullFailed => (FAILED, because("image could not be pulled")),
        ExitReason::Lost | ExitReason::Other(_) => (FAILED, because("was lost")),
    }
}

/// After how long it was ended.
fn timed_out(run: &RunView) -> String {
    let timeout = run.timeout.and_then(|s| Duration::try_from_secs_f64(s).ok()).map(Millis::from);
    timeout.map_or_else(|| "timed out".to_owned(), |after| format!("timed out after {after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::ExitView;

    fn ended(reason: &str, code: Option<i32>, message: &str) -> RunView {
        let message = Some(message.to_owned()).filter(|text| !text.is_empty());
        RunView {
            id: "t-k3f9".to_owned(),
            name: "t".to_owned(),
            app: None,
            image: "busybox".to_owned(),
            cause: "spawned".into(),
            due: None,
            revision: None,
            node: Some("n1".to_owned()),
            status: "failed".into(),
            created_at: "2026-03-01T12:00:00Z".to_owned(),
            started_at: None,
            ended_at: Some("2026-03-01T12:00:00Z".to_owned()),
            message: None,
            timeout: Some(2.0),
            exit: Some(ExitView { code, reason: reason.into(), message }),
        }
    }

    #[yare::parameterized(
        completed = { "completed", Some(0), "", 0 },
        error = { "error", Some(7), "oops", 7 },
        timeout = { "timeout", Some(124), "", 124 },
        killed = { "killed", Some(143), "", 143 },
        killed_before = { "killed", None, "", 137 },
        oom = { "oom", Some(137), "", 137 },
        pull = { "pull-failed", None, "the registry is down", 125 },
        lost = { "lost", None, "", 125 },
        unplaced = { "start-failed", None, "no node fits for 5m: n1: memory 1M free", 125 },
        not_there = { "start-failed", Some(127), "\"/x\" isn't in the image", 127 },
        not_program = { "start-failed", Some(126), "\"/x\" can't be executed: no", 126 },
        not_mounted = { "start-failed", None, "mountpoint: no such file or directory", 125 },
    )]
    fn a_run_that_is_waited_for_gives_its_code(
        reason: &str,
        code: Option<i32>,
        message: &str,
        exit: u8,
    ) {
        assert_eq!(verdict(&ended(reason, code, message)).0, exit);
    }

    #[test]
    fn a_run_that_was_ended_says_after_how_long() {
        let (_, said) = verdict(&ended("timeout", Some(124), ""));
        assert_eq!(said.as_deref(), Some("timed out after 2s"));
    }

    #[test]
    fn what_is_written_comes_out_byte_for_byte() {
        let line = |text: &str, bytes: Option<&[u8]>, open| LogLineView {
            ts: String::new(),
            stream: "stdout".into(),
            line: text.to_owned(),
            bytes: bytes.map(|bytes| STANDARD.encode(bytes)),
            open,
            allocation: String::new(),
            node: String::new(),
            access: None,
        };
        let mut out = Vec::new();
        let lines = [
            line("one", None, false),
            line("", None, false),
            line("\u{fffd}", Some(b"\xff\r"), false),
            line("end", None, true),
        ];
        lines.iter().for_each(|line| write(&mut out, line, false).unwrap());
        assert_eq!(out, b"one\n\n\xff\r\nend");
    }

    fn args(names: &[&str]) -> SpawnArgs {
        SpawnArgs {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            image: None,
            cpu: None,
            memory: None,
            timeout: None,
            env: vec!["A=b=c".to_owned()],
            wait: false,
        }
    }

    #[test]
    fn a_task_or_an_image_is_asked_for() {
        let task = request(args(&["migrate"])).unwrap();
        assert_eq!((task.task.as_deref(), task.env["A"].as_str()), (Some("migrate"), "b=c"));
        let image = SpawnArgs {
            image: Some("busybox".to_owned()),
            memory: Some("64M".to_owned()),
            ..args(&["sh", "-c", "true"])
        };
        let image = request(image).unwrap();
        assert_eq!((image.memory, image.command.unwrap().len()), (Some(64_000_000), 3));
        for wrong in [args(&[]), args(&["a", "b"]), SpawnArgs { cpu: Some(1.0), ..args(&["a"]) }] {
            assert_eq!(request(wrong).unwrap_err().code(), 2);
        }
        let bad = SpawnArgs { env: vec!["A".to_owned()], ..args(&["a"]) };
        assert_eq!(request(bad).unwrap_err().code(), 2);
    }
}

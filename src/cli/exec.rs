//! `mill exec`: a program in a running container, with this terminal if need be.
//!
//! Owns the terminal while the program has it, and gives it back as it was. Never interprets what
//! passes through.

use super::client::{Client, ClientError, Socket, escape};
use super::{Context, error::CliError};
use crate::api::wire::{AllocationHealth, AllocationStatus, AllocationView, ExecControl};
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use std::io::IsTerminal as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// mill's own failure, as in Docker.
const FAILED: u8 = 125;

/// Run a program in a container, beside its own: mill exec web ls -la. With -it alone a shell.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "exec",
    help_triggers("-h", "--help"),
    note = "Exits with the program's code; 125 if mill failed, 126 if the program can't be \
            executed, 127 if it isn't there.",
    example = "mill exec -it web"
)]
pub struct ExecArgs {
    /// pass standard input on
    #[argh(switch, short = 'i')]
    pub interactive: bool,
    /// give it a terminal
    #[argh(switch, short = 't')]
    pub tty: bool,
    /// an allocation's id or the begin of one, or a service; what follows it is the program
    #[argh(positional)]
    pub name: String,
    /// the program and its arguments
    #[argh(positional)]
    pub command: Vec<String>,
}

/// What runs where a terminal is wanted and no program is named.
const SHELL: &str = "sh";

pub(super) async fn run(mut args: ExecArgs, context: &Context) -> Result<(), CliError> {
    if args.command.is_empty() && args.interactive && args.tty {
        args.command.push(SHELL.to_owned());
    }
    let code = match session(&args, context).await {
        Ok(code) => code,
        Err(error @ (CliError::Interrupted | CliError::Usage { .. })) => return Err(error),
        Err(error) => {
            // What the program gave and what mill did are told apart by the code.
            if context.ui.json {
                context.ui.note(&serde_json::to_string(&error.document()).unwrap_or_default());
            } else {
                context.ui.note(&error.text());
            }
            FAILED
        }
    };
    if code == 0 { Ok(()) } else { Err(CliError::Said { code }) }
}

async fn session(args: &ExecArgs, context: &Context) -> Result<u8, CliError> {
    if args.command.is_empty() {
        let hint = format!("mill exec {} CMD, or mill exec -it {0} for a shell", args.name);
        return Err(CliError::usage("Which program?", hint));
    }
    if args.interactive && args.tty && !std::io::stdin().is_terminal() {
        return Err(CliError::usage("Standard input is no terminal", "Leave out -t"));
    }
    let client = context.client()?;
    let allocation = allocation(&client, &args.name, context).await?;
    let mut socket = client.socket(&path(args, &allocation)).await?;
    let raw = if args.interactive && args.tty { Raw::begin() } else { None };
    let ended = talk(&mut socket, args).await;
    drop(raw);
    let (code, message) = ended?;
    if let Some(message) = message {
        context.ui.note(&message);
    }
    Ok(code)
}

/// The allocation that a name stands for: of a service a healthy one, which is said.
pub(super) async fn allocation(
    client: &Client,
    name: &str,
    context: &Context,
) -> Result<String, CliError> {
    let service = match client.service(name).await {
        Ok(service) => service,
        Err(ClientError::Api { status: 404, .. }) => return Ok(client.allocation(name).await?.id),
        Err(error) => return Err(error.into()),
    };
    let chosen = choose(&service.allocations).ok_or_else(|| nothing_runs(name))?;
    if !context.ui.json {
        context.ui.note(&format!("{} on {}", chosen.id, chosen.node));
    }
    Ok(chosen.id.clone())
}

/// A service of which nothing runs.
pub(super) fn nothing_runs(name: &str) -> CliError {
    CliError::Failed {
        message: format!("No replica of {name} runs"),
        hint: Some(format!("See mill ps {name}")),
    }
}

/// A healthy one if there is one, else one that runs.
pub(super) fn choose(all: &[AllocationView]) -> Option<&AllocationView> {
    by_health(all).next()
}

/// Those that run, the healthy ones first.
pub(super) fn by_health(all: &[AllocationView]) -> impl Iterator<Item = &AllocationView> {
    let running = all.iter().filter(|one| one.status == AllocationStatus::Running);
    let (healthy, others): (Vec<_>, Vec<_>) =
        running.partition(|one| one.health == AllocationHealth::Healthy);
    healthy.into_iter().chain(others)
}

fn path(args: &ExecArgs, allocation: &str) -> String {
    let mut path = format!("/v1/allocations/{}/exec?tty={}", escape(allocation), args.tty);
    for word in &args.command {
        path.push_str(&format!("&cmd={}", escape(word)));
    }
    if let Some([width, height]) = size().filter(|_| args.tty) {
        path.push_str(&format!("&width={width}&height={height}"));
    }
    path
}

/// The terminal's columns and rows, of whichever stream is one.
pub(super) fn size() -> Option<[u16; 2]> {
    let of = |fd: &dyn std::os::fd::AsFd| rustix::termios::tcgetwinsize(fd.as_fd()).ok();
    let size = of(&std::io::stdout()).or_else(|| of(&std::io::stdin()))?;
    Some([size.ws_col, size.ws_row]).filter(|[columns, rows]| *columns > 0 && *rows > 0)
}

/// The terminal without its own handling of keys; dropped, it is as before.
pub(super) struct Raw(Termios);

impl Raw {
    /// Nothing if standard input is no terminal.
    fn begin() -> Option<Self> {
        Self::with(cfmakeraw)
    }

    /// Keys as they are typed, without echo; Ctrl-C still interrupts.
    pub(super) fn keys() -> Option<Self> {
        let quiet = LocalFlags::ICANON | LocalFlags::ECHO;
        Self::with(|terminal| terminal.local_flags.remove(quiet))
    }

    fn with(change: impl FnOnce(&mut Termios)) -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        change(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody to tell if the terminal has gone.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

type Ended = (u8, Option<String>);

/// Passes everything on in both directions until the program has ended.
async fn talk(socket: &mut Socket, args: &ExecArgs) -> Result<Ended, CliError> {
    let (mut to, mut from) = socket.split();
    let sending = send(&mut to, args);
    let receiving = receive(&mut from);
    tokio::pin!(sending, receiving);
    tokio::select! {
        ended = &mut receiving => ended,
        // The program may go on without input, and the other direction knows why it broke.
        () = &mut sending => receiving.await,
    }
}

async fn receive(from: &mut SplitStream<&mut Socket>) -> Result<Ended, CliError> {
    let lost = || CliError::failed("The connection broke; the program was ended");
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    let output = |source| CliError::Output { source };
    loop {
        let message = from.next().await.ok_or_else(lost)?.map_err(|_| lost())?;
        let Message::Binary(bytes) = message else { continue };
        match &bytes[..] {
            [ExecControl::STDOUT, bytes @ ..] => {
                out.write_all(bytes).await.map_err(output)?;
                out.flush().await.map_err(output)?;
            }
            [ExecControl::STDERR, bytes @ ..] => {
                err.write_all(bytes).await.map_err(output)?;
                err.flush().await.map_err(output)?;
            }
            [ExecControl::CONTROL, json @ ..] => {
                if let Ok(ExecControl::Exit { code, message }) = serde_json::from_slice(json) {
                    return Ok((code, message));
                }
            }
            _ => {}
        }
    }
}

/// Sends input and the terminal's size; ends when the connection does, or nothing is left to send.
async fn send(to: &mut SplitSink<&mut Socket, Message>, args: &ExecArgs) {
    let mut input = tokio::io::stdin();
    let mut reads = args.interactive;
    if !reads && !args.tty {
        let end = ExecControl::Eof {};
        if to.send(Message::binary(end.frame())).await.is_err() {
            return;
        }
    }
    let mut resized = signal(SignalKind::window_change()).ok().filter(|_| args.tty);
    let mut buffer = vec![0; limits::EXEC_FRAME];
    while reads || resized.is_some() {
        let frame = tokio::select! {
            read = input.read(&mut buffer), if reads => match read {
                Ok(count @ 1..) => {
                    let mut frame = Vec::with_capacity(count + 1);
                    frame.push(ExecControl::STDIN);
                    frame.extend_from_slice(&buffer[..count]);
                    frame
                }
                Ok(0) | Err(_) => {
                    reads = false;
                    ExecControl::Eof {}.frame()
                }
            },
            () = changed(&mut resized) => match size() {
                Some([width, height]) => ExecControl::Resize { width, height }.frame(),
                None => continue,
            },
        };
        if to.send(Message::Binary(Bytes::from(frame))).await.is_err() {
            return;
        }
    }
}

async fn changed(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::allocation;

    #[test]
    fn a_service_stands_for_a_healthy_replica() {
        let mut all = vec![allocation("web-0-a", "web"), allocation("web-1-b", "web")];
        all[0].health = "checking".into();
        assert_eq!(choose(&all).unwrap().id, "web-1-b");
        all[1].status = "stopped".into();
        assert_eq!(choose(&all).unwrap().id, "web-0-a");
        all[0].status = "backoff".into();
        assert!(choose(&all).is_none());
    }

    #[test]
    fn each_word_of_the_command_is_a_parameter() {
        let command = ["sh", "-c", "echo a&b"].map(str::to_owned).to_vec();
        let args = ExecArgs { interactive: false, tty: false, name: "web".into(), command };
        let path = path(&args, "web-0-a");
        let expected = "/v1/allocations/web-0-a/exec?tty=false&cmd=sh&cmd=-c&cmd=echo%20a%26b";
        assert_eq!(path, expected);
    }

    #[test]
    fn control_frames_are_json_behind_their_byte() {
        let frame = ExecControl::Resize { width: 80, height: 24 }.frame();
        assert_eq!(frame[0], 3);
        assert_eq!(&frame[1..], br#"{"resize":{"width":80,"height":24}}"#);
        assert_eq!(&ExecControl::Eof {}.frame()[1..], br#"{"eof":{}}"#);
        let exit = ExecControl::Exit { code: 3, message: None };
        assert_eq!(&exit.frame()[1..], br#"{"exit":{"code":3,"message":null}}"#);
    }
}

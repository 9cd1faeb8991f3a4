//! `GET /v1/allocations/{id}/exec`: a program in a container, over a WebSocket.
//!
//! Owns the session: bytes pass on as fast as the slower side takes them, and the program ends with
//! whoever runs it. Never keeps more than one frame of either direction.

mod relay;

use super::allocations::{by_id, on_this_node};
use super::caller::{EXPIRED, Place};
use super::context::Context;
use super::error::ApiError;
use super::reach::Ask;
use super::request::Request;
use crate::actors::platform::containerd::Error;
use crate::actors::platform::exec::{ExecError, Execs, Handle, Program, Running};
use crate::api::wire::ExecControl;
use crate::fsm::model::{Allocation, Phase};
use crate::id::ContainerId;
use crate::limits;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use relay::Relay;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use warp::Reply as _;
use warp::http::Method;
use warp::reply::Response;
use warp::ws::{Message, WebSocket, Ws};

/// mill's own failure.
pub(super) const FAILED: u8 = 125;
/// The program can't be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The program isn't there.
const NOT_FOUND: u8 = 127;
/// Ended by SIGKILL.
const KILLED: u8 = 137;
/// What a terminal takes for the end of its input.
const END_OF_INPUT: u8 = 4;

/// `GET /v1/allocations/{id}/exec`.
pub async fn exec(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    program(&request)?;
    match elsewhere(&context, &mut request, "exec").await? {
        Some(session) => Ok(session),
        None => here(context, request).await,
    }
}

/// The session on the allocation's node, if that is another one: frames are passed on.
pub(super) async fn elsewhere(
    context: &Context,
    request: &mut Request,
    route: &str,
) -> Result<Option<Response>, ApiError> {
    let view = context.read().await?.view;
    let allocation = by_id(&view.state, request.param("id"))?;
    if allocation.node == view.node {
        return Ok(None);
    }
    let upgrade = upgrade(request, route)?;
    let place = context.place()?;
    let path = format!("/v1/allocations/{}/{route}?{}", allocation.id, request.raw_query);
    let ask = Ask::new(&view, allocation.node, request.role, Method::GET, &path)?;
    let name = view.state.nodes.get(&allocation.node).map(|node| node.name.clone());
    let node = (allocation.node, name.unwrap_or_default());
    let relay = Relay::begin(ask, node, context, place).await?;
    Ok(Some(upgrade.on_upgrade(move |socket| relay.run(socket)).into_response()))
}

/// The same in a container of this node.
pub async fn here(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let program = program(&request)?;
    let view = context.view().ok_or(ApiError::Starting)?;
    let allocation = on_this_node(&view, request.param("id"))?;
    runs(allocation)?;
    let container = ContainerId::new(&allocation.id, allocation.observed.attempt);
    let execs = (context.ports.execs)().ok_or(ApiError::Starting)?;
    let upgrade = upgrade(&mut request, "exec")?;
    let place = context.place()?;
    let stopping = context.stopping.clone();
    let session = Session { execs, container, program, stopping, place };
    Ok(upgrade.on_upgrade(move |socket| session.run(socket)).into_response())
}

/// Whether its program runs.
pub(super) fn runs(allocation: &Allocation) -> Result<(), ApiError> {
    if matches!(allocation.observed.phase, Phase::Running | Phase::Stopping) {
        return Ok(());
    }
    let message = format!("{} doesn't run", allocation.id);
    let hint = Some(format!("mill ps {}", allocation.workload));
    Err(ApiError::Conflict { message, hint })
}

/// The way to a WebSocket; `command` opens one too.
pub(super) fn upgrade(request: &mut Request, command: &str) -> Result<Ws, ApiError> {
    let Some(upgrade) = request.upgrade.take() else {
        let hint = format!("ask for it with Upgrade: websocket, or use mill {command}");
        return Err(ApiError::bad("this route is a WebSocket", hint));
    };
    Ok(upgrade.max_message_size(limits::EXEC_FRAME_MAX).max_frame_size(limits::EXEC_FRAME_MAX))
}

fn program(request: &Request) -> Result<Program, ApiError> {
    let argv: Vec<String> = request.all("cmd").map(str::to_owned).collect();
    if argv.first().is_none_or(String::is_empty) {
        let hint = "name it and its arguments: ?cmd=/bin/ls&cmd=-l";
        return Err(ApiError::bad("there is no program to run", hint));
    }
    if argv.len() > limits::EXEC_ARGS || argv.iter().any(|arg| arg.contains('\0')) {
        let message = format!("a program takes at most {} arguments", limits::EXEC_ARGS);
        return Err(ApiError::bad(message, "none of them has a zero byte"));
    }
    let size = |name| request.parsed::<u16>(name, "a number below 65536");
    let size = [size("width")?.unwrap_or(80), size("height")?.unwrap_or(24)];
    let terminal = request.flag("tty")?.then_some(size);
    Ok(Program { argv, terminal, input: true, joined: false })
}

/// A session that begins.
struct Session {
    execs: Execs,
    container: ContainerId,
    program: Program,
    stopping: CancellationToken,
    place: Place,
}

pub(super) type ToClient = SplitSink<WebSocket, Message>;
pub(super) type FromClient = SplitStream<WebSocket>;

impl Session {
    async fn run(self, socket: WebSocket) {
        let (mut to, mut from) = socket.split();
        let started = tokio::select! {
            started = self.execs.start(&self.container, &self.program) => started,
            // Dropped, what was begun is removed.
            () = self.stopping.cancelled() => return,
        };
        let Running { input, output, errors, handle } = match started {
            Ok(running) => running,
            Err(error) => return part(&mut to, refusal(&error)).await,
        };
        let terminal = self.program.terminal.is_some();
        let cut = |why: &str| ExecControl::Exit { code: FAILED, message: Some(why.to_owned()) };
        let ended = tokio::select! {
            ended = outwards(&mut to, output, errors, &handle) => ended,
            () = inwards(&mut from, input, terminal, &handle) => None,
            () = self.stopping.cancelled() => Some(cut("the daemon stops")),
            () = self.place.expired() => Some(cut(EXPIRED)),
        };
        if let Some(ended) = ended {
            part(&mut to, ended).await;
        }
        if let Err(error) = handle.remove().await {
            tracing::warn!(container = %self.container, %error, "a process can't be removed");
        }
    }
}

/// Says how it ended, and closes.
pub(super) async fn part(to: &mut ToClient, exit: ExecControl) {
    // Who has gone hears nothing.
    let _ = to.send(Message::binary(exit.frame())).await;
    let _ = to.close().await;
}

fn refusal(error: &ExecError) -> ExecControl {
    let code = match error {
        ExecError::Containerd(Error::CommandNotFound { .. }) => NOT_FOUND,
        ExecError::Containerd(Error::CommandNotExecutable { .. }) => NOT_EXECUTABLE,
        _ => FAILED,
    };
    let message = match error {
        ExecError::Containerd(Error::CommandNotFound { command }) => {
            format!("{command:?} isn't in the image")
        }
        ExecError::Containerd(Error::CommandNotExecutable { command, reason }) => {
            format!("{command:?} can't be executed: {reason}")
        }
        other => other.to_string(),
    };
    ExecControl::Exit { code, message: Some(message) }
}

/// Passes on what the program writes until it has ended and everything is sent; nothing if the
/// client has gone.
async fn outwards(
    to: &mut ToClient,
    output: Receiver,
    errors: Option<Receiver>,
    handle: &Handle,
) -> Option<ExecControl> {
    let mut pipes = [
        Pipe { kind: ExecControl::STDOUT, from: Some(output) },
        Pipe { kind: ExecControl::STDERR, from: errors },
    ];
    let mut wait = std::pin::pin!(handle.wait());
    let mut ended = None;
    let mut ping = tokio::time::interval(limits::EXEC_PING);
    ping.reset();
    while ended.is_none() || pipes.iter().any(|pipe| pipe.from.is_some()) {
        let [first, second] = &mut pipes;
        let patience = match ended {
            // A child of it may hold its output for ever.
            Some(_) => limits::EXEC_DRAIN,
            None => limits::EXEC_SILENCE,
        };
        let frame = tokio::select! {
            frame = first.read() => frame,
            frame = second.read() => frame,
            code = &mut wait, if ended.is_none() => {
                ended = Some(code);
                continue;
            }
            _ = ping.tick() => Some(Message::ping(Vec::new())),
            () = tokio::time::sleep(patience), if ended.is_some() => break,
        };
        if let Some(frame) = frame
            && to.send(frame).await.is_err()
        {
            return None;
        }
    }
    Some(match ended? {
        Ok(Some(code)) => {
            ExecControl::Exit { code: u8::try_from(code).unwrap_or(FAILED), message: None }
        }
        Ok(None) => {
            let message = Some("its container has ended".to_owned());
            ExecControl::Exit { code: KILLED, message }
        }
        Err(error) => ExecControl::Exit { code: FAILED, message: Some(error.to_string()) },
    })
}

/// A pipe that the program writes.
struct Pipe {
    kind: u8,
    from: Option<Receiver>,
}

impl Pipe {
    /// The next frame; nothing at the end, and then waits for ever.
    async fn read(&mut self) -> Option<Message> {
        let Some(from) = &mut self.from else { return std::future::pending().await };
        let mut frame = Vec::with_capacity(1 + limits::EXEC_FRAME);
        frame.push(self.kind);
        match from.read_buf(&mut frame).await {
            Ok(1..) => Some(Message::binary(frame)),
            Ok(0) | Err(_) => {
                self.from = None;
                None
            }
        }
    }
}

/// Passes on what the client sends; ends when it has gone.
async fn inwards(
    from: &mut FromClient,
    mut input: Option<Sender>,
    terminal: bool,
    handle: &Handle,
) {
    loop {
        // Its answers to our pings come at least that often.
        let next = tokio::time::timeout(limits::EXEC_SILENCE, from.next());
        let Ok(Some(Ok(message))) = next.await else { return };
        if message.is_close() {
            return;
        }
        if !message.is_binary() {
            continue;
        }
        match message.as_bytes() {
            [ExecControl::STDIN, bytes @ ..] => write(&mut input, bytes).await,
            [ExecControl::CONTROL, json @ ..] => match serde_json::from_slice(json) {
                Ok(ExecControl::Resize { width, height }) if terminal => {
                    if let Err(error) = handle.resize([width, height]).await {
                        tracing::debug!(%error, "a terminal keeps its size");
                    }
                }
                Ok(ExecControl::Eof {}) if terminal => write(&mut input, &[END_OF_INPUT]).await,
                Ok(ExecControl::Eof {}) => {
                    input = None;
                    if let Err(error) = handle.end_input().await {
                        tracing::debug!(%error, "the end of the input is not told");
                    }
                }
                // What a later version may say.
                _ => {}
            },
            _ => {}
        }
    }
}

async fn write(input: &mut Option<Sender>, bytes: &[u8]) {
    if let Some(pipe) = input
        && pipe.write_all(bytes).await.is_err()
    {
        // The program reads no more.
        *input = None;
    }
}

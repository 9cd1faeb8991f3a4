//! `GET /v1/allocations/{id}/port-forward`: a connection to a container's port, over a WebSocket.
//!
//! Owns which port is meant and that each side's end reaches the other. Never looks into what
//! passes through, and never keeps more than one frame of either direction.

use super::allocations::on_this_node;
use super::caller::{EXPIRED, Place};
use super::context::Context;
use super::error::ApiError;
use super::exec::{FAILED, FromClient, ToClient, elsewhere, part, runs, upgrade};
use super::request::Request;
use crate::api::wire::ExecControl;
use crate::id::AllocId;
use crate::limits;
use crate::spec::model::PortSpec;
use futures_util::{SinkExt as _, StreamExt as _};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use warp::Reply as _;
use warp::reply::Response;
use warp::ws::{Message, WebSocket};

/// `GET /v1/allocations/{id}/port-forward`.
pub async fn forward(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    match elsewhere(&context, &mut request, "port-forward").await? {
        Some(session) => Ok(session),
        None => here(context, request).await,
    }
}

/// The same to a container of this node.
pub async fn here(context: Arc<Context>, mut request: Request) -> Result<Response, ApiError> {
    let view = context.view().ok_or(ApiError::Starting)?;
    let allocation = on_this_node(&view, request.param("id"))?;
    runs(allocation)?;
    let service = view.state.spec(&allocation.spec).and_then(|stored| stored.spec.service());
    let ports = service.map(|service| service.ports.as_slice()).unwrap_or_default();
    let port = port(allocation.workload.as_str(), ports, request.one("port"))?;
    let upgrade = upgrade(&mut request, "port-forward")?;
    let place = context.place()?;
    let connection = connect(&allocation.id, allocation.observed.address, port).await?;
    let session = Session { connection, stopping: context.stopping.clone(), place };
    Ok(upgrade.on_upgrade(move |socket| session.run(socket)).into_response())
}

/// The port that is meant: a number, one of the service's names, or left out its main one.
fn port(workload: &str, ports: &[PortSpec], asked: Option<&str>) -> Result<u16, ApiError> {
    let named = || ports.iter().find(|one| one.name.as_deref() == asked).map(|one| one.port);
    let number = asked.and_then(|text| text.parse::<u16>().ok()).filter(|number| *number > 0);
    if let Some(found) = number.or_else(named) {
        return Ok(found);
    }
    let message = match asked {
        Some(name) => format!("{workload} has no port named {name}"),
        None => format!("{workload} has no port in its file"),
    };
    let all: Vec<String> = ports.iter().map(shown).collect();
    let hint = match all.as_slice() {
        [] => "give its number, from 1 to 65535".to_owned(),
        all => format!("it has {}; or give a number from 1 to 65535", all.join(", ")),
    };
    Err(ApiError::bad(message, hint))
}

fn shown(port: &PortSpec) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

async fn connect(
    id: &AllocId,
    address: Option<Ipv4Addr>,
    port: u16,
) -> Result<TcpStream, ApiError> {
    let conflict = |message: String, hint: Option<String>| ApiError::Conflict { message, hint };
    let Some(address) = address else {
        return Err(conflict(format!("{id} has no address yet"), None));
    };
    let to = SocketAddrV4::new(address, port);
    let opened = timeout(limits::FORWARD_CONNECT, TcpStream::connect(to)).await;
    let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = opened.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => conflict(
            format!("nothing listens on port {port} of {id}"),
            Some(format!("the program must listen on 0.0.0.0:{port}; see mill logs {id}")),
        ),
        io::ErrorKind::TimedOut => {
            let seconds = limits::FORWARD_CONNECT.as_secs();
            conflict(format!("port {port} of {id} doesn't answer in {seconds}s"), None)
        }
        _ => conflict(format!("port {port} of {id} can't be reached: {error}"), None),
    })?;
    // What is passed on is not to wait for more.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// A connection that is passed on.
struct Session {
    connection: TcpStream,
    stopping: CancellationToken,
    place: Place,
}

impl Session {
    async fn run(self, socket: WebSocket) {
        let (mut to, mut from) = socket.split();
        let (reads, writes) = self.connection.into_split();
        let input_over = CancellationToken::new();
        let cut = |why: &str| Some(broken(why));
        let ended = tokio::select! {
            ended = outwards(&mut to, reads, &input_over) => ended,
            () = inwards(&mut from, writes, &input_over) => None,
            () = self.stopping.cancelled() => cut("the daemon stops"),
            () = self.place.expired() => cut(EXPIRED),
        };
        if let Some(ended) = ended {
            part(&mut to, ended).await;
        }
    }
}

fn broken(why: &str) -> ExecControl {
    ExecControl::Exit { code: FAILED, message: Some(why.to_owned()) }
}

/// Passes on what the container sends until both directions have ended; nothing if the client has
/// gone.
async fn outwards(
    to: &mut ToClient,
    mut from: OwnedReadHalf,
    input_over: &CancellationToken,
) -> Option<ExecControl> {
    let mut ping = tokio::time::interval(limits::EXEC_PING);
    ping.reset();
    let mut open = true;
    while open || !input_over.is_cancelled() {
        let mut frame = Vec::with_capacity(1 + limits::EXEC_FRAME);
        frame.push(ExecControl::STDOUT);
        let message = tokio::select! {
            read = from.read_buf(&mut frame), if open => match read {
                Ok(1..) => Message::binary(frame),
                Ok(0) => {
                    open = false;
                    Message::binary(ExecControl::Eof {}.frame())
                }
                Err(error) => return Some(broken(&format!("the container's side: {error}"))),
            },
            _ = ping.tick() => Message::ping(Vec::new()),
            () = input_over.cancelled(), if !open => continue,
        };
        if to.send(message).await.is_err() {
            return None;
        }
    }
    Some(ExecControl::Exit { code: 0, message: None })
}

/// Passes on what the client sends; ends when it has gone.
async fn inwards(from: &mut FromClient, mut to: OwnedWriteHalf, over: &CancellationToken) {
    loop {
        // Its answers to our pings come at least that often.
        let next = timeout(limits::EXEC_SILENCE, from.next());
        let Ok(Some(Ok(message))) = next.await else { return };
        if message.is_close() {
            return;
        }
        if !message.is_binary() {
            continue;
        }
        match message.as_bytes() {
            // The other direction knows why a container takes no more.
            [ExecControl::STDIN, bytes @ ..] => drop(to.write_all(bytes).await),
            [ExecControl::CONTROL, json @ ..] => {
                if let Ok(ExecControl::Eof {}) = serde_json::from_slice(json) {
                    // One that has closed it all needs no telling.
                    let _ = to.shutdown().await;
                    over.cancel();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(address: Option<Ipv4Addr>, port: u16) -> (String, Option<String>) {
        match connect(&"web-0-k3f9".into(), address, port).await {
            Err(ApiError::Conflict { message, hint }) => (message, hint),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_port_that_nothing_listens_on_is_named() {
        let (message, _) = refusal(None, 80).await;
        assert_eq!(message, "web-0-k3f9 has no address yet");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let here = Some(Ipv4Addr::LOCALHOST);
        assert!(connect(&"web-0-k3f9".into(), here, port).await.is_ok());
        drop(listener);
        let (message, hint) = refusal(here, port).await;
        assert_eq!(message, format!("nothing listens on port {port} of web-0-k3f9"));
        assert!(hint.unwrap().contains(&format!("listen on 0.0.0.0:{port}")));
    }

    #[test]
    fn a_port_is_a_number_a_name_or_the_main_one() {
        let named = |port, name: Option<&str>| PortSpec { port, name: name.map(str::to_owned) };
        let ports = [named(3000, None), named(9001, Some("admin"))];
        let meant = |asked| port("web", &ports, asked).map_err(|error| error.to_string());
        assert_eq!(meant(None), Ok(3000));
        assert_eq!(meant(Some("admin")), Ok(9001));
        assert_eq!(meant(Some("5432")), Ok(5432), "any port may be asked for");
        assert_eq!(meant(Some("x")), Err("web has no port named x".to_owned()));
        for bad in ["0", "65536", "", "-1"] {
            assert!(meant(Some(bad)).is_err(), "{bad}");
        }
        let none = port("web", &[], None).map_err(|error| error.to_string());
        assert_eq!(none, Err("web has no port in its file".to_owned()));
    }
}

//! `mill port-forward`: a port of this machine that leads to one of a container.
//!
//! Owns the local listener and each connection's two directions. Never looks into what passes
//! through.

use super::client::{Client, ClientError, Socket, escape};
use super::exec;
use super::{Context, error::CliError};
use crate::actors::platform::net::{Program, holder};
use crate::api::wire::{ExecControl, PortView};
use crate::limits;
use crate::network::Protocol;
use argh::{ArgsInfo, FromArgs};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// Lead a port of this machine to one of a container: mill port-forward db 15432:5432.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "port-forward",
    help_triggers("-h", "--help"),
    note = "Listens on 127.0.0.1 until Ctrl-C. Of a service each connection goes to a replica that \
            is healthy then.",
    example = "mill port-forward db 15432:5432"
)]
pub struct PortForwardArgs {
    /// an allocation's id or the begin of one, or a service
    #[argh(positional)]
    pub name: String,
    /// [LOCAL:]PORT: the container's port, by its number or name, perhaps behind the port here; 0
    /// takes a free one. Without it the service's main port
    #[argh(positional)]
    pub port: Option<String>,
}

/// What was asked for: the port here, and the container's.
#[derive(Debug, PartialEq, Eq)]
struct Ports<'a> {
    local: Option<u16>,
    remote: Option<&'a str>,
}

fn ports(text: Option<&str>) -> Result<Ports<'_>, CliError> {
    let Some(text) = text else { return Ok(Ports { local: None, remote: None }) };
    let wrong = |what: &str| {
        let hint = "Write [LOCAL:]PORT, such as 8080:80, 80, 0:80, or a port's name";
        CliError::usage(format!("{text}: {what}"), hint)
    };
    let number = |part: &str| part.parse::<u16>().map_err(|_| wrong("no port has that number"));
    let (local, remote) = match text.split_once(':') {
        Some(("", remote)) => (Some(0), remote),
        Some((local, remote)) => (Some(number(local)?), remote),
        None => (None, text),
    };
    if remote.bytes().all(|byte| byte.is_ascii_digit()) && number(remote)? == 0 {
        return Err(wrong("no port has that number"));
    }
    if !remote.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(wrong("this is no port"));
    }
    Ok(Ports { local, remote: Some(remote) })
}

/// Where connections go: a container's port.
struct Forward {
    client: Client,
    name: String,
    is_service: bool,
    port: u16,
    context: Context,
}

pub(super) async fn run(args: PortForwardArgs, context: &Context) -> Result<(), CliError> {
    let ports = ports(args.port.as_deref())?;
    let client = context.client()?;
    let found = find(&client, &args.name).await?;
    let port = remote(&found, ports.remote)?;
    let listener = listen(ports.local.unwrap_or(port), &args.name, port).await?;
    let address = listener.local_addr().map_err(|error| CliError::failed(error.to_string()))?;
    let name = found.name.clone();
    if context.ui.json {
        let document = json!({ "address": address.to_string(), "name": name, "port": port });
        context.ui.document(&document)?;
    } else {
        context.ui.print(&format!("{address} → {name} port {port}"))?;
    }
    let is_service = found.is_service;
    let context = context.clone();
    let forward = Arc::new(Forward { client, name, is_service, port, context });
    loop {
        let (connection, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors: those of connections that end come back.
                forward.context.ui.note(&format!("no connection is taken: {error}"));
                tokio::time::sleep(limits::WATCH_INTERVAL).await;
                continue;
            }
        };
        let forward = Arc::clone(&forward);
        tokio::spawn(async move { forward.pass_on(connection).await });
    }
}

/// What a name stands for, with the ports of its service.
struct Found {
    name: String,
    is_service: bool,
    service: String,
    ports: Vec<PortView>,
}

async fn find(client: &Client, name: &str) -> Result<Found, CliError> {
    match client.service(name).await {
        Ok(service) => {
            // Said at once, and not at the first connection.
            if exec::choose(&service.allocations).is_none() {
                return Err(exec::nothing_runs(name));
            }
            let (name, service) = (service.name.clone(), service);
            Ok(Found { service: name.clone(), name, is_service: true, ports: service.ports })
        }
        Err(ClientError::Api { status: 404, .. }) => {
            let one = client.allocation(name).await?;
            let ports = match client.service(&one.name).await {
                Ok(service) => service.ports,
                // Of a task, or of a service that is gone but for this.
                Err(ClientError::Api { status: 404, .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            Ok(Found { name: one.id, is_service: false, service: one.name, ports })
        }
        Err(error) => Err(error.into()),
    }
}

/// The number of the port that was asked for, or of the main one.
fn remote(found: &Found, asked: Option<&str>) -> Result<u16, CliError> {
    if let Some(Ok(number)) = asked.map(str::parse) {
        return Ok(number);
    }
    let named = found.ports.iter().find(|port| port.name.as_deref() == asked);
    named.map(|port| port.port).ok_or_else(|| {
        let shown = |port: &PortView| match &port.name {
            Some(name) => format!("{} ({name})", port.port),
            None => port.port.to_string(),
        };
        let all: Vec<String> = found.ports.iter().map(shown).collect();
        let service = &found.service;
        let message = match asked {
            Some(name) => format!("{service} has no port named {name}"),
            None => format!("{service} has no port in its file"),
        };
        let hint = match all.as_slice() {
            [] => format!("Give its number: mill port-forward {} 8080:80", found.name),
            all => format!("It has {}", all.join(", ")),
        };
        CliError::Failed { message, hint: Some(hint) }
    })
}

async fn listen(local: u16, name: &str, port: u16) -> Result<TcpListener, CliError> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, local);
    TcpListener::bind(address).await.map_err(|error| {
        let message = match (error.kind(), holder(local, Protocol::Tcp)) {
            (io::ErrorKind::AddrInUse, Some(Program { name, pid })) => {
                format!("{address} is used by {name} (pid {pid})")
            }
            (io::ErrorKind::AddrInUse, None) => format!("{address} is used by another program"),
            (io::ErrorKind::PermissionDenied, _) => {
                format!("only root may listen on {address}")
            }
            _ => format!("{address} can't be listened on: {error}"),
        };
        let hint = format!("Take a free port: mill port-forward {name} 0:{port}");
        CliError::Failed { message, hint: Some(hint) }
    })
}

impl Forward {
    async fn pass_on(&self, connection: TcpStream) {
        let passed = async {
            let socket = self.open().await?;
            // What is passed on is not to wait for more.
            let _ = connection.set_nodelay(true);
            talk(connection, socket).await
        };
        if let Err(error) = passed.await {
            let ui = self.context.ui;
            if ui.json {
                ui.note(&serde_json::to_string(&error.document()).unwrap_or_default());
            } else {
                ui.note(&error.text());
            }
        }
    }

    /// A way to the port: of a service to the first replica that takes it, healthy ones first.
    async fn open(&self) -> Result<Socket, CliError> {
        if !self.is_service {
            return Ok(self.open_to(&self.name).await?);
        }
        let service = self.client.service(&self.name).await?;
        let mut last = exec::nothing_runs(&self.name);
        for one in exec::by_health(&service.allocations) {
            match self.open_to(&one.id).await {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }

    async fn open_to(&self, allocation: &str) -> Result<Socket, ClientError> {
        let id = escape(allocation);
        let path = format!("/v1/allocations/{id}/port-forward?port={}", self.port);
        self.client.socket(&path).await
    }
}

/// Passes everything on in both directions until both have ended.
async fn talk(connection: TcpStream, mut socket: Socket) -> Result<(), CliError> {
    let (reads, writes) = connection.into_split();
    let (mut to, mut from) = (&mut socket).split();
    tokio::select! {
        ended = receive(&mut from, writes) => ended,
        // Whoever connected has gone, and nothing is to be said.
        () = send(&mut to, reads) => Ok(()),
    }
}

async fn receive(
    from: &mut SplitStream<&mut Socket>,
    mut to: OwnedWriteHalf,
) -> Result<(), CliError> {
    let lost = || CliError::failed("The connection to the daemon broke");
    loop {
        let message = from.next().await.ok_or_else(lost)?.map_err(|_| lost())?;
        let Message::Binary(bytes) = message else { continue };
        match &bytes[..] {
            [ExecControl::STDOUT, bytes @ ..] => match to.write_all(bytes).await {
                Ok(()) => {}
                Err(_) => return Ok(()),
            },
            [ExecControl::CONTROL, json @ ..] => match serde_json::from_slice(json) {
                // One that has closed it all needs no telling.
                Ok(ExecControl::Eof {}) => drop(to.shutdown().await),
                Ok(ExecControl::Exit { message: Some(message), .. }) => {
                    return Err(CliError::failed(message));
                }
                Ok(ExecControl::Exit { .. }) => return Ok(()),
                _ => {}
            },
            _ => {}
        }
    }
}

/// Ends when the connection broke; at its regular end that is told and the rest waited for.
async fn send(to: &mut SplitSink<&mut Socket, Message>, mut from: OwnedReadHalf) {
    loop {
        let mut frame = Vec::with_capacity(1 + limits::EXEC_FRAME);
        frame.push(ExecControl::STDIN);
        let (frame, over) = match from.read_buf(&mut frame).await {
            Ok(1..) => (frame, false),
            Ok(0) => (ExecControl::Eof {}.frame(), true),
            Err(_) => return,
        };
        // Why it takes no more comes from the other direction.
        let sent = to.send(Message::binary(frame)).await;
        if over || sent.is_err() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        same = { "3000", None, "3000" },
        other = { "8080:3000", Some(8080), "3000" },
        free = { "0:3000", Some(0), "3000" },
        free_too = { ":3000", Some(0), "3000" },
        named = { "admin", None, "admin" },
        named_here = { "8080:admin", Some(8080), "admin" },
    )]
    fn ports_are_read(text: &str, local: Option<u16>, remote: &str) {
        assert_eq!(ports(Some(text)).unwrap(), Ports { local, remote: Some(remote) });
    }

    #[yare::parameterized(
        zero = { "0" },
        large = { "70000" },
        large_here = { "70000:80" },
        name_here = { "admin:80" },
        nothing = { "80:" },
        address = { "127.0.0.1:80:80" },
    )]
    fn what_is_no_port_is_refused(text: &str) {
        assert_eq!(ports(Some(text)).unwrap_err().code(), 2);
    }

    #[test]
    fn a_port_is_known_by_its_name() {
        let view = |port, name: Option<&str>| PortView { port, name: name.map(str::to_owned) };
        let ports = vec![view(3000, None), view(9001, Some("admin"))];
        let (name, service) = ("web".to_owned(), "web".to_owned());
        let found = Found { name, is_service: true, service, ports };
        assert_eq!(remote(&found, None).unwrap(), 3000);
        assert_eq!(remote(&found, Some("admin")).unwrap(), 9001);
        assert_eq!(remote(&found, Some("5")).unwrap(), 5);
        let unknown = remote(&found, Some("x")).unwrap_err().text();
        assert!(unknown.contains("no port named x") && unknown.contains("9001 (admin)"));
    }

    #[tokio::test]
    async fn a_taken_port_names_its_program() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = listen(port, "web", 80).await.unwrap_err();
        assert!(error.text().contains(&format!("(pid {})", std::process::id())));
        assert!(error.text().contains("mill port-forward web 0:80"));
    }
}

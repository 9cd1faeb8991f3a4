//! Reservations of published host ports: a socket of ours on each.
//!
//! Owns the sockets and finds out who holds a port that is taken. Never serves a connection: the
//! kernel's rules lead them on before they reach the socket.

use super::{NetError, PublishOn};
use crate::network::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};

/// A host port that another program holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Taken {
    /// The host's address and port.
    pub address: SocketAddrV4,
    pub protocol: Protocol,
    /// Who holds it, if that can be seen.
    pub program: Option<Program>,
}

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub name: String,
    /// Its process.
    pub pid: u32,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.protocol == Protocol::Udp {
            write!(f, "/udp")?;
        }
        match &self.program {
            Some(program) => write!(f, " is used by {} (pid {})", program.name, program.pid),
            None => write!(f, " is used by another program"),
        }
    }
}

/// What keeps a port ours.
#[derive(Debug)]
#[expect(dead_code, reason = "a socket reserves by being open")]
enum Held {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// The host ports held.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    held: BTreeMap<(u16, Protocol), Held>,
}

impl Reservations {
    /// Takes what is not held yet, and says what can't be had.
    pub fn take(
        &mut self,
        wanted: &BTreeSet<(u16, Protocol)>,
        on: PublishOn,
    ) -> Result<Vec<Taken>, NetError> {
        let host = match on {
            PublishOn::All => Ipv4Addr::UNSPECIFIED,
            PublishOn::Loopback => Ipv4Addr::LOCALHOST,
        };
        let mut taken = Vec::new();
        for (port, protocol) in wanted {
            if self.held.contains_key(&(*port, *protocol)) {
                continue;
            }
            let address = SocketAddrV4::new(host, *port);
            match bind(address, *protocol) {
                Ok(held) => {
                    self.held.insert((*port, *protocol), held);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    let program = holder(*port, *protocol);
                    taken.push(Taken { address, protocol: *protocol, program });
                }
                Err(source) => {
                    return Err(NetError::Reserve { address, protocol: *protocol, source });
                }
            }
        }
        Ok(taken)
    }

    /// Gives back what is not wanted any more.
    pub fn keep(&mut self, wanted: &BTreeSet<(u16, Protocol)>) {
        self.held.retain(|key, _| wanted.contains(key));
    }
}

fn bind(address: SocketAddrV4, protocol: Protocol) -> io::Result<Held> {
    match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(Held::Tcp),
        Protocol::Udp => UdpSocket::bind(address).map(Held::Udp),
    }
}

/// The program with a socket on that port, found through `/proc`.
#[must_use]
pub fn holder(port: u16, protocol: Protocol) -> Option<Program> {
    let inodes: BTreeSet<String> = ["", "6"]
        .iter()
        .filter_map(|v| {
            std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{v}")).ok()
        })
        .flat_map(|table| sockets_on(&table, port, protocol))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut files = std::fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files.find(|file| {
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.to_str().is_some_and(|t| inodes.contains(t)))
        })?;
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        Some(Program { name: name.trim().to_owned(), pid })
    })
}

/// Inodes of the sockets that wait on the port, in the format of `/proc/net/tcp` (proc(5)).
fn sockets_on(table: &str, port: u16, protocol: Protocol) -> Vec<String> {
    let waiting = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    let wanted = format!("{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let local = fields.get(1)?.rsplit_once(':')?.1;
            let found = local == wanted && *fields.get(3)? == waiting;
            found.then(|| (*fields.get(9).unwrap_or(&"")).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let program = holder(port, Protocol::Tcp).unwrap();
        assert_eq!(program.pid, std::process::id());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(holder(port, Protocol::Udp).unwrap().pid, std::process::id());
    }

    #[test]
    fn a_taken_port_reads_well() {
        let taken = Taken {
            address: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 15432),
            protocol: Protocol::Tcp,
            program: Some(Program { name: "nginx".into(), pid: 812 }),
        };
        assert_eq!(taken.to_string(), "0.0.0.0:15432 is used by nginx (pid 812)");
    }
}

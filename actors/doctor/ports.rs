//! Checks of the addresses that a daemon listens on.
//!
//! Owns trying them. Never keeps one.

use super::Check;
use crate::actors::platform::net::{Program, holder};
use crate::config::DaemonConfig;
use crate::network::Protocol;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// An address of the settings, and the flag that changes it.
struct Wanted {
    flag: &'static str,
    address: SocketAddr,
    protocol: Protocol,
}

/// Every address that the daemon listens on.
pub(super) fn all(config: &DaemonConfig) -> Vec<Check> {
    let tcp = |flag, address| Wanted { flag, address, protocol: Protocol::Tcp };
    let mut wanted =
        vec![tcp("--api", config.api), tcp("--http", config.http), tcp("--https", config.https)];
    wanted.extend(config.peer.map(|address| tcp("--peer", address)));
    wanted.extend(config.dns.map(|address| tcp("--dns", address)));
    let dns = config.dns.map(|address| ("--dns", address));
    let mesh = config.mesh_port.map(|port| ("--mesh-port", (Ipv4Addr::UNSPECIFIED, port).into()));
    let udp = dns.into_iter().chain(mesh);
    wanted.extend(udp.map(|(flag, address)| Wanted { flag, address, protocol: Protocol::Udp }));
    wanted.iter().map(check).collect()
}

fn check(wanted: &Wanted) -> Check {
    let result = match wanted.protocol {
        Protocol::Tcp => TcpListener::bind(wanted.address).map(drop),
        Protocol::Udp => UdpSocket::bind(wanted.address).map(drop),
    };
    let taken = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    let program = if taken { holder(wanted.address.port(), wanted.protocol) } else { None };
    judge(wanted, result, program)
}

fn judge(wanted: &Wanted, result: io::Result<()>, program: Option<Program>) -> Check {
    let Wanted { flag, address, protocol } = wanted;
    let name = format!("port {}/{protocol}", address.port());
    let name = name.as_str();
    let other = match *flag {
        "--mesh-port" => format!("pass another {flag}"),
        flag => format!("pass {flag} {}", next(*address)),
    };
    match (result, program) {
        (Ok(()), _) => Check::ok(name, format!("{address} is free for {flag}")),
        (Err(_), Some(program)) if program.name == "mill" => {
            Check::ok(name, format!("{address} is used by mill (pid {})", program.pid))
        }
        (Err(_), Some(Program { name: holder, pid })) => {
            let detail = format!("{address} is used by {holder} (pid {pid})");
            Check::fail(name, detail, format!("stop it, or {other}"))
        }
        (Err(error), None) => {
            Check::fail(name, format!("{address} can't be opened: {error}"), other)
        }
    }
}

/// The same address with another port.
fn next(address: SocketAddr) -> SocketAddr {
    let port = match address.port() {
        80 => 8080,
        443 => 8443,
        port => port.checked_add(1).unwrap_or(1024),
    };
    SocketAddr::new(address.ip(), port)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_taken_port_names_program_and_flag() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let wanted = Wanted { flag: "--http", address, protocol: Protocol::Tcp };
        let found = check(&wanted);
        assert!(found.detail.contains(&format!("(pid {})", std::process::id())), "{found:?}");
        let program = Program { name: "nginx".into(), pid: 812 };
        let taken = || Err(io::ErrorKind::AddrInUse.into());
        let found = judge(&wanted, taken(), Some(program));
        assert_eq!(found.detail, format!("{address} is used by nginx (pid 812)"));
        let pass = format!("stop it, or pass --http 127.0.0.1:{}", address.port() + 1);
        assert_eq!((found.status, found.remedy), (Status::Fail, Some(pass)));
        let own = judge(&wanted, taken(), Some(Program { name: "mill".into(), pid: 5 }));
        assert_eq!(own.status, Status::Ok, "a node that runs is not in its own way");
        drop(socket);
        assert_eq!(check(&wanted).status, Status::Ok);
    }

    #[test]
    fn an_address_of_another_machine_is_told() {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let wanted = Wanted { flag: "--http", address, protocol: Protocol::Tcp };
        let found = check(&wanted);
        assert_eq!(found.status, Status::Fail);
        assert_eq!(found.remedy.as_deref(), Some("pass --http 192.0.2.1:8080"));
    }
}

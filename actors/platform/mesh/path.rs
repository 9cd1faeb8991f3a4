//! The MTU of the path to another node.
//!
//! Owns the question to the kernel, which knows its interfaces and what routers have told it.
//! Never sends a packet.

use crate::limits::LINK_MTU;
use nix::sys::socket::{getsockopt, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The largest packet that gets there as one; none where there is no way.
#[must_use]
pub fn mtu_to(peer: SocketAddr) -> Option<u32> {
    ask(peer).ok()
}

fn ask(peer: SocketAddr) -> io::Result<u32> {
    let any = match peer.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Only chooses the route.
    socket.connect(peer)?;
    if peer.is_ipv6() {
        return Ok(LINK_MTU);
    }
    let mtu = getsockopt(&socket, sockopt::IpMtu)?;
    u32::try_from(mtu).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_to_this_host_is_loopback() {
        let mtu: u32 =
            std::fs::read_to_string("/sys/class/net/lo/mtu").unwrap().trim().parse().unwrap();
        // A packet of IPv4 has at most so many bytes.
        assert_eq!(mtu_to(([127, 0, 0, 1], 9).into()), Some(mtu.min(65_535)));
    }
}

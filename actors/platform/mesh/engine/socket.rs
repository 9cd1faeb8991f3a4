//! The UDP socket of an interface, with joined sends and joined receives.
//!
//! Owns the system calls. Never looks into a datagram.

use crate::limits::MESH_SOCKET_BUFFER;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn,
    SockaddrIn6, SockaddrStorage, bind, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// What came in by one call: one datagram, or several of one sender.
pub struct Received {
    /// All bytes.
    pub len: usize,
    /// The bytes of each datagram but the last.
    pub each: usize,
    /// The sender.
    pub from: SocketAddr,
}

/// The socket.
pub struct Socket {
    udp: UdpSocket,
    six: bool,
}

/// What became of a send.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// It went out.
    Yes,
    /// It was too large for the path, or the path does not take joined packets.
    Refused,
    /// It is lost.
    No,
}

impl Socket {
    /// Opens the port on every address.
    pub fn open(port: u16) -> io::Result<Self> {
        let (udp, six) = match both(port) {
            Ok(udp) => (udp, true),
            // A kernel without IPv6.
            Err(Errno::EAFNOSUPPORT) => (UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?, false),
            Err(error) => return Err(error.into()),
        };
        // More than the system's maximum, where that is allowed; else as much as there is.
        let _ = setsockopt(&udp, sockopt::RcvBufForce, &MESH_SOCKET_BUFFER)
            .or_else(|_| setsockopt(&udp, sockopt::RcvBuf, &MESH_SOCKET_BUFFER));
        let _ = setsockopt(&udp, sockopt::SndBuf, &MESH_SOCKET_BUFFER);
        // Without it datagrams come one by one.
        let _ = setsockopt(&udp, sockopt::UdpGroSegment, &true);
        // Routers may divide what is too large, so that a path that drops ICMP is no trap.
        set_ip_mtu_discover(&udp, Ipv4PathMtuDiscovery::DONT)?;
        Ok(Self { udp, six })
    }

    /// The port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.udp.local_addr()?.port())
    }

    fn address(&self, to: SocketAddr) -> SockaddrStorage {
        match to {
            SocketAddr::V4(four) if self.six => {
                let six = (four.ip().to_ipv6_mapped(), four.port());
                SocketAddr::from(six).into()
            }
            other => other.into(),
        }
    }

    /// Sends one datagram.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> Sent {
        self.transmit(bytes, &[], to)
    }

    /// Sends datagrams of that size, the last one perhaps shorter, in one call.
    pub fn send_joined(&self, bytes: &[u8], each: u16, to: SocketAddr) -> Sent {
        self.transmit(bytes, &[ControlMessage::UdpGsoSegments(&each)], to)
    }

    fn transmit(&self, bytes: &[u8], control: &[ControlMessage<'_>], to: SocketAddr) -> Sent {
        let parts = [IoSlice::new(bytes)];
        let to = self.address(to);
        loop {
            let fd = self.udp.as_raw_fd();
            return match sendmsg(fd, &parts, control, MsgFlags::empty(), Some(&to)) {
                Ok(_) => Sent::Yes,
                Err(Errno::EINTR) => continue,
                // EIO: the interface can't do the checksums of joined packets.
                Err(Errno::EMSGSIZE | Errno::EINVAL | Errno::EIO) => Sent::Refused,
                Err(_) => Sent::No,
            };
        }
    }

    /// Receives what is there, without waiting.
    pub fn receive(&self, into: &mut [u8]) -> Result<Received, Errno> {
        let mut control = cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(into)];
        let fd = self.udp.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(fd, &mut parts, Some(&mut control), flags)?;
        let from = message.address.as_ref().and_then(sender).ok_or(Errno::EINVAL)?;
        let mut each = message.bytes;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::UdpGroSegments(size) = part {
                each = usize::try_from(size).unwrap_or(each);
            }
        }
        Ok(Received { len: message.bytes, each: each.max(1), from })
    }
}

/// A socket for IPv6 and IPv4.
fn both(port: u16) -> Result<UdpSocket, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
    setsockopt(&fd, sockopt::Ipv6V6Only, &false)?;
    let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    bind(fd.as_raw_fd(), &SockaddrIn6::from(any))?;
    Ok(UdpSocket::from(fd))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }
}

fn sender(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*four as SockaddrIn).into()));
    }
    let six: SockaddrIn6 = *address.as_sockaddr_in6()?;
    let ip = six.ip();
    Some(match ip.to_ipv4_mapped() {
        Some(four) => SocketAddr::from((four, six.port())),
        None => SocketAddr::V6(six.into()),
    })
}

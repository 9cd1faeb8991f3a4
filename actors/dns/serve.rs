//! The listeners of the dns actor: UDP on threads of its own, TCP beside the other actors.
//!
//! Owns the sockets. Never keeps more than a batch of questions in its hands.

use super::shared::Shared;
use super::tcp;
use crate::actors::converge::{Made, Target};
use crate::limits;
use crate::node::dns::Unusual;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrLike as _,
    SockaddrStorage, bind, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("names can't be answered on {address}: {source}")]
pub(super) struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Opens the listeners.
pub(super) struct Listeners {
    shared: Arc<Shared>,
    open: Option<Open>,
}

/// They are closed when it is dropped.
struct Open {
    _threads: DropGuard,
    tcp: JoinSet<()>,
}

impl Listeners {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, open: None }
    }

    fn open(&self, addresses: &[SocketAddr]) -> Result<Open, ListenError> {
        let mut connections = JoinSet::new();
        let mut sockets: Vec<Vec<std::net::UdpSocket>> = Vec::new();
        sockets.resize_with(limits::DNS_THREADS, Vec::new);
        for address in addresses {
            let failed = |source| ListenError { address: *address, source };
            // Exclusive, so that no other process has the address as well.
            let listener = listen(*address).map_err(failed)?;
            connections.spawn(tcp::serve(listener, Arc::clone(&self.shared)));
            for of_thread in &mut sockets {
                of_thread.push(udp(*address).map_err(failed)?);
            }
        }
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        for of_thread in sockets {
            let (shared, stop, main) = (Arc::clone(&self.shared), stop.clone(), Handle::current());
            let serve = move || serve(of_thread, &shared, &main, &stop);
            let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(serve);
            let none = SocketAddr::from(([0, 0, 0, 0], 0));
            let address = addresses.first().copied().unwrap_or(none);
            thread.map_err(|source| ListenError { address, source })?;
        }
        Ok(Open { _threads: guard, tcp: connections })
    }
}

impl Target for Listeners {
    type Wanted = Vec<SocketAddr>;
    type Error = ListenError;

    async fn make(&mut self, wanted: Vec<SocketAddr>) -> Made<ListenError> {
        if let Some(mut open) = self.open.take() {
            // Until it has ended, the address is taken.
            open.tcp.shutdown().await;
        }
        self.open(&wanted).map(|open| self.open = Some(open)).into()
    }
}

/// Lets a socket have an address that the host doesn't have yet: the bridge comes with the first
/// container.
fn early(socket: &impl AsFd, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() {
        setsockopt(socket, sockopt::IpFreebind, &true)?;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    early(&socket, address)?;
    socket.bind(address)?;
    socket.listen(u32::try_from(limits::DNS_CONNECTIONS).unwrap_or(u32::MAX))
}

fn udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    early(&socket, address)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket.into())
}

/// A thread's whole life.
fn serve(
    sockets: Vec<std::net::UdpSocket>,
    shared: &Arc<Shared>,
    main: &Handle,
    stop: &CancellationToken,
) {
    let runtime = match Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "names can't be answered"),
    };
    let local = LocalSet::new();
    for socket in sockets {
        let (shared, main) = (Arc::clone(shared), main.clone());
        local.spawn_local(async move {
            if let Err(error) = answer_all(socket, shared, main).await {
                tracing::error!(%error, "names can't be answered any more");
            }
        });
    }
    local.block_on(&runtime, stop.cancelled());
}

/// Answers what comes in, a batch at a time.
async fn answer_all(
    socket: std::net::UdpSocket,
    shared: Arc<Shared>,
    main: Handle,
) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    let mut questions = vec![[0; limits::DNS_QUESTION_MAX]; limits::DNS_BATCH];
    let mut answers = vec![Vec::new(); limits::DNS_BATCH];
    let mut rotation = 0_usize;
    loop {
        socket.readable().await?;
        let received =
            socket.try_io(Interest::READABLE, || receive(&socket, questions.as_mut_slice()));
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        let zone = shared.zone.load();
        let mut to = Vec::with_capacity(received.len());
        for (question, (size, from)) in questions.iter().zip(received) {
            let Some(from) = from else { continue };
            rotation = rotation.wrapping_add(1);
            let out = &mut answers[to.len()];
            match shared.answer(&zone, &question[..size], false, rotation, out) {
                Unusual::Ready(_) => to.push(Some(from)),
                Unusual::Ignore => {}
                Unusual::Forward(message) => {
                    if let Some(from) = standard(from) {
                        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                        main.spawn(async move {
                            let answer = shared.forward(&message, from.ip(), false).await;
                            if let Some(answer) = answer {
                                // The asker asks again.
                                let _ = socket.send_to(&answer, from).await;
                            }
                        });
                    }
                }
            }
        }
        if !to.is_empty() {
            // What finds no room is asked again.
            let _ = socket.try_io(Interest::WRITABLE, || send(&socket, &answers, &to));
        }
    }
}

type From = Option<SockaddrStorage>;

fn receive(
    socket: &UdpSocket,
    buffers: &mut [[u8; limits::DNS_QUESTION_MAX]],
) -> io::Result<Vec<(usize, From)>> {
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), None);
    let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
    Ok(received.map(|message| (message.bytes, message.address)).collect())
}

fn send(socket: &UdpSocket, answers: &[Vec<u8>], to: &[From]) -> io::Result<()> {
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(to.len(), None);
    let slices: Vec<_> = answers[..to.len()].iter().map(|answer| [IoSlice::new(answer)]).collect();
    sendmmsg(socket.as_raw_fd(), &mut headers, slices.iter(), to, [], MsgFlags::MSG_DONTWAIT)?;
    Ok(())
}

fn standard(address: SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => Some(SocketAddr::V4((*address.as_sockaddr_in()?).into())),
        AddressFamily::Inet6 => Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into())),
        _ => None,
    }
}

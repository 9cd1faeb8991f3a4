//! A client's connection as the engine reads and writes it.
//!
//! Owns what of the connection belongs to the request under way: the engine never sees a byte of
//! the next one, nor one that the strict reader has not passed. Never decides what is answered.

use crate::limits::{HEAD_MAX, INGRESS_BUFFER};
use crate::node::ingress::chunks::Chunks;
use crate::node::ingress::head::{self, Body, Head};
use crate::node::ingress::host;
use crate::node::ingress::refusal::Refusal;
use bytes::{Buf as _, BytesMut};
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How long what a client still sends is thrown away, so that it reads the answer.
const LINGER: Duration = Duration::from_secs(1);
/// And at most so many bytes.
const LINGER_MAX: usize = 1 << 20;

/// The bytes themselves.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What of the connection belongs to the request under way.
#[derive(Debug)]
enum Bound {
    /// All of it.
    Open,
    /// So many bytes.
    Length(u64),
    /// So many bytes of the head, then chunks.
    Chunks(u64, Chunks),
    /// Nothing more.
    Over,
}

/// A client's connection.
#[derive(Debug)]
pub struct Io {
    wire: Wire,
    /// Read and not handed on.
    held: BytesMut,
    /// To be written.
    out: BytesMut,
    bound: Bound,
    socket: Arc<SocketDigest>,
    tls: Option<Arc<SslDigest>>,
    is_h2: bool,
    id: UniqueIDType,
}

impl Io {
    /// A connection without TLS.
    #[must_use]
    pub fn plain(stream: TcpStream, peer: SocketAddr) -> Self {
        let id = stream.as_raw_fd();
        Self::new(Wire::Plain(stream), id, peer, None, false)
    }

    /// A connection with TLS.
    #[must_use]
    pub fn tls(stream: TlsStream<TcpStream>, peer: SocketAddr) -> Self {
        let (tcp, session) = stream.get_ref();
        let id = tcp.as_raw_fd();
        let is_h2 = session.alpn_protocol() == Some(b"h2");
        // The engine asks for nothing of it: the place of a name that clients have none of holds
        // the one that they asked for.
        let asked = session.server_name().and_then(host::name);
        let digest = Arc::new(SslDigest::new("", "", asked, None, Vec::new()));
        Self::new(Wire::Tls(Box::new(stream)), id, peer, Some(digest), is_h2)
    }

    fn new(
        wire: Wire,
        id: UniqueIDType,
        peer: SocketAddr,
        tls: Option<Arc<SslDigest>>,
        is_h2: bool,
    ) -> Self {
        let socket = SocketDigest::from_raw_fd(id);
        // Just made: it is empty.
        let _ = socket.peer_addr.set(Some(peer.into()));
        Self {
            wire,
            held: BytesMut::new(),
            out: BytesMut::new(),
            bound: Bound::Open,
            socket: Arc::new(socket),
            tls,
            is_h2,
            id,
        }
    }

    /// The client speaks HTTP/2.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        self.is_h2
    }

    /// Nothing of a next request has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Waits for the first byte of a request. False: the client has gone.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn begin(&mut self) -> io::Result<bool> {
        while self.held.starts_with(b"\r\n") {
            // Some clients send an empty line after a body (RFC 9112, 2.2).
            self.held.advance(2);
        }
        if !self.held.is_empty() {
            return Ok(true);
        }
        self.more().await
    }

    /// Reads the head of a request. None: the client has gone.
    ///
    /// # Errors
    /// It is refused.
    pub async fn head(&mut self) -> Result<Option<Head>, Refusal> {
        loop {
            while self.held.starts_with(b"\r\n") {
                self.held.advance(2);
            }
            if let head::Read::Whole(head) = head::read(&self.held)? {
                let length = head.length as u64;
                self.bound = match head.body {
                    Body::Length(more) => Bound::Length(length.saturating_add(more)),
                    Body::Chunked => Bound::Chunks(length, Chunks::default()),
                    Body::Upgrade => Bound::Open,
                };
                return Ok(Some(head));
            }
            if !self.more().await.unwrap_or(false) {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.held.reserve(4 << 10);
        let read = match &mut self.wire {
            Wire::Plain(stream) => stream.read_buf(&mut self.held).await?,
            Wire::Tls(stream) => stream.read_buf(&mut self.held).await?,
        };
        Ok(read > 0)
    }

    /// Writes a last answer and ends the connection.
    pub async fn say(&mut self, text: &str) {
        self.bound = Bound::Open;
        if self.write_all(text.as_bytes()).await.is_ok() {
            Shutdown::shutdown(self).await;
        }
    }

    fn poll_wire(&mut self, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }

    fn poll_wire_write(&mut self, cx: &mut Context, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    /// Hands on what is held, or reads.
    fn poll_some(&mut self, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return self.poll_wire(cx, buf);
        }
        let most = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..most]);
        self.held.advance(most);
        Poll::Ready(Ok(()))
    }

    /// Nothing is left of the request: only the client's going is of interest.
    fn poll_gone(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        if self.held.len() >= HEAD_MAX {
            return Poll::Pending;
        }
        let mut next = [0; 1024];
        let mut buf = ReadBuf::new(&mut next);
        loop {
            ready!(self.poll_wire(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            // The next request came early; it waits for its turn.
            self.held.extend_from_slice(buf.filled());
            if self.held.len() >= HEAD_MAX {
                return Poll::Pending;
            }
            buf.clear();
        }
    }

    /// Reads at most so many bytes; how many.
    fn poll_most(
        &mut self,
        cx: &mut Context,
        buf: &mut ReadBuf,
        most: u64,
    ) -> Poll<io::Result<u64>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.remaining());
        let filled = buf.filled().len();
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(self.poll_some(cx, &mut part))?;
        let read = part.filled().len();
        buf.set_filled(filled + read);
        Poll::Ready(Ok(read as u64))
    }

    fn poll_bound(&mut self, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        match &mut self.bound {
            Bound::Open => self.poll_some(cx, buf),
            Bound::Over => self.poll_gone(cx),
            Bound::Length(left) | Bound::Chunks(left, _) if *left > 0 => {
                let left = *left;
                let read = ready!(self.poll_most(cx, buf, left))?;
                match &mut self.bound {
                    Bound::Length(left) if *left == read => self.bound = Bound::Over,
                    Bound::Length(left) | Bound::Chunks(left, _) => *left -= read,
                    Bound::Open | Bound::Over => {}
                }
                Poll::Ready(Ok(()))
            }
            Bound::Length(_) => {
                self.bound = Bound::Over;
                self.poll_gone(cx)
            }
            Bound::Chunks(..) => {
                let before = buf.filled().len();
                ready!(self.poll_some(cx, buf))?;
                let Bound::Chunks(_, chunks) = &mut self.bound else { return Poll::Pending };
                let fresh = &buf.filled()[before..];
                let used = chunks
                    .advance(fresh)
                    .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
                if used < fresh.len() {
                    let mut held = BytesMut::from(&fresh[used..]);
                    held.extend_from_slice(&self.held);
                    self.held = held;
                }
                if chunks.is_done() {
                    self.bound = Bound::Over;
                }
                buf.set_filled(before + used);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes what is gathered.
    fn poll_drain(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let written = self.poll_wire_write(cx, &out);
            self.out = out;
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.out.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what the client still sends, so that it isn't reset before it has read.
    async fn linger(&mut self) {
        let mut left = LINGER_MAX;
        let mut sink = vec![0; 16 << 10];
        let read = async {
            loop {
                let read = match &mut self.wire {
                    Wire::Plain(stream) => stream.read(&mut sink).await,
                    Wire::Tls(stream) => stream.read(&mut sink).await,
                };
                match read {
                    Ok(read) if read > 0 && read < left => left -= read,
                    _ => break,
                }
            }
        };
        // Whoever sends on gets no more attention than this.
        let _ = tokio::time::timeout(LINGER, read).await;
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().poll_bound(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() + buf.len() > INGRESS_BUFFER {
            ready!(this.poll_drain(cx))?;
            if buf.len() >= INGRESS_BUFFER {
                return this.poll_wire_write(cx, buf);
            }
        }
        this.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

#[async_trait::async_trait]
impl Shutdown for Io {
    async fn shutdown(&mut self) {
        // A client that has gone needs no goodbye.
        let said = tokio::io::AsyncWriteExt::shutdown(self).await;
        if said.is_ok() && !matches!(self.bound, Bound::Over) {
            self.linger().await;
        }
    }
}

impl UniqueID for Io {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for Io {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.tls.clone()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.is_h2.then_some(ALPN::H2)
    }
}

impl GetTimingDigest for Io {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Io {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Io {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.socket))
    }
}

impl Peek for Io {}

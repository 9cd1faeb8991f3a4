//! A client's connection as the engine reads and writes it.
//!
//! Owns what of the connection belongs to the request under way: the engine never sees a byte of
//! the next one, nor one that the strict reader has not passed. Never decides what is answered.

mod engine;
mod wire;

use crate::limits::{HEAD_MAX, HEAD_PIECE, INGRESS_BUFFER};
use crate::node::ingress::chunks::Chunks;
use crate::node::ingress::head::{self, Body, Head};
use crate::node::ingress::host;
use crate::node::ingress::refusal::Refusal;
use bytes::{Buf as _, BytesMut};
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{Shutdown, SocketDigest, UniqueIDType};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use wire::Wire;

pub(super) use wire::with_piece;

/// How long what a client still sends is thrown away, so that it reads the answer.
const LINGER: Duration = Duration::from_secs(1);
/// And at most so many bytes.
const LINGER_MAX: usize = 1 << 20;

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
    /// To be written, from the byte of that number on.
    out: Vec<u8>,
    written: usize,
    /// TLS may hold what was written.
    is_flushed: bool,
    bound: Bound,
    peer: IpAddr,
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
            out: Vec::new(),
            written: 0,
            is_flushed: true,
            bound: Bound::Open,
            peer: peer.ip(),
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

    /// The other end of the connection.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// With TLS, and for this host.
    #[must_use]
    pub fn asked(&self) -> Option<Option<&str>> {
        self.tls.as_ref().map(|tls| tls.organization.as_deref())
    }

    /// Gives back what it needs only while there is a request.
    pub fn rest(&mut self) {
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Waits for the first byte of a request. False: the client has gone.
    ///
    /// # Errors
    /// The connection broke.
    pub fn poll_begin(&mut self, cx: &mut Context) -> Poll<io::Result<bool>> {
        while self.held.starts_with(b"\r\n") {
            // Some clients send an empty line after a body (RFC 9112, 2.2).
            self.held.advance(2);
        }
        if !self.held.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.poll_more(cx)
    }

    /// Reads the head of a request. None: the client has gone.
    ///
    /// # Errors
    /// It is refused.
    pub async fn head(&mut self) -> Result<Option<Head>, Refusal> {
        let mut head = self.held_head()?;
        while head.is_none() && poll_fn(|cx| self.poll_more(cx)).await.unwrap_or(false) {
            head = self.held_head()?;
        }
        Ok(head)
    }

    /// The head of a request, if all of it is here; or why it is refused.
    pub(super) fn held_head(&mut self) -> Result<Option<Head>, Refusal> {
        while self.held.starts_with(b"\r\n") {
            self.held.advance(2);
        }
        let head::Read::Whole(head) = head::read(&self.held)? else { return Ok(None) };
        let length = head.length as u64;
        self.bound = match head.body {
            Body::Length(more) => Bound::Length(length.saturating_add(more)),
            Body::Chunked => Bound::Chunks(length, Chunks::default()),
            Body::Upgrade => Bound::Open,
        };
        Ok(Some(head))
    }

    /// Reads more of a head. False: nothing more comes.
    fn poll_more(&mut self, cx: &mut Context) -> Poll<io::Result<bool>> {
        with_piece(HEAD_PIECE, |buf| {
            ready!(self.wire.poll_read(cx, buf))?;
            self.held.extend_from_slice(buf.filled());
            Poll::Ready(Ok(!buf.filled().is_empty()))
        })
    }

    /// The head that was just read.
    #[must_use]
    pub fn seen(&self, head: &Head) -> &[u8] {
        self.held.get(..head.length).unwrap_or_default()
    }

    /// Takes the head that was just read off: what is read from now on is its body.
    pub fn take_off(&mut self, head: &Head) {
        self.held.advance(head.length.min(self.held.len()));
        self.bound = match head.body {
            Body::Length(0) => Bound::Over,
            Body::Length(length) => Bound::Length(length),
            Body::Chunked => Bound::Chunks(0, Chunks::default()),
            Body::Upgrade => Bound::Open,
        };
    }

    /// Nothing more of the request is to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.bound, Bound::Over)
    }

    /// Drops the rest of the request, if that has come already. False: it has not.
    pub fn skip(&mut self) -> bool {
        if let Bound::Length(left) = self.bound
            && let Ok(left) = usize::try_from(left)
            && left <= self.held.len()
        {
            self.held.advance(left);
            self.bound = Bound::Over;
        }
        self.is_over()
    }

    /// Where an answer is gathered.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that are gathered and not written.
    #[must_use]
    pub fn unwritten(&self) -> usize {
        self.out.len() - self.written
    }

    /// Nothing is left to be sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.unwritten() == 0 && self.is_flushed
    }

    /// Sends bytes behind those that are gathered; what can't be written at once is.
    ///
    /// # Errors
    /// The connection broke.
    pub fn push(&mut self, cx: &mut Context, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        // With TLS two writes are two records.
        while rest.len() >= INGRESS_BUFFER / 4 && (self.tls.is_none() || self.unwritten() == 0) {
            self.is_flushed = false;
            let gathered = &self.out[self.written..];
            let Poll::Ready(written) = self.wire.poll_write_both(cx, gathered, rest)? else {
                break;
            };
            let of_gathered = written.min(gathered.len());
            self.written += of_gathered;
            rest = &rest[written - of_gathered..];
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.out.drain(..self.written);
        self.written = 0;
        self.out.extend_from_slice(rest);
        Ok(())
    }

    /// Writes a last answer and ends the connection.
    pub async fn say(&mut self, text: &str) {
        self.bound = Bound::Open;
        if self.write_all(text.as_bytes()).await.is_ok() {
            Shutdown::shutdown(self).await;
        }
    }

    /// Hands on what is held, or reads.
    fn poll_some(&mut self, cx: &mut Context, buf: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return self.wire.poll_read(cx, buf);
        }
        let most = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..most]);
        self.held.advance(most);
        Poll::Ready(Ok(()))
    }

    /// Nothing is left of the request: only the client's going is of interest.
    pub fn poll_gone(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        if self.held.len() >= HEAD_MAX {
            return Poll::Pending;
        }
        let mut next = [0; 1024];
        let mut buf = ReadBuf::new(&mut next);
        loop {
            ready!(self.wire.poll_read(cx, &mut buf))?;
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
        while self.written < self.out.len() {
            self.is_flushed = false;
            match ready!(self.wire.poll_write(cx, &self.out[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Throws away what the client still sends, so that it isn't reset before it has read.
    async fn linger(&mut self) {
        let mut left = LINGER_MAX;
        let read = poll_fn(|cx| {
            loop {
                let read = with_piece(left, |buf| {
                    ready!(self.wire.poll_read(cx, buf))?;
                    Poll::Ready(io::Result::Ok(buf.filled().len()))
                });
                match ready!(read) {
                    Ok(read) if read > 0 && read < left => left -= read,
                    _ => return Poll::Ready(()),
                }
            }
        });
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
                this.is_flushed = false;
                return this.wire.poll_write(cx, buf);
            }
        }
        this.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        ready!(this.wire.poll_flush(cx))?;
        this.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        this.wire.poll_shutdown(cx)
    }
}

//! The bytes of a client's connection, with or without TLS, and where they pass through.
//!
//! Never knows what they mean.

use crate::limits::INGRESS_PIECE;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

thread_local! {
    /// Idle connections have no buffers: each thread has one for whoever just reads.
    static PIECE: RefCell<Box<[u8]>> = RefCell::new(vec![0; INGRESS_PIECE].into());
}

/// Reads with room for so many bytes, which is anybody's once `what` has returned.
///
/// Never within another: `what` may write, but not read.
pub(in crate::actors::proxy) fn with_piece<T>(
    most: usize,
    what: impl FnOnce(&mut ReadBuf) -> T,
) -> T {
    PIECE.with_borrow_mut(|piece| {
        let most = most.min(piece.len());
        what(&mut ReadBuf::new(&mut piece[..most]))
    })
}

/// The bytes themselves.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context,
        buf: &mut ReadBuf,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    /// Writes one behind the other, at once where that is possible.
    pub(super) fn poll_write_both(
        &mut self,
        cx: &mut Context,
        first: &[u8],
        then: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            _ if first.is_empty() => self.poll_write(cx, then),
            Self::Plain(stream) => {
                let both = [IoSlice::new(first), IoSlice::new(then)];
                Pin::new(stream).poll_write_vectored(cx, &both)
            }
            Self::Tls(_) => self.poll_write(cx, first),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

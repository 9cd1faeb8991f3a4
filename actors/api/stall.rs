//! A connection whose writes have a deadline: who takes nothing is cut off.
//!
//! Owns that deadline only. Never limits a client that takes its bytes slowly but steadily.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A connection that fails when a write makes no progress for too long.
pub struct Stalling<I> {
    io: I,
    patience: Duration,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<I> Stalling<I> {
    /// Bounds the waits of a connection's writes.
    pub fn new(io: I, patience: Duration) -> Self {
        Self { io, patience, deadline: None }
    }

    /// Passes a write's result on, or fails it if it has waited for too long.
    fn watch<T>(
        &mut self,
        result: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.deadline = None;
            return result;
        }
        let until = Instant::now() + self.patience;
        let sleep = || Box::pin(tokio::time::sleep_until(until));
        let deadline = self.deadline.get_or_insert_with(sleep);
        if deadline.as_mut().poll(context).is_ready() {
            let message = "the client takes nothing of the answer";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)));
        }
        Poll::Pending
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stalling<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stalling<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watch(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(context, parts);
        self.watch(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(context);
        self.watch(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(context);
        self.watch(result, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_write_that_nobody_takes_fails_and_one_that_goes_on_does_not() {
        let patience = Duration::from_millis(300);
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut io = Stalling::new(ours, patience);
        let taken = async {
            let mut got = [0; 16];
            theirs.read_exact(&mut got).await.unwrap();
            theirs
        };
        let (written, theirs) = tokio::join!(io.write_all(&[7; 16]), taken);
        written.unwrap();
        io.write_all(&[7; 4]).await.unwrap();
        let begun = Instant::now();
        let error = io.write_all(&[7; 4]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= patience);
        drop(theirs);
    }
}

//! One request and its answer between a client and a container, both ways at once.
//!
//! Owns that nothing is kept which can be passed on, and that neither side takes a part of a
//! message for a whole one. Never decides what a client is told of a failure.

use super::broken::Broken;
use super::pool::Upstream;
use crate::actors::proxy::exchange::Exchange;
use crate::actors::proxy::io::{Io, with_piece};
use crate::actors::proxy::shared::Shared;
use crate::actors::proxy::timer::Timer;
use crate::limits::STREAM_WAIT;
use crate::limits::{BODY_WAIT, HEAD_MORE, INGRESS_BUFFER, INGRESS_PIECE, REPLY_HEADERS_MAX};
use crate::node::ingress::chunks::Chunks;
use crate::node::ingress::reply::{self, Reply};
use crate::node::ingress::written;
use pingora_core::protocols::http::date::get_cached_date;
use std::io::{ErrorKind, Write as _};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead as _, AsyncWrite as _};
use tokio::sync::watch;

/// What the request says of its answer and the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Only the head of the answer is wanted.
    pub(super) is_head: bool,
    /// The client waits to be told to go on.
    pub(super) expects: bool,
    /// It is the last one of the connection.
    pub(super) closes: bool,
    /// Its body comes in chunks.
    pub(super) is_chunked: bool,
    /// Until the answer's head.
    pub(super) timeout: Duration,
}

/// What has become of the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// Its status; 0: the client has seen none.
    pub(super) status: u16,
    /// Bytes of its body.
    pub(super) sent: u64,
    /// It is the last one of the connection.
    pub(super) closes: bool,
    /// The client has all of it.
    pub(super) is_whole: bool,
    /// The container's connection may have another request.
    pub(super) keeps: bool,
}

/// The two sides, and what is known of the request.
pub(super) struct Sides<'a> {
    pub(super) shared: &'a Shared,
    pub(super) stopping: &'a watch::Receiver<bool>,
    pub(super) io: &'a mut Io,
    pub(super) upstream: &'a mut Upstream,
    pub(super) exchange: &'a mut Exchange,
    pub(super) timer: &'a mut Timer,
    /// What the container gets: at first the head.
    pub(super) sending: &'a mut Vec<u8>,
}

/// How far the answer is.
enum Phase {
    Head,
    Length(u64),
    Chunks(Chunks),
    UntilEnd,
    Done,
}

/// A request on its way.
pub(super) struct Relay<'a> {
    with: Sides<'a>,
    terms: Terms,
    /// So much of what is to be sent has gone.
    sent: usize,
    /// The request's body, where it comes in chunks.
    body: Option<Chunks>,
    /// The container takes nothing more; it may have answered before.
    is_deaf: bool,
    /// The beginning of the answer's head.
    held: Vec<u8>,
    phase: Phase,
    answer: Answer,
    /// When something moved last, as far as that counts.
    last: Instant,
}

impl<'a> Relay<'a> {
    /// With a connection that has no request under way.
    pub(super) fn new(with: Sides<'a>, terms: Terms) -> Self {
        Self {
            with,
            terms,
            sent: 0,
            body: terms.is_chunked.then(Chunks::default),
            is_deaf: false,
            held: Vec::new(),
            phase: Phase::Head,
            answer: Answer::default(),
            last: Instant::now(),
        }
    }

    /// What has become of the answer so far.
    pub(super) fn answer(&self) -> Answer {
        let is_asked = self.with.io.is_over() && self.sent == self.with.sending.len();
        let is_whole = matches!(self.phase, Phase::Done) && self.with.io.is_sent();
        let keeps = self.answer.keeps && is_whole && is_asked && !self.is_deaf;
        Answer { is_whole, keeps, ..self.answer }
    }

    /// Goes on until the client has the whole answer.
    pub(super) fn poll(&mut self, cx: &mut Context) -> Poll<Result<(), Broken>> {
        let mut counts = false;
        loop {
            let uploaded = self.take(cx)? | self.send(cx);
            let came = self.receive(cx)?;
            let before = self.with.io.unwritten();
            let is_sent = self.flush(cx)?;
            if matches!(self.phase, Phase::Done) && is_sent {
                return Poll::Ready(Ok(()));
            }
            let flushed = self.with.io.unwritten() < before;
            // Until the answer's head only the body's progress gives a container more time.
            counts |= uploaded || ((came || flushed) && !matches!(self.phase, Phase::Head));
            if !(uploaded || came || flushed) {
                break;
            }
        }
        if counts {
            self.last = Instant::now();
        }
        let (most, broken) = self.patience();
        ready!(self.with.timer.poll(cx, self.last + most));
        Poll::Ready(Err(broken))
    }

    /// How long nothing may move, and what is wrong if it doesn't.
    fn patience(&self) -> (Duration, Broken) {
        let is_gone = self.sent == self.with.sending.len();
        // The client's turn.
        let owes = !self.with.io.is_over() && is_gone && !self.is_deaf;
        match self.phase {
            Phase::Head if owes && BODY_WAIT <= self.terms.timeout => (BODY_WAIT, Broken::SlowBody),
            Phase::Head => (self.terms.timeout, Broken::Late),
            _ if owes || !self.with.io.is_sent() => (BODY_WAIT, Broken::Client),
            _ if !is_gone && !self.is_deaf => (BODY_WAIT, Broken::Midway),
            _ => (STREAM_WAIT, Broken::Midway),
        }
    }

    /// Takes what the client sends. Whether anything came.
    fn take(&mut self, cx: &mut Context) -> Result<bool, Broken> {
        if self.with.io.is_over() {
            // A next request waits for its turn; only its sender's going is of interest.
            let is_gone =
                !matches!(self.phase, Phase::Done) && self.with.io.poll_gone(cx).is_ready();
            return if is_gone { Err(Broken::Client) } else { Ok(false) };
        }
        if self.is_deaf || self.with.sending.len() - self.sent > INGRESS_BUFFER {
            return Ok(false);
        }
        with_piece(INGRESS_PIECE, |buf| match Pin::new(&mut *self.with.io).poll_read(cx, buf) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                self.pass_on(cx, buf.filled()).map(|()| true)
            }
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                Err(Broken::BadBody)
            }
            Poll::Ready(_) => Err(Broken::Client),
        })
    }

    /// A piece of the request's body.
    fn pass_on(&mut self, cx: &mut Context, mut piece: &[u8]) -> Result<(), Broken> {
        let Sides { exchange, sending, upstream, .. } = &mut self.with;
        sending.drain(..std::mem::take(&mut self.sent));
        if let Some(chunks) = &mut self.body {
            chunks.copy(piece, sending).map_err(|_| Broken::BadBody)?;
            exchange.body = chunks.data();
        } else {
            exchange.body += piece.len() as u64;
            let is_first = sending.is_empty() && !exchange.is_too_large();
            if is_first {
                match Pin::new(&mut upstream.stream).poll_write(cx, piece) {
                    Poll::Ready(Ok(written @ 1..)) => piece = &piece[written..],
                    Poll::Ready(_) => self.is_deaf = true,
                    Poll::Pending => {}
                }
            }
            sending.extend_from_slice(piece);
        }
        if exchange.is_too_large() { Err(Broken::LargeBody) } else { Ok(()) }
    }

    /// Sends the container what is its. Whether anything went.
    fn send(&mut self, cx: &mut Context) -> bool {
        let Sides { upstream, sending, .. } = &mut self.with;
        let before = self.sent;
        while !self.is_deaf && self.sent < sending.len() {
            match Pin::new(&mut upstream.stream).poll_write(cx, &sending[self.sent..]) {
                Poll::Ready(Ok(written @ 1..)) => self.sent += written,
                Poll::Ready(_) => self.is_deaf = true,
                Poll::Pending => break,
            }
        }
        self.sent > before
    }

    /// Takes what the container sends. Whether anything came.
    fn receive(&mut self, cx: &mut Context) -> Result<bool, Broken> {
        if matches!(self.phase, Phase::Done) || self.with.io.unwritten() > INGRESS_BUFFER {
            return Ok(false);
        }
        with_piece(INGRESS_PIECE, |buf| {
            match Pin::new(&mut self.with.upstream.stream).poll_read(cx, buf) {
                Poll::Pending => Ok(false),
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.came(cx, buf.filled()).map(|()| true)
                }
                Poll::Ready(end) => self.ended(end.is_ok()).map(|()| true),
            }
        })
    }

    fn came(&mut self, cx: &mut Context, bytes: &[u8]) -> Result<(), Broken> {
        let joined;
        let mut rest = bytes;
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            rest = &joined;
        }
        while matches!(self.phase, Phase::Head) && !rest.is_empty() {
            let Some(length) = self.head(rest)? else {
                self.held = rest.to_vec();
                return Ok(());
            };
            rest = &rest[length..];
        }
        self.content(cx, rest)
    }

    /// A head at the beginning of these bytes: its length, if it is whole.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Broken> {
        let mut space = [const { MaybeUninit::uninit() }; REPLY_HEADERS_MAX];
        let reply = reply::read(bytes, &mut space, self.terms.is_head);
        let Some(reply) = reply.map_err(|_| Broken::BadAnswer)? else { return Ok(None) };
        match reply.status {
            // Nobody asked for another protocol.
            101 => return Err(Broken::BadAnswer),
            100 if !self.terms.expects => {}
            100..200 => written::interim(self.with.io.out(), &reply),
            _ => self.begin(&reply)?,
        }
        Ok(Some(reply.length))
    }

    /// The answer begins.
    fn begin(&mut self, reply: &Reply) -> Result<(), Broken> {
        let Sides { shared, stopping, io, exchange, .. } = &mut self.with;
        exchange.answered();
        // Whoever is answered before all is sent can't tell where the next request would begin.
        let closes = self.terms.closes || *stopping.borrow() || !io.is_over();
        let Some(changes) = exchange.changes(shared) else { return Err(Broken::BadAnswer) };
        let body = match reply.body {
            reply::Body::Length(length) => usize::try_from(length).ok(),
            _ => None,
        };
        // What is larger is not gathered.
        let gathered = body.filter(|length| *length < INGRESS_BUFFER / 4).unwrap_or(0);
        let out = io.out();
        out.reserve(reply.length + HEAD_MORE + gathered);
        written::answer(out, reply, &changes, get_cached_date().as_bytes(), closes);
        self.answer.status = reply.status;
        (self.answer.closes, self.answer.keeps) = (closes, reply.keeps);
        self.phase = match reply.body {
            reply::Body::None(_) | reply::Body::Length(0) => Phase::Done,
            reply::Body::Length(length) => Phase::Length(length),
            reply::Body::Chunked => Phase::Chunks(Chunks::default()),
            reply::Body::UntilEnd => Phase::UntilEnd,
        };
        Ok(())
    }

    /// A piece of the answer's body.
    fn content(&mut self, cx: &mut Context, bytes: &[u8]) -> Result<(), Broken> {
        let io = &mut *self.with.io;
        let mut push = |bytes: &[u8]| io.push(cx, bytes).map_err(|_| Broken::Client);
        let used = match &mut self.phase {
            Phase::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                push(&bytes[..here])?;
                *left -= here as u64;
                self.answer.sent += here as u64;
                if *left == 0 {
                    self.phase = Phase::Done;
                }
                here
            }
            Phase::Chunks(chunks) => {
                let used = chunks.advance(bytes).map_err(|_| Broken::Midway)?;
                push(&bytes[..used])?;
                self.answer.sent = chunks.data();
                if chunks.is_done() {
                    self.phase = Phase::Done;
                }
                used
            }
            Phase::UntilEnd if !bytes.is_empty() => {
                push(format!("{:x}\r\n", bytes.len()).as_bytes())?;
                push(bytes)?;
                push(b"\r\n")?;
                self.answer.sent += bytes.len() as u64;
                bytes.len()
            }
            Phase::Head | Phase::UntilEnd | Phase::Done => 0,
        };
        // What nobody asked for may be anybody's answer.
        self.answer.keeps &= used == bytes.len();
        Ok(())
    }

    /// The container ended the connection, properly or not.
    fn ended(&mut self, properly: bool) -> Result<(), Broken> {
        match self.phase {
            Phase::Head => Err(Broken::Container),
            Phase::UntilEnd if properly => {
                // Writing to memory can't fail.
                let _ = self.with.io.out().write_all(b"0\r\n\r\n");
                self.phase = Phase::Done;
                Ok(())
            }
            _ => Err(Broken::Midway),
        }
    }

    /// Whether the client has all that came so far.
    fn flush(&mut self, cx: &mut Context) -> Result<bool, Broken> {
        if self.with.io.is_sent() {
            return Ok(true);
        }
        match Pin::new(&mut *self.with.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(Broken::Client),
            Poll::Pending => Ok(false),
        }
    }
}

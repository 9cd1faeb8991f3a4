//! Mill's own relay: plain requests of HTTP/1.1, from the client to a container and back.
//!
//! Owns which requests it takes: those that leave nothing to interpret, on routes that change
//! nothing in a body. All others are the engine's, which gets them untouched. What becomes of a
//! request is decided by [`super::exchange`], as for the engine.

mod broken;
mod pool;
mod relay;

use super::exchange::{self, Asked, Exchange, Fault, Line, Onward, Way};
use super::io::Io;
use super::shared::{Route, Shared};
use super::timer::Timer;
use crate::limits::{BODY_WAIT, HEAD_MORE};
use crate::node::ingress::forward::Claims;
use crate::node::ingress::head::{self, Body, Head};
use crate::node::ingress::page::Page;
use crate::node::ingress::refusal::Refusal;
use crate::node::ingress::{dress, written};
use broken::Broken;
use pingora_core::protocols::Shutdown;
use pingora_core::protocols::http::date::get_cached_date;
use pool::Upstream;
use relay::{Answer, Relay, Sides, Terms};
use std::future::poll_fn;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) use pool::Pool;

/// What becomes of the connection.
pub(super) enum After {
    /// Another request may come.
    Kept,
    Over,
    /// The engine is to take the request.
    Engine,
}

/// A request that is taken.
struct Taken {
    /// The head as it came.
    head: Vec<u8>,
    terms: Terms,
    /// It may be sent twice.
    is_safe: bool,
    exchange: Exchange,
    /// The head as the container gets it; empty where none does.
    sending: Vec<u8>,
}

/// What serves it.
struct Serving<'a> {
    shared: &'a Shared,
    pool: &'a Arc<Pool>,
    stopping: &'a watch::Receiver<bool>,
    io: &'a mut Io,
    timer: &'a mut Timer,
    taken: Taken,
}

/// Serves the request whose head was just read, if it can.
pub(super) async fn serve(
    (shared, pool): (&Shared, &Arc<Pool>),
    io: &mut Io,
    head: &Head,
    timer: &mut Timer,
    stopping: &watch::Receiver<bool>,
) -> After {
    let Some((way, taken)) = take(shared, io, head) else { return After::Engine };
    io.take_off(head);
    let mut serving = Serving { shared, pool, stopping, io, timer, taken };
    let answer = serving.answer(way).await;
    serving.end(answer);
    match answer {
        Answer { is_whole: true, closes: false, .. } => return After::Kept,
        Answer { is_whole: true, .. } => Shutdown::shutdown(io).await,
        // Whoever has a part of an answer sees that it is none by the end of the connection.
        Answer { .. } => {}
    }
    After::Over
}

/// Routes a request and writes its head for the container. None: it is not for this relay, and
/// nothing has happened.
fn take(shared: &Shared, io: &Io, head: &Head) -> Option<(Way, Taken)> {
    if !head.is_plain {
        return None;
    }
    let bytes = io.seen(head).to_vec();
    let mut exchange = Exchange::begin();
    let mut sending = Vec::with_capacity(bytes.len() + HEAD_MORE);
    let (way, is_head, is_safe) = head::parsed(&bytes, |request| {
        let asked = asked(io, request, head);
        let way = exchange.route(shared, &asked, is_mine)?;
        if let (Ok(Onward::Container), Some(told)) = (&way, &exchange.told) {
            let target = exchange.target(asked.target);
            written::request(&mut sending, request, &target, told, head.body);
        }
        let is_head = request.method == Some("HEAD");
        let is_safe = is_head || matches!(request.method, Some("GET" | "OPTIONS"));
        Some((way, is_head, is_safe && head.body == Body::Length(0)))
    })??;
    let route = exchange.route.as_ref();
    let terms = Terms {
        is_head,
        expects: head.expects,
        closes: head.closes,
        is_chunked: head.body == Body::Chunked,
        timeout: route.map_or(BODY_WAIT, |route| exchange::timeout(route)),
    };
    Some((way, Taken { head: bytes, terms, is_safe, exchange, sending }))
}

/// Neither another protocol behind it, nor a change of bodies.
fn is_mine(route: &Route) -> bool {
    !route.route.h2c && !route.route.options.compress
}

/// What a request asks for.
fn asked<'r>(io: &'r Io, request: &'r httparse::Request, head: &Head) -> Asked<'r> {
    let text = |name: &str| head::text(request, name);
    Asked {
        peer: io.peer(),
        tls: io.asked(),
        host: text("host").unwrap_or_default(),
        target: request.path.unwrap_or_default(),
        claims: Claims {
            forwarded_for: text("x-forwarded-for"),
            proto: text("x-forwarded-proto"),
            host: text("x-forwarded-host"),
            forwarded: text("forwarded"),
            request_id: text("x-request-id"),
        },
        length: match head.body {
            Body::Length(length) => Some(length),
            Body::Chunked | Body::Upgrade => None,
        },
    }
}

impl Serving<'_> {
    async fn answer(&mut self, way: Way) -> Answer {
        let mut way = way;
        if way.is_ok() && self.taken.exchange.wants_auth() {
            let header = self.header("authorization");
            let let_in = self.taken.exchange.let_in(self.shared, header.as_deref()).await;
            if let Err(refusal) = let_in {
                way = Err(refusal);
            }
        }
        match way {
            Ok(Onward::Container) => self.pass().await,
            Ok(Onward::Answer(text)) => self.say(Page::plain(text), false).await,
            Ok(Onward::Elsewhere(place)) => self.say(Page::moved(place), false).await,
            Err(refusal) => self.refuse(&refusal, false).await,
        }
    }

    /// The first header of that name.
    fn header(&self, name: &str) -> Option<String> {
        head::parsed(&self.taken.head, |request| head::text(request, name).map(str::to_owned))?
    }

    /// The mark of the replica that the client was with before.
    fn kept(&self) -> Option<String> {
        let route = self.taken.exchange.route.as_ref()?;
        if !route.route.options.sticky {
            return None;
        }
        head::parsed(&self.taken.head, |request| dress::kept(head::texts(request, "cookie")))?
    }

    /// Passes it on, to another replica where that is safe and the first one can't be had.
    async fn pass(&mut self) -> Answer {
        let kept = self.kept();
        let mut is_again = false;
        loop {
            let chosen = self.taken.exchange.choose(self.shared, kept.as_deref()).await;
            let address = match chosen {
                Ok(address) => address,
                Err(refusal) => return self.refuse(&refusal, true).await,
            };
            // The second try doesn't depend on a guess.
            let pooled = if is_again { None } else { self.pool.take(address) };
            let connected = match pooled {
                Some(upstream) => Ok(upstream),
                None => pool::connect(address).await,
            };
            let mut upstream = match connected {
                Ok(upstream) => upstream,
                Err(error) => {
                    let slow = error.kind() == std::io::ErrorKind::TimedOut;
                    if self.taken.exchange.not_connected(self.shared, slow) {
                        continue;
                    }
                    let refusal = self.taken.exchange.refusal.take().unwrap_or(Refusal::Connect);
                    return self.refuse(&refusal, true).await;
                }
            };
            let (answer, broken) = self.relay(&mut upstream).await;
            let Some(broken) = broken else {
                if answer.keeps {
                    self.pool.put(address, upstream);
                }
                return answer;
            };
            is_again = self.is_sent_again(broken, answer, upstream.reused);
            if !is_again {
                return match broken.refusal() {
                    Some(refusal) if answer.status == 0 => self.refuse(&refusal, true).await,
                    _ => answer,
                };
            }
        }
    }

    async fn relay(&mut self, upstream: &mut Upstream) -> (Answer, Option<Broken>) {
        let Taken { exchange, sending, terms, .. } = &mut self.taken;
        let (shared, stopping) = (self.shared, self.stopping);
        let (io, timer) = (&mut *self.io, &mut *self.timer);
        let sides = Sides { shared, stopping, io, upstream, exchange, timer, sending };
        let mut relay = Relay::new(sides, *terms);
        let ended = poll_fn(|cx| relay.poll(cx)).await;
        (relay.answer(), ended.err())
    }

    fn is_sent_again(&mut self, broken: Broken, answer: Answer, reused: bool) -> bool {
        let fault = Fault {
            of_container: broken.is_of_container(),
            reused,
            over: broken == Broken::Late,
            untouched: self.taken.is_safe,
            begun: answer.status > 0,
        };
        self.taken.exchange.broken(self.shared, fault)
    }

    async fn refuse(&mut self, refusal: &Refusal, closes: bool) -> Answer {
        self.taken.exchange.error = Some(refusal.code());
        let accept = self.header("accept").unwrap_or_default();
        self.say(Page::refused(refusal, &accept), closes).await
    }

    /// Answers without a container.
    async fn say(&mut self, page: Page, closes: bool) -> Answer {
        let Terms { is_head, closes: asked, .. } = self.taken.terms;
        let closes = closes || asked || *self.stopping.borrow() || !self.io.skip();
        let date = get_cached_date();
        let text = page.written(date.to_str().unwrap_or_default(), closes, is_head);
        let written = async {
            self.io.write_all(text.as_bytes()).await?;
            self.io.flush().await
        };
        let is_whole = matches!(timeout(BODY_WAIT, written).await, Ok(Ok(())));
        let sent = if is_head { 0 } else { page.body.len() as u64 };
        Answer { status: page.status, sent, closes, is_whole, keeps: false }
    }

    /// It is over: counts it, and writes it down.
    fn end(&mut self, answer: Answer) {
        let Answer { status, sent, .. } = answer;
        let exchange = &mut self.taken.exchange;
        exchange.ended(self.shared, status, sent);
        if !exchange.is_logged(self.shared) {
            return;
        }
        let write = |request: &httparse::Request| {
            let value = |name: &str| head::value(request, name);
            let line = Line {
                protocol: "HTTP/1.1",
                method: request.method.unwrap_or_default(),
                host: value("host").unwrap_or_default(),
                target: request.path.unwrap_or_default(),
                referer: value("referer"),
                agent: value("user-agent"),
            };
            self.taken.exchange.write(self.shared, &line, status, sent);
        };
        let _ = head::parsed(&self.taken.head, write);
    }
}

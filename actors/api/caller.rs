//! Who a request is from, for as long as what it opened goes on.
//!
//! Owns the places for streams, by caller, and when a token's are over: it was revoked, or has
//! expired. Never lets anybody in.

use super::error::ApiError;
use crate::actors::platform::now;
use crate::actors::root::View;
use crate::id::{NodeId, TokenId};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyDataStream;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use warp::Reply as _;
use warp::reply::Response;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// Somebody without a token, or nobody.
    Nobody,
    /// Whoever may open the UNIX socket.
    Local,
    /// Another member, for somebody whom it has let in.
    Member(NodeId),
    /// Who shows this token.
    Token(TokenId),
}

impl Caller {
    /// As keys of requests have it: a key means something only within its caller.
    pub fn name(&self) -> String {
        match self {
            Self::Nobody => String::new(),
            Self::Local => "local".to_owned(),
            Self::Member(node) => node.to_string(),
            Self::Token(id) => id.to_string(),
        }
    }
}

tokio::task_local! {
    /// Whose request is being answered.
    static CALLER: Caller;
}

/// Answers a request of a caller.
pub async fn answering<T>(caller: Caller, handled: impl Future<Output = T>) -> T {
    CALLER.scope(caller, handled).await
}

/// The streams that are open, by caller.
#[derive(Debug)]
pub struct Streams {
    /// Most of the UNIX socket, and of all tokens together; one token has a part of it.
    most: usize,
    open: Mutex<BTreeMap<Caller, usize>>,
}

impl Streams {
    /// None are open.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    fn take(&self, caller: &Caller) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(caller).copied().unwrap_or_default();
        let is_same =
            |other: &Caller| std::mem::discriminant(other) == std::mem::discriminant(caller);
        let kind: usize = open.iter().filter(|(other, _)| is_same(other)).map(|(_, n)| n).sum();
        // The socket always gets in, whatever tokens hold open; and so does every token.
        let each = match caller {
            Caller::Token(_) => self.most.div_ceil(crate::limits::API_STREAM_SHARES),
            _ => self.most,
        };
        let may = own < each && kind < self.most;
        if may {
            *open.entry(caller.clone()).or_default() += 1;
        }
        may
    }

    fn give_back(&self, caller: &Caller) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(caller);
            }
        }
    }
}

/// A place among the open streams.
#[derive(Debug)]
pub struct Place {
    caller: Caller,
    streams: Arc<Streams>,
    views: watch::Receiver<Option<View>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.give_back(&self.caller);
    }
}

impl Place {
    /// A place for who asks.
    ///
    /// # Errors
    /// Too many streams are open.
    pub fn take(
        streams: &Arc<Streams>,
        views: &watch::Receiver<Option<View>>,
    ) -> Result<Self, ApiError> {
        let caller = CALLER.try_with(Caller::clone).unwrap_or(Caller::Nobody);
        if !streams.take(&caller) {
            return Err(ApiError::TooMany { what: "streams" });
        }
        Ok(Self { caller, streams: Arc::clone(streams), views: views.clone() })
    }

    /// Ends when the caller's token is let in no more.
    pub fn expired(&self) -> impl Future<Output = ()> + Send + use<> {
        expired(self.views.clone(), self.caller.clone())
    }
}

/// An answer that breaks off when its caller's token is let in no more.
pub fn cut_off(response: Response, place: Place) -> Response {
    let (parts, body) = response.into_parts();
    let expired = Box::pin(place.expired());
    let pieces = Box::pin(BodyDataStream::new(body));
    let pieces = stream::unfold(Some((pieces, expired, place)), async |going| {
        let (mut pieces, mut expired, place) = going?;
        tokio::select! {
            piece = pieces.next() => {
                let piece = piece?.map_err(io::Error::other);
                Some((piece, Some((pieces, expired, place))))
            }
            // So that nobody takes a part for the whole.
            () = &mut expired => Some((Err(io::Error::other(EXPIRED)), None)),
        }
    });
    let mut response = warp::reply::stream(pieces).into_response();
    (*response.status_mut(), *response.headers_mut()) = (parts.status, parts.headers);
    response
}

/// What is said to whoever is cut off.
pub const EXPIRED: &str = "the token is let in no more";

async fn expired(mut views: watch::Receiver<Option<View>>, caller: Caller) {
    let Caller::Token(id) = caller else { return std::future::pending().await };
    loop {
        let end = {
            let view = views.borrow_and_update();
            let Some(view) = view.as_ref() else { return };
            let Some(token) = view.state.tokens.get(&id) else { return };
            token.expires_at
        };
        let left = end.map(|end| Duration::from_millis(end.0.saturating_sub(now().0)));
        if left.is_some_and(|left| left.is_zero()) {
            return;
        }
        let over = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Without a view to come the API is about to stop, which ends streams too.
            changed = views.changed() => if changed.is_err() { return },
            () = over => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_gets_in_whatever_tokens_hold_open() {
        let streams = Streams::new(8);
        let token = |name: &str| Caller::Token(name.into());
        let taken = |caller: &Caller| (0..20).filter(|_| streams.take(caller)).count();
        assert_eq!(taken(&token("a")), 2, "a part for each");
        assert_eq!(["b", "c", "d", "e"].map(|name| taken(&token(name))), [2, 2, 2, 0]);
        assert_eq!(taken(&Caller::Local), 8);
        assert_eq!(taken(&Caller::Member(NodeId(2))), 8);
        streams.give_back(&token("a"));
        assert_eq!(taken(&token("e")), 1);
        streams.give_back(&Caller::Local);
        assert_eq!(taken(&Caller::Local), 1);
    }
}

//! Asking another member for its part of an answer that this node gives.
//!
//! Owns the connection of each request: its own, so that no stream holds up another, and so that
//! either end's leaving ends the other's work. Never asks on behalf of a third node.

use super::error::ApiError;
use super::ports::Neighbours;
use super::request::{MILL_INCARNATION, MILL_INDEX, MILL_ROLE};
use super::stall::Stalling;
use crate::actors::peer;
use crate::actors::platform::now;
use crate::actors::root::View;
use crate::api::wire::{ErrorDocument, ErrorView};
use crate::fsm::model::{Node, Role};
use crate::id::NodeId;
use crate::limits;
use crate::reasons::with_reasons;
use crate::units::{Millis, span};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use warp::http::header::HOST;
use warp::http::{Method, StatusCode, request as http};

/// What is sent to another member.
pub type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// A connection to another member.
pub type Sender = http1::SendRequest<Sent>;

/// Why another member's part can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// The cluster counts it as down.
    #[error("{name} has been silent for {}", span(since.0 / 1000))]
    Down {
        name: String,
        /// For how long.
        since: Millis,
    },
    /// It doesn't answer.
    #[error("{name} can't be reached at {place}: {reason}")]
    Unreachable {
        name: String,
        /// Where it was asked.
        place: String,
        reason: String,
    },
    /// It is no member any more.
    #[error("node {node} was removed from the cluster")]
    Gone { node: NodeId },
    /// It answers that it can't.
    #[error("{}", .error.message)]
    Refused {
        /// The status of its answer.
        status: u16,
        /// Its words.
        error: ErrorView,
    },
}

impl From<ReachError> for ApiError {
    fn from(error: ReachError) -> Self {
        let message = error.to_string();
        match error {
            ReachError::Refused { status, error } => Self::Relayed { status, error },
            _ => Self::Unreachable { message },
        }
    }
}

/// A question to another member.
pub struct Ask {
    node: NodeId,
    name: String,
    place: String,
    head: http::Builder,
}

impl Ask {
    /// A question to a node as the view has it, for a caller with that role.
    ///
    /// # Errors
    /// The node is down, or no member.
    pub fn new(
        view: &View,
        node: NodeId,
        role: Role,
        method: Method,
        path: &str,
    ) -> Result<Self, ReachError> {
        let member = view.state.nodes.get(&node).ok_or(ReachError::Gone { node })?;
        if !member.is_up() {
            return Err(down(member));
        }
        let name = member.name.clone();
        let place = peer::place(member).ok_or_else(|| ReachError::Unreachable {
            name: name.clone(),
            place: member.address.clone(),
            reason: "it has no peer port".to_owned(),
        })?;
        let cluster = view.state.cluster.as_ref();
        let incarnation = cluster.map(|cluster| cluster.incarnation.0).unwrap_or_default();
        let head = warp::http::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "mill")
            .header(MILL_ROLE, role.name())
            .header(MILL_INCARNATION, incarnation)
            .header(MILL_INDEX, view.index.0);
        Ok(Self { node, name, place, head })
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head = self.head.header(name, value);
        self
    }

    /// What a later failure of the connection means.
    pub fn breaking(&self) -> impl Fn(&dyn std::error::Error) -> ReachError + use<> {
        let (name, place) = (self.name.clone(), self.place.clone());
        move |reason| ReachError::Unreachable {
            name: name.clone(),
            place: place.clone(),
            reason: with_reasons(reason),
        }
    }

    fn broken(&self, reason: &dyn std::error::Error) -> ReachError {
        self.breaking()(reason)
    }

    fn unreachable(&self, reason: String) -> ReachError {
        ReachError::Unreachable { name: self.name.clone(), place: self.place.clone(), reason }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// The node doesn't answer.
    pub async fn connect(&self, neighbours: &dyn Neighbours) -> Result<Sender, ReachError> {
        let opening = neighbours.open(self.node, self.place.clone());
        let socket = opening.await.map_err(|error| self.broken(&error))?;
        let io = TokioIo::new(Stalling::new(socket, limits::API_STALL));
        let (sender, connection) =
            http1::handshake(io).await.map_err(|error| self.broken(&error))?;
        // Ends with the question and its answer.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    /// Asks over a connection of its own, and waits so long until the answer begins.
    ///
    /// # Errors
    /// The node doesn't answer, or not with a success.
    pub async fn send(
        self,
        neighbours: &dyn Neighbours,
        body: Option<Sent>,
        patience: Duration,
    ) -> Result<hyper::Response<Incoming>, ReachError> {
        let mut sender = self.connect(neighbours).await?;
        self.over(&mut sender, body, patience).await
    }

    /// Asks over a connection that is open.
    ///
    /// # Errors
    /// As [`Ask::send`].
    pub async fn over(
        mut self,
        sender: &mut Sender,
        body: Option<Sent>,
        patience: Duration,
    ) -> Result<hyper::Response<Incoming>, ReachError> {
        let head = std::mem::take(&mut self.head);
        let body = body.unwrap_or_else(nothing);
        let request = head.body(body).map_err(|error| self.broken(&error))?;
        let answer = tokio::time::timeout(patience, sender.send_request(request)).await;
        let late = |_| self.unreachable(format!("no answer in {}s", patience.as_secs()));
        let answer = answer.map_err(late)?.map_err(|error| self.broken(&error))?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let body = Limited::new(answer.into_body(), limits::API_JSON_MAX).collect();
        let body = tokio::time::timeout(limits::REACH_ANSWER, body).await;
        let bytes = body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes);
        let read = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let ErrorDocument { error } =
            read.ok_or_else(|| self.unreachable(format!("it answers {status}")))?;
        Err(ReachError::Refused { status: status.as_u16(), error })
    }
}

fn nothing() -> Sent {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Until the cluster counts a node as down, or as none of its own: nothing that is asked of it
/// comes any more. The system notices that only if the node's host is gone, too: for a process that
/// stands still it answers.
pub async fn lost(mut views: watch::Receiver<Option<View>>, node: NodeId) -> ReachError {
    loop {
        let why = views.borrow_and_update().as_ref().and_then(|view| why_lost(view, node));
        if let Some(why) = why {
            return why;
        }
        if views.changed().await.is_err() {
            // The API stops, and ends what waits.
            std::future::pending::<()>().await;
        }
    }
}

fn why_lost(view: &View, node: NodeId) -> Option<ReachError> {
    match view.state.nodes.get(&node) {
        None => Some(ReachError::Gone { node }),
        Some(member) => (!member.is_up()).then(|| down(member)),
    }
}

fn down(node: &Node) -> ReachError {
    let now = now();
    // It had been silent before it was taken for down.
    let since = match node.down_since {
        Some(since) => Millis(now.since(since).0 + Millis::from(limits::NODE_DOWN).0),
        None => now.since(node.joined_at),
    };
    ReachError::Down { name: node.name.clone(), since }
}

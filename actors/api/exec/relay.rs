//! A program in a container of another node: frames passed on between the two WebSockets.
//!
//! Owns telling the client when the node goes away. Never keeps more than one frame of either
//! direction.

use super::{FAILED, FromClient, ToClient, part};
use crate::actors::api::caller::{EXPIRED, Place};
use crate::actors::api::context::Context;
use crate::actors::api::reach::{Ask, ReachError, lost};
use crate::actors::root::View;
use crate::api::wire::ExecControl;
use crate::id::NodeId;
use crate::limits;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use warp::ws::{Message, WebSocket};

type Node = WebSocketStream<TokioIo<Upgraded>>;

/// A session on another node.
pub(super) struct Relay {
    node: Node,
    id: NodeId,
    name: String,
    views: watch::Receiver<Option<View>>,
    stopping: CancellationToken,
    place: Place,
}

impl Relay {
    /// Begins a session there.
    ///
    /// # Errors
    /// The node can't be reached, or refuses.
    pub(super) async fn begin(
        ask: Ask,
        (id, name): (NodeId, String),
        context: &Context,
        place: Place,
    ) -> Result<Self, ReachError> {
        let ask = ask
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &generate_key());
        let broken = ask.breaking();
        let answer = ask.send(&*context.ports.neighbours, None, limits::REACH_ANSWER).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| broken(&error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::EXEC_FRAME_MAX))
            .max_frame_size(Some(limits::EXEC_FRAME_MAX));
        let upgraded = TokioIo::new(upgraded);
        let node = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
        let stopping = context.stopping.clone();
        let views = context.views.clone();
        Ok(Self { node, id, name, views, stopping, place })
    }

    pub(super) async fn run(self, client: WebSocket) {
        let (mut to_client, mut from_client) = client.split();
        let (mut to_node, mut from_node) = self.node.split();
        let cut = |why: &str| ExecControl::Exit { code: FAILED, message: Some(why.to_owned()) };
        let ended = tokio::select! {
            ended = outwards(&mut from_node, &mut to_client, &self.name) => ended,
            error = lost(self.views, self.id) => Some(broken_off(&self.name, &error.to_string())),
            // Dropped, the connection tells the node that nobody is there any more.
            () = inwards(&mut from_client, &mut to_node) => return,
            () = self.stopping.cancelled() => Some(cut("the daemon stops")),
            () = self.place.expired() => Some(cut(EXPIRED)),
        };
        match ended {
            Some(ended) => part(&mut to_client, ended).await,
            // How it ended has been passed on; who has gone hears nothing.
            None => drop(to_client.close().await),
        }
    }
}

/// Until the program has ended, or the client or the node has gone; what is to be said then.
async fn outwards(
    from: &mut SplitStream<Node>,
    to: &mut ToClient,
    name: &str,
) -> Option<ExecControl> {
    loop {
        let next = tokio::time::timeout(limits::EXEC_SILENCE, from.next()).await;
        let lost = |why: &str| Some(broken_off(name, why));
        let frame = match next {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return lost(&error.to_string()),
            Ok(None) => return lost("the node closed it"),
            Err(_) => return lost("nothing was heard of it for too long"),
        };
        let is_end = matches!(&frame, Frame::Binary(bytes) if is_exit(bytes));
        let message = match frame {
            Frame::Binary(bytes) => Message::binary(bytes),
            // The client's life is asked for as often as this node's.
            Frame::Ping(_) => Message::ping(Vec::new()),
            _ => continue,
        };
        if to.send(message).await.is_err() || is_end {
            return None;
        }
    }
}

fn broken_off(name: &str, why: &str) -> ExecControl {
    let message = Some(format!("the connection to {name} broke off: {why}"));
    ExecControl::Exit { code: FAILED, message }
}

fn is_exit(frame: &[u8]) -> bool {
    let [ExecControl::CONTROL, json @ ..] = frame else { return false };
    matches!(serde_json::from_slice(json), Ok(ExecControl::Exit { .. }))
}

/// Until the client has gone, or the node takes nothing any more.
async fn inwards(from: &mut FromClient, to: &mut SplitSink<Node, Frame>) {
    loop {
        let next = tokio::time::timeout(limits::EXEC_SILENCE, from.next());
        let Ok(Some(Ok(message))) = next.await else { return };
        if message.is_close() {
            return;
        }
        if message.is_binary() && to.send(Frame::Binary(message.into_bytes())).await.is_err() {
            // The other direction knows why.
            return std::future::pending().await;
        }
    }
}

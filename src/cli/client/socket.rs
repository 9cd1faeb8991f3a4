//! A WebSocket to the daemon, over the same connections as everything else.
//!
//! Owns the request that turns a connection into one. Never knows what its frames mean.

use super::{Call, Client, ClientError};
use crate::limits;
use hyper::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// An open WebSocket.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

impl Client {
    /// Opens a WebSocket at a path.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn socket(&self, path: &str) -> Result<Socket, ClientError> {
        let key = generate_key();
        let mut sender = self.connect().await?;
        let call = Call::get(path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", key.clone());
        let request = self.request(call)?;
        let response = sender.send(request).await.map_err(|source| self.lost(source))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.refusal(path.to_owned(), response).await);
        }
        let accept = response.headers().get("sec-websocket-accept");
        if accept.is_none_or(|accept| accept != derive_accept_key(key.as_bytes()).as_str()) {
            return Err(self.foreign(path.to_owned(), status));
        }
        let upgraded = hyper::upgrade::on(response).await.map_err(|source| self.lost(source))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::EXEC_FRAME_MAX))
            .max_frame_size(Some(limits::EXEC_FRAME_MAX));
        let upgraded = TokioIo::new(upgraded);
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }
}

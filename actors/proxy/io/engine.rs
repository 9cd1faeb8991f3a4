//! A client's connection as the engine wants it.
//!
//! Never changes what is read or written.

use super::{Bound, Io};
use crate::limits::BODY_WAIT;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::sync::Arc;
use tokio::time::timeout;

#[async_trait::async_trait]
impl Shutdown for Io {
    async fn shutdown(&mut self) {
        // A client that has gone needs no goodbye, nor does one that doesn't read.
        let said = timeout(BODY_WAIT, tokio::io::AsyncWriteExt::shutdown(self)).await;
        if matches!(said, Ok(Ok(()))) && !matches!(self.bound, Bound::Over) {
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

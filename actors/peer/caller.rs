//! Who calls over the peer port.
//!
//! Never decides what a caller may do: the services do.

use crate::actors::strangers::Stranger;
use crate::cluster::trust::PeerId;
use std::sync::Arc;

/// Who made a call: in its request's extensions, if the connection has a member's certificate.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: PeerId,
    /// Its certificate has expired: all that it may have is another one.
    pub(super) expired: bool,
}

/// Who a connection without a certificate is, in its requests' extensions.
#[derive(Clone, Debug)]
pub(super) struct Unknown(pub(super) Arc<Stranger>);

//! Ingress: which requests lead where, and how they are told on; without sockets and clocks.
//!
//! Owns what both engines of the proxy call, so that they can't differ. Never reads or writes a
//! connection.

pub mod access;
pub mod auth;
pub mod challenge;
pub mod chunks;
pub mod dress;
pub mod figures;
#[cfg(test)]
#[path = "ingress/tests/fixture.rs"]
pub mod fixture;
pub mod forward;
pub mod frames;
pub mod head;
pub mod host;
pub mod page;
pub mod proxied;
pub mod refusal;
pub mod reply;
pub mod table;
pub mod written;

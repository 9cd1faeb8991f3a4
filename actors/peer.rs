//! The peer actor: what this node says to the other members and hears from them.
//!
//! Owns the peer port and the connections to other nodes. Never decides who is a member, and never
//! looks inside a raft message.

pub mod ca;
pub mod credentials;
pub mod door;
pub mod keys;
pub mod knock;
pub mod tls;
pub mod wire;

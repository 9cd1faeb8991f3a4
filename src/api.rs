//! The API's documents: the wire's types, and the state as they show it.
//!
//! Owns what leaves over HTTP. Never serves it.

pub mod spawn;
pub mod views;
pub mod why;
pub mod wire;

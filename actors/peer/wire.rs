//! The messages of the peer port, made from `proto/peer.proto`.
//!
//! Owns nothing else.

#![allow(clippy::pedantic, clippy::all, reason = "the build makes it")]

include!(concat!(env!("OUT_DIR"), "/mill.peer.rs"));

//! The generated types of `proto/log.proto`.
//!
//! Owns the shapes on disk and on the wire. Never a message between actors.

include!(concat!(env!("OUT_DIR"), "/mill.log.rs"));

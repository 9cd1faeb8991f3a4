//! Tests of the proxy: real connections to real servers on loopback.
//!
//! One table for both: what mill's own relay takes must come out as if the engine had taken it.

mod engine;
mod own;

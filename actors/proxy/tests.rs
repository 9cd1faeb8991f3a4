//! Tests of the engine: real connections to real servers on loopback.

mod abuse;
mod passing;
mod rules;
mod support;
mod tls;

//! Tests of the engine: real connections to real servers on loopback.

mod abuse;
mod gates;
mod h2;
mod passing;
mod rules;
mod support;

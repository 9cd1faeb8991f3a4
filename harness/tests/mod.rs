//! Tests of the test support itself.

mod poll;
mod registry;

//! Projections: what each subsystem must make true, read off the state.
//!
//! Never changes the state.

//! Placement: filter, score, explain.
//!
//! Never changes the state.

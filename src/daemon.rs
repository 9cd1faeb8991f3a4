//! The one boot path of a node: data directory, identity, actors, signals.
//!
//! Never decides what a node does once it runs.

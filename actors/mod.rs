//! The imperative shell: the supervision tree, one actor a file.
//!
//! Owns all I/O of a node. Never decides what a pure function of the core can decide.

pub mod api;
pub mod clean;
pub mod container;
pub mod converge;
pub mod dns;
pub mod dns_queries;
pub mod doctor;
pub mod mailbox;
pub mod member_listener;
pub mod mesh;
pub mod peer;
pub mod platform;
pub mod provider;
pub mod proxy;
pub mod raft;
pub mod root;
pub mod scheduler;
pub mod strangers;
pub mod traffic;
pub mod view;

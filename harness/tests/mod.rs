//! Tests that need the test support, and of it.

mod cluster;
mod cluster_time;
mod commit_path;
mod container;
mod crash;
mod history;
mod logger;
mod poll;
mod provider;
mod raft;
mod raft_cluster;
mod recorded;
mod registry;
mod runtime;
mod sweep;

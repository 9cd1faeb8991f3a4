//! End-to-end tests: the real binary, real containers.
//!
//! One file a subject; never a mock. `support/` starts the nodes and takes everything away again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test tells by panicking; to clippy only `#[test]` functions are tests"
)]

mod allocation_leak;
mod api;
mod ca_is_down;
mod canary;
mod certificates;
mod clean;
mod cli;
mod cluster_formation;
mod config_files;
mod crash;
mod deploy;
mod deploy_overlap;
mod dev;
mod disaster_recovery;
mod discovery;
mod disks;
mod drain;
mod drain_and_remove;
mod exec;
mod explain;
mod faults;
mod first_deploy;
mod first_route;
#[path = "../harness/history.rs"]
mod history;
mod images;
mod install;
mod isolation;
mod leader_failover;
mod linearizable;
mod loaded;
mod logs;
mod machines;
mod membership;
mod mesh_and_node_failure;
mod node;
mod node_failure;
mod orders;
mod partial_deploy_failure;
mod partition;
#[path = "../harness/poll.rs"]
#[allow(dead_code, reason = "shared with harness/, which uses other parts of it")]
mod poll;
mod port_forward;
#[path = "../harness/ports.rs"]
mod ports;
#[path = "../harness/provider.rs"]
#[allow(dead_code, reason = "shared with harness/, which uses other parts of it")]
mod provider;
mod quorum_loss;
mod reach;
#[path = "../harness/registry.rs"]
#[allow(dead_code, reason = "shared with harness/, which uses other parts of it")]
mod registry;
mod rejoin;
mod restart;
mod rollback;
mod rolling_update;
mod secrets;
mod security;
mod single_writer_under_partition;
mod software;
mod stale_watchers;
mod standstill;
#[allow(dead_code, reason = "for tests to come")]
mod support;
mod survival;
mod task_lifecycle;
mod tasks;
mod traffic;
mod typed;
mod volumes;
mod volumes_and_migration;
mod websocket_through_a_deploy;
mod zero_downtime;

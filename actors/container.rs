//! The container actor: makes the node's assigned allocations run.
//!
//! Owns the node's containers. Never decides what should run where.

pub mod containerd;
pub mod daemon;
pub mod image;
pub mod logs;
pub mod net;
pub mod runc_shim;
pub mod usage;

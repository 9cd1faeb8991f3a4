//! The container actor: makes the node's assigned allocations run.
//!
//! Owns the node's containers. Never decides what should run where.

pub mod logs;

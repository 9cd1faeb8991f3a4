//! What a node must make true of the state, and what containers are described by.
//!
//! Owns projections for one node. Never touches the machine.

pub mod certificates;
pub mod dns;
pub mod image_replication;
pub mod ingress;
pub mod mesh;
pub mod oci;
pub mod project;
pub mod provided;
pub mod resolvers;
pub mod retention;
pub mod supervise;

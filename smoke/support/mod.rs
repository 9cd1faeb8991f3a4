//! What every end-to-end test starts from: a node of its own and a client of its API.
//!
//! Never decides what a test wants; never leaves anything on the machine.

pub mod api;
pub mod capture;
pub mod cluster;
pub mod cut;
pub mod dials;
pub mod disk;
pub mod fault;
pub mod files;
pub mod follow;
pub mod front;
pub mod inventory;
pub mod keeper;
pub mod netns;
pub mod node;
pub mod output;
pub mod pebble;
pub mod slot;
pub mod traffic;

pub use api::{Api, Event};
pub use cluster::TestCluster;
pub use fault::Fault;
pub use follow::{Followed, Heard};
pub use inventory::Inventory;
pub use node::TestDaemon;
pub use output::Outcome;
pub use traffic::Traffic;

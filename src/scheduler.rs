//! What runs where: placement, the planner's next steps, previews, revisions and runs.
//!
//! Owns decisions about allocations. Never carries one out.

pub mod canary;
pub mod certificates;
mod homes;
pub mod place;
pub mod plan;
pub mod preview;
pub mod provided;
pub mod rebalance;
mod refusal;
pub mod revise;
pub mod spawn;

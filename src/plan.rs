//! The planner: from the state to the next commands.
//!
//! Never waits, and remembers nothing between calls.

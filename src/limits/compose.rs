//! Bounds of Compose files that are imported.

/// Levels of a Compose file, and parts with all that its aliases repeat.
pub const COMPOSE_DEPTH: usize = 64;
/// See [`COMPOSE_DEPTH`].
pub const COMPOSE_NODES: usize = 100_000;

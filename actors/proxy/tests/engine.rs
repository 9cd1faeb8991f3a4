//! The tests with the engine alone.

/// Who serves plain requests.
pub const ENGINE_ONLY: bool = true;

#[path = "abuse.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod abuse;
#[path = "answers.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod answers;
#[path = "gates.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod gates;
#[path = "hostile.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod hostile;
#[path = "passing.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod passing;
#[path = "rules.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod rules;
#[path = "support.rs"]
#[allow(clippy::duplicate_mod, dead_code, reason = "one table for both, but for what only one can")]
mod support;
#[path = "tls.rs"]
#[allow(clippy::duplicate_mod, reason = "one table for both")]
mod tls;

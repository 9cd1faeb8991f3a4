//! The tests with mill's own relay for plain requests, and what only it can do.

/// Who serves plain requests.
pub const ENGINE_ONLY: bool = false;

#[path = "abuse.rs"]
mod abuse;
#[path = "answers.rs"]
mod answers;
#[path = "gates.rs"]
mod gates;
#[path = "h2.rs"]
mod h2;
#[path = "hostile.rs"]
mod hostile;
#[path = "passing.rs"]
mod passing;
#[path = "relay.rs"]
mod relay;
#[path = "rules.rs"]
mod rules;
#[path = "support.rs"]
mod support;
#[path = "tls.rs"]
mod tls;

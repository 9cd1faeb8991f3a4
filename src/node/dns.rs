//! Names inside the cluster: the zone `mill.` and the answers to questions about it.
//!
//! Owns which names there are and the bytes of an answer. Never opens a socket, and never answers
//! for a name outside of the zone.

mod answer;
mod unusual;
mod zone;

#[cfg(test)]
pub(crate) mod tests;

pub use answer::{Answer, Outcome, answer};
pub use unusual::{Unusual, forwarded, unusual};
pub use zone::{DOMAIN, VIRTUAL, Zone};

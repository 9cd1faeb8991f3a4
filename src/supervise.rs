//! The restart decision for a failed actor.
//!
//! Never starts or stops anything.

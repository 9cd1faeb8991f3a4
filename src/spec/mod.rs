//! The file: KDL text to a specification, and back in canonical form.
//!
//! Owns decoding, validation, interpolation and formatting. Never looks at the cluster or the disk.

pub mod image;
pub mod model;
pub mod report;

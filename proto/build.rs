//! Builds the prost schemas.

fn main() {}

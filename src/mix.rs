//! Near numbers made far ones, the same on every node.
//!
//! splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). Never a source
//! of secrets.

/// What the generator adds with each step.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The last part of a step.
#[must_use]
pub fn mixed(number: u64) -> u64 {
    let z = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

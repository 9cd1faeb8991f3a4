//! Tests of reasons and remedies.

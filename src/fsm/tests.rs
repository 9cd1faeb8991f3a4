//! Tests of the replicated machine.

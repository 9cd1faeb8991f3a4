//! Test support and the tests that need it: fakes, simulation, style rules.

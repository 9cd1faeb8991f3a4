//! The replicated machine: state, commands, and what a command does to the state.
//!
//! Never reads a clock, draws a number or does I/O: everything is in the command.

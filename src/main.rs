//! The binary's entry: dispatches on the name it was called by, then on the command.
//!
//! Never holds logic of its own.

fn main() -> std::process::ExitCode {
    mill::cli::main()
}

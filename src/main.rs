//! The binary's entry: dispatches on the name it was called by, then on the command.
//!
//! Never holds logic of its own.

use mill::actors::container::logs::logger;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == logger::COMMAND) {
        // Before anything that takes memory: one of these runs beside each container.
        return logger::main(args);
    }
    mill::cli::main()
}

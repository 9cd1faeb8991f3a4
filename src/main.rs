//! The binary's entry: dispatches on the name it was called by, then on the command.
//!
//! Never holds logic of its own.

use mill::actors::platform::logs::logger;
use mill::actors::platform::runc_shim;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|name| runc_shim::is_called(&name)) {
        // Before anything else: a container waits for it.
        return runc_shim::main(args);
    }
    if args.next().is_some_and(|first| first == logger::COMMAND) {
        // Before anything that takes memory: one of these runs beside each container.
        return logger::main(args);
    }
    mill::cli::main()
}

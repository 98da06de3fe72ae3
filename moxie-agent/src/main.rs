//! From argv to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    moxie_agent::cli::main(std::env::args_os())
}

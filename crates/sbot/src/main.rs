//! The `sbot` command. Everything is in the library: [`sbot::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    sbot::cli::main()
}

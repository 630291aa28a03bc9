//! The program `ukehi`; all of it is in the library's [`amaters_cluster::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    amaters_cluster::cli::main()
}

//! The `haul` command; everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    haul_cli::run(std::env::args_os())
}

//! The `haul` command as a binary of the test package.

fn main() -> std::process::ExitCode {
    haul_cli::run(std::env::args_os())
}

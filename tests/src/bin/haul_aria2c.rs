//! The `haul-aria2c` command as a binary of the test package.

fn main() -> std::process::ExitCode {
    haul_cli::run_as_aria2c(std::env::args_os())
}

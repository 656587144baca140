//! haul for programs that call aria2c; everything it does is in the library beside it.

fn main() -> std::process::ExitCode {
    haul_cli::run_as_aria2c(std::env::args_os())
}

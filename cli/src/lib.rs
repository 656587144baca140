//! The `haul` command as a library: everything but `main`.
//!
//! What a command line says is read in `args` (syntax) and resolved in `plan`
//! (meaning, in the engine's types), its requests in `request`. `jobs` runs the downloads and tells a view
//! of `render`; `exit` turns failures into exit codes; `signals` ends a run in
//! order and in time. `bench` measures, against `origin` where no URL is given.
//! The engine does the rest, and is used through its public interface only.

#![deny(missing_docs)]

mod args;
mod bench;
mod exit;
mod jobs;
mod origin;
mod plan;
mod render;
mod request;
mod signals;
mod trace;
mod units;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use args::{BenchArgs, Command, GetArgs};
use exit::Failure;
use haul_engine::Engine;
use rustix::io::Errno;
use signals::Stop;

/// Runs the command of these arguments, the program's name first, and returns
/// the exit code that `haul --help-all` and the manual promise. Signal handlers
/// are installed once a download is about to start, and may end the process.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match args::parse(args) {
        Ok(command) => command,
        Err(text) => {
            // Help for a reader that has gone is no failure.
            let _ = text.print();
            return ExitCode::from(u8::try_from(text.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    trace::init();
    let ended = match command {
        Command::Get(args) => get(args),
        Command::Bench(args) => bench(args),
    };
    ExitCode::from(ended.unwrap_or_else(|failure| {
        render::tell(&failure);
        failure.exit
    }))
}

fn get(args: GetArgs) -> Result<u8, Failure> {
    signals::explain_bus_errors();
    let plan = Arc::new(plan::resolve_get(args)?);
    let view = render::view(plan.voice, &plan.urls);
    plan.warnings.iter().for_each(|text| view.warning(text));
    within_runtime(async |stop| {
        let engine = Engine::new(plan.engine.clone())?;
        Ok(jobs::run(plan, engine, view, stop).await)
    })
}

fn bench(args: BenchArgs) -> Result<u8, Failure> {
    signals::explain_bus_errors();
    let plan = bench::resolve(args)?;
    within_runtime(async |stop| Ok(bench::run(plan, stop).await))
}

/// Runs the work on a new runtime, with signals turned into its `Stop`. Nothing
/// that is left over afterwards can hold the process.
fn within_runtime<F>(work: impl FnOnce(Stop) -> F) -> Result<u8, Failure>
where
    F: Future<Output = Result<u8, Failure>>,
{
    leave_room_for_descriptors()?;
    let unusable = |error| Failure::internal(format!("the runtime cannot start: {error}"));
    let stop = signals::listen().map_err(unusable)?;
    let runtime = runtime().map_err(unusable)?;
    let ended = runtime.block_on(work(stop));
    runtime.shutdown_background();
    ended
}

/// Says no when too few files can be opened for the runtime, a few connections
/// and the files of a download. Looked at before anything is fetched: without
/// descriptors the runtime panics, and a file would be published whose
/// directory cannot be synced.
fn leave_room_for_descriptors() -> Result<(), Failure> {
    const NEEDED: usize = 24;
    let opened: std::io::Result<Vec<_>> =
        (0..NEEDED).map(|_| std::fs::File::open("/dev/null")).collect();
    match opened.as_ref().err().and_then(Errno::from_io_error) {
        Some(error @ (Errno::MFILE | Errno::NFILE)) => Err(Failure::local(format!(
            "not even {NEEDED} files can be opened, nothing was fetched: {}",
            std::io::Error::from(error)
        ))
        .hint("raise the limit of open files (ulimit -n)")),
        _ => Ok(()),
    }
}

/// The runtime of the network: one thread, because the engine copies, hashes
/// and stores on threads of its own.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

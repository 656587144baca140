//! The `haul` command as a library: everything but `main`.
//!
//! What a command line says is put into haul's own words in `habits`, read in `args` (syntax) and resolved in `plan`
//! (meaning, in the engine's types), its requests in `request`. `sums` and `metalink` read
//! documents that tell of digests and mirrors, `text` decodes whatever people's files are in, `refresh` has links replaced. `source` gives the
//! downloads of a run, those of a list as `input` reads them; `jobs` runs them and tells a view
//! of `render`, and `sink` writes what goes to stdout, a device or a FIFO; `exec` runs the user's
//! command on what is complete; `exit` turns failures into exit codes; `signals` ends a run in
//! order and in time. `play` serves an object while it downloads; `bench` measures, against `origin` where
//! no URL is given; `demo` shows a download from it that is killed and continues, both in a `scratch` directory; `verify` checks what lies
//! here; `stale` lists and removes partials; `packaging` prints completions and the manual page.
//! The engine does the rest, and is used through its public interface only.

#![deny(missing_docs)]

mod address;
mod args;
mod aria2;
mod bench;
mod cookies;
mod demo;
mod document;
mod drive;
mod exec;
mod exit;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod habits;
mod input;
mod jobs;
mod metalink;
mod netrc;
mod origin;
mod packaging;
mod plan;
mod play;
mod refresh;
mod render;
mod request;
mod results;
mod scratch;
mod settings;
mod share;
mod signals;
mod sink;
mod source;
mod stale;
mod sums;
mod text;
mod trace;
mod units;
mod verify;
mod words;

use std::collections::HashSet;
use std::ffi::OsString;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::Arc;

pub use aria2::run_as_aria2c;

use args::{BenchArgs, Command, DemoArgs, GetArgs, PlayArgs};
use exit::{End, Failure};
use haul_engine::Engine;
use rustix::io::Errno;
use settings::{HostPattern, Places, Settled};
use signals::Stop;
use source::{Mine, Source};

/// Runs the command of these arguments, the program's name first, and returns
/// the exit code that `haul --help-all` and the manual promise. Signal handlers
/// are installed once a download is about to start, and may end the process.
///
/// Called by a name with `aria2c` in it, it is [`run_as_aria2c`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|name| aria2::is_name_of(name)) {
        return run_as_aria2c(args);
    }
    ExitCode::from(run_for_end(args).code)
}

fn run_for_end(args: Vec<OsString>) -> End {
    // To make it is a sixth of the time that a start takes, and to free it a twelfth: once for
    // all who read it, and not at all.
    let mut definition = ManuallyDrop::new(args::definition());
    let ours = habits::in_our_words(&definition, args)
        .and_then(|words| settings::with_settings(&mut definition, words));
    let Settled { words: args, matches, hosts, places, notes } = match ours {
        Ok(settled) => settled,
        Err(failure) => {
            render::tell(&failure);
            return End::from(&failure);
        }
    };
    let parsed = match &matches {
        Some(matches) => args::of_matches(matches),
        None => definition.try_get_matches_from_mut(&args).and_then(|it| args::of_matches(&it)),
    };
    let command = match parsed {
        Ok(command) => told_where(command, &places),
        Err(text) => {
            let said = text.to_string();
            let harmless = harmless(&said, &args);
            if harmless == said.trim_end() {
                // Help for a reader that has gone is no failure.
                let _ = text.print();
            } else {
                render::to_stderr(&[harmless]);
            }
            return u8::try_from(text.exit_code()).unwrap_or(exit::USAGE).into();
        }
    };
    trace::init();
    let ended = match command {
        Command::Get(args) => get(args, &hosts, &places, notes),
        Command::Play(args) => play(args, &hosts, &places, &notes).map(End::from),
        Command::Bench(args) => bench(args).map(End::from),
        Command::Demo(args) => demo(&args).map(End::from),
        Command::Verify(args) => verify::run(&args).map(End::from),
        Command::Status(args) => stale::status(&args).map(End::from),
        Command::Clean(args) => stale::clean(&args).map(End::from),
        Command::Completions(args) => Ok(packaging::completions(&args).into()),
        Command::Man(args) => packaging::man(&args).map(End::from),
    };
    ended.unwrap_or_else(|failure| {
        render::tell(&failure);
        End::from(&failure)
    })
}

/// What the parser says, which quotes arguments as they are: URLs in it redacted,
/// and nothing in it that steers a terminal.
fn harmless(said: &str, args: &[OsString]) -> String {
    let mut said = said.to_owned();
    for arg in args.iter().filter_map(|arg| arg.to_str()) {
        let value = arg.split_once('=').filter(|_| arg.starts_with("--"));
        let value = value.map_or(arg, |(_, value)| value);
        if value.contains("://") {
            said = said.replace(value, &haul_engine::redact_url(value));
        }
    }
    said.trim_end().split('\n').map(render::escape).collect::<Vec<_>>().join("\n")
}

fn get(
    args: GetArgs,
    hosts: &[(HostPattern, Vec<OsString>)],
    places: &Places,
    notes: Vec<String>,
) -> Result<End, Failure> {
    signals::explain_bus_errors(signals::Mapped::Partial);
    let mut plan = plan::resolve_get(args)?;
    plan.warnings.extend(notes);
    for (pattern, words) in hosts {
        let of_host = with_host(pattern, words, places, |command| match command {
            Command::Get(args) => Some(plan::resolve_get(args)),
            _ => None,
        })?;
        plan.add_host(pattern.clone(), of_host);
    }
    let (results, complete) = match &plan.results {
        None => (None, HashSet::new()),
        Some(path) => results::Results::open(path).map(|(results, done)| (Some(results), done))?,
    };
    let mine = Mine { shard: plan.shard, complete };
    let mut source = Source::open(&plan.urls, plan.list.as_deref(), mine.clone())?;
    let view = render::view(plan.voice, plan.several());
    plan.warnings.iter().for_each(|text| view.warning(text));
    within_runtime(Network::of(plan.may_decrypt()), async |mut stop| {
        let engine = Engine::new(plan.engine.clone())?;
        let (items, notes) = tokio::select! {
            loaded = plan.load(&engine) => loaded?,
            interrupt = stop.requested() => return Ok(interrupt.exit_code().into()),
        };
        notes.iter().for_each(|text| view.warning(text));
        source.add(items, &mine);
        // A task of its own: whatever wakes the future that the runtime blocks on costs a
        // system call, even from the runtime's own thread.
        let run = tokio::spawn(jobs::run(source, Arc::new(plan), engine, results, view, stop));
        run.await.map_err(|panic| Failure::internal(format!("the run failed: {panic}")))
    })
}

/// The command, whose flags know where they were said if nobody typed them.
fn told_where(mut command: Command, places: &Places) -> Command {
    match &mut command {
        Command::Get(args) => places.tell(&mut args.how.request.ways),
        Command::Play(args) => places.tell(&mut args.how.request.ways),
        _ => {}
    }
    command
}

/// What the command line with a host's settings comes to.
fn with_host<T>(
    pattern: &HostPattern,
    words: &[OsString],
    places: &Places,
    resolve: impl FnOnce(Command) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    // Only what the settings of one host have in common with the typed words can
    // be wrong here: each by itself was read before.
    let cannot = || Err(Failure::usage("they cannot go with the rest of the command line"));
    let parsed = args::parse(words.to_vec()).ok().map(|command| told_where(command, places));
    let resolved = parsed.and_then(resolve).unwrap_or_else(cannot);
    resolved.map_err(|mut failure| {
        let place = format!("the settings of [host.\"{}\"]: ", pattern.as_str());
        failure.message.insert_str(0, &place);
        failure
    })
}

fn play(
    args: PlayArgs,
    hosts: &[(HostPattern, Vec<OsString>)],
    places: &Places,
    notes: &[String],
) -> Result<u8, Failure> {
    signals::explain_bus_errors(signals::Mapped::Partial);
    let plan = match settings::best_fit(hosts, &args.url) {
        None => play::resolve(args)?,
        Some((pattern, words)) => with_host(pattern, words, places, |command| match command {
            Command::Play(args) => Some(play::resolve(args)),
            _ => None,
        })?,
    };
    let view = render::view(plan.get.voice, plan.get.several());
    plan.get.warnings.iter().chain(notes).for_each(|text| view.warning(text));
    within_runtime(Network::of(plan.get.may_decrypt()), async |stop| {
        let engine = Engine::new(plan.get.engine.clone())?;
        play::run(plan, engine, view, stop).await
    })
}

fn bench(args: BenchArgs) -> Result<u8, Failure> {
    signals::explain_bus_errors(signals::Mapped::Partial);
    let plan = bench::resolve(args)?;
    within_runtime(Network::of(plan.may_decrypt()), async |stop| Ok(bench::run(plan, stop).await))
}

fn demo(args: &DemoArgs) -> Result<u8, Failure> {
    within_runtime(Network::Plain, async |stop| demo::run(args, stop).await)
}

/// Does on a thread of its own what would hold the network up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal(format!("a worker thread failed: {error}")))
}

/// Runs the work on a new runtime, with signals turned into its `Stop`. Nothing
/// that is left over afterwards can hold the process.
fn within_runtime<F, T>(network: Network, work: impl FnOnce(Stop) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    leave_room_for_descriptors()?;
    keep_the_heap();
    let unusable = |error| Failure::internal(format!("the runtime cannot start: {error}"));
    let stop = signals::listen().map_err(unusable)?;
    let runtime = network.runtime().map_err(unusable)?;
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

/// Keeps glibc's heap from giving memory back after each burst of buffers: the
/// thread of the network would then fault in the same pages again and again,
/// 14,000 of them for a GiB. glibc raises its bounds to what a program has shown
/// to need (mallopt(3), the dynamic mmap threshold; 32 MiB is the most that it
/// takes). The memory itself is never touched. Other allocators see a request
/// and its end.
fn keep_the_heap() {
    const SHOWN_BYTES: usize = (32 << 20) - (64 << 10);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(SHOWN_BYTES)));
}

/// On how many threads the network runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// One is enough to receive, because the engine copies, hashes and stores on
    /// threads of its own, and more of them would only wake each other.
    Plain,
    /// To decrypt costs as much as to receive: the connections are spread over
    /// some cores.
    Decrypting,
}

impl Network {
    /// Beyond these the disk, or the memory, is what is waited for.
    const MOST_THREADS: usize = 4;

    fn of(may_decrypt: bool) -> Self {
        if may_decrypt { Self::Decrypting } else { Self::Plain }
    }

    fn runtime(self) -> std::io::Result<tokio::runtime::Runtime> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self == Self::Plain || cores == 1 {
            return tokio::runtime::Builder::new_current_thread().enable_all().build();
        }
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.min(Self::MOST_THREADS))
            .thread_name("haul-network")
            .enable_all()
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &[&str]) -> String {
        let words: Vec<OsString> = ["haul"].iter().chain(words).map(OsString::from).collect();
        let error = args::parse(words.clone()).unwrap_err();
        harmless(&error.to_string(), &words)
    }

    #[test]
    fn parser_quotes_no_secret_and_nothing_that_steers_a_terminal() {
        for words in [
            &["bench", "http://h/a", "https://u:hunter2@h/b?sig=hunter2"][..],
            &["--segment-size", "https://h/b?sig=hunter2", "http://h/"],
            &["--segment-size=https://h/b?sig=hunter2", "http://h/"],
            &["-x", "https://h/b?sig=hunter2"],
        ] {
            let text = told(words);
            assert!(text.contains("https://h/") && !text.contains("hunter2"), "{text}");
        }
        for words in [&["--a\u{202e}b\u{9b}31m"][..], &["-x", "\u{1b}[31m\u{9b}1m", "http://h/"]] {
            let text = told(words);
            assert!(text.contains("\\u{9b}"), "{text}");
            assert_eq!(text.lines().map(render::escape).collect::<Vec<_>>().join("\n"), text);
        }
        assert!(told(&["--nope"]).contains("unexpected argument '--nope' found"));
    }
}

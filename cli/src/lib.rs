//! The `haul` command as a library: everything but `main`.
//!
//! A command line passes through three modules: `habits` puts it into haul's own words, `args`
//! parses it (syntax), and `plan` resolves it into the engine's types (meaning), with `request` for
//! the flags that shape requests. `address` judges URLs; `document` reads what flags name, which
//! `sums` takes for digests and `metalink` for files and mirrors; `hub` finds what addresses of the
//! Hugging Face hub name; `text` decodes files whatever
//! their encoding; `refresh` replaces expired links.
//!
//! `source` yields the downloads of a run, including those of a list that `input` reads. `jobs`
//! runs them and `drive` follows each to its end (`film` does so for a film of many pieces, which
//! `page` may have found by yt-dlp),
//! reporting to a view of `render`; `sink` writes to
//! stdout, a device or a FIFO; `exec` runs the user's command on completed files; `results` records
//! how each ended. `exit` turns failures into exit codes, and `signals` ends a run in order and in
//! time.
//!
//! `play` serves an object while it downloads. `bench` measures, against `origin` unless a URL is
//! given, and `demo` shows a download from `origin` that is killed and continues; both work in a
//! `scratch` directory. `verify` checks files, `stale` lists and removes partial downloads, and
//! `packaging` prints completions and the manual page. `programs` is for programs that embed the
//! command. The engine does the rest, and only its public interface is used.

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
mod film;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod habits;
mod hints;
mod hub;
mod input;
mod jobs;
mod metalink;
mod netrc;
mod origin;
mod os;
mod packaging;
mod page;
mod plan;
mod play;
pub mod programs;
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

use std::ffi::OsString;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::Arc;

pub use aria2::run_as_aria2c;

use args::{BenchArgs, Command, DemoArgs, PageArgs, PlayArgs};
use exit::{End, Failure};
use haul_engine::{Engine, Parent};
use plan::GetPlan;
use settings::{HostPattern, Places, Settled};
use signals::Stop;
use source::{Mine, Source};

/// Runs the command that these arguments describe, the program's name first, and returns the exit
/// code that `haul --help-all` and the manual promise. Signal handlers are installed once a
/// download is about to start, and they may end the process.
///
/// If the program's name contains `aria2c`, this is [`run_as_aria2c`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(code_of(args))
}

fn code_of(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    match args.first() {
        Some(name) if aria2::is_name_of(name) => aria2::code_of(args),
        _ => run_for_end(args).code,
    }
}

fn run_for_end(args: Vec<OsString>) -> End {
    // Building the definition takes a sixth of the time of a start, and freeing it a twelfth. So it
    // is built once for all its readers and never freed.
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
                // A reader of the help that has gone away is no failure.
                let _ = text.print();
            } else {
                render::to_stderr(&[harmless]);
            }
            return u8::try_from(text.exit_code()).unwrap_or(exit::USAGE).into();
        }
    };
    trace::init();
    let ended = match command {
        Command::Get(args) => plan::resolve_get(args).and_then(|plan| {
            get(plan, &hosts, &places, notes, |command| match command {
                Command::Get(args) => Some(plan::resolve_get(args)),
                _ => None,
            })
        }),
        Command::Page(args) => plan::resolve_page(args).and_then(|plan| {
            get(plan, &hosts, &places, notes, |command| match command {
                Command::Page(args) => Some(plan::resolve_page(args)),
                _ => None,
            })
        }),
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

/// The parser's message, which quotes arguments as typed, with its URLs redacted and without
/// anything that steers a terminal.
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
    mut plan: GetPlan,
    hosts: &[(HostPattern, Vec<OsString>)],
    places: &Places,
    notes: Vec<String>,
    resolve: impl Fn(Command) -> Option<Result<GetPlan, Failure>>,
) -> Result<End, Failure> {
    signals::explain_bus_errors(signals::Mapped::Partial);
    let parent = plan.dies_with_parent.then(Parent::of_this_process);
    plan.warnings.extend(notes);
    for (pattern, words) in hosts {
        let of_host = with_host(pattern, words, places, &resolve)?;
        plan.add_host(pattern.clone(), of_host);
    }
    let (results, complete) = match &plan.results {
        None => (None, results::Complete::default()),
        Some(path) => results::Results::open(path).map(|(results, done)| (Some(results), done))?,
    };
    let mine = Mine { shard: plan.shard, complete };
    let mut source = Source::open(&plan.urls, plan.list.as_deref(), mine.clone())?;
    let view = render::view(plan.voice, plan.several());
    plan.warnings.iter().for_each(|text| view.warning(text));
    within_runtime(Network::of(plan.may_decrypt()), parent, async |mut stop| {
        let engine = Engine::new(plan.engine.clone())?;
        let (items, notes) = tokio::select! {
            loaded = plan.load(&engine) => loaded?,
            interrupt = stop.requested() => return Ok(interrupt.exit_code().into()),
        };
        notes.iter().for_each(|text| view.warning(text));
        source.add(items, &mine);
        // The run is a task of its own, because whatever wakes the future that the runtime blocks
        // on costs a system call, even from the runtime's own thread.
        let run = tokio::spawn(jobs::run(source, Arc::new(plan), engine, results, view, stop));
        run.await.map_err(|panic| Failure::internal(format!("the run failed: {panic}")))
    })
}

/// Adds to the flags that nobody typed where they were set.
fn told_where(mut command: Command, places: &Places) -> Command {
    match &mut command {
        Command::Get(args) => places.tell(&mut args.how.request.ways),
        Command::Page(PageArgs { how, .. }) => places.tell(&mut how.request.ways),
        Command::Play(args) => places.tell(&mut args.how.request.ways),
        _ => {}
    }
    command
}

/// Resolves the command line together with the settings of a host.
fn with_host<T>(
    pattern: &HostPattern,
    words: &[OsString],
    places: &Places,
    resolve: impl FnOnce(Command) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    // Each setting was parsed on its own before. Only its combination with the typed words can be
    // wrong here.
    let cannot =
        || Err(Failure::usage("they cannot be combined with the rest of the command line"));
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
    let parent = plan.get.dies_with_parent.then(Parent::of_this_process);
    let view = render::view(plan.get.voice, plan.get.several());
    plan.get.warnings.iter().chain(notes).for_each(|text| view.warning(text));
    within_runtime(Network::of(plan.get.may_decrypt()), parent, async |stop| {
        let engine = Engine::new(plan.get.engine.clone())?;
        play::run(plan, engine, view, stop).await
    })
}

fn bench(args: BenchArgs) -> Result<u8, Failure> {
    signals::explain_bus_errors(signals::Mapped::Partial);
    let plan = bench::resolve(args)?;
    within_runtime(Network::of(plan.may_decrypt()), None, async |stop| {
        Ok(bench::run(plan, stop).await)
    })
}

fn demo(args: &DemoArgs) -> Result<u8, Failure> {
    within_runtime(Network::Plain, None, async |stop| demo::run(args, stop).await)
}

/// Runs work on a thread of its own that would otherwise hold up the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::internal(format!("a worker thread failed: {error}")))
}

/// Runs the work on a new runtime, with signals and the end of the `parent` turned into its `Stop`.
/// Whatever is left running afterwards cannot hold the process.
fn within_runtime<F, T>(
    network: Network,
    parent: Option<Parent>,
    work: impl FnOnce(Stop) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    leave_room_for_descriptors()?;
    keep_the_heap();
    let unusable = |error| Failure::internal(format!("the runtime cannot start: {error}"));
    let stop = signals::listen(parent).map_err(unusable)?;
    let runtime = network.runtime().map_err(unusable)?;
    let ended = runtime.block_on(work(stop));
    runtime.shutdown_background();
    ended
}

/// Refuses to start when too few files can be opened for the runtime, a few connections and the
/// files of a download. This is checked before anything is fetched: without descriptors the runtime
/// would panic, or a file would be published whose directory cannot be synced.
fn leave_room_for_descriptors() -> Result<(), Failure> {
    const NEEDED: usize = 24;
    os::ensure_descriptors(NEEDED).map_err(|error| {
        Failure::local(format!(
            "not even {NEEDED} files can be opened, so nothing was fetched: {error}"
        ))
        .hint("raise the limit of open files (ulimit -n)")
    })
}

/// Keeps glibc's heap from giving memory back after each burst of buffers. The network thread would
/// otherwise fault in the same pages again and again, 14,000 of them for a GiB. glibc raises its
/// bounds to what a program has shown to need (mallopt(3), the dynamic mmap threshold, at most 32
/// MiB). The memory itself is never touched, and other allocators see only a request and its
/// release.
fn keep_the_heap() {
    const SHOWN_BYTES: usize = (32 << 20) - (64 << 10);
    drop(std::hint::black_box(Vec::<u8>::with_capacity(SHOWN_BYTES)));
}

/// How many threads the network runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    /// One thread is enough to receive, because the engine copies, hashes and stores on threads of
    /// its own. More would only wake each other.
    Plain,
    /// Decrypting costs as much as receiving, so the connections are spread over several cores.
    Decrypting,
}

impl Network {
    /// With more threads than these, the disk or the memory is the bottleneck.
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

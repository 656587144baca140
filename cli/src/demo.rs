//! `haul demo`: a download that is killed and continues, for somebody who has never seen haul.
//!
//! Nothing in it is staged. The object comes from an origin inside this process, which caps each
//! connection, so that many connections are visibly faster than one. This same executable downloads
//! the object in a child process with its usual bar: the first run gets SIGKILL, the second
//! continues. The numbers come from the origin, which counts what it sends, and from the checkpoint
//! that the first run left.
//!
//! Everything is in a temporary directory, including what the runs remember of the origin. The
//! user's settings and proxies are ignored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::process::{Child, Command};

use crate::args::DemoArgs;
use crate::blocking;
use crate::exit::{self, Failure};
use crate::origin::Origin;
use crate::os;
use crate::render::{Captions, escape, to_stdout};
use crate::scratch::Scratch;
use crate::signals::{self, Interrupt, Stop};
use crate::units::{duration, rate, size};

/// The name of the file.
const NAME: &str = "demo.bin";

/// With 16 connections, which haul finds worth opening, both runs together take four seconds, and
/// the kill comes shortly after the second checkpoint.
const OBJECT_BYTES: u64 = 56 << 20;
const CONNECTION_BYTES_PER_SECOND: u64 = 1 << 20;

/// The first run is killed when this share of the object was sent.
const KILLED_AT_PERCENT: u64 = 60;

/// The origin sends no more than this share before the kill, so that the first run is not complete
/// if this process wakes late.
const HELD_AT_PERCENT: u64 = 80;

/// How often the amount sent is checked.
const LOOK: Duration = Duration::from_millis(5);

/// Lets the eye see the bar stop before it goes on.
const PAUSE: Duration = Duration::from_millis(500);

/// A run that takes longer is taken to hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many digits of the digest are shown; people compare no more.
const DIGITS: usize = 16;

/// The variables that would lead a run through a proxy.
const PROXIES: [&str; 3] = ["http_proxy", "all_proxy", "ALL_PROXY"];

/// Runs the demo and returns the exit code.
///
/// # Errors
/// The failure of a run with its exit code, exit 9 if the file is not what was served, or whatever
/// keeps the demo from starting or cleaning up.
pub(crate) async fn run(args: &DemoArgs, stop: Stop) -> Result<u8, Failure> {
    let parent = std::path::absolute(std::env::temp_dir())
        .map_err(|error| Failure::local(format!("there is no temporary directory: {error}")))?;
    let scratch = Scratch::create(&parent, "demo", &stop)
        .map_err(|failure| failure.hint("set TMPDIR to a directory that can be written"))?;
    let place = escape(&scratch.path().to_string_lossy());
    let captions = Captions::new(args.json);
    let shown = match Origin::start_slow(OBJECT_BYTES, CONNECTION_BYTES_PER_SECOND) {
        Ok(origin) => {
            let directory = scratch.path().to_owned();
            Demo { origin, directory, captions: &captions, quiet: args.json, stop }.show().await
        }
        Err(failure) => Err(failure.into()),
    };
    let removed = scratch.remove();
    match shown {
        Ok(report) => {
            removed?;
            captions
                .say(&format!("{place} is removed, and nothing is left. Now try yours: haul URL"));
            if args.json {
                to_stdout(&[serde_json::to_string(&report).unwrap_or_default()]);
            }
            Ok(exit::OK)
        }
        Err(Halt::Interrupted(interrupt)) => {
            removed?;
            captions.note("interrupted:", &format!("{place} is removed, and nothing is left"));
            Ok(interrupt.exit_code())
        }
        Err(Halt::Failure(failure)) => Err(failure),
    }
}

/// Why a demo stops before its end.
enum Halt {
    Failure(Failure),
    Interrupted(Interrupt),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// The size of the object.
    bytes: u64,
    /// Bytes of the first run that the second did not fetch.
    kept_bytes: u64,
    /// Bytes that the origin sent twice.
    fetched_again_bytes: u64,
    /// Whether the file is what the origin serves.
    blake3_ok: bool,
    /// The time of both runs.
    seconds: f64,
    /// The least time that one connection needs at its cap.
    one_connection_seconds: f64,
}

struct Demo<'a> {
    origin: Origin,
    /// The directory in which the runs work.
    directory: PathBuf,
    captions: &'a Captions,
    quiet: bool,
    stop: Stop,
}

impl Demo<'_> {
    async fn show(mut self) -> Result<Report, Halt> {
        // Ctrl-Z would stop the origin, and would leave a child that draws over the shell's prompt.
        let _unstopped = signals::refuse_suspension();
        let captions = self.captions;
        let cap = CONNECTION_BYTES_PER_SECOND;
        let alone = Duration::from_secs_f64(OBJECT_BYTES as f64 / cap as f64);
        captions.say(&format!(
            "This is a real download, from a server inside this process that gives each \
             connection {}. One connection would take {} for these {}.",
            rate(cap as f64),
            duration(alone),
            size(OBJECT_BYTES)
        ));

        self.origin.rest_at(OBJECT_BYTES / 100 * HELD_AT_PERCENT);
        let (first, ended) = self.run_until(self.has_sent(KILLED_AT_PERCENT)).await?;
        if let Ended::Exited(status) = ended {
            return Err(early(status).into());
        }
        self.origin.rest_at(u64::MAX);
        let kept_bytes = stored_bytes(&self.directory.join(NAME));
        captions.note(
            "killed:",
            "the process received SIGKILL midway, which leaves no time to save anything. The same \
             command continues:",
        );
        self.pause().await?;

        let (second, ended) = self.run_until(std::future::pending()).await?;
        match ended {
            Ended::Exited(status) if status.success() => {}
            Ended::Exited(status) => return Err(early(status).into()),
            Ended::Killed => return Err(Failure::internal("the second run was killed").into()),
        }
        let fetched_again_bytes = self.origin.sent_bytes().saturating_sub(OBJECT_BYTES);
        captions.good(
            "continued:",
            &format!(
                "{} were kept, and {} fetched again, because progress is saved once a second",
                size(kept_bytes),
                size(fetched_again_bytes)
            ),
        );

        let digest = self.verified().await?;
        captions.good("verified:", &format!("the file's BLAKE3 is the served object's, {digest}"));
        let took = first + second;
        captions.good(
            "faster:",
            &format!(
                "both runs together took {}, where one connection would have taken {}",
                duration(took),
                duration(alone)
            ),
        );
        Ok(Report {
            bytes: OBJECT_BYTES,
            kept_bytes,
            fetched_again_bytes,
            blake3_ok: true,
            seconds: took.as_secs_f64(),
            one_connection_seconds: alone.as_secs_f64(),
        })
    }

    /// Runs haul until it ends, or kills it once `enough` is ready. Returns how long it ran.
    async fn run_until(&self, enough: impl Future<Output = ()>) -> Result<(Duration, Ended), Halt> {
        let url = self.origin.url(NAME);
        self.captions.command(&format!("haul --no-config {url}"));
        let begun = Instant::now();
        let mut child = self.start(&url).map_err(|error| {
            Failure::internal(format!("haul cannot start itself as a process: {error}"))
        })?;
        let mut stop = self.stop.clone();
        stop.set_helper(child.id());
        let ended = tokio::select! {
            biased;
            interrupt = stop.requested() => Err(Halt::Interrupted(interrupt)),
            status = child.wait() => status.map(Ended::Exited).map_err(|error| lost(&error).into()),
            () = enough => Ok(Ended::Killed),
            () = tokio::time::sleep(PATIENCE) => Err(Halt::Failure(Failure::internal(format!(
                "the download has not ended within {}", duration(PATIENCE)
            )))),
        };
        let took = begun.elapsed();
        let killed = !matches!(ended, Ok(Ended::Exited(_)));
        if killed {
            child.kill().await.map_err(|error| lost(&error))?;
            self.captions.below_bars();
        }
        stop.set_helper(None);
        Ok((took, ended?))
    }

    /// Starts this executable as a process that shares the user's terminal and nothing else.
    fn start(&self, url: &str) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        os::set_name(&mut command, "haul");
        command
            .arg("--no-config")
            .args(self.quiet.then_some("--quiet"))
            .arg(url)
            .current_dir(&self.directory)
            .env("XDG_STATE_HOME", self.directory.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        for name in PROXIES {
            command.env_remove(name);
        }
        // Ctrl-C is for the demo alone: a child that received it too would say how to continue.
        if !os::terminal_stops_background() {
            os::keep_from_ctrl_c(&mut command);
        }
        command.spawn()
    }

    /// Waits until this share of the object was sent.
    async fn has_sent(&self, percent: u64) {
        let mut look = tokio::time::interval(LOOK);
        while self.origin.sent_bytes() < OBJECT_BYTES / 100 * percent {
            look.tick().await;
        }
    }

    async fn pause(&mut self) -> Result<(), Halt> {
        tokio::select! {
            interrupt = self.stop.requested() => Err(Halt::Interrupted(interrupt)),
            () = tokio::time::sleep(PAUSE) => Ok(()),
        }
    }

    /// Hashes the file and what it should be, and returns the first digits of the digest.
    async fn verified(&self) -> Result<String, Failure> {
        let (object, file) = (self.origin.object().clone(), self.directory.join(NAME));
        let expected = blake3::Hash::from_bytes(blocking(move || object.blake3()).await?);
        let found = blocking(move || hash(&file)).await?.map_err(|error| {
            Failure::local(format!("the downloaded file cannot be read back: {error}"))
        })?;
        if found != expected {
            return Err(Failure::new(
                exit::DIGEST,
                "digest-mismatch",
                "the downloaded file is not what was served: its BLAKE3 differs",
            )
            .hint("run it again; if this persists, report it with the output of haul --version"));
        }
        Ok(format!("{}…", &found.to_hex()[..DIGITS]))
    }
}

/// How a run ended.
enum Ended {
    Exited(ExitStatus),
    Killed,
}

/// The failure for a run that ended too early. The run itself has already said why.
fn early(status: ExitStatus) -> Failure {
    if status.success() {
        return Failure::internal("the download was complete before it could be killed");
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Failure::new(
        code.unwrap_or(exit::INTERNAL),
        "demo-failed",
        format!("the download of the demo failed ({status})"),
    )
}

fn lost(error: &io::Error) -> Failure {
    Failure::internal(format!("cannot wait for the process of the download: {error}"))
}

/// How many bytes the checkpoint of `output` holds for the next run.
fn stored_bytes(output: &Path) -> u64 {
    let state = haul_engine::partial_info(output).ok().and_then(|info| info.state.ok());
    state.map_or(0, |state| state.stored_bytes)
}

fn hash(file: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(file)?)?;
    Ok(hasher.finalize())
}

//! `haul play`: an object served on loopback while it downloads.
//!
//! The download is an ordinary one. Beside it, `server` answers players and
//! browsers from readers of the engine, which have fetched first what is read;
//! `guard` decides who may ask at all; `mp4` reads what a film needs before it
//! plays; `page` tells a browser how it goes.

mod guard;
mod mp4;
mod page;
mod server;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Engine, Reader};

use self::guard::Guard;
use self::server::Server;
use crate::args::{ListArgs, MetalinkArgs, PlayArgs};
use crate::exec;
use crate::exit::{self, Failure};
use crate::input::Item;
use crate::jobs::{self, Curfew, Outcome};
use crate::plan::{self, GetPlan};
use crate::render::{View, escape, to_stderr};
use crate::signals::{Interrupt, Stop};
use crate::source::{Mine, Source};

/// Who may come so soon after the last connection ended, or after the download
/// did, is still served.
const LINGER: Duration = Duration::from_secs(5);

/// Fine ones: what is read is fetched from the beginning of its segment on.
const SEGMENT_BYTES: u64 = 256 << 10;

/// A `play` that can be run.
#[derive(Debug)]
pub(crate) struct PlayPlan {
    /// The download.
    pub(crate) get: GetPlan,
    port: u16,
    player: Vec<String>,
    open: bool,
}

/// Resolves the flags of `haul play`.
///
/// # Errors
/// Exit 2, as [`plan::resolve`].
pub(crate) fn resolve(args: PlayArgs) -> Result<PlayPlan, Failure> {
    let PlayArgs { url, port, player, open, how, help: _ } = args;
    let player: Vec<String> = match &player {
        Some(command) => command.split_whitespace().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    let mut get = plan::resolve(&[url], ListArgs::default(), MetalinkArgs::default(), how)?;
    get.prefer_segment_size(SEGMENT_BYTES);
    if let Some(sink) = &get.sink {
        let name = escape(&sink.name().to_string_lossy());
        return Err(Failure::usage(format!("--output {name} and haul play cannot go together"))
            .hint("what is played is read again and again: give it a file"));
    }
    Ok(PlayPlan { get, port: port.unwrap_or(0), player, open })
}

/// Serves and downloads until both are over, and returns the exit code.
///
/// # Errors
/// What prevents it before anything is fetched.
pub(crate) async fn run(
    plan: PlayPlan,
    engine: Engine,
    view: Arc<dyn View>,
    mut stop: Stop,
) -> Result<u8, Failure> {
    let PlayPlan { mut get, port, player, open } = plan;
    if get.dry_run {
        let source = Source::open(&get.urls, None, Mine::default())?;
        return Ok(jobs::run(source, Arc::new(get), engine, None, view, stop).await.code);
    }
    let server = Server::bind(port).await?;
    get.load(&engine).await?;
    let item = Item::of_url(get.urls[0].clone());
    let download = get.download(&engine, &item)?.start()?;
    let (monitor, reader) = (download.monitor(), download.reader());
    // It ends with this future: nothing is served after the process is told to stop.
    let mut serving = tokio::task::JoinSet::new();
    let (started, player_ended) = tokio::sync::oneshot::channel();
    let idle = server.idle();
    // It waits from the beginning: what it waits for has the line then.
    let film = film_first(reader.clone());
    serving.spawn(async move {
        let serve = async {
            let Some(metadata) = monitor.opened().await else { return };
            let guard = match Guard::new(server.port(), &metadata.name) {
                Ok(guard) => Arc::new(guard),
                Err(error) => return to_stderr(&[format!("error: no secret path: {error}")]),
            };
            let ended = begin(&guard, &player, open);
            let _ = started.send(ended);
            server.serve(guard, monitor, reader).await;
        };
        tokio::join!(film, serve);
    });
    let mut curfew = Curfew::from_now(stop.clone(), get.max_time);
    let outcome = jobs::drive(download, 1, &*view, &mut curfew).await;
    let mut code = exit::OK;
    match outcome {
        Outcome::Completed(summary) => {
            if let Err(failure) = exec::run(&get, &summary.output, stop.clone()).await {
                // Whoever watches it goes on.
                view.failed(1, &failure);
                code = failure.exit;
            }
        }
        Outcome::Planned | Outcome::Skipped => {}
        Outcome::Failed(failure) => {
            view.failed(1, &failure);
            return Ok(failure.exit);
        }
        Outcome::Interrupted { kept_bytes } => {
            view.interrupted(kept_bytes);
            return Ok(stop.now().map_or(exit::OK, Interrupt::exit_code));
        }
    }
    // Complete and published: only whoever watches it keeps it going.
    let watched = async {
        let player = player_ended.await.ok().flatten();
        let linger = if player.is_some() { Duration::ZERO } else { LINGER };
        if let Some(player) = player {
            let _ = player.await;
        }
        idle.for_at_least(linger).await;
    };
    tokio::select! {
        () = watched => {}
        _ = stop.requested() => {}
    }
    Ok(code)
}

/// Has what a film needs fetched before the rest.
async fn film_first(mut reader: Reader) {
    // A download that fails is told of by itself.
    let _ = mp4::read_moov(&mut reader).await;
}

type Ended = tokio::task::JoinHandle<()>;

/// Tells where it is served and starts what was asked for. Returns the end of
/// the player.
fn begin(guard: &Guard, player: &[String], open: bool) -> Option<Ended> {
    let (endpoint, page) = (guard.endpoint(), guard.page());
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening.
    let _ = writeln!(stdout, "{endpoint}").and_then(|()| stdout.flush());
    drop(stdout);
    if open {
        let browser = std::env::var("BROWSER").unwrap_or_else(|_| BROWSER.to_owned());
        // A browser that is open already returns at once: its end means nothing.
        if let Some(browser) = spawn(browser.split_whitespace(), &page) {
            tokio::task::spawn_blocking(|| reap(browser));
        }
    }
    let player = spawn(player.iter().map(String::as_str), &endpoint)?;
    Some(tokio::task::spawn_blocking(|| reap(player)))
}

const BROWSER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

/// Starts a program on what is served. The download goes on without it.
fn spawn<'a>(mut words: impl Iterator<Item = &'a str>, url: &str) -> Option<Child> {
    let program = words.next()?;
    let child = Command::new(program)
        .args(words)
        .arg(url)
        // The first line of stdout is the endpoint, and all of it is ours.
        .stdout(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(child),
        Err(error) => {
            to_stderr(&[format!("warning: cannot start {}: {error}", escape(program))]);
            None
        }
    }
}

fn reap(mut child: Child) {
    let _ = child.wait();
}

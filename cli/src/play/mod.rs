//! `haul play`: an object or a film of many pieces served on loopback while it downloads.
//!
//! The download is an ordinary one. Beside it, `server` answers players and browsers from readers
//! of the engine or of the film (`served`), which have fetched first what is being read; `guard`
//! decides who may ask at all; `mp4` reads what a film needs before it plays; `page` shows a browser
//! the progress.

mod guard;
mod mp4;
mod page;
mod served;
mod server;

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Engine, redact_url};
use haul_film::{FilmMonitor, Viewer};

use self::guard::Guard;
use self::served::Served;
use self::server::{Idle, Server};
use crate::args::{ListArgs, MetalinkArgs, PlayArgs};
use crate::drive::{Curfew, Outcome, Queue, drive};
use crate::exec::{self, is_program};
use crate::exit::{self, Failure};
use crate::film::{self, FilmJob};
use crate::input::Item;
use crate::plan::{self, GetPlan};
use crate::render::{self, View, escape, stderr_is_terminal, to_stderr};
use crate::signals::{Interrupt, Stop};
use crate::source::{Mine, Source};
use crate::{jobs, os};

/// A client that connects within this time after the last connection or the download has ended is
/// still served.
const LINGER: Duration = Duration::from_secs(5);

/// The segments are small, because a read fetches from the beginning of its segment.
const SEGMENT_BYTES: u64 = 256 << 10;

/// A `play` that can be run.
#[derive(Debug)]
pub(crate) struct PlayPlan {
    /// The download.
    pub(crate) get: GetPlan,
    port: u16,
    player: Vec<String>,
    open: bool,
    end_when_complete: bool,
}

/// Resolves the flags of `haul play`.
///
/// # Errors
/// Exit 2, as [`plan::resolve`], or when the player does not exist.
pub(crate) fn resolve(args: PlayArgs) -> Result<PlayPlan, Failure> {
    let PlayArgs { url, port, player, open, end_when_complete, how, help: _ } = args;
    let player: Vec<String> = match &player {
        Some(command) => command.split_whitespace().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    if let Some(program) = player.first().filter(|program| !is_program(program)) {
        let program = escape(program);
        return Err(Failure::usage(format!(
            "--player: there is no program `{program}`, so nothing was started"
        ))
        .hint(
            "install it or give its path; without --player the address is printed for any player",
        ));
    }
    let mut get = plan::resolve(&[url], ListArgs::default(), MetalinkArgs::default(), how)?;
    get.prefer_segment_size(SEGMENT_BYTES);
    if let Some(sink) = &get.sink {
        let name = escape(&sink.name().to_string_lossy());
        return Err(Failure::usage(format!("--output {name} and haul play cannot be combined"))
            .hint("a player reads the object again and again: give it a file"));
    }
    Ok(PlayPlan { get, port: port.unwrap_or(0), player, open, end_when_complete })
}

/// Serves and downloads until both are over, and returns the exit code.
///
/// # Errors
/// Whatever prevents it before anything is fetched.
pub(crate) async fn run(
    plan: PlayPlan,
    engine: Engine,
    view: Arc<dyn View>,
    mut stop: Stop,
) -> Result<u8, Failure> {
    let PlayPlan { mut get, port, player, open, end_when_complete } = plan;
    if get.dry_run || get.film.list {
        let source = Source::open(&get.urls, None, Mine::default())?;
        return Ok(jobs::run(source, Arc::new(get), engine, None, view, stop).await.code);
    }
    let mut server = Some(Server::bind(port).await?);
    get.load(&engine).await?;
    let item = Item::of_url(get.urls[0].clone());
    // A person who has to carry the address to a player needs time. A script that wants the end
    // says so, or has no terminal.
    let awaits_first = player.is_empty() && !open && !end_when_complete && stderr_is_terminal();
    let mut curfew = Curfew::from_now(stop.clone(), get.max_time);
    let mut queue = Queue::new(get.waits_for_others);
    let is_film = !get.film.as_is && film::is_manifest(&item.urls[0]);
    let (outcome, serving) = loop {
        let server = match server.take() {
            Some(server) => server,
            None => Server::bind(port).await?,
        };
        let begin = |served| Serving::begin(server, served, &player, open, awaits_first, &view);
        let (outcome, serving) = if is_film {
            let (monitor, viewer) = (FilmMonitor::default(), Viewer::new());
            let serving = begin(Served::film(monitor.clone(), viewer.clone()));
            let job = FilmJob { plan: &get, engine: &engine, item: &item, id: 1, view: &*view };
            (Box::pin(job.download(&monitor, Some(&viewer), &mut curfew)).await, serving)
        } else {
            let download = get.download(&engine, &item)?.start()?;
            let (monitor, reader) = (download.monitor(), download.reader());
            let serving = begin(Served::Object { monitor, reader });
            (drive(download, 1, &*view, &mut curfew, |_| true).await, serving)
        };
        match queue.wait(outcome, 1, &*view, &mut curfew, || true).await {
            Some(outcome) => break (outcome, serving),
            // The port has to be free for the next attempt.
            None => serving.stop().await,
        }
    };
    let Serving { mut idle, player_ended, tasks: _tasks } = serving;
    let mut code = exit::OK;
    if get.notify && stop.now().is_none() {
        let how = if matches!(outcome, Outcome::Failed(_)) { "failed" } else { "is complete" };
        render::notify(&format!("haul: {} {how}", redact_url(&item.urls[0])));
    }
    match outcome {
        Outcome::Completed(summary) => {
            if let Err(failure) =
                exec::run(get.exec.as_ref(), &summary, get.voice, stop.clone()).await
            {
                // A viewer may go on watching.
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
    // The file is complete and published. Only viewers keep the process going now.
    let watched = async {
        let player = player_ended.await.ok().flatten();
        let linger = if player.is_some() { Duration::ZERO } else { LINGER };
        if let Some(player) = player {
            let _ = player.await;
        }
        if awaits_first && idle.has_had_nobody() {
            view.note(1, "serving", "complete, and served until somebody came and left, or Ctrl-C");
            idle.for_the_first().await;
        }
        idle.for_at_least(linger).await;
    };
    tokio::select! {
        () = watched => {}
        _ = stop.requested() => {}
    }
    Ok(code)
}

/// The tasks that serve a download. They end when this is dropped: nothing is served after the
/// process is told to stop.
struct Serving {
    tasks: tokio::task::JoinSet<()>,
    idle: Idle,
    /// Yields the player's end once it was started, if there is a player.
    player_ended: tokio::sync::oneshot::Receiver<Option<Ended>>,
}

impl Serving {
    fn begin(
        server: Server,
        served: Served,
        player: &[String],
        open: bool,
        awaits_first: bool,
        view: &Arc<dyn View>,
    ) -> Self {
        let served = Arc::new(served);
        let (started, player_ended) = tokio::sync::oneshot::channel();
        let idle = server.idle();
        let (told, player) = (Arc::clone(view), player.to_vec());
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let serve = async {
                let Some(named) = served.opened().await else { return };
                let guard = match Guard::new(server.port(), named) {
                    Ok(guard) => Arc::new(guard),
                    Err(error) => {
                        return to_stderr(&[format!("error: cannot make a secret path: {error}")]);
                    }
                };
                let ended = begin(&guard, &player, open);
                if player.is_empty() && !open {
                    told.note(1, "serving", &how_to_use(&guard, awaits_first));
                }
                let _ = started.send(ended);
                server.serve(guard, Arc::clone(&served)).await;
            };
            // This waits from the beginning, so that the bytes it waits for are fetched first.
            tokio::join!(served.begin(), serve);
        });
        Self { tasks, idle, player_ended }
    }

    /// Ends the tasks and waits until they have ended.
    async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Explains what to do with the address, and when serving ends.
fn how_to_use(guard: &Guard, awaits_first: bool) -> String {
    let end = match awaits_first {
        true => "when the download is complete and every reader has left, or with Ctrl-C",
        false => "when the download is complete and nobody reads it, or with Ctrl-C",
    };
    format!(
        "open that address in a player (mpv ADDRESS, vlc ADDRESS), or {} in a browser; it ends {end}",
        guard.page()
    )
}

type Ended = tokio::task::JoinHandle<()>;

/// Prints the address and starts the programs that were asked for. Returns a task that ends with
/// the player.
fn begin(guard: &Guard, player: &[String], open: bool) -> Option<Ended> {
    let (endpoint, page) = (guard.endpoint(), guard.page());
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening.
    let _ = writeln!(stdout, "{endpoint}").and_then(|()| stdout.flush());
    drop(stdout);
    if open {
        let browser = std::env::var("BROWSER").unwrap_or_else(|_| os::BROWSER.to_owned());
        // An already open browser returns at once, so its end means nothing.
        if let Some(browser) = spawn(browser.split_whitespace(), &page) {
            tokio::task::spawn_blocking(|| reap(browser));
        }
    }
    let player = spawn(player.iter().map(String::as_str), &endpoint)?;
    Some(tokio::task::spawn_blocking(|| reap(player)))
}

/// Starts a program on the address. The download continues without it if that fails.
fn spawn<'a>(mut words: impl Iterator<Item = &'a str>, url: &str) -> Option<Child> {
    let program = words.next()?;
    let child = Command::new(program)
        .args(words)
        .arg(url)
        // The first line of stdout is the address, and nobody else may write there.
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

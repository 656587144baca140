//! The main loop of a download: it reports events to the planner and carries out its actions.
//!
//! The driver runs as one task and holds no state about segments, which is the planner's.
//! Everything else that a download has to remember belongs to one of these parts, whose fields are
//! private:
//!
//! - [`sources`]: where the object is requested, and how links are replaced;
//! - [`opening`]: what is known of the object, and of what an earlier run left;
//! - [`proofs`]: what shows that bytes are those of the object;
//! - [`requests`]: the fetchers that are under way;
//! - [`storing`]: where the bytes go;
//! - [`queue`]: the turn among the downloads of the engine, and the pause;
//! - [`meter`]: the progress and the speed;
//! - [`ending`]: the outcome, and what a new beginning may not take back.
//!
//! Parts never call each other. The loop carries values between them in steps, one for each kind of
//! event: before the first request ([`earlier`]), a wish or a turn ([`steering`]), a response
//! ([`answers`], or [`at_once`] with all of its bytes), the object is opened ([`beginning`], with
//! [`adopting`] for what another program left and [`unchanged`] for what needs no download), a
//! source moves ([`resolving`]), everything is received ([`finishing`]), the download stops or
//! begins again ([`stopping`]). An error that a step returns ends the download.

pub(crate) mod address;
mod adopting;
mod answers;
mod at_once;
mod beginning;
pub(crate) mod contents;
pub(crate) mod control;
pub(crate) mod cookies;
mod description;
pub(crate) mod downloads;
mod earlier;
mod ending;
pub(crate) mod engine;
mod failures;
mod fields;
mod finishing;
pub(crate) mod guard;
mod inbox;
mod meter;
pub(crate) mod observer;
mod opening;
pub(crate) mod options;
mod proofs;
mod queue;
pub(crate) mod refresh;
mod requests;
mod resolving;
pub(crate) mod shared;
mod sources;
mod steering;
mod stopping;
mod storing;
pub(crate) mod turns;
mod unchanged;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use tokio::sync::oneshot;
use tokio::time::Instant;
use url::Url;

use self::ending::Ending;
use self::failures::error_of;
use self::meter::Meter;
use self::opening::Opening;
use self::options::Options;
use self::proofs::Proofs;
use self::queue::Queue;
use self::requests::Requests;
use self::sources::Sources;
use self::storing::Storing;
use crate::disk::keeper::KeeperEvent;
use crate::disk::prove::refuse_larger;
use crate::driver::control::Stop;
use crate::driver::engine::EngineInner;
use crate::driver::shared::Shared;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::{Event, Notice, NoticeCode, Plan, Summary};
use crate::model::planner::{Action, Failure, Planner};
use crate::net::fetcher::Command;

const TICK: Duration = Duration::from_millis(100);

/// Another place that has the object, named by the caller or the server.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) url: Url,
    /// The login from its URL, for its own origin only.
    pub(crate) login: Option<HeaderValue>,
}

/// How a run of the driver ended.
pub(crate) enum Outcome {
    Completed(Box<Summary>),
    Planned(Box<Plan>),
}

/// See the module's documentation.
pub(crate) struct Driver {
    engine: Arc<EngineInner>,
    options: Options,
    shared: Arc<Shared>,
    planner: Planner,
    sources: Sources,
    opening: Opening,
    proofs: Proofs,
    requests: Requests,
    storing: Storing,
    queue: Queue,
    meter: Meter,
    ending: Ending,
}

impl Driver {
    pub(crate) fn new(
        engine: Arc<EngineInner>,
        options: Options,
        shared: Arc<Shared>,
    ) -> Box<Self> {
        let waits = !options.plan_only && !options.document;
        let turn = engine.turns.enter(options.priority, waits);
        let mut planner = Planner::new(options.settings());
        planner.allow(0, None, Duration::ZERO);
        if options.is_proven_by_digest() {
            planner.use_together();
        }
        let mirrors = options.other_sources.clone();
        let mut driver = Box::new(Self {
            sources: Sources::new(&options, turn.is_bound_by_host()),
            opening: Opening::new(&options),
            proofs: Proofs::default(),
            requests: Requests::default(),
            storing: Storing::default(),
            queue: Queue::new(turn),
            meter: Meter::new(),
            ending: Ending::new(options.window.clone()),
            engine,
            options,
            shared,
            planner,
        });
        driver.locate(0);
        driver.add_mirrors(mirrors);
        driver
    }

    /// Runs to the end, or until `stop` fires or its sender is dropped.
    ///
    /// Futures that are awaited at most once in a download are boxed, here and in what each round
    /// calls: a task has room for the largest future that it may await, and that room is set up
    /// anew each time.
    pub(crate) async fn run(
        mut self: Box<Self>,
        mut stop: oneshot::Receiver<Stop>,
    ) -> Result<Outcome, Error> {
        self.sources.watch(0, self.meter.now());
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.steer();
        self.planner.tick(self.meter.now());
        loop {
            let mut done = self.carry_out().await;
            if let (Ok(()), Some(fetch)) = (&done, self.requests.take_held()) {
                done = Box::pin(self.at_once(fetch)).await;
            }
            if let Err(error) = done {
                Box::pin(self.end_with(error)).await;
            }
            self.tell_pause();
            if let (false, Some(panicked)) = (self.ending.is_set(), self.shared.panicked()) {
                Box::pin(self.end_with(panicked.into())).await;
            }
            if let Some(outcome) = self.ending.take() {
                // A caller that learns of the end may start the next download to the same output.
                self.shared.leave();
                self.storing.release_name();
                self.storing.release_claim();
                return outcome;
            }
            let done = tokio::select! {
                biased;
                how = &mut stop => {
                    return Err(Box::pin(self.stopped(how.unwrap_or(Stop::Keep))).await);
                }
                () = self.shared.control.changed() => { self.steer(); Ok(()) }
                // The next round of actions asks what is granted.
                () = self.queue.comes() => Ok(()),
                event = self.requests.next() => {
                    self.on_fetch_event(event);
                    self.refuse_growing()
                }
                event = self.storing.next() => self.on_store_event(event),
                news = self.sources.next() => self.on_news(news),
                proving = self.proofs.next() => Box::pin(self.on_proving(proving)).await,
                _ = tick.tick() => self.on_tick(),
            };
            if let Err(error) = done {
                Box::pin(self.end_with(error)).await;
            }
        }
    }

    fn on_tick(&mut self) -> Result<(), Error> {
        self.steer();
        self.watch_path();
        self.replace_expiring();
        if self.engine.is_storage_busy() || self.ending.is_reader_slow() {
            self.planner.on_storage_busy(self.now());
        }
        let path = self.requests.path();
        self.planner.on_path(path);
        self.planner.tick(self.now());
        if self.requests.has_panicked() {
            return Err(defect("the task of a request panicked"));
        }
        self.publish_progress(false);
        Ok(())
    }

    fn now(&self) -> Duration {
        self.meter.now()
    }

    /// The result of a file operation, which may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let lost = || Error::new(ErrorKind::Internal, "a file operation was lost");
        self.engine.writers.crew().blocking(work).await.ok_or_else(lost)
    }

    /// The name of what is stored; empty where that is unknown.
    fn output(&self) -> PathBuf {
        self.storing.output().map(Path::to_owned).unwrap_or_default()
    }

    async fn carry_out(&mut self) -> Result<(), Error> {
        if self.options.window.is_some() {
            Box::pin(self.look_at_reader()).await?;
        }
        while !self.ending.is_set() {
            let mut action = self.planner.poll_action();
            if action.is_none() {
                self.take_turn().await?;
                action = self.planner.poll_action();
            }
            let Some(action) = action else { break };
            match action {
                Action::Fetch { lease, source, range, conditional } => {
                    self.fetch(lease, source, range, conditional);
                }
                Action::Open { lease, resource } => {
                    let request = self.requests.get(lease);
                    self.opening.open_from(request.map(|request| request.url.clone()));
                    request.inspect(|request| self.proofs.claim(&request.digests));
                    Box::pin(self.open(resource)).await?;
                }
                Action::Store { lease, range } => self.store(lease, range),
                Action::Drop { lease } => self.requests.refuse(lease),
                Action::Shrink { lease, end } => self.requests.command(lease, Command::Shrink(end)),
                Action::Cancel { lease } => {
                    self.requests.refuse(lease);
                    self.requests.command(lease, Command::Cancel);
                }
                Action::Reset { forget_identity } => Box::pin(self.reset(forget_identity)).await?,
                Action::Resolve { source, refused, again } => {
                    self.resolve(source, refused, again);
                }
                Action::Lost { source, why, again } => self.lost(source, &why, again),
                Action::Retry { reason, attempt, wait } => {
                    self.shared.send(&Event::Retry { reason, attempt, wait });
                }
                Action::Notice(code, message) => self.notice(code, message),
                Action::Finish => Box::pin(self.all_received()).await?,
                Action::Fail(failure) => {
                    let error = self.error_of(&failure);
                    // With pieces it is known which bytes are good.
                    if failure.kind == ErrorKind::DigestMismatch && self.options.pieces.is_none() {
                        // The failure is a better reason to report than an error of removing.
                        let _ = Box::pin(self.discard()).await;
                    }
                    return Err(error);
                }
            }
        }
        self.meter.connected(self.requests.count());
        Ok(())
    }

    fn notice(&self, code: NoticeCode, message: String) {
        self.shared.send(&Event::Notice(Notice { code, message }));
    }

    fn error_of(&self, failure: &Failure) -> Error {
        let url = &self.sources.opener().current;
        let earlier = self.opening.earlier_output();
        let begun = self.storing.output().filter(|_| self.storing.is_open());
        error_of(failure, url, self.sources.login_hint(), begun.or(earlier.as_deref()))
    }

    /// Refuses an object of unknown length that has become too large.
    fn refuse_growing(&self) -> Result<(), Error> {
        if self.opening.is_endless() && !self.ending.is_set() {
            refuse_larger(self.options.max_size_bytes, self.meter.bytes())?;
        }
        Ok(())
    }

    fn on_store_event(&mut self, event: KeeperEvent) -> Result<(), Error> {
        let now = self.now();
        match event {
            KeeperEvent::Stored { segment } => self.planner.on_stored(segment as usize, now),
            KeeperEvent::Verified { segment, good } => {
                if !good {
                    self.notice(
                        NoticeCode::Refetch,
                        format!("segment {segment} does not hash as recorded: fetching it again"),
                    );
                }
                self.planner.on_verified(segment as usize, good, 0, now);
            }
            KeeperEvent::PrefixVerified { segment, len_bytes } => {
                self.planner.on_verified(segment as usize, false, len_bytes, now);
            }
            KeeperEvent::Bad { segments, message } => {
                self.notice(NoticeCode::Refetch, format!("{message}: fetching it again"));
                self.meter.lost(&segments, self.opening.total());
                let failure = Failure::new(ErrorKind::DigestMismatch, message);
                self.planner.on_bad_segments(segments, &failure, now);
            }
            KeeperEvent::Failed(error) => return Err(error),
        }
        Ok(())
    }
}

fn defect(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("a defect of haul: {what}"))
}

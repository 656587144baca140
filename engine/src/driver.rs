//! The one loop of a download: inputs to the planner, its actions to the world.
//!
//! The driver runs as one task. Fetchers and the store tell it what happened
//! over channels; it classifies responses, asks the planner, and carries out
//! what the planner decides. It holds no state about segments.

pub(crate) mod address;
mod adopting;
mod conditional;
pub(crate) mod contents;
pub(crate) mod control;
pub(crate) mod cookies;
mod described;
mod digests;
pub(crate) mod downloads;
mod ending;
pub(crate) mod engine;
mod finished;
pub(crate) mod guard;
mod inbox;
mod learning;
pub(crate) mod observer;
mod opening;
pub(crate) mod options;
mod proving;
pub(crate) mod refresh;
mod requests;
mod selecting;
pub(crate) mod shared;
mod sources;
mod streaming;
mod turn;
pub(crate) mod turns;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use url::Url;

use self::described::Described;
use self::guard::{Panicked, Part};
use self::inbox::Inbox;
use self::proving::{Proven, ToProve};
pub(crate) use self::sources::Mirror;
use self::sources::{Refreshed, Replaced, Source};
use crate::disk::conditional::Version;
use crate::disk::holds::Hold;
use crate::disk::keeper::{KeeperEvent, KeeperHandle, KeeperOptions};
use crate::disk::output::{self, Earlier, OpenedOutput};
use crate::disk::partial::{self, Paths};
use crate::disk::place::Place;
use crate::disk::prove::{ALTERED_HINT, PartProof, refuse_larger, refuse_size};
use crate::disk::publish::PublishOptions;
use crate::driver::control::{Steering, Stop};
use crate::driver::engine::EngineInner;
use crate::driver::options::Options;
use crate::driver::shared::Shared;
use crate::driver::turns::Turn;
use crate::fault_point;
use crate::model::config::{Checksum, Connections, DigestAlgorithm, Existing, Resume};
use crate::model::digest_claims::Claims;
use crate::model::digest_fields::{self, FieldDigests};
use crate::model::error::{Error, ErrorKind, Kept};
use crate::model::event::{Event, LimitedBy, Notice, NoticeCode, Plan, Started, Summary};
use crate::model::name;
use crate::model::planner::{Action, Failure, LeaseEnd, LeaseId, Planner, Reach, SourceId};
use crate::model::range::ByteRange;
use crate::model::rate::RateEstimator;
use crate::model::redact::{redact, redact_url};
use crate::model::resource::Resource;
use crate::model::response::{Asked, Verdict, classify};
use crate::model::segment::segment_size;
use crate::model::selection::Selected;
use crate::net::connect::{Origin, is_same_origin};
use crate::net::failures::{FetchError, FetchErrorKind};
use crate::net::fetcher::{
    self, Command, Counters, Decision, Ended, Fetch, FetchEvent, RequestSpec,
};

const TICK: Duration = Duration::from_millis(100);
/// The speed of less than this is no measure for what is left.
const TELLING: Duration = Duration::from_secs(1);
/// What comes after such a silence has a speed of its own.
const SILENCE: Duration = Duration::from_secs(2);
/// A refused response this small is read to its end to keep its connection.
const DRAIN_LIMIT_BYTES: u64 = 16 << 10;

/// How far leases go beyond what is stored without a gap, in bytes, when a digest
/// needs the bytes in order: it is to find them in the page cache.
const IN_ORDER_REACH_BYTES: u64 = 256 << 20;

/// How a run of the driver ended.
pub(crate) enum Outcome {
    Completed(Box<Summary>),
    Planned(Box<Plan>),
}

/// What came of an errand.
enum Returned {
    Refreshed(Refreshed),
    Described(Described),
    ToProve(ToProve),
    Proven(Proven),
    /// The program's refresh function did.
    Panicked(Panicked),
}

struct Running {
    commands: mpsc::UnboundedSender<Command>,
    asked: Asked,
    /// Which bytes that is of those that are wanted.
    wanted: Option<ByteRange>,
    decision: Option<oneshot::Sender<Decision>>,
    source: SourceId,
    url: Url,
    /// What the response says of its bytes, and which they are.
    digests: FieldDigests,
    range: Option<ByteRange>,
}

/// See the module's documentation.
pub(crate) struct Driver {
    engine: Arc<EngineInner>,
    options: Options,
    shared: Arc<Shared>,
    plan_only: bool,
    /// The head of the last response, for a plan.
    head: Option<(u16, HeaderMap)>,
    started: Instant,
    planner: Planner,
    /// In the planner's order.
    sources: Vec<Source>,
    /// The one that the object is opened with.
    opener: SourceId,
    /// Those that sources are or were at, where connections to them have a bound; in
    /// the planner's order of places.
    hosts: Vec<String>,
    /// Its total is that of what is downloaded.
    expected: Option<Resource>,
    /// Where the wanted bytes are in the object, where not all of it is wanted.
    selected: Option<Selected>,
    /// Which version the output is, while that is asked about.
    known: Option<(PathBuf, Version)>,
    /// The output of which a server said that it has no newer version.
    not_modified: Option<PathBuf>,
    /// Where the response came from that the object was opened with.
    opened_from: Option<Url>,
    /// The URLs whose bytes were joined.
    joined: Vec<Url>,
    /// How often a URL was to be proven.
    proofs: u64,
    /// Whether an earlier run's checkpoint may still be believed.
    believe_earlier: bool,
    /// Who has that checkpoint, until this run has one of its own.
    earlier: Option<Kept>,
    /// What a storage of the program had of an earlier run, until it counts.
    in_storage: Option<Earlier>,
    store: Option<KeeperHandle>,
    kept: Option<Place>,
    output: Option<PathBuf>,
    /// Its name among those of the engine's downloads.
    hold: Option<Arc<Hold>>,
    /// A response has come, whatever it was.
    heard: bool,
    chunked: bool,
    /// What the bytes that were given out are of, and the URLs that brought them, once
    /// they were stored elsewhere.
    given_of: Option<(Resource, Vec<Url>)>,
    /// Everything was received, and is yet to be taken.
    draining: bool,
    claims: Claims,
    /// Mirrors that the server named.
    links: Vec<String>,
    /// The Metalink that it named.
    description: Option<String>,
    /// What is wrong with the login, after a 401.
    login_words: Option<String>,
    /// What is stored is not what the server said: nothing of it is kept.
    altered: bool,
    fetches: JoinSet<()>,
    running: HashMap<LeaseId, Running>,
    counters: Arc<Counters>,
    /// Asking for fresh URLs and Metalinks.
    errands: JoinSet<Returned>,
    fetch_events: Inbox<FetchEvent>,
    store_events: Inbox<KeeperEvent>,
    rate: RateEstimator,
    bytes: u64,
    resumed_bytes: u64,
    segment_size_bytes: u64,
    max_active: usize,
    paused: bool,
    told_pause: bool,
    turn: Turn,
    queueing: turn::Queueing,
    ended: Option<Result<Outcome, Error>>,
}

impl Driver {
    pub(crate) fn new(
        engine: Arc<EngineInner>,
        options: Options,
        shared: Arc<Shared>,
        plan_only: bool,
    ) -> Box<Self> {
        let turn = engine.turns.enter(options.priority, !plan_only && !options.document);
        let mut planner = Planner::new(options.settings());
        planner.allow(0, None, Duration::ZERO);
        if options.checksum.is_some() || options.pieces.is_some() {
            planner.use_together();
        }
        let mirrors = options.other_sources.clone();
        let mut driver = Box::new(Self {
            shared,
            plan_only,
            head: None,
            started: Instant::now(),
            planner,
            turn,
            queueing: turn::Queueing::default(),
            engine,
            sources: vec![Source::new(options.url.clone(), None)],
            opener: 0,
            hosts: Vec::new(),
            expected: None,
            selected: None,
            known: None,
            not_modified: None,
            opened_from: None,
            joined: Vec::new(),
            proofs: 0,
            believe_earlier: options.resume != Resume::Never,
            earlier: None,
            in_storage: None,
            options,
            store: None,
            kept: None,
            output: None,
            hold: None,
            heard: false,
            chunked: false,
            given_of: None,
            draining: false,
            claims: Claims::default(),
            links: Vec::new(),
            description: None,
            login_words: None,
            altered: false,
            fetches: JoinSet::new(),
            running: HashMap::new(),
            counters: Arc::new(Counters::default()),
            errands: JoinSet::new(),
            fetch_events: Inbox::new(),
            store_events: Inbox::new(),
            rate: RateEstimator::new(Duration::from_secs(3)),
            bytes: 0,
            resumed_bytes: 0,
            segment_size_bytes: 1,
            max_active: 0,
            paused: false,
            told_pause: false,
            ended: None,
        });
        driver.locate(0);
        driver.add_mirrors(mirrors);
        driver
    }

    /// Runs to the end, or until `stop` fires or its sender is dropped.
    ///
    /// What is waited for once or never in a download is on the heap, here and in what
    /// is called each time round: a task has room for the largest of all it may wait for,
    /// and that room is set up anew each time.
    pub(crate) async fn run(
        mut self: Box<Self>,
        mut stop: oneshot::Receiver<Stop>,
    ) -> Result<Outcome, Error> {
        self.watch(0);
        self.load_earlier().await?;
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.steer();
        self.planner.tick(self.now());
        loop {
            if self.options.window.is_some() {
                Box::pin(self.look_at_reader()).await;
            }
            self.carry_out().await;
            self.tell_pause();
            if let (None, Some(panicked)) = (&self.ended, self.shared.panicked()) {
                Box::pin(self.end_with(panicked.into())).await;
            }
            if let Some(ended) = self.ended.take() {
                // Whoever hears of the end may start the next one to the same output.
                self.shared.leave();
                self.hold = None;
                return ended;
            }
            tokio::select! {
                biased;
                how = &mut stop => {
                    return Err(Box::pin(self.stopped(how.unwrap_or(Stop::Keep))).await);
                }
                () = self.shared.control.changed() => self.steer(),
                // What is granted is asked for with the next actions.
                () = self.turn.comes() => {}
                event = self.fetch_events.next() => if let Some(event) = event {
                    self.on_fetch_event(event);
                    if let Err(error) = self.refuse_growing() {
                        Box::pin(self.end_with(error)).await;
                    }
                },
                event = self.store_events.next() => if let Some(event) = event {
                    self.on_store_event(event).await;
                },
                Some(returned) = self.errands.join_next(), if !self.errands.is_empty() => {
                    Box::pin(self.on_returned(returned)).await;
                }
                _ = tick.tick() => {
                    self.steer();
                    self.replace_expiring();
                    if self.engine.is_storage_busy() || self.is_reader_slow() {
                        self.planner.on_storage_busy(self.now());
                    }
                    self.planner.tick(self.now());
                    while let Some(joined) = self.fetches.try_join_next() {
                        // Its lease has no end: nothing else would tell of it.
                        if joined.is_err_and(|error| error.is_panic()) {
                            let message = "a defect of haul: the task of a request panicked";
                            let error = Error::new(ErrorKind::Internal, message);
                            Box::pin(self.end_with(error)).await;
                        }
                    }
                    self.publish_progress(false);
                }
            }
        }
    }

    /// Takes over what the handle and the readers ask for.
    fn steer(&mut self) {
        let now = self.now();
        let Steering { paused, connections, priority, wants } = self.shared.control.steering();
        let limited = (0..self.sources.len()).any(|source| self.limits(source).are_limiting());
        self.planner.set_speed_limited(limited);
        if let Some(connections) = connections {
            self.planner.set_connections(connections, now);
        }
        if let Some(priority) = priority {
            self.turn.set_priority(priority);
        }
        match (self.paused, paused) {
            (false, true) => self.planner.pause(now),
            (true, false) => {
                self.queueing.again();
                self.planner.resume(now);
                if std::mem::take(&mut self.told_pause) {
                    self.shared.send(&Event::Resumed);
                }
            }
            _ => {}
        }
        if std::mem::replace(&mut self.paused, paused) != paused {
            self.publish_progress(false);
        }
        self.planner.want(wants, now);
    }

    /// A pause is told when nothing more can come.
    fn tell_pause(&mut self) {
        if self.paused && self.running.is_empty() && !std::mem::replace(&mut self.told_pause, true)
        {
            self.shared.send(&Event::Paused);
            self.publish_progress(false);
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn carry_out(&mut self) {
        while self.ended.is_none() {
            let mut action = self.planner.poll_action();
            if action.is_none() {
                self.take_turn().await;
                action = self.planner.poll_action();
            }
            let Some(action) = action else { break };
            match action {
                Action::Fetch { lease, source, range, conditional } => {
                    self.fetch(lease, source, range, conditional);
                }
                Action::Open { lease, resource } => {
                    self.opened_from = self.running.get(&lease).map(|it| it.url.clone());
                    self.claim_of(lease);
                    Box::pin(self.open(resource)).await;
                }
                Action::Store { lease, range } => self.decide(lease, Some(range)),
                Action::Drop { lease } => self.decide(lease, None),
                Action::Shrink { lease, end } => self.command(lease, Command::Shrink(end)),
                Action::Cancel { lease } => {
                    self.decide(lease, None);
                    self.command(lease, Command::Cancel);
                }
                Action::Reset { forget_identity } => Box::pin(self.reset(forget_identity)).await,
                Action::Resolve { source, refused, again } => {
                    self.resolve(source, refused, again);
                }
                Action::Lost { source, why, again } => self.lost(source, &why, again),
                Action::Retry { reason, attempt, wait } => {
                    self.shared.send(&Event::Retry { reason, attempt, wait });
                }
                Action::Notice(code, message) => self.notice(code, message),
                Action::Finish => Box::pin(self.all_received()).await,
                Action::Fail(failure) => {
                    let error = self.error_of(&failure);
                    // With pieces it is known what is good.
                    if failure.kind == ErrorKind::DigestMismatch && self.options.pieces.is_none() {
                        Box::pin(self.discard()).await;
                    }
                    Box::pin(self.end_with(error)).await;
                }
            }
        }
        self.max_active = self.max_active.max(self.running.len());
    }

    fn notice(&self, code: NoticeCode, message: String) {
        self.shared.send(&Event::Notice(Notice { code, message }));
    }

    async fn on_returned(&mut self, returned: Result<Returned, JoinError>) {
        match returned {
            Ok(Returned::Refreshed(refreshed)) => self.on_refreshed(refreshed),
            Ok(Returned::Described(described)) => self.on_described(described),
            Ok(Returned::ToProve(what)) => self.prove(what).await,
            Ok(Returned::Proven(proven)) => self.on_proven(proven),
            Ok(Returned::Panicked(panicked)) => self.end_with(panicked.into()).await,
            // The planner would wait for ever for what it was sent for.
            Err(_) => {
                let message = "a defect of haul: the task that asks for a fresh link, a proof or a \
                               Metalink panicked";
                self.end_with(Error::new(ErrorKind::Internal, message)).await;
            }
        }
    }

    async fn on_store_event(&mut self, event: KeeperEvent) {
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
            KeeperEvent::Bad { segments, message } => self.on_bad_piece(segments, message),
            KeeperEvent::Failed(error) => Box::pin(self.end_with(error)).await,
        }
    }

    fn publish_progress(&self, syncing: bool) {
        let now = self.now();
        let rate = if self.running.is_empty() && !syncing { 0.0 } else { self.rate.rate(now) };
        let measured_for = self.rate.measured_for(now);
        let silence = self.planner.silence(now).filter(|_| !self.paused && !syncing);
        let total = self.expected.as_ref().and_then(|resource| resource.total);
        self.shared.set_progress(|progress| {
            progress.bytes = total.map_or(self.bytes, |total| self.bytes.min(total));
            progress.total_bytes = total;
            progress.bytes_per_second = rate;
            progress.mean_bytes_per_second =
                self.bytes.saturating_sub(self.resumed_bytes) as f64 / now.as_secs_f64().max(1e-9);
            progress.measured_for = measured_for;
            let tells = rate > 1.0 && measured_for >= TELLING && !syncing;
            progress.eta = total.filter(|_| tells).map(|total| {
                Duration::from_secs_f64(total.saturating_sub(self.bytes) as f64 / rate)
            });
            progress.silent_for = silence.map_or(Duration::ZERO, |(silent, _)| silent);
            progress.gives_up_after = silence.map(|(_, patience)| patience);
            progress.connections = self.running.len();
            progress.retries = self.planner.rounds();
            progress.paused = self.paused;
            progress.queued = self.queueing.waiting;
            progress.syncing = syncing;
            progress.map = self.planner.map_cells();
        });
    }
}

/// What a failed request is to the planner; `heard` if there was a response before.
fn failure_of(error: FetchError, heard: bool) -> Failure {
    // What has answered once speaks the protocol.
    let explained = error.without_a_byte && !heard;
    Failure {
        hint: error.hint.filter(|_| explained || !error.without_a_byte),
        hopeless: explained || is_hopeless(error.kind),
        ..Failure::new(kind_of(error.kind), error.message)
    }
}

fn is_hopeless(kind: FetchErrorKind) -> bool {
    matches!(kind, FetchErrorKind::Unreachable | FetchErrorKind::WrongProtocol)
}

fn kind_of(kind: FetchErrorKind) -> ErrorKind {
    match kind {
        FetchErrorKind::Connect | FetchErrorKind::Unreachable | FetchErrorKind::Reset => {
            ErrorKind::Network
        }
        FetchErrorKind::Tls | FetchErrorKind::NoHttpVersion => ErrorKind::Tls,
        FetchErrorKind::ProxyRefused => ErrorKind::ProxyRefused,
        FetchErrorKind::Protocol | FetchErrorKind::WrongProtocol => ErrorKind::Protocol,
        FetchErrorKind::Panicked => ErrorKind::Callback,
    }
}

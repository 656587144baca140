//! The one loop of a download: inputs to the planner, its actions to the world.
//!
//! The driver runs as one task. Fetchers and the store tell it what happened
//! over channels; it classifies responses, asks the planner, and carries out
//! what the planner decides. It holds no state about segments.

mod digests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use crate::config::{Checksum, Connections, Existing, Resume, RetryPolicy, StorageKind};
use crate::engine::EngineInner;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Notice, NoticeCode, Plan, Started, Summary};
use crate::fault_point::{self, Bug};
use crate::io::connector::FetchErrorKind;
use crate::io::fetcher::{
    self, Command, Counters, Decision, Ended, Fetch, FetchEvent, RequestSpec,
};
use crate::io::output::{self, Earlier, OpenedOutput};
use crate::io::partial::{self, Partial, Paths};
use crate::io::prove::{ALTERED_HINT, PartProof};
use crate::io::publish::PublishOptions;
use crate::io::store::{Store, StoreEvent, StoreOptions};
use crate::io::transport::Origin;
use crate::model::digest_claims::Claims;
use crate::model::digest_fields::{self, FieldDigests};
use crate::model::name;
use crate::model::planner::{Action, Failure, LeaseEnd, LeaseId, Planner, Settings};
use crate::model::range::ByteRange;
use crate::model::rate::RateEstimator;
use crate::model::redact::redact_url;
use crate::model::resource::Resource;
use crate::model::response::{Asked, Verdict, classify};
use crate::model::segment::segment_size;
use crate::shared::Shared;

const TICK: Duration = Duration::from_millis(100);
/// A refused response this small is read to its end to keep its connection.
const DRAIN_LIMIT_BYTES: u64 = 16 << 10;

/// A login for one host.
#[derive(Debug, Clone)]
pub(crate) struct HostLogin {
    /// As URLs have it; `None` is the host that the caller named.
    pub(crate) host: Option<String>,
    /// Marked as sensitive.
    pub(crate) authorization: HeaderValue,
}

/// Everything the caller chose for one download.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) url: Url,
    pub(crate) output: Option<PathBuf>,
    pub(crate) directory: PathBuf,
    pub(crate) connections: Connections,
    /// Sent to the URL's own origin only.
    pub(crate) private_headers: HeaderMap,
    /// Sent to their hosts only; the first that fits counts.
    pub(crate) host_logins: Vec<HostLogin>,
    pub(crate) existing: Existing,
    pub(crate) resume: Resume,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) retry: RetryPolicy,
    pub(crate) stall_timeout: Duration,
    pub(crate) storage: StorageKind,
    pub(crate) sync: bool,
    pub(crate) remote_time: bool,
    pub(crate) max_redirects: u32,
    pub(crate) allow_downgrade: bool,
    pub(crate) segment_size_bytes: Option<u64>,
    /// How much the first request asks for.
    pub(crate) first_range_bytes: u64,
    /// Of the jitter of the waits.
    pub(crate) seed: u64,
}

fn settings(options: &Options) -> Settings {
    Settings {
        connections: options.connections,
        stall_timeout: options.stall_timeout,
        retry: options.retry,
        first_range_bytes: options.first_range_bytes,
        seed: options.seed,
    }
}

/// How a run of the driver ended.
pub(crate) enum Outcome {
    Completed(Box<Summary>),
    Planned(Box<Plan>),
}

struct Running {
    commands: mpsc::UnboundedSender<Command>,
    asked: Asked,
    decision: Option<oneshot::Sender<Decision>>,
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
    started: Instant,
    planner: Planner,
    current_url: Url,
    redirects: u32,
    /// Whether one of these redirects led from https to http.
    downgraded: bool,
    expected: Option<Resource>,
    /// Whether an earlier run's checkpoint may still be believed.
    believe_earlier: bool,
    /// That checkpoint, until this run has one of its own.
    earlier: Option<PathBuf>,
    store: Option<Store>,
    kept: Option<Partial>,
    output: Option<PathBuf>,
    chunked: bool,
    claims: Claims,
    /// What is stored is not what the server said: nothing of it is kept.
    altered: bool,
    fetches: JoinSet<()>,
    running: HashMap<LeaseId, Running>,
    counters: Arc<Counters>,
    fetch_events: (mpsc::UnboundedSender<FetchEvent>, mpsc::UnboundedReceiver<FetchEvent>),
    store_events: (mpsc::UnboundedSender<StoreEvent>, mpsc::UnboundedReceiver<StoreEvent>),
    rate: RateEstimator,
    bytes: u64,
    resumed_bytes: u64,
    max_active: usize,
    ended: Option<Result<Outcome, Error>>,
}

impl Driver {
    pub(crate) fn new(
        engine: Arc<EngineInner>,
        options: Options,
        shared: Arc<Shared>,
        plan_only: bool,
    ) -> Self {
        let current_url = options.url.clone();
        Self {
            engine,
            shared,
            plan_only,
            started: Instant::now(),
            planner: Planner::new(settings(&options)),
            current_url,
            redirects: 0,
            downgraded: false,
            expected: None,
            believe_earlier: options.resume != Resume::Never,
            earlier: None,
            options,
            store: None,
            kept: None,
            output: None,
            chunked: false,
            claims: Claims::default(),
            altered: false,
            fetches: JoinSet::new(),
            running: HashMap::new(),
            counters: Arc::new(Counters::default()),
            fetch_events: mpsc::unbounded_channel(),
            store_events: mpsc::unbounded_channel(),
            rate: RateEstimator::new(Duration::from_secs(3)),
            bytes: 0,
            resumed_bytes: 0,
            max_active: 0,
            ended: None,
        }
    }

    /// Runs to the end, or until `cancel` fires or its sender is dropped.
    pub(crate) async fn run(mut self, mut cancel: oneshot::Receiver<()>) -> Result<Outcome, Error> {
        self.look_for_earlier()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.planner.tick(self.now());
        loop {
            self.carry_out().await;
            if let Some(ended) = self.ended.take() {
                return ended;
            }
            tokio::select! {
                biased;
                _ = &mut cancel => return Err(self.cancelled().await),
                event = self.fetch_events.1.recv() => if let Some(event) = event {
                    self.on_fetch_event(event);
                },
                event = self.store_events.1.recv() => if let Some(event) = event {
                    self.on_store_event(event).await;
                },
                _ = tick.tick() => {
                    self.planner.tick(self.now());
                    while self.fetches.try_join_next().is_some() {}
                    self.publish_progress(false);
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks at what is at the output if its name is known or can be guessed,
    /// so that the first request already asks for something missing.
    fn look_for_earlier(&mut self) -> Result<(), Error> {
        let path = match &self.options.output {
            Some(output) => self.options.directory.join(output),
            None => self
                .options
                .directory
                .join(name::file_name(None, None, self.options.url.path()).name),
        };
        if self.options.output.is_some() && !self.plan_only {
            if self.options.existing == Existing::Refuse {
                partial::refuse_existing(&path)?;
            }
            partial::refuse_foreign(&Paths::of(&path))?;
        }
        if !self.believe_earlier {
            return Ok(());
        }
        // Anything but a readable checkpoint is judged when the output is opened.
        if let Earlier::Checkpoint(checkpoint) = output::earlier(&path)?
            && checkpoint.total.is_some_and(|total| total > 0)
        {
            let opening = output::opening_range(&checkpoint, self.options.first_range_bytes);
            // What is kept when this run ends before its first response.
            self.bytes = output::restored_bytes(&checkpoint);
            self.earlier = Some(Paths::of(&path).checkpoint);
            let claimed = Resource {
                total: checkpoint.total,
                validator: checkpoint.validator,
                ranges: true,
                encoding: checkpoint.encoding,
                content_type: checkpoint.content_type,
                content_disposition: None,
            };
            self.planner.claim(claimed.clone(), opening);
            self.expected = Some(claimed);
        }
        Ok(())
    }

    async fn carry_out(&mut self) {
        while self.ended.is_none()
            && let Some(action) = self.planner.poll_action()
        {
            match action {
                Action::Fetch { lease, range, conditional } => {
                    self.fetch(lease, range, conditional);
                }
                Action::Open { lease, resource } => {
                    self.claim_of(lease);
                    self.open(resource).await;
                }
                Action::Store { lease, range } => self.decide(lease, Some(range)),
                Action::Drop { lease } => self.decide(lease, None),
                Action::Shrink { lease, end } => self.command(lease, Command::Shrink(end)),
                Action::Cancel { lease } => {
                    self.decide(lease, None);
                    self.command(lease, Command::Cancel);
                }
                Action::Reset { forget_identity } => self.reset(forget_identity).await,
                Action::Resolve => {
                    self.current_url = self.options.url.clone();
                    self.redirects = 0;
                    self.downgraded = false;
                }
                Action::Retry { reason, attempt, wait } => {
                    self.shared.send(Event::Retry { reason, attempt, wait });
                }
                Action::Notice(code, message) => self.notice(code, message),
                Action::Finish => self.finish().await,
                Action::Fail(failure) => {
                    let error = self.error_of(&failure);
                    if failure.kind == ErrorKind::DigestMismatch {
                        self.discard().await;
                    }
                    self.end_with(error).await;
                }
            }
        }
        self.max_active = self.max_active.max(self.running.len());
    }

    fn notice(&self, code: NoticeCode, message: String) {
        self.shared.send(Event::Notice(Notice { code, message }));
    }

    fn fetch(&mut self, lease: LeaseId, range: Option<ByteRange>, conditional: bool) {
        let Some(origin) = Origin::of(&self.current_url) else { return };
        let (commands, receiver) = mpsc::unbounded_channel();
        let asked = range.map_or(Asked::Whole, Asked::Range);
        let headers = self.headers(range, conditional);
        let digests = FieldDigests::default();
        self.running.insert(
            lease,
            Running {
                commands,
                asked,
                decision: None,
                url: self.current_url.clone(),
                digests,
                range: None,
            },
        );
        let fetch = Fetch {
            lease,
            spec: RequestSpec { url: self.current_url.clone(), origin, headers },
            start: range.map_or(0, ByteRange::start),
            commands: receiver,
            events: self.fetch_events.0.clone(),
            counters: Arc::clone(&self.counters),
            limiter: self.engine.limiter.clone(),
            drain_limit_bytes: DRAIN_LIMIT_BYTES,
        };
        self.fetches.spawn(fetcher::run(Arc::clone(&self.engine.pool), fetch));
    }

    fn headers(&self, range: Option<ByteRange>, conditional: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_str(&self.engine.config.user_agent) {
            headers.insert(header::USER_AGENT, agent);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(login) = self.host_login() {
            headers.insert(header::AUTHORIZATION, login.clone());
        }
        // Custom headers and credentials are for the origin they were given for,
        // and there they count more than a host's.
        if self.current_url.origin() == self.options.url.origin()
            || fault_point::has(Bug::SecretsToAnyone)
        {
            for name in self.options.private_headers.keys() {
                headers.remove(name);
                for value in self.options.private_headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::RANGE);
        if let Some(range) = range
            && let Ok(value) = HeaderValue::from_str(&range.to_header_value())
        {
            headers.insert(header::RANGE, value);
        }
        if conditional
            && let Some((name, value)) =
                self.expected.as_ref().and_then(|expected| expected.validator.precondition())
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
        headers
    }

    /// The login of the host that is asked now.
    fn host_login(&self) -> Option<&HeaderValue> {
        if fault_point::has(Bug::SecretsToAnyone) {
            return self.options.host_logins.first().map(|login| &login.authorization);
        }
        // What was meant to go over TLS is not told to the path without it.
        if self.downgraded && self.current_url.scheme() != "https" {
            return None;
        }
        let host = self.current_url.host_str()?;
        let named_by_caller = self.options.url.host_str() == Some(host);
        let logins = &self.options.host_logins;
        let found = logins.iter().find(|login| match &login.host {
            Some(of) => of == host,
            None => named_by_caller,
        });
        found.map(|login| &login.authorization)
    }

    fn decide(&mut self, lease: LeaseId, range: Option<ByteRange>) {
        let Some(running) = self.running.get_mut(&lease) else { return };
        let Some(decision) = running.decision.take() else { return };
        let answer = match (range, &self.store) {
            (Some(range), Some(store)) => {
                let proof = running.proof(range);
                Decision::Store { sink: store.sink(), range, proof }
            }
            _ => Decision::Drop,
        };
        // A fetcher that is gone says so by its last event.
        let _ = decision.send(answer);
    }

    fn command(&self, lease: LeaseId, command: Command) {
        if let Some(running) = self.running.get(&lease) {
            let _ = running.commands.send(command);
        }
    }

    fn on_fetch_event(&mut self, event: FetchEvent) {
        let now = self.now();
        match event {
            FetchEvent::Head { lease, status, headers, decision } => {
                let Some(running) = self.running.get_mut(&lease) else { return };
                running.decision = Some(decision);
                let headers = misread(headers, running.asked);
                let verdict = classify(running.asked, status, &headers, self.expected.as_ref());
                if fault_point::has(Bug::StallIsProgress) {
                    self.planner.on_received(lease, 0, now);
                }
                tracing::debug!(lease, status, "response");
                if let Verdict::Whole { .. } = verdict {
                    self.chunked = is_chunked(&headers);
                }
                if let Verdict::Redirect { location } = &verdict {
                    return self.redirect(lease, location, now);
                }
                self.on_digests(lease, &verdict, &headers, now);
                self.planner.on_verdict(lease, verdict, now);
            }
            FetchEvent::Received { lease, bytes } => {
                self.redirects = 0;
                self.bytes += bytes;
                self.rate.record(bytes, now);
                self.planner.on_received(lease, bytes, now);
            }
            FetchEvent::Shrunk { lease, end } => self.planner.on_shrunk(lease, end, now),
            FetchEvent::Ended { lease, position, how } => {
                tracing::debug!(lease, position, ?how, "lease over");
                self.running.remove(&lease);
                let end = match how {
                    Ended::Complete => LeaseEnd::Complete,
                    Ended::Altered(altered) => {
                        self.on_altered(altered, now);
                        LeaseEnd::Complete
                    }
                    Ended::BodyEnded => LeaseEnd::BodyEnded,
                    Ended::Dropped => LeaseEnd::Dropped,
                    Ended::Failed(error) => LeaseEnd::Failed {
                        refused: matches!(
                            error.kind,
                            FetchErrorKind::Connect | FetchErrorKind::Reset
                        ),
                        failure: Failure::new(kind_of(error.kind), error.message),
                    },
                };
                self.planner.on_ended(lease, end, now);
            }
        }
    }

    async fn on_store_event(&mut self, event: StoreEvent) {
        let now = self.now();
        match event {
            StoreEvent::Stored { segment } => self.planner.on_stored(segment as usize, now),
            StoreEvent::Verified { segment, good } => {
                if !good {
                    self.notice(
                        NoticeCode::Refetch,
                        format!("segment {segment} does not hash as recorded: fetching it again"),
                    );
                }
                self.planner.on_verified(segment as usize, good, 0, now);
            }
            StoreEvent::PrefixVerified { segment, len_bytes } => {
                self.planner.on_verified(segment as usize, false, len_bytes, now);
            }
            StoreEvent::Failed(error) => self.end_with(error).await,
        }
    }

    fn redirect(&mut self, lease: LeaseId, location: &str, now: Duration) {
        self.redirects += 1;
        // Of the request itself: another lease may have been redirected meanwhile.
        let Some(base) = self.running.get(&lease).map(|running| running.url.clone()) else {
            return;
        };
        let from = redact_url(base.as_str());
        let refuse = |why: String| {
            Failure::new(ErrorKind::Protocol, format!("{from} redirects {why}: not followed"))
        };
        let target = base.join(location);
        let failure = match &target {
            Err(_) => Some(refuse(format!("to `{}`", name::brief(&redact_url(location))))),
            Ok(target) if !matches!(target.scheme(), "http" | "https") => {
                Some(refuse(format!("to the scheme `{}`", name::brief(target.scheme()))))
            }
            Ok(target)
                if base.scheme() == "https"
                    && target.scheme() == "http"
                    && !self.options.allow_downgrade =>
            {
                Some(refuse("from https to http (--allow-downgrade allows it)".to_owned()))
            }
            Ok(_) if self.redirects > self.options.max_redirects => {
                Some(refuse(format!("more than {} times", self.options.max_redirects)))
            }
            Ok(_) => None,
        };
        match (failure, target) {
            (None, Ok(mut target)) => {
                // Userinfo from a server is not a credential of ours.
                let _ = target.set_username("");
                let _ = target.set_password(None);
                self.downgraded |=
                    self.current_url.scheme() == "https" && target.scheme() == "http";
                self.current_url = target;
                self.planner.on_redirected(lease, now);
            }
            (failure, _) => {
                self.decide(lease, None);
                if let Some(failure) = failure {
                    self.planner.give_up(failure);
                }
            }
        }
    }

    async fn open(&mut self, resource: Resource) {
        let output = match &self.options.output {
            Some(output) => self.options.directory.join(output),
            None => {
                let safe = name::file_name(
                    resource.content_disposition.as_deref(),
                    resource.content_type.as_deref(),
                    self.options.url.path(),
                );
                if safe.changed {
                    let message = format!("the name was made safe: {}", safe.name);
                    self.notice(NoticeCode::NameChanged, message);
                }
                self.options.directory.join(safe.name)
            }
        };
        if self.plan_only {
            return self.planned(output, &resource);
        }
        let request = output::Request {
            output: output.clone(),
            existing: self.options.existing,
            resume: self.options.resume,
            storage: self.options.storage,
            segment_size_bytes: self.options.segment_size_bytes,
            has_digest: self.options.checksum.is_some(),
            sync: self.options.sync,
            url: self.options.url.clone(),
            resource: resource.clone(),
        };
        let start = match self.kept.take() {
            Some(partial) => output::Start::Over(partial),
            None => output::Start::Acquire { believe: self.believe_earlier },
        };
        let opened = match self.open_output(request, start).await {
            Ok(opened) => opened,
            Err(error) => return self.end_with(error).await,
        };
        self.output = Some(output);
        if let Err(error) = self.opened(resource, opened) {
            self.end_with(error).await;
        }
    }

    /// Opens the output; where the partial is of another URL, after it was shown
    /// that both have the same bytes.
    async fn open_output(
        &mut self,
        request: output::Request,
        mut start: output::Start,
    ) -> Result<OpenedOutput, Error> {
        let crew = self.engine.writers.crew();
        loop {
            let asked = request.clone();
            let opening =
                crew.blocking(move || output::open(&asked, start)).await.unwrap_or_else(|| {
                    Err(Error::new(ErrorKind::Internal, "a file operation was lost"))
                })?;
            let (partial, proof) = match opening {
                output::Opening::Ready(opened) => return Ok(*opened),
                output::Opening::Prove(partial, proof) => (partial, proof),
            };
            self.earlier = Some(partial.paths().checkpoint.clone());
            let unusable = || Error::new(ErrorKind::Internal, "a URL without an origin");
            let origin = Origin::of(&self.current_url).ok_or_else(unusable)?;
            let spec_for = |range| RequestSpec {
                url: self.current_url.clone(),
                origin: origin.clone(),
                headers: self.headers(Some(range), false),
            };
            let holds = proof.holds(
                &self.engine.pool,
                &self.counters,
                &request.resource,
                self.options.stall_timeout,
                spec_for,
            );
            let holds = holds.await.map_err(|error| {
                let message = format!(
                    "the partial is of another URL, and the segment that would show whether it \
                     is the same object cannot be fetched: {error}"
                );
                Error::new(kind_of(error.kind), message)
                    .with_hint("run it again, or choose another output")
            })?;
            start = output::Start::Proven(partial, holds);
        }
    }

    fn opened(&mut self, resource: Resource, opened: OpenedOutput) -> Result<(), Error> {
        let OpenedOutput { partial, storage, checkpoint, restored, restored_bytes, notices } =
            opened;
        for (code, message) in notices {
            self.notice(code, message);
        }
        if let Some(encoding) = &resource.encoding {
            let message = format!(
                "the server insists on the coding `{}`: the file holds the coded bytes",
                name::brief(encoding)
            );
            self.notice(NoticeCode::ContentEncoding, message);
        }
        let segment_size_bytes = checkpoint.segment_size_bytes;
        self.earlier = None;
        self.bytes = restored_bytes;
        self.resumed_bytes = restored_bytes;
        let stream = resource.total.is_none();
        let storage_name = if stream { "stream" } else { storage.name() };
        self.store = Some(Store::open(StoreOptions {
            partial,
            storage,
            writers: self.engine.writers.clone(),
            checkpoint,
            sync: self.options.sync,
            events: self.store_events.0.clone(),
        })?);
        self.shared.send(Event::Started(Started {
            url: redact_url(self.current_url.as_str()),
            output: self.output.clone().unwrap_or_default(),
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            resumed_bytes: restored_bytes,
            connections: self.planner.limit(),
            segment_size_bytes,
            storage: storage_name,
        }));
        self.expected = Some(resource);
        self.redirects = 0;
        let now = self.now();
        self.planner.on_opened(segment_size_bytes, &restored, now);
        Ok(())
    }

    fn planned(&mut self, output: PathBuf, resource: &Resource) {
        let size = segment_size(resource.total.unwrap_or(0), self.options.segment_size_bytes);
        let plan = Plan {
            url: redact_url(self.current_url.as_str()),
            resumable_bytes: match output::earlier(&output) {
                Ok(Earlier::Checkpoint(checkpoint)) => output::restored_bytes(&checkpoint),
                _ => 0,
            },
            output,
            total_bytes: resource.total,
            ranges: resource.ranges,
            validator: resource.validator.kind(),
            connections: self.planner.limit(),
            segment_size_bytes: size,
        };
        self.ended = Some(Ok(Outcome::Planned(Box::new(plan))));
    }

    async fn reset(&mut self, forget_identity: bool) {
        self.believe_earlier = false;
        self.bytes = 0;
        self.resumed_bytes = 0;
        self.claims = Claims::default();
        if forget_identity {
            self.expected = None;
        }
        if std::mem::take(&mut self.altered) {
            return self.discard().await;
        }
        if let Some(store) = self.store.take() {
            // Reports of the old epoch must not reach the new one.
            self.store_events = mpsc::unbounded_channel();
            match store.reset().await {
                Ok(partial) => self.kept = Some(partial),
                Err(error) => self.end_with(error).await,
            }
        }
    }

    async fn finish(&mut self) {
        let Some(store) = self.store.take() else { return };
        self.shared.send(Event::Syncing);
        self.publish_progress(true);
        if self.expected.as_ref().is_some_and(|resource| resource.total.is_none()) && !self.chunked
        {
            self.notice(
                NoticeCode::UnprovenLength,
                "the server told no size: nothing proves that the file is whole".to_owned(),
            );
        }
        let modified_unix = self
            .expected
            .as_ref()
            .filter(|_| self.options.remote_time)
            .and_then(|resource| resource.validator.last_modified.as_ref())
            .map(|modified| modified.unix_seconds);
        let publish = PublishOptions {
            replace: self.options.existing == Existing::Replace,
            sync: self.options.sync,
            modified_unix,
        };
        let finished = store.finish(publish, self.expected_digests()).await;
        if let Err((error, _)) = &finished
            && self.fetch_again(error)
        {
            return;
        }
        self.ended = Some(match finished {
            Ok(finished) => {
                self.bytes = finished.bytes;
                let first = self.counters.first_byte.get();
                Ok(Outcome::Completed(Box::new(Summary {
                    output: self.output.clone().unwrap_or_default(),
                    bytes: finished.bytes,
                    fetched_bytes: self.counters.body_bytes.load(Ordering::Relaxed),
                    resumed_bytes: self.resumed_bytes,
                    requests: self.counters.requests.load(Ordering::Relaxed),
                    retries: self.planner.rounds(),
                    elapsed: self.started.elapsed(),
                    time_to_first_byte: first.map(|at| at.duration_since(self.started)),
                    connections: self.max_active,
                    blake3: finished.blake3,
                    verified: finished.verified,
                })))
            }
            Err((error, checkpoint)) => Err(error.with_checkpoint(checkpoint)),
        });
        self.publish_progress(true);
    }

    fn error_of(&self, failure: &Failure) -> Error {
        let url = redact_url(self.current_url.as_str());
        let error = Error::new(failure.kind, format!("cannot download {url}: {}", failure.message));
        let error = match failure.status {
            Some(status) => error.with_status(status),
            None => error,
        };
        match failure.kind {
            ErrorKind::AccessDenied => error.with_hint(
                "the link may have expired or need a login: get a fresh URL, or \
                                 give -u or -H, and continue with -o of the same name",
            ),
            ErrorKind::ProxyRefused => error.with_hint(
                "its login is part of its URL, in --proxy or in the environment: \
                 http://NAME:PASS@HOST:PORT",
            ),
            ErrorKind::Network => error.with_hint("check the network and run it again"),
            ErrorKind::Tls => error.with_hint(
                "a private authority is trusted with --cacert FILE; do not continue if the \
                 certificate is unexpected",
            ),
            ErrorKind::DigestMismatch => error.with_hint(ALTERED_HINT),
            ErrorKind::ObjectChanged => error
                .with_hint("wait until the object is no longer being replaced, then start again"),
            ErrorKind::Protocol => error
                .with_hint("the server or something before it is broken; nothing wrong was stored"),
            _ => error,
        }
    }

    async fn end_with(&mut self, error: Error) {
        let checkpoint = self.stop().await;
        self.ended = Some(Err(error.with_checkpoint(checkpoint)));
    }

    /// Ends all fetches and records what was stored.
    async fn stop(&mut self) -> Option<PathBuf> {
        self.fetches.shutdown().await;
        self.running.clear();
        let Some(store) = self.store.take() else { return self.earlier.clone() };
        let checkpoint = store.stop().await.ok();
        // Without a total nothing of it can be continued.
        checkpoint.filter(|_| self.expected.as_ref().is_some_and(|it| it.total.is_some()))
    }

    async fn cancelled(mut self) -> Error {
        let checkpoint = self.stop().await;
        self.publish_progress(false);
        Error::new(ErrorKind::Cancelled, "the download was stopped").with_checkpoint(checkpoint)
    }

    fn publish_progress(&self, syncing: bool) {
        let now = self.now();
        let rate = if self.running.is_empty() && !syncing { 0.0 } else { self.rate.rate(now) };
        let total = self.expected.as_ref().and_then(|resource| resource.total);
        self.shared.set_progress(|progress| {
            progress.bytes = total.map_or(self.bytes, |total| self.bytes.min(total));
            progress.total_bytes = total;
            progress.bytes_per_second = rate;
            progress.mean_bytes_per_second =
                self.bytes.saturating_sub(self.resumed_bytes) as f64 / now.as_secs_f64().max(1e-9);
            progress.eta = total.filter(|_| rate > 1.0).map(|total| {
                Duration::from_secs_f64(total.saturating_sub(self.bytes) as f64 / rate)
            });
            progress.connections = self.running.len();
            progress.retries = self.planner.rounds();
            progress.syncing = syncing;
            progress.map = self.planner.map_cells();
        });
    }
}

fn kind_of(kind: FetchErrorKind) -> ErrorKind {
    match kind {
        FetchErrorKind::Connect | FetchErrorKind::Reset => ErrorKind::Network,
        FetchErrorKind::Tls | FetchErrorKind::NoHttpVersion => ErrorKind::Tls,
        FetchErrorKind::ProxyRefused => ErrorKind::ProxyRefused,
        FetchErrorKind::Protocol => ErrorKind::Protocol,
    }
}

/// Whether the body tells its own end: any other transfer coding that comes last
/// ends with the connection (RFC 9112 section 6.3), which proves nothing.
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The fields as they are, except where a test's bug blinds the engine.
fn misread(mut headers: HeaderMap, asked: Asked) -> HeaderMap {
    if fault_point::has(Bug::AnyTag) {
        headers.remove(header::ETAG);
    }
    if fault_point::has(Bug::AnyRange)
        && let Asked::Range(asked) = asked
        && let Some(total) = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok()?.rsplit_once('/'))
            .and_then(|(_, total)| total.parse::<u64>().ok())
        && let Ok(value) = HeaderValue::from_str(&format!(
            "bytes {}-{}/{total}",
            asked.start(),
            asked.end().min(total) - 1
        ))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers
}

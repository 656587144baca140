//! The requests that are under way.
//!
//! There is one task, a fetcher, for each lease of the planner. The fetcher sends the request,
//! reports the head of the response and waits: [`Requests::store`] or [`Requests::refuse`]
//! answers it. Later commands shorten or cancel it. All fetchers of a download report into one
//! inbox, in order, and the report that a lease ended is the last of that lease. What a request
//! asked for and what its response said of its own bytes is kept here until then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use url::Url;

use crate::disk::prove::{PartProof, RepeatProof};
use crate::disk::writer::Sink;
use crate::driver::inbox::Inbox;
use crate::model::concurrency::Path;
use crate::model::digest_fields::FieldDigests;
use crate::model::planner::{LeaseId, SourceId};
use crate::model::range::ByteRange;
use crate::model::response::Asked;
use crate::net::fetcher::{self, Command, Counters, Decision, Fetch, FetchEvent, RequestSpec};
use crate::net::limiter::Limits;
use crate::net::transport::{Begun, Transport};
use crate::net::vitals::Vitals;

/// A refused response this small is read to its end to keep its connection.
const DRAIN_LIMIT_BYTES: u64 = 16 << 10;

#[derive(Default)]
pub(super) struct Requests {
    fetchers: JoinSet<()>,
    under_way: HashMap<LeaseId, Request>,
    inbox: Inbox<FetchEvent>,
    counters: Arc<Counters>,
    held: Option<Box<Fetch>>,
    /// A response has come, whatever it was.
    heard: bool,
    /// Losses on connections, so far.
    losses: u64,
    /// The latest response came over a connection that carries others at the same time.
    shares: bool,
}

/// A request that is under way.
pub(super) struct Request {
    commands: mpsc::UnboundedSender<Command>,
    pub(super) asked: Asked,
    /// The same range within the wanted bytes.
    pub(super) wanted: Option<ByteRange>,
    decision: Option<oneshot::Sender<Decision>>,
    pub(super) source: SourceId,
    pub(super) url: Url,
    /// The digests that the response states for its bytes, and which bytes these are.
    pub(super) digests: FieldDigests,
    range: Option<ByteRange>,
    /// What TCP shows of the connection, and how many losses on it are counted.
    vitals: Option<(Arc<Vitals>, u32)>,
}

/// A request that is to be sent.
pub(super) struct Outgoing {
    pub(super) lease: LeaseId,
    pub(super) source: SourceId,
    pub(super) spec: RequestSpec,
    /// The range it asks for, within the wanted bytes.
    pub(super) wanted: Option<ByteRange>,
    /// The same range within the object.
    pub(super) range: Option<ByteRange>,
    pub(super) limits: Limits,
}

impl Requests {
    /// Notes that a request is under way; [`Self::start`] has it fetched.
    pub(super) fn prepare(&mut self, outgoing: Outgoing) -> Fetch {
        let Outgoing { lease, source, spec, wanted, range, limits } = outgoing;
        let (commands, receiver) = mpsc::unbounded_channel();
        let request = Request {
            commands,
            asked: range.map_or(Asked::Whole, Asked::Range),
            wanted,
            decision: None,
            source,
            url: spec.url.clone(),
            digests: FieldDigests::default(),
            range: None,
            vitals: None,
        };
        self.under_way.insert(lease, request);
        Fetch {
            lease,
            spec,
            start: wanted.map_or(0, ByteRange::start),
            commands: receiver,
            events: self.inbox.sender(),
            counters: Arc::clone(&self.counters),
            limits,
            drain_limit_bytes: DRAIN_LIMIT_BYTES,
        }
    }

    /// Starts the fetcher of a request, which may have `begun`.
    pub(super) fn start(
        &mut self,
        transport: Arc<dyn Transport>,
        fetch: Fetch,
        begun: Option<Begun>,
    ) {
        self.fetchers.spawn(fetcher::run(transport, fetch, begun));
    }

    /// Keeps a request that may be answered at once, before it is started.
    pub(super) fn hold(&mut self, fetch: Fetch) {
        self.held = Some(Box::new(fetch));
    }

    pub(super) fn take_held(&mut self) -> Option<Box<Fetch>> {
        self.held.take()
    }

    /// A response has come.
    pub(super) fn heard(&mut self, shares: bool) {
        self.heard = true;
        self.shares = shares;
    }

    /// Waits for the next report of a fetcher. Cancel safe.
    pub(super) async fn next(&mut self) -> FetchEvent {
        self.inbox.next().await
    }

    /// The head of a response to `lease` is here; its fetcher waits for `decision`.
    pub(super) fn answered(
        &mut self,
        lease: LeaseId,
        vitals: Option<Arc<Vitals>>,
        shares: bool,
        decision: oneshot::Sender<Decision>,
    ) {
        self.heard(shares);
        let Some(request) = self.under_way.get_mut(&lease) else { return };
        request.decision = Some(decision);
        // What the connection lost before was for another request.
        request.vitals = vitals.map(|vitals| (Arc::clone(&vitals), vitals.losses()));
    }

    /// What TCP shows of the connections that are in use, where the system tells.
    pub(super) fn path(&mut self) -> Option<Path> {
        let (mut count, mut sum, mut least) = (0u32, Duration::ZERO, Duration::MAX);
        for (vitals, counted) in self.under_way.values_mut().filter_map(|it| it.vitals.as_mut()) {
            let losses = vitals.losses();
            self.losses += u64::from(losses.wrapping_sub(std::mem::replace(counted, losses)));
            let Some((now, at_least)) = vitals.round_trips() else { continue };
            (count, sum, least) = (count + 1, sum + now, least.min(at_least));
        }
        (count > 0).then(|| Path {
            losses: self.losses,
            round_trip_s: (sum / count).as_secs_f64(),
            least_round_trip_s: least.as_secs_f64(),
        })
    }

    /// Notes the digests that the response states for the bytes in `range`, or for all of them if
    /// it is `None`.
    pub(super) fn claims(
        &mut self,
        lease: LeaseId,
        digests: FieldDigests,
        range: Option<ByteRange>,
    ) {
        if let Some(request) = self.under_way.get_mut(&lease) {
            (request.digests, request.range) = (digests, range);
        }
    }

    /// Has the waiting body stored: the bytes in `range`, of which `repeat` proves those that were
    /// given out before.
    pub(super) fn store(
        &mut self,
        lease: LeaseId,
        range: ByteRange,
        sink: Sink,
        repeat: Option<RepeatProof>,
    ) {
        let Some(request) = self.under_way.get_mut(&lease) else { return };
        let Some(decision) = request.decision.take() else { return };
        let proof = request.proof(range);
        // A fetcher that is gone says so by its last event.
        let _ = decision.send(Decision::Store { sink, range, proof, repeat });
    }

    /// Has the waiting response dropped, if there is one.
    pub(super) fn refuse(&mut self, lease: LeaseId) {
        if let Some(decision) = self.under_way.get_mut(&lease).and_then(|it| it.decision.take()) {
            let _ = decision.send(Decision::Drop);
        }
    }

    /// The same for all waiting responses: there may be room for only one other request.
    pub(super) fn refuse_all(&mut self) {
        for decision in self.under_way.values_mut().filter_map(|it| it.decision.take()) {
            let _ = decision.send(Decision::Drop);
        }
    }

    pub(super) fn command(&self, lease: LeaseId, command: Command) {
        if let Some(request) = self.under_way.get(&lease) {
            let _ = request.commands.send(command);
        }
    }

    /// The fetcher of `lease` sent its last report.
    pub(super) fn ended(&mut self, lease: LeaseId) {
        self.under_way.remove(&lease);
    }

    /// Ends all fetchers, and waits until none of them stores any more.
    pub(super) async fn end_all(&mut self) {
        self.fetchers.shutdown().await;
        self.under_way.clear();
    }

    /// Whether the task of a request panicked. Its lease then reports no end, so nothing else would
    /// tell.
    pub(super) fn has_panicked(&mut self) -> bool {
        let ended = std::iter::from_fn(|| self.fetchers.try_join_next());
        ended.fold(false, |any, one| any | one.is_err_and(|error| error.is_panic()))
    }

    pub(super) fn get(&self, lease: LeaseId) -> Option<&Request> {
        self.under_way.get(&lease)
    }

    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Whether any response has come so far.
    pub(super) fn have_been_heard(&self) -> bool {
        self.heard
    }

    /// Whether the latest response came over a connection that carries others at the same time.
    pub(super) fn share(&self) -> bool {
        self.shares
    }

    /// What is counted, including requests other than these.
    pub(super) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

impl Request {
    /// The proof of a part that is stored exactly as it is sent.
    fn proof(&self, stored: ByteRange) -> Option<PartProof> {
        let claim = self.digests.part.clone().or_else(|| self.digests.md5.clone())?;
        (self.range == Some(stored)).then(|| PartProof::new(claim, stored))
    }
}

//! One lease: one request, whose body goes into the store.
//!
//! Ownership. A fetcher owns the bytes from its position to the end of its
//! lease, and nobody else stores them. It gives bytes away in two ways only:
//! to the store, announced by [`FetchEvent::Received`] before they go, in
//! order; and back to the driver, by [`FetchEvent::Shrunk`], which tells where
//! the lease ends from now on. [`FetchEvent::Ended`] comes last, exactly once,
//! and its position says what was handed over: everything from there on is
//! the driver's again. A lease whose driver is gone (its command channel is
//! closed) ends like a cancelled one.
//!
//! Memory. A share of the engine's budget is reserved before a body is polled, and
//! travels with the bytes until they are stored. Gathered bytes never wait: they
//! are handed over before the fetcher waits for anything, so commands find it with
//! nothing in hand. A fetcher that waits for the server holds one reservation, so
//! the budget must be at least [`RESERVE_BYTES`], and that much per connection to
//! let all of them run.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use url::{Position, Url};

use super::connect::Origin;
use super::failures::{FetchError, FetchErrorKind};
use super::limiter::Limits;
use crate::disk::prove::{PartProof, RepeatProof};
use crate::disk::writer::Sink;
use crate::fault_point;
use crate::model::digest_claims::Altered;
use crate::model::range::ByteRange;
use crate::model::segment::LeaseId;
use crate::net::transport::{Ahead, Answered, Begun, Body, Lane, Sent, Transport};
use crate::net::vitals::Vitals;

/// How much of the budget is reserved before a body is polled, and the most that is
/// gathered before it is handed over. The last frame of a batch may exceed it by
/// less than `pool::MAX_BUF_BYTES`.
pub(crate) const RESERVE_BYTES: u32 = 256 << 10;

/// The most pieces in one batch: a server that sends single bytes as chunks must
/// not make the list of pieces larger than the bytes.
const MAX_PIECES: usize = 256;

/// How long to wait for the end of a body whose bytes are all here. A new connection
/// costs more; a server that holds back the last chunk does not hold back the lease.
const END_WITHIN: Duration = Duration::from_millis(20);

/// How long reading away an unwanted small body may take.
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

/// A request, complete but for `Host`, which is added where it is missing.
#[derive(Debug, Clone)]
pub(crate) struct RequestSpec {
    /// Gives path, query and `Host`.
    pub(crate) url: Url,
    /// Where the connection goes.
    pub(crate) origin: Origin,
    /// All fields, with the range and the preconditions.
    pub(crate) headers: HeaderMap,
    /// How many further connections will be wanted if the answer takes its time.
    pub(crate) ahead: usize,
    /// What it may share its connection with.
    pub(crate) lane: Lane,
}

impl RequestSpec {
    /// A request by itself.
    pub(crate) fn new(url: Url, origin: Origin, headers: HeaderMap) -> Self {
        Self { url, origin, headers, ahead: 0, lane: Lane::Bulk }
    }
}

/// What a fetcher tells its driver.
pub(crate) enum FetchEvent {
    /// A response's head. Nothing of the body is stored before the decision.
    Head {
        /// The lease it answers.
        lease: LeaseId,
        /// The status code, 200 to 999.
        status: u16,
        /// The response's fields.
        headers: HeaderMap,
        /// What TCP shows of the connection, where that is known.
        vitals: Option<Arc<Vitals>>,
        /// Whether its connection carries other responses at the same time.
        shares: bool,
        /// Takes the decision; dropped unanswered counts as [`Decision::Drop`].
        decision: oneshot::Sender<Decision>,
    },
    /// The next `bytes` of the lease are about to be handed to the store.
    Received {
        /// The lease they belong to.
        lease: LeaseId,
        /// How many, more than zero.
        bytes: u64,
    },
    /// The answer to [`Command::Shrink`].
    Shrunk {
        /// The lease that was shrunk.
        lease: LeaseId,
        /// The lease's end from now on; the tail behind it is free. Before the
        /// decision to store, the true end may be lower still.
        end: u64,
    },
    /// The last event of a lease.
    Ended {
        /// The lease that ended.
        lease: LeaseId,
        /// The offset in the object of the first byte not handed over.
        position: u64,
        /// Why.
        how: Ended,
    },
}

/// How a lease ended.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "it is the body that ended there")]
pub(crate) enum Ended {
    /// The lease's end was reached.
    Complete,
    /// The end was reached, but the bytes, which are handed over, do not match what
    /// the response said of them.
    Altered(Altered),
    /// The bytes differ from those that came before in their place; nothing beyond
    /// those was handed over.
    Unequal,
    /// The body ended cleanly before the lease's end, or the end was unknown.
    BodyEnded,
    /// The connection or the response failed.
    Failed(FetchError),
    /// Ended by [`Decision::Drop`] or [`Command::Cancel`], or because the store is closed.
    Dropped,
}

/// What happens to a body.
pub(crate) enum Decision {
    /// It is stored.
    Store {
        /// Where.
        sink: Sink,
        /// From the body's first byte to the lease's end, which is `u64::MAX` while
        /// it is unknown.
        range: ByteRange,
        /// Covers all bytes of the range, and is checked unless the lease is shrunk.
        proof: Option<PartProof>,
        /// Covers the bytes that were given out before the object was begun again.
        repeat: Option<RepeatProof>,
    },
    /// It is not wanted.
    Drop,
}

/// What a driver tells a fetcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// End the lease at this offset, or at the position if that is further.
    Shrink(u64),
    /// End the lease now.
    Cancel,
}

/// Everything [`run`] needs.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// Names the lease in all events.
    pub(crate) lease: LeaseId,
    /// The request to send.
    pub(crate) spec: RequestSpec,
    /// The offset of the first byte asked for.
    pub(crate) start: u64,
    /// From the driver.
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// To the driver.
    pub(crate) events: mpsc::UnboundedSender<FetchEvent>,
    /// Counts requests and bytes.
    pub(crate) counters: Arc<Counters>,
    /// The speed limits.
    pub(crate) limits: Limits,
    /// A dropped body of known size up to this is read away, which keeps its
    /// connection; a larger one closes it.
    pub(crate) drain_limit_bytes: u64,
}

/// Counts over all fetchers of a download.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests sent, including those repeated silently on another connection.
    pub(crate) requests: AtomicU64,
    /// Body bytes received, including those never stored.
    pub(crate) body_bytes: AtomicU64,
    /// When the first of them came.
    pub(crate) first_byte: OnceLock<Instant>,
}

impl Counters {
    pub(super) fn received(&self, bytes: u64) {
        if self.body_bytes.fetch_add(bytes, Ordering::Relaxed) == 0 {
            let _ = self.first_byte.set(Instant::now());
        }
    }
}

/// Carries out one lease, whose request may have `begun`. Every path sends [`FetchEvent::Ended`]
/// once, except that nothing is sent when the future is dropped.
pub(crate) async fn run(transport: Arc<dyn Transport>, fetch: Fetch, begun: Option<Begun>) {
    let Fetch { lease, spec, start, commands, events, counters, limits, drain_limit_bytes } = fetch;
    let mut control = LeaseControl { lease, commands, events, position: start, end: u64::MAX };
    let transfer = Transfer {
        transport: &*transport,
        spec: &spec,
        counters: &counters,
        limits,
        drain_limit_bytes,
    };
    let how = match transfer.run(&mut control, begun).await {
        Ok(how) => how,
        Err(Interrupt::Cancelled) => Ended::Dropped,
        Err(Interrupt::Reached) => Ended::Complete,
    };
    control.send(FetchEvent::Ended { lease, position: control.position, how });
}

/// Why a wait was given up.
enum Interrupt {
    Cancelled,
    /// The lease was shrunk to what was handed over already.
    Reached,
}

/// The bounds of the lease, and the driver's side of it.
struct LeaseControl {
    lease: LeaseId,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<FetchEvent>,
    /// The first byte not handed over.
    position: u64,
    end: u64,
}

impl LeaseControl {
    fn send(&self, event: FetchEvent) {
        // A driver that is gone closed the commands as well; that ends the lease.
        let _ = self.events.send(event);
    }

    /// Carries out commands until one ends the wait. Nothing is lost when the
    /// future is dropped. To be awaited only with nothing gathered in hand.
    async fn interrupted(&mut self) -> Interrupt {
        loop {
            match self.commands.recv().await {
                None | Some(Command::Cancel) => return Interrupt::Cancelled,
                Some(Command::Shrink(end)) => {
                    self.end = end.max(self.position).min(self.end);
                    self.send(FetchEvent::Shrunk { lease: self.lease, end: self.end });
                    if self.position >= self.end {
                        return Interrupt::Reached;
                    }
                }
            }
        }
    }

    /// The future's output, unless a command comes first.
    async fn unless_interrupted<T>(
        &mut self,
        future: impl Future<Output = T>,
    ) -> Result<T, Interrupt> {
        tokio::select! {
            biased;
            interrupt = self.interrupted() => Err(interrupt),
            output = future => Ok(output),
        }
    }
}

/// One step of a body.
pub(super) enum Step {
    Data(Bytes),
    End,
    Broken(FetchError),
}

/// Why gathering stopped.
enum Stop {
    /// Hand over what was gathered, then go on.
    Batch,
    /// The lease's end was reached; `true` when more than that came.
    Reached(bool),
    End,
    Broken(FetchError),
}

struct Batch {
    pieces: Vec<Bytes>,
    bytes: u64,
    /// What came with the pieces, beyond what a speed limit lets through.
    rest: Option<Bytes>,
    stop: Stop,
}

struct Transfer<'a> {
    transport: &'a dyn Transport,
    spec: &'a RequestSpec,
    counters: &'a Counters,
    limits: Limits,
    drain_limit_bytes: u64,
}

impl Transfer<'_> {
    async fn run(
        &self,
        control: &mut LeaseControl,
        begun: Option<Begun>,
    ) -> Result<Ended, Interrupt> {
        let answer = async {
            match begun {
                Some(begun) => begun.await,
                None => begin(self.transport, self.spec, self.counters).await,
            }
        };
        let response = match control.unless_interrupted(answer).await? {
            Ok(response) => response,
            Err(error) => return Ok(Ended::Failed(error)),
        };
        let (mut head, body) = response.into_parts();
        let (decision, decided) = oneshot::channel();
        control.send(FetchEvent::Head {
            lease: control.lease,
            status: head.status.as_u16(),
            headers: head.headers,
            vitals: head.extensions.remove(),
            shares: head.version == Version::HTTP_2,
            decision,
        });
        match control.unless_interrupted(decided).await? {
            Ok(Decision::Store { sink, range, proof, repeat }) => {
                // A shrink from before the decision still holds.
                control.position = range.start();
                control.end = control.end.min(range.end()).max(range.start());
                self.store(control, body, &sink, proof, repeat).await
            }
            // A server that refuses one connection too many gets no further request on this one.
            Ok(Decision::Drop) | Err(_) if matches!(head.status.as_u16(), 429 | 503) => {
                Ok(Ended::Dropped)
            }
            Ok(Decision::Drop) | Err(_) => {
                control.unless_interrupted(self.discard(body)).await?;
                Ok(Ended::Dropped)
            }
        }
    }

    async fn store(
        &self,
        control: &mut LeaseControl,
        mut body: Pin<Box<dyn Body>>,
        sink: &Sink,
        mut proof: Option<PartProof>,
        mut repeat: Option<RepeatProof>,
    ) -> Result<Ended, Interrupt> {
        if control.position >= control.end {
            finish(body).await;
            return Ok(Ended::Complete);
        }
        let mut held = None;
        loop {
            // Waiting comes before holding any of the budget, which others may need.
            control.unless_interrupted(sink.has_room(control.position)).await?;
            let budget = Arc::clone(sink.budget());
            let reserve = budget.acquire_many_owned(RESERVE_BYTES);
            let Ok(reserve) = control.unless_interrupted(reserve).await? else {
                return Ok(Ended::Dropped);
            };
            let first = match held.take() {
                Some(rest) => Step::Data(rest),
                None => {
                    let step = control.unless_interrupted(next(&mut body)).await?;
                    self.count(step)
                }
            };
            let batch = self.gather(&mut body, first, control.end - control.position);
            let Batch { pieces, bytes, rest, stop } = batch.await;
            held = rest;
            let mut interrupt = None;
            if repeat.as_mut().is_some_and(|repeat| !repeat.agrees(&pieces)) {
                return Ok(Ended::Unequal);
            }
            if bytes > 0 {
                let permit = permit_for(reserve, bytes, sink);
                let offset = control.position;
                // From here on the bytes are this lease's, whatever it is told meanwhile.
                control.position += bytes;
                tokio::select! {
                    biased;
                    () = self.limits.take(bytes) => {}
                    told = control.interrupted() => interrupt = Some(told),
                }
                if let Some(proof) = &mut proof {
                    pieces.iter().for_each(|piece| proof.update(piece));
                }
                control.send(FetchEvent::Received { lease: control.lease, bytes });
                if sink.store(offset, pieces, permit).is_err() {
                    return Ok(Ended::Dropped);
                }
            }
            if let Some(interrupt) = interrupt {
                return Err(interrupt);
            }
            match stop {
                Stop::Batch => {}
                Stop::Reached(excess) => {
                    if excess {
                        body.finish();
                    } else {
                        finish(body).await;
                    }
                    let altered = proof.and_then(|proof| proof.finish(control.end));
                    return Ok(altered.map_or(Ended::Complete, Ended::Altered));
                }
                Stop::End => {
                    body.finish();
                    return Ok(Ended::BodyEnded);
                }
                Stop::Broken(error) => return Ok(Ended::Failed(error)),
            }
        }
    }

    /// Counts the bytes of a step.
    fn count(&self, step: Step) -> Step {
        if let Step::Data(data) = &step {
            self.counters.received(data.len() as u64);
        }
        step
    }

    /// Gathers what is there without waiting, at most `wanted` bytes.
    async fn gather(&self, body: &mut Pin<Box<dyn Body>>, first: Step, wanted: u64) -> Batch {
        let reserved = u64::from(RESERVE_BYTES);
        let batch_bytes = self.limits.batch_bytes().map(|bytes| bytes.min(reserved));
        let limit = batch_bytes.unwrap_or(reserved);
        let mut pieces = Vec::new();
        let mut bytes = 0;
        let mut step = first;
        let mut rest = None;
        let stop = loop {
            let mut data = match step {
                Step::Data(data) => data,
                Step::End => break Stop::End,
                Step::Broken(error) => break Stop::Broken(error),
            };
            if batch_bytes.is_some_and(|most| data.len() as u64 > most - bytes) {
                // The kernel may have buffered much more than is let through at once.
                rest = Some(data.split_off(usize::try_from(limit - bytes).unwrap_or(usize::MAX)));
            }
            let frame_bytes = data.len() as u64;
            let room = wanted - bytes;
            if frame_bytes > room && !fault_point::has_bug!(BeyondRange) {
                data.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            }
            bytes += data.len() as u64;
            pieces.push(data);
            if frame_bytes >= room {
                break Stop::Reached(frame_bytes > room || rest.is_some());
            }
            // Frames of one connection are much alike: another of this size
            // must still fit.
            if rest.is_some() || bytes + frame_bytes > limit || pieces.len() == MAX_PIECES {
                break Stop::Batch;
            }
            match next_if_ready(body).await {
                Some(next) => step = self.count(next),
                None => break Stop::Batch,
            }
        };
        Batch { pieces, bytes, rest, stop }
    }

    /// Reads a small body away so that its connection can be used again.
    async fn discard(&self, mut body: Pin<Box<dyn Body>>) {
        if body.left_bytes().is_some_and(|left| left <= self.drain_limit_bytes) {
            let drain = async {
                loop {
                    match next(&mut body).await {
                        Step::Data(data) => self.counters.received(data.len() as u64),
                        Step::End => return true,
                        Step::Broken(_) => return false,
                    }
                }
            };
            if !matches!(timeout(DRAIN_WITHIN, drain).await, Ok(true)) {
                return;
            }
        }
        body.finish();
    }
}

/// Gives back a body whose wanted bytes have all come. Where nothing else is left,
/// its end is awaited for a moment: reaching it makes the connection usable again.
pub(super) async fn finish(mut body: Pin<Box<dyn Body>>) {
    if body.left_bytes().is_none_or(|left| left == 0) {
        let _ = timeout(END_WITHIN, next(&mut body)).await;
    }
    body.finish();
}

/// Sends a request through the transport, and counts it.
pub(super) async fn begin(
    transport: &dyn Transport,
    spec: &RequestSpec,
    counters: &Counters,
) -> Answered {
    let request = request_of(spec)?;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    let response = transport.send(request).await?;
    if let Some(Sent(sent)) = response.extensions().get() {
        counters.requests.fetch_add(sent.saturating_sub(1), Ordering::Relaxed);
    }
    Ok(response)
}

fn request_of(spec: &RequestSpec) -> Result<Request<()>, FetchError> {
    let RequestSpec { url, origin, headers, ahead, lane } = spec;
    let unusable = |what: &str| {
        FetchError::new(
            FetchErrorKind::Protocol,
            format!("no request can be sent to {origin}: the URL's {what} is not valid"),
        )
    };
    let host = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    let uri = [url.scheme(), "://", host, target].concat();
    let uri =
        Uri::from_maybe_shared(Bytes::from(uri)).map_err(|_| unusable("host, path or query"))?;
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    if *ahead > 0 {
        request.extensions_mut().insert(Ahead(*ahead));
    }
    // Most requests have no extension, and no room is made for any.
    if *lane != Lane::default() {
        request.extensions_mut().insert(*lane);
    }
    *request.uri_mut() = uri;
    request.headers_mut().clone_from(headers);
    if !headers.contains_key(HOST) {
        let host = HeaderValue::from_str(host).map_err(|_| unusable("host"))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(request)
}

/// The part of `reserve` that `bytes` need; the rest is given back. A frame larger
/// than the reservation takes only what is free at once: waiting with bytes in hand
/// could wait for itself.
fn permit_for(mut reserve: OwnedSemaphorePermit, bytes: u64, sink: &Sink) -> OwnedSemaphorePermit {
    let needed = usize::try_from(bytes).unwrap_or(usize::MAX);
    if let Some(exact) = reserve.split(needed) {
        return exact;
    }
    let missing = u32::try_from(needed - reserve.num_permits()).unwrap_or(u32::MAX);
    if let Ok(more) = Arc::clone(sink.budget()).try_acquire_many_owned(missing) {
        reserve.merge(more);
    }
    reserve
}

/// The next step of a body, without empty pieces.
pub(super) async fn next(body: &mut Pin<Box<dyn Body>>) -> Step {
    poll_fn(|context| poll_step(body, context)).await
}

async fn next_if_ready(body: &mut Pin<Box<dyn Body>>) -> Option<Step> {
    poll_fn(|context| match poll_step(body, context) {
        Poll::Ready(step) => Poll::Ready(Some(step)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn poll_step(body: &mut Pin<Box<dyn Body>>, context: &mut Context<'_>) -> Poll<Step> {
    loop {
        return Poll::Ready(match ready!(body.as_mut().poll_data(context)) {
            None => Step::End,
            Some(Err(error)) => Step::Broken(error),
            // Empty pieces mean nothing to a download.
            Some(Ok(data)) if data.is_empty() => continue,
            Some(Ok(data)) => Step::Data(data),
        });
    }
}

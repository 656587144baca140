//! How fast a number of connections is, measured over windows of a few round trips.
//!
//! A window begins when all of them deliver, and is void while fewer are at work, as at the end.
//! Right after a change the speed may still rise, because new connections start slowly: windows
//! in which it rises are *growing* and do not count towards the mean.
//!
//! A server that limits the speed of responses may send a chunk and then pause, on all connections
//! at once. Windows then last two pauses, but for the first number of a download, and begin and end
//! where a chunk begins: otherwise the chance of one chunk more or less would pass for a change of
//! speed.

use std::time::Duration;

use super::{Flow, Path};

/// A window lasts this many round trips, within these bounds.
const ROUND_TRIPS: f64 = 1.5;
const WINDOW_S: (f64, f64) = (0.1, 0.6);
/// A window of chunks lasts this many pauses: two, as they waver; and at most so many seconds.
const PAUSES: f64 = 1.8;
const CHUNKED_MOST_S: f64 = 2.0;
/// No byte for this long, on any connection, is a pause of all.
const SILENCE: Duration = Duration::from_millis(40);
/// A pause is believed in for so many more of it.
const REMEMBERED: f64 = 3.0;
/// Connections have chunks at different times if they were never silent together for so many
/// pauses.
const TOGETHER: f64 = 1.5;
/// A window is growing if its speed is this many times that of the one before.
const GROWS: f64 = 1.15;
/// A window may begin with this part of the connections delivering once the others had their time.
const ENOUGH: f64 = 0.7;
/// The payload of a TCP segment, about.
const SEGMENT_BYTES: f64 = 1448.0;
/// Losses explain a speed if they are between these parts of the losses that would allow no
/// more. Fewer do not hold it back, and with more the sender does not mind them.
const EXPLAINS: (f64, f64) = (0.5, 16.0);
/// Fewer losses than this may be chance.
const TELLING_LOSSES: f64 = 3.0;
/// How much of the losses seen is still believed a span later.
const FADES: f64 = 0.85;
/// A round trip of this many times the least shows a queue on the way, which loses as well: slow
/// start overruns a short queue, too.
const QUEUED: f64 = 1.25;
/// How much each look counts in the round trip of a span of losses.
const SMOOTHS: f64 = 0.2;

/// What a window has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// The speed of all connections, in bytes a second.
    pub(super) rate: f64,
    /// Whether the speed still rises by itself.
    pub(super) growing: bool,
}

/// Measures one number of connections.
#[derive(Debug, Clone)]
pub(super) struct Windows {
    since: Duration,
    window: Option<Window>,
    last_rate: f64,
    sum: f64,
    /// Windows in the mean.
    counted: u32,
    losses: Losses,
    chunks: Chunks,
    /// The first number of a download needs no exact figure: there may be more in any case.
    is_first: bool,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    at: Duration,
    bytes: u64,
}

/// How long a window lasts where bytes come evenly, in seconds.
fn window_s(flow: Flow) -> f64 {
    (ROUND_TRIPS * flow.round_trip_s).clamp(WINDOW_S.0, WINDOW_S.1)
}

impl Windows {
    pub(super) fn new() -> Self {
        Self {
            since: Duration::ZERO,
            window: None,
            last_rate: 0.0,
            sum: 0.0,
            counted: 0,
            losses: Losses::default(),
            chunks: Chunks::default(),
            is_first: true,
        }
    }

    /// From now on there is another number of connections, or another question.
    pub(super) fn begin(&mut self, now: Duration) {
        let (losses, chunks) = (self.losses, self.chunks);
        *self = Self { since: now, losses, chunks, is_first: false, ..Self::new() };
    }

    /// The current window says nothing.
    pub(super) fn void(&mut self) {
        self.window = None;
    }

    /// Forgets the mean, but not the last window.
    pub(super) fn begin_mean(&mut self) {
        (self.sum, self.counted) = (0.0, 0);
    }

    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    pub(super) fn mean(&self) -> Option<f64> {
        (self.counted > 0).then(|| self.sum / f64::from(self.counted))
    }

    /// Whether losses hold each connection back.
    pub(super) fn are_lossy(&self) -> bool {
        self.losses.explain()
    }

    /// Whether all connections have chunks and pauses together.
    pub(super) fn are_chunked(&self, now: Duration) -> bool {
        self.chunks.together(now).is_some()
    }

    /// The part of the present speed that losses will leave: slow start runs ahead of them.
    pub(super) fn lasting(&self) -> f64 {
        self.losses.lasting()
    }

    pub(super) fn age_s(&self, now: Duration) -> f64 {
        now.saturating_sub(self.since).as_secs_f64()
    }

    /// Looks at the flow over `limit` connections: a reading, if a window ends.
    pub(super) fn observe(&mut self, flow: Flow, limit: usize, now: Duration) -> Option<Reading> {
        let age_s = self.age_s(now);
        self.losses.observe(flow, now);
        self.chunks.observe(flow, now);
        let Some(window) = self.window else {
            let enough = flow.flowing as f64 >= ENOUGH * limit as f64;
            let late = age_s > 1.0 + 4.0 * flow.round_trip_s;
            // Connections that are to be closed may still be there.
            let few = flow.active <= limit;
            if few && (flow.flowing >= limit || late && enough) {
                self.window = self.chunks.boundary(flow, now);
            }
            return None;
        };
        if flow.active < limit {
            self.window = None;
            return None;
        }
        let span_s = now.saturating_sub(window.at).as_secs_f64();
        let least_s = if self.is_first { window_s(flow) } else { self.chunks.window_s(flow) };
        if span_s < least_s {
            return None;
        }
        let next = self.chunks.boundary(flow, now)?;
        self.window = Some(next);
        let rate = next.bytes.saturating_sub(window.bytes) as f64 / span_s;
        let rises = rate > GROWS * self.last_rate;
        let growing = self.counted == 0 && rises && age_s < 2.0 + 4.0 * flow.round_trip_s;
        self.last_rate = rate;
        if !growing {
            self.sum += rate;
            self.counted += 1;
        }
        Some(Reading { rate, growing })
    }
}

/// Whether bytes come in chunks, and when all connections have one together.
#[derive(Debug, Clone, Copy, Default)]
struct Chunks {
    /// Between two chunks of a connection; 0 where bytes come evenly.
    pause_s: f64,
    /// When connections were last seen to pause: a new response shows its pauses late.
    seen_at: Duration,
    received_bytes: u64,
    came_at: Duration,
    /// When the first bytes after a silence of all came, and how much was here before them.
    began: Option<Window>,
}

impl Chunks {
    fn observe(&mut self, flow: Flow, now: Duration) {
        // The pauses of slow start are round trips.
        if flow.pause_s > 2.0 * flow.round_trip_s {
            (self.pause_s, self.seen_at) = (flow.pause_s.min(CHUNKED_MOST_S), now);
        } else if now.saturating_sub(self.seen_at).as_secs_f64() > REMEMBERED * self.pause_s {
            self.pause_s = 0.0;
        }
        if flow.received_bytes > self.received_bytes {
            if now.saturating_sub(self.came_at) >= SILENCE {
                self.began = Some(Window { at: now, bytes: self.received_bytes });
            }
            (self.received_bytes, self.came_at) = (flow.received_bytes, now);
        }
    }

    fn window_s(&self, flow: Flow) -> f64 {
        window_s(flow).max((PAUSES * self.pause_s).min(CHUNKED_MOST_S))
    }

    /// When the last chunk of all connections began, if they have theirs together.
    fn together(&self, now: Duration) -> Option<Window> {
        let is_recent = |at| now.saturating_sub(at).as_secs_f64() <= TOGETHER * self.pause_s;
        self.began.filter(|began| is_recent(began.at))
    }

    /// The window that may begin now, and with which another one may end: not in a silence, which
    /// may be a pause that nobody knows of yet.
    fn boundary(&self, flow: Flow, now: Duration) -> Option<Window> {
        match self.together(now) {
            None if now.saturating_sub(self.came_at) >= SILENCE => None,
            None => Some(Window { at: now, bytes: flow.received_bytes }),
            Some(began) => (began.at == now).then_some(began),
        }
    }
}

/// Recent losses, and how many would explain the speed: a connection that loses the part p of
/// its segments brings about 1.22 segments per round trip and root of p (Mathis). That holds for
/// any number of connections, so losses are counted from the first byte on and without windows,
/// which are rare while connections come and go.
#[derive(Debug, Clone, Copy, Default)]
struct Losses {
    seen: f64,
    explaining: f64,
    span: Option<Span>,
}

/// What happens for as long as a window lasts, whatever the number of connections.
#[derive(Debug, Clone, Copy)]
struct Span {
    at: Duration,
    bytes: u64,
    losses: u64,
    round_trip_s: f64,
    /// The connections that delivered, summed over the looks.
    flowing: usize,
    looks: usize,
}

impl Span {
    fn at(flow: Flow, path: Path, now: Duration) -> Self {
        Self {
            at: now,
            bytes: flow.received_bytes,
            losses: path.losses,
            round_trip_s: path.round_trip_s,
            flowing: 0,
            looks: 0,
        }
    }
}

impl Losses {
    fn observe(&mut self, flow: Flow, now: Duration) {
        let Some(path) = flow.path else { return };
        let span = self.span.get_or_insert_with(|| Span::at(flow, path, now));
        span.round_trip_s += (path.round_trip_s - span.round_trip_s) * SMOOTHS;
        span.flowing += flow.flowing;
        span.looks += 1;
        let span = *span;
        let span_s = now.saturating_sub(span.at).as_secs_f64();
        if span_s < window_s(flow) {
            return;
        }
        self.span = Some(Span::at(flow, path, now));
        if span.round_trip_s >= QUEUED * path.least_round_trip_s {
            (self.seen, self.explaining) = (0.0, 0.0);
            return;
        }
        let bytes = flow.received_bytes.saturating_sub(span.bytes) as f64;
        let flowing = (span.flowing as f64 / span.looks as f64).max(1.0);
        let each = (bytes / span_s / flowing).max(1.0);
        let part = (1.22 * SEGMENT_BYTES / (span.round_trip_s * each)).powi(2).min(1.0);
        let seen = path.losses.saturating_sub(span.losses) as f64;
        self.explaining = FADES * self.explaining + part * bytes / SEGMENT_BYTES;
        self.seen = FADES * self.seen + seen;
    }

    /// The part of the present speed that connections keep with these losses, by Mathis.
    fn lasting(self) -> f64 {
        if self.explain() { (self.explaining / self.seen).sqrt().min(1.0) } else { 1.0 }
    }

    fn explain(self) -> bool {
        let (least, most) = EXPLAINS;
        self.seen >= TELLING_LOSSES
            && self.seen > least * self.explaining
            && self.seen < most * self.explaining
    }
}

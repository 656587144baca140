//! Digests of pieces, compared as soon as the segments that hold them are
//! stored.
//!
//! A thread of its own reads a piece back from the file, where it is still in the page
//! cache. A segment counts as stored only once every piece that touches it is good. When
//! a piece is not good, all segments that it touches are missing again, and every other
//! piece that touches those has to be proven again.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::crew::Crew;
use super::hasher::Hasher;
use super::storage::Storage;
use super::writer::Epoch;
use crate::model::config::{Pieces, hex};
use crate::model::range::ByteRange;
use crate::model::size::exact_words;

const READ_BYTES: usize = 256 << 10;

/// The state of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not all of its segments are stored.
    Waiting,
    /// It is being hashed, by the job with this number.
    Asked(u32),
    Good,
}

struct Job {
    piece: usize,
    number: u32,
}

/// The pieces of one epoch of one download. Dropping it soon ends the work.
pub(super) struct PieceCheck {
    pieces: Pieces,
    total_bytes: u64,
    segment_bytes: u64,
    states: Vec<State>,
    /// Indexed by segment.
    stored: Vec<bool>,
    good: Vec<bool>,
    next_job: u32,
    jobs: Way,
    cancel: Arc<AtomicBool>,
}

enum Way {
    Thread(Sender<Job>),
    #[cfg(test)]
    Inline(Box<Reader>),
}

/// The outcome of hashing a piece.
pub(super) struct HashedPiece {
    piece: usize,
    /// The number of the job.
    number: u32,
    /// Its digest, or why it cannot be read.
    found: io::Result<Vec<u8>>,
}

/// The consequence of a piece that is not good.
pub(super) struct Bad {
    /// The segments that are missing again.
    pub(super) segments: Range<usize>,
    /// What was found.
    pub(super) message: String,
}

impl PieceCheck {
    /// Checks an object of `total_bytes`, which `pieces` fit, by segment. `tell`
    /// receives what must be passed to [`Self::on_hashed`].
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        crew: Crew,
        pieces: Pieces,
        total_bytes: u64,
        epoch: &Arc<Epoch>,
        tell: impl Fn(HashedPiece) + Send + 'static,
    ) -> io::Result<Self> {
        let cancel = Arc::<AtomicBool>::default();
        let reader = Reader {
            pieces: pieces.clone(),
            total_bytes,
            epoch: Arc::clone(epoch),
            cancel: Arc::clone(&cancel),
            tell: Box::new(tell),
        };
        let jobs = match crew {
            Crew::Threads => {
                let (sender, receiver): (_, Receiver<Job>) = unbounded();
                crew.start("haul-pieces", move || {
                    receiver.iter().for_each(|job| reader.check(&job));
                })?;
                Way::Thread(sender)
            }
            #[cfg(test)]
            Crew::Inline => Way::Inline(Box::new(reader)),
        };
        let segment_bytes = epoch.layout.segment_size_bytes;
        let segments = total_bytes.div_ceil(segment_bytes) as usize;
        Ok(Self {
            states: vec![State::Waiting; pieces.count()],
            pieces,
            total_bytes,
            segment_bytes,
            stored: vec![false; segments],
            good: vec![false; segments],
            next_job: 0,
            jobs,
            cancel,
        })
    }

    fn segments_of(&self, piece: usize) -> Range<usize> {
        touched(self.pieces.range(piece, self.total_bytes), self.segment_bytes)
    }

    fn pieces_of(&self, segment: usize) -> Range<usize> {
        let start = segment as u64 * self.segment_bytes;
        let end = (start + self.segment_bytes).min(self.total_bytes);
        touched(ByteRange::new(start, end), self.pieces.piece_bytes())
    }

    /// Whether all of the segment is stored and proven.
    pub(super) fn is_good(&self, segment: usize) -> bool {
        self.good.get(segment).copied().unwrap_or(false)
    }

    /// Notes that a segment is stored.
    pub(super) fn stored(&mut self, segment: usize) {
        let Some(stored) = self.stored.get_mut(segment) else { return };
        *stored = true;
        for piece in self.pieces_of(segment) {
            let whole = self.segments_of(piece).all(|segment| self.stored[segment]);
            if whole && self.states[piece] == State::Waiting {
                let number = self.next_job;
                self.next_job = self.next_job.wrapping_add(1);
                self.states[piece] = State::Asked(number);
                let job = Job { piece, number };
                match &mut self.jobs {
                    // A thread is gone only after a panic of its own, which keeps the
                    // download from ending this way.
                    Way::Thread(sender) => drop(sender.send(job)),
                    #[cfg(test)]
                    Way::Inline(reader) => reader.check(&job),
                }
            }
        }
    }

    /// Takes the outcome for a piece. Returns the segments that are now good, or what is
    /// bad.
    ///
    /// # Errors
    /// When the piece cannot be read.
    pub(super) fn on_hashed(&mut self, hashed: HashedPiece) -> io::Result<Result<Vec<usize>, Bad>> {
        let HashedPiece { piece, number, found } = hashed;
        let found = found?;
        if self.states.get(piece) != Some(&State::Asked(number)) {
            // It has been fetched again in the meantime.
            return Ok(Ok(Vec::new()));
        }
        let segments = self.segments_of(piece);
        if found == self.pieces.digest(piece) {
            self.states[piece] = State::Good;
            let is_good = |segment: &usize| {
                let mut pieces = self.pieces_of(*segment);
                self.stored[*segment] && pieces.all(|piece| self.states[piece] == State::Good)
            };
            let good: Vec<usize> =
                segments.filter(|segment| !self.good[*segment] && is_good(segment)).collect();
            good.iter().for_each(|segment| self.good[*segment] = true);
            return Ok(Ok(good));
        }
        for segment in segments.clone() {
            (self.stored[segment], self.good[segment]) = (false, false);
            for piece in self.pieces_of(segment) {
                self.states[piece] = State::Waiting;
            }
        }
        let range = self.pieces.range(piece, self.total_bytes);
        let algorithm = self.pieces.algorithm();
        let message = format!(
            "bytes {range} have {algorithm}={}, but the piece must have {algorithm}={}",
            hex(&found),
            hex(self.pieces.digest(piece))
        );
        Ok(Err(Bad { segments, message }))
    }
}

impl Drop for PieceCheck {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// The parts of `part_bytes` that `range` touches.
fn touched(range: ByteRange, part_bytes: u64) -> Range<usize> {
    (range.start() / part_bytes) as usize..range.end().div_ceil(part_bytes) as usize
}

struct Reader {
    pieces: Pieces,
    total_bytes: u64,
    epoch: Arc<Epoch>,
    cancel: Arc<AtomicBool>,
    tell: Box<dyn Fn(HashedPiece) + Send>,
}

impl Reader {
    fn check(&self, job: &Job) {
        let range = self.pieces.range(job.piece, self.total_bytes);
        let storage = &self.epoch.storage;
        let found = hashed(&self.pieces, range, &**storage, &self.cancel);
        if !self.cancel.load(Ordering::Relaxed) {
            (self.tell)(HashedPiece { piece: job.piece, number: job.number, found });
        }
    }
}

fn hashed(
    pieces: &Pieces,
    range: ByteRange,
    storage: &dyn Storage,
    cancel: &AtomicBool,
) -> io::Result<Vec<u8>> {
    let mut hasher = Hasher::new(pieces.algorithm());
    let mut buffer = vec![0; READ_BYTES];
    let mut at = range.start();
    while at < range.end() && !cancel.load(Ordering::Relaxed) {
        let left = usize::try_from(range.end() - at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = storage.read_at(at, &mut buffer[..wanted])?;
        if read == 0 {
            let why = format!("it ends at byte {at}, within a piece");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        hasher.update(&buffer[..read]);
        at += read as u64;
    }
    Ok(hasher.finish())
}

/// Compares all pieces of a complete object whose size was not known before.
///
/// # Errors
/// When the object cannot be read.
pub(super) fn first_bad(
    pieces: &Pieces,
    total_bytes: u64,
    storage: &dyn Storage,
) -> io::Result<Option<String>> {
    if !pieces.fit(total_bytes) {
        let (count, len) = (pieces.count(), pieces.piece_bytes());
        let (total, len) = (exact_words(total_bytes), exact_words(len));
        return Ok(Some(format!("{total} are not {count} pieces of {len}")));
    }
    for piece in 0..pieces.count() {
        let range = pieces.range(piece, total_bytes);
        let found = hashed(pieces, range, storage, &AtomicBool::new(false))?;
        if found != pieces.digest(piece) {
            return Ok(Some(format!("bytes {range} are not the piece that was given")));
        }
    }
    Ok(None)
}

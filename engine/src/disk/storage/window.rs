//! The part of an object that is in memory: the bytes that have arrived and that the
//! reader of a [`crate::ByteStream`] has not taken yet.
//!
//! Memory is bounded twice. The planner leases nothing beyond the window, and a
//! fetcher that reaches its end all the same (one plain stream has one lease without
//! an end) waits before it polls its body. Neither can deadlock: the bytes that the
//! reader needs next are always inside the window, and the writers never wait for the
//! reader, so their share of the engine's budget comes free by itself.
//!
//! Bytes that were given out cannot be taken back. So the window outlives the version
//! of the object that is stored in it: it records how far the reader is, and of bytes
//! that are fetched again it keeps only those that the reader has not got.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::{SegmentWriter, Storage, check_inside};
use crate::disk::hasher::Hasher;
use crate::disk::prove::RepeatProof;
use crate::disk::readable::Alarm;
use crate::lock::Lock;
use crate::model::config::DigestAlgorithm;
use crate::model::range::ByteRange;

/// Memory is taken in blocks of this size, or of a segment if that is less.
const BLOCK_BYTES: u64 = 256 << 10;

/// A smaller sample of an object proves nothing: different objects begin alike.
const LEAST_SAMPLE_BYTES: u64 = 64 << 10;

/// The driver is woken when the reader has taken another such part of the window.
const STEPS: u64 = 64;

/// A run of bytes that follow each other, within one block of the object.
#[derive(Debug)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    block_bytes: u64,
    /// By the block's number.
    blocks: BTreeMap<u64, Block>,
    held_bytes: u64,
    /// The object's end, where it is known.
    end: Option<u64>,
}

/// Samples of the bytes that were given out, to show that another URL has the same:
/// the last whole block, and one chosen at random, each with its offset.
#[derive(Debug, Default)]
struct Kept {
    last: Option<(u64, Bytes)>,
    another: Option<(u64, Bytes)>,
    count: u64,
    random: fastrand::Rng,
}

impl Kept {
    /// Each block before the last one is equally likely to be the other sample.
    fn add(&mut self, start: u64, bytes: Bytes) {
        if let Some(before) = self.last.replace((start, bytes)) {
            self.count += 1;
            if self.random.u64(..self.count) == 0 {
                self.another = Some(before);
            }
        }
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Window {
    capacity_bytes: u64,
    state: Lock<State>,
    /// The first byte that the reader has not got. Changed under the state's lock.
    given: AtomicU64,
    /// The first byte that the reader has not got or that is not hashed yet.
    passed: AtomicU64,
    abandoned: AtomicBool,
    digests: Lock<Vec<(DigestAlgorithm, Hasher)>>,
    kept: Lock<Kept>,
    room: Alarm,
}

/// The result of [`Window::take`].
pub(crate) struct Taken {
    pub(crate) bytes: Bytes,
    /// Whether to tell the driver.
    pub(crate) step: bool,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("given", &self.given()).finish_non_exhaustive()
    }
}

impl Window {
    /// A window of `capacity_bytes`, at the object's start.
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, ..Self::default() }
    }

    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// The first byte that has not been given out.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Storage for an object that is about to be fetched, from its first byte on.
    pub(crate) fn storage(self: &Arc<Self>, segment_size_bytes: u64) -> Arc<dyn Storage> {
        self.state.lock().block_bytes = BLOCK_BYTES.min(segment_size_bytes);
        Arc::new(WindowStorage(Arc::clone(self)))
    }

    /// Has the bytes that are given out hashed by these algorithms, unless some were
    /// given out before.
    pub(crate) fn hash(&self, algorithms: impl IntoIterator<Item = DigestAlgorithm>) {
        if self.given() == 0 {
            *self.digests.lock() = algorithms.into_iter().map(|of| (of, Hasher::new(of))).collect();
        }
    }

    /// Makes `seed` decide which bytes are kept as samples.
    pub(crate) fn choose_by(&self, seed: u64) {
        self.kept.lock().random = fastrand::Rng::with_seed(seed);
    }

    /// Whether the bytes given out are hashed by this algorithm.
    pub(crate) fn hashes(&self, algorithm: DigestAlgorithm) -> bool {
        self.digests.lock().iter().any(|(of, _)| *of == algorithm)
    }

    /// The digests of all that was given out; they can be taken once. Bytes fetched
    /// twice may differ: these digests are of what the reader got.
    pub(crate) fn digests(&self) -> Vec<(DigestAlgorithm, Vec<u8>)> {
        let hashers = std::mem::take(&mut *self.digests.lock());
        hashers.into_iter().map(|(of, hasher)| (of, hasher.finish())).collect()
    }

    /// Bytes of the object as it was received, with their offsets: from those that
    /// were given out, or, until a whole block of them was, from those that were not.
    pub(crate) fn samples(&self) -> Vec<(u64, Bytes)> {
        let kept = self.kept.lock();
        let given: Vec<_> = kept.last.iter().chain(&kept.another).cloned().collect();
        if !given.is_empty() {
            return given;
        }
        let state = self.state.lock();
        let enough = LEAST_SAMPLE_BYTES.min(state.block_bytes);
        let blocks = state.blocks.values().filter(|block| block.bytes.len() as u64 >= enough);
        let block = blocks.max_by_key(|block| block.bytes.len());
        block.map(|it| (it.start, Bytes::copy_from_slice(&it.bytes))).into_iter().collect()
    }

    /// Proof that a repetition of the stream begins with the bytes that were given
    /// out, where their BLAKE3 is computed.
    pub(crate) fn repeat_proof(&self) -> Option<RepeatProof> {
        let digests = self.digests.lock();
        let hash = digests.iter().find_map(|(_, hasher)| hasher.blake3_so_far())?;
        Some(RepeatProof::new(self.passed.load(Ordering::SeqCst), hash))
    }

    /// Forgets the bytes that were not given out; nobody may store meanwhile.
    pub(crate) fn clear(&self) {
        let mut state = self.state.lock();
        *state = State::default();
    }

    /// Sets the object's end: all of it was received.
    pub(crate) fn set_end(&self, end: u64) {
        self.state.lock().end = Some(end);
    }

    /// Whether everything was given out. False before the end is known.
    pub(crate) fn is_drained(&self) -> bool {
        self.state.lock().end.is_some_and(|end| self.passed.load(Ordering::SeqCst) >= end)
    }

    /// The next bytes, if they have arrived. For one reader.
    pub(crate) fn take(&self) -> Option<Taken> {
        let mut state = self.state.lock();
        let given = self.given();
        let size = state.block_bytes;
        let number = given.checked_div(size)?;
        let block = state.blocks.get(&number)?;
        // Bytes that are fetched again may not have reached this point.
        let from = usize::try_from(given.checked_sub(block.start)?).ok()?;
        if from >= block.bytes.len() {
            return None;
        }
        let end = block.start + block.bytes.len() as u64;
        let full = end == (number + 1) * size;
        let (bytes, freed) = if full {
            let block = state.blocks.remove(&number)?;
            let freed = block.bytes.len() as u64;
            let bytes = Bytes::from(block.bytes);
            self.kept.lock().add(block.start, bytes.clone());
            (bytes.slice(from..), freed)
        } else {
            // More may follow, so the block stays, with what was given out of it.
            (Bytes::copy_from_slice(&block.bytes[from..]), 0)
        };
        state.held_bytes -= freed;
        self.given.store(end, Ordering::SeqCst);
        drop(state);
        self.room.ring();
        let mut digests = self.digests.lock();
        for (_, hasher) in &mut *digests {
            hasher.update(&bytes);
        }
        self.passed.store(end, Ordering::SeqCst);
        drop(digests);
        // Read only now: whoever set the end meanwhile saw fewer bytes passed.
        let at_end = self.state.lock().end.is_some_and(|last| end >= last);
        let step = (self.capacity_bytes / STEPS).max(1);
        let step = given == 0 || at_end || given / step != end / step;
        Some(Taken { bytes, step })
    }

    /// Waits until the byte at `position` may be received.
    pub(crate) async fn has_room(&self, position: u64) {
        let inside = || self.given().saturating_add(self.capacity_bytes) > position;
        self.room.wait(|| inside().then_some(())).await;
    }

    /// Whether everything is waiting for the reader.
    pub(crate) fn is_reader_slow(&self) -> bool {
        let state = self.state.lock();
        let Some(number) = self.given().checked_div(state.block_bytes) else { return false };
        let next = state.blocks.get(&number);
        let here = next.is_some_and(|next| next.start + next.bytes.len() as u64 > self.given());
        here && state.held_bytes > self.capacity_bytes / 2
    }

    /// How many bytes are in memory.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> u64 {
        self.state.lock().held_bytes
    }

    /// Notes that nobody will take anything any more.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        let given = self.given();
        let known = given.saturating_sub(offset).min(data.len() as u64);
        let mut data = &data[usize::try_from(known).unwrap_or(data.len())..];
        let mut at = offset + known;
        let size = state.block_bytes;
        while !data.is_empty() {
            let number = at / size;
            let room = (number + 1) * size - at;
            let (here, rest) =
                data.split_at(usize::try_from(room).unwrap_or(usize::MAX).min(data.len()));
            let block = state.blocks.entry(number).or_insert_with(|| Block {
                start: at,
                bytes: Vec::with_capacity(usize::try_from(room).unwrap_or_default()),
            });
            if block.start + block.bytes.len() as u64 != at {
                return Err(io::Error::other(format!(
                    "internal error: bytes at {at} do not follow what is in memory"
                )));
            }
            block.bytes.extend_from_slice(here);
            state.held_bytes += here.len() as u64;
            at += here.len() as u64;
            data = rest;
        }
        Ok(())
    }
}

/// The window as the writers see it.
#[derive(Debug)]
struct WindowStorage(Arc<Window>);

impl Storage for WindowStorage {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Ok(Box::new(WindowWriter { window: Arc::clone(&self.0), segment }))
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "what is streamed can be read by its stream alone",
        ))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct WindowWriter {
    window: Arc<Window>,
    segment: ByteRange,
}

impl SegmentWriter for WindowWriter {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        self.window.write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 1024;

    fn window() -> (Arc<Window>, Arc<dyn Storage>) {
        let window = Arc::new(Window::new(4096));
        let storage = window.storage(SEGMENT);
        (window, storage)
    }

    fn object(range: std::ops::Range<u64>) -> Vec<u8> {
        range.map(|at| (at % 251) as u8).collect()
    }

    fn write(storage: &Arc<dyn Storage>, range: std::ops::Range<u64>) {
        let number = range.start / SEGMENT;
        let segment = ByteRange::new(number * SEGMENT, (number + 1) * SEGMENT);
        let mut writer = storage.segment_writer(segment).unwrap();
        writer.write(range.start, &object(range)).unwrap();
    }

    fn taken(window: &Window) -> Vec<u8> {
        std::iter::from_fn(|| window.take()).flat_map(|taken| taken.bytes.to_vec()).collect()
    }

    #[test]
    fn bytes_come_out_in_order_and_are_forgotten() {
        let (window, storage) = window();
        write(&storage, 1024..2048);
        assert!(window.take().is_none(), "the first byte is not here");
        write(&storage, 0..100);
        assert_eq!(taken(&window), object(0..100));
        write(&storage, 100..1024);
        assert_eq!(taken(&window), object(100..2048));
        assert_eq!(window.given(), 2048);
        assert_eq!(window.state.lock().held_bytes, 0);
        assert!(window.state.lock().blocks.is_empty());
    }

    #[test]
    fn what_is_fetched_again_is_given_out_once() {
        let (window, storage) = window();
        write(&storage, 0..700);
        assert_eq!(taken(&window), object(0..700));
        write(&storage, 1024..1100);
        window.clear();
        let storage = window.storage(SEGMENT);
        write(&storage, 0..400);
        assert!(window.take().is_none());
        // Another writer of the same segment: it continues all the same.
        let mut writer = storage.segment_writer(ByteRange::new(0, SEGMENT)).unwrap();
        writer.write(400, &object(400..1024)).unwrap();
        assert_eq!(taken(&window), object(700..1024));
        window.set_end(1024);
        assert!(window.is_drained());
    }

    #[test]
    fn what_is_given_out_is_hashed() {
        let (window, storage) = window();
        window.hash([DigestAlgorithm::Sha256]);
        write(&storage, 0..1024);
        write(&storage, 1024..1500);
        assert_eq!(taken(&window), object(0..1500));
        // It is too late for another algorithm.
        window.hash([]);
        let mut whole = Hasher::new(DigestAlgorithm::Sha256);
        whole.update(&object(0..1500));
        assert_eq!(window.digests(), [(DigestAlgorithm::Sha256, whole.finish())]);
    }

    #[test]
    fn a_repetition_must_begin_with_what_was_given_out() {
        let (window, storage) = window();
        assert!(window.repeat_proof().is_none(), "no hash of it is computed");
        window.hash([DigestAlgorithm::Sha256, DigestAlgorithm::Blake3]);
        write(&storage, 0..1024);
        write(&storage, 1024..1500);
        taken(&window);
        let pieces = |bytes: Vec<u8>| -> Vec<Bytes> {
            bytes.chunks(400).map(Bytes::copy_from_slice).collect()
        };
        let mut same = window.repeat_proof().unwrap();
        assert!(same.agrees(&pieces(object(0..1000))) && same.agrees(&pieces(object(1000..2000))));
        assert!(same.agrees(&pieces(vec![7; 100])), "what follows is new");
        let mut other = object(0..2000);
        other[1499] ^= 1;
        assert!(!window.repeat_proof().unwrap().agrees(&pieces(other)));
    }

    #[test]
    fn bytes_that_do_not_follow_are_refused() {
        let (_, storage) = window();
        write(&storage, 0..100);
        let mut writer = storage.segment_writer(ByteRange::new(0, SEGMENT)).unwrap();
        assert!(writer.write(200, &[1; 10]).is_err());
        let outside = writer.write(1020, &[1; 10]).unwrap_err();
        assert_eq!(outside.kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn a_fetcher_waits_at_the_windows_end_until_the_reader_moves() {
        let (window, storage) = window();
        window.has_room(4095).await;
        write(&storage, 0..1024);
        let waiting = tokio::spawn({
            let window = Arc::clone(&window);
            async move { window.has_room(4096).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(window.take().is_some());
        waiting.await.unwrap();
    }

    #[test]
    fn a_reader_is_slow_when_its_bytes_are_here_and_much_is() {
        let (window, storage) = window();
        for number in 1..4 {
            write(&storage, number * SEGMENT..(number + 1) * SEGMENT);
        }
        assert!(!window.is_reader_slow(), "it waits itself");
        write(&storage, 0..1024);
        assert!(window.is_reader_slow());
        taken(&window);
        assert!(!window.is_reader_slow());
    }
}

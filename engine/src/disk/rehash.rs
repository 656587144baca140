//! Hashing again what is stored: on a resume, and on request (`verify`).

use std::io;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Builder};

use super::storage::{Storage, with_mapped};
use crate::model::digest_tree::SegmentHasher;
use crate::model::layout::Layout;
use crate::model::range::ByteRange;

/// How much is read at once, in bytes, when hashing what is stored.
pub(crate) const READ_BYTES: usize = 512 << 10;

/// The most threads that read at once, each with up to [`READ_BYTES`] in memory.
const MAX_READERS: usize = 16;

/// The hasher after the first `len_bytes` of a segment, or all of it. `None`
/// when the object has no such bytes, the storage has fewer, or `goes_on` says no.
/// Nobody may write the segment meanwhile.
///
/// # Errors
/// Those of the storage.
pub(crate) fn rehash(
    layout: Layout,
    segment: u32,
    len_bytes: Option<u64>,
    storage: &dyn Storage,
    goes_on: impl Fn() -> bool,
) -> io::Result<Option<SegmentHasher>> {
    let Some(range) = layout.range(segment) else { return Ok(None) };
    let end = len_bytes.map_or(range.end(), |len| range.start() + len);
    if end > range.end() || end == range.start() {
        return Ok(None);
    }
    let mut hasher = SegmentHasher::new(range.start(), layout.whole());
    let all = visit(storage, ByteRange::new(range.start(), end), |bytes| {
        hasher.update(bytes);
        goes_on()
    })?;
    Ok(all.then_some(hasher))
}

/// Calls `each` with the bytes of `range` in order, through the map where the storage has
/// one. False when there are fewer, or `each` says that it has enough.
///
/// # Errors
/// Those of the storage.
pub(crate) fn visit(
    storage: &dyn Storage,
    range: ByteRange,
    mut each: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut buffer = Vec::new();
    let mut at = range.start();
    while at < range.end() {
        let want =
            usize::try_from(range.end() - at).map_or(READ_BYTES, |left| left.min(READ_BYTES));
        let mut goes_on = true;
        let mapped = storage
            .file_to_map()
            .is_some_and(|file| with_mapped(file, at, want, |bytes| goes_on = each(bytes)));
        let got = if mapped {
            want
        } else {
            buffer.resize(READ_BYTES, 0);
            let got = storage.read_at(at, &mut buffer[..want])?;
            goes_on = got > 0 && each(&buffer[..got]);
            got
        };
        if !goes_on {
            return Ok(false);
        }
        at += got as u64;
    }
    Ok(true)
}

/// How many threads are worth having for hashing.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_READERS)
}

/// What `work` returns for each number below `count`, in order, on at most this many threads.
pub(crate) fn on_threads<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let run = || {
        let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
        numbers.take_while(|number| *number < count).map(|n| (n, work(n))).collect::<Vec<_>>()
    };
    let mut done = thread::scope(|scope| {
        // If a thread cannot be started, the others do its work.
        let start = |_| Builder::new().name("haul-hash".to_owned()).spawn_scoped(scope, run).ok();
        let others: Vec<_> = (1..threads.min(count)).filter_map(start).collect();
        let mut done = run();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_each_and_comes_in_order() {
        for threads in [1, 3] {
            for count in [0, 1, 2, 100] {
                let squares = on_threads(threads, count, |n| n * n);
                assert_eq!(squares, (0..count).map(|n| n * n).collect::<Vec<_>>());
            }
        }
    }
}

//! Mapped windows: bytes are copied straight into the page cache.
//!
//! A writer maps a window of [`WINDOW_BYTES`], brings in the pages of each piece with
//! one call, copies the piece, and unmaps the window when its part of it is full. The
//! file is never mapped as a whole: its pages would count as resident memory of this
//! process until they are dropped, and the address space may be limited. There are at most
//! [`MAX_WINDOWS`] windows in the process; a writer that gets none stores with pwrite,
//! since mapping and unmapping for one piece would cost more.
//!
//! Windows are aligned because that is what makes them cheap: the kernel then maps
//! one with a single entry of the page table. Where it cannot, each 4 KiB page of a
//! large folio costs a fault that looks at the whole folio, and writing a GiB to ext4
//! on Linux 6.18 took 4 to 6 s instead of 0.25 s.
//!
//! The kernel zeroes a page before it may show it, which a positioned write does
//! not need. So a writer that takes half of a core stores with pwrite
//! ([`SegmentWriter::write_in_haste`]), and so does one whose window cannot be had
//! or brought in.
//!
//! Three facts about Linux make this work. A shared mapping, pread and pwrite see the
//! same page cache, so [`Storage::read_at`] needs no map, and one page may be written
//! both ways. fdatasync writes pages that were dirtied through a mapping, even one
//! that is gone, so [`Storage::sync_data`] needs no msync. And a mapping holds a
//! reference to the open file, so the lock on it is not lost while a window lives.
//!
//! # Truncation by others, and failing disks
//!
//! A store into a mapped page for which the kernel cannot find a block is a SIGBUS,
//! which ends the process. It corrupts no memory. Four things prevent it:
//! [`super::open`] gives this storage only files whose blocks are reserved, or that
//! are in memory, where a page that was brought in is its own block; the lock keeps
//! other hauls out; the length is compared before a window is mapped; and
//! MADV_POPULATE_WRITE takes the write faults of each piece inside a system call,
//! right before the piece is copied. Where that call fails, a positioned write reports
//! what is wrong. What remains is a file that is truncated, or a device that dies, in
//! the microseconds between the call and the end of the copy. The command catches that
//! signal to say what happened; a program that embeds the library and cannot accept it
//! chooses [`crate::StorageKind::Pwrite`].
//!
//! A cut inside a page raises no signal: bytes between it and the end of the page are
//! silently dropped. The length is compared once more after each sync, so such a file
//! is not taken for a complete one.
#![allow(unsafe_code)]

mod reads;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

pub(in crate::disk) use self::reads::with_mapped;
use super::pwrite::write_into_length;
use super::{
    SegmentWriter, Storage, check_inside, check_not_truncated, check_segment, other_length,
};
use crate::model::range::ByteRange;
use crate::os;

/// The size and alignment of a window, in bytes: what one entry of the page
/// table's middle level maps where pages have 4 KiB, and a multiple of every
/// page size in use. The last window of a file ends with it.
pub(super) const WINDOW_BYTES: u64 = 2 << 20;

/// The most windows in the process, however many connections and downloads there are:
/// 16 MiB, a quarter of the memory that the process may use.
pub(super) const MAX_WINDOWS: usize = 8;

static WINDOWS: WindowBudget = WindowBudget::new(MAX_WINDOWS);

/// Counts the windows that may still be kept.
#[derive(Debug)]
struct WindowBudget {
    free: AtomicUsize,
}

impl WindowBudget {
    const fn new(windows: usize) -> Self {
        Self { free: AtomicUsize::new(windows) }
    }

    fn take(&'static self) -> Option<WindowPermit> {
        // The counter guards no other memory, so its order does not matter.
        let taken =
            self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        taken.ok().map(|_| WindowPermit { budget: self })
    }
}

/// The right to keep one window, given back when dropped.
struct WindowPermit {
    budget: &'static WindowBudget,
}

impl Drop for WindowPermit {
    fn drop(&mut self) {
        self.budget.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// The partial file, written through mapped windows.
#[derive(Debug)]
pub(super) struct MmapStorage {
    file: Arc<File>,
    total_bytes: u64,
    budget: &'static WindowBudget,
    mapped_bytes: Arc<AtomicU64>,
}

impl MmapStorage {
    /// `file` has `total_bytes` bytes. Each of them has a block reserved, or gets one
    /// for good when its page is brought in.
    pub(super) fn new(file: Arc<File>, total_bytes: u64) -> Self {
        Self { file, total_bytes, budget: &WINDOWS, mapped_bytes: Arc::default() }
    }

    fn writer(&self, segment: ByteRange) -> io::Result<Writer> {
        check_segment(segment, self.total_bytes)?;
        Ok(Writer {
            file: Arc::clone(&self.file),
            segment,
            total_bytes: self.total_bytes,
            budget: self.budget,
            mapped_bytes: Arc::clone(&self.mapped_bytes),
            window: None,
        })
    }
}

impl Storage for MmapStorage {
    fn name(&self) -> &'static str {
        "mmap"
    }

    fn segment_writer(&self, segment: ByteRange) -> io::Result<Box<dyn SegmentWriter>> {
        Ok(Box::new(self.writer(segment)?))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        os::file::read_at(&self.file, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        check_not_truncated(&self.file, self.total_bytes)
    }

    /// Never changes anything: cutting the file under one of our own windows would be
    /// the SIGBUS that this module avoids.
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes == self.total_bytes {
            return Ok(());
        }
        Err(other_length(self.total_bytes, len_bytes))
    }

    fn file_to_map(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes.load(Ordering::Relaxed)
    }
}

struct Writer {
    file: Arc<File>,
    segment: ByteRange,
    total_bytes: u64,
    budget: &'static WindowBudget,
    mapped_bytes: Arc<AtomicU64>,
    window: Option<Window>,
}

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() {
            let in_window = WINDOW_BYTES - offset % WINDOW_BYTES;
            let (front, back) = rest.split_at(rest.len().min(in_window as usize));
            if !self.store_mapped(offset, front)? {
                write_into_length(&self.file, self.total_bytes, offset, front)?;
            }
            offset += front.len() as u64;
            rest = back;
        }
        Ok(())
    }

    fn write_in_haste(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        self.window = None;
        write_into_length(&self.file, self.total_bytes, offset, data)
    }
}

impl Writer {
    /// Stores `data`, which is inside one window, through that window. False, with
    /// nothing stored, when the window cannot be had or brought in.
    fn store_mapped(&mut self, offset: u64, data: &[u8]) -> io::Result<bool> {
        // `filter` unmaps a window that does not fit before the next is mapped.
        let fitting = self.window.take().filter(|window| window.bytes.contains(offset));
        let window = match fitting {
            Some(window) => Some(window),
            None => match self.budget.take() {
                None => None,
                Some(permit) => {
                    check_not_truncated(&self.file, self.total_bytes)?;
                    Window::map(&self.file, offset, self.total_bytes, permit).ok()
                }
            },
        };
        let Some(mut window) = window else { return Ok(false) };
        if window.bring_in(offset, data.len()).is_err() {
            return Ok(false);
        }
        window.store(offset, data);
        self.mapped_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        // A finished window goes at once: the writer may be idle for long.
        let next = offset + data.len() as u64;
        let needed = window.bytes.contains(next) && next < self.segment.end();
        self.window = needed.then_some(window);
        Ok(true)
    }
}

/// An aligned window of the file, mapped shared and writable. It may reach beyond the
/// writer's segment; its other bytes belong to other writers.
struct Window {
    // Dropped before the permit is given back.
    map: MmapRaw,
    bytes: ByteRange,
    _permit: WindowPermit,
}

impl Window {
    /// The window around `offset` of a file of `total_bytes`, none of it brought in.
    fn map(file: &File, offset: u64, total_bytes: u64, permit: WindowPermit) -> io::Result<Self> {
        let start = offset / WINDOW_BYTES * WINDOW_BYTES;
        let len = (total_bytes - start).min(WINDOW_BYTES);
        let map = MmapOptions::new().offset(start).len(len as usize).map_raw(file)?;
        // One folio for the whole window; a kernel without large ones works as well.
        os::map::prefer_large_pages(&map);
        Ok(Self { map, bytes: ByteRange::new(start, start + len), _permit: permit })
    }

    /// Makes the pages of `len` bytes at `offset`, which the window contains, present
    /// and writable.
    fn bring_in(&self, offset: u64, len: usize) -> io::Result<()> {
        let skip = (offset - self.bytes.start()) as usize;
        os::map::bring_in_to_write(&self.map, skip, len)
    }

    /// Copies `data` to `offset`; all of it is inside the window.
    fn store(&mut self, offset: u64, data: &[u8]) {
        assert!(
            self.bytes.contains(offset) && data.len() as u64 <= self.bytes.end() - offset,
            "{} bytes at {offset} are outside the window {}",
            data.len(),
            self.bytes
        );
        // At most the window's length, a usize.
        let skip = (offset - self.bytes.start()) as usize;
        let target = self.map.as_mut_ptr().wrapping_add(skip);
        // SAFETY: `copy_nonoverlapping` asks for four things.
        //
        // `data` is readable for its length: it is a slice. Alignment: both are
        // bytes.
        //
        // `target` is writable for `data.len()` bytes. `map` is a live mapping of
        // `map.len()` bytes with PROT_WRITE: `map_raw` made it, only dropping
        // `self` unmaps it, and `self` is borrowed for the whole call.
        // `skip + data.len() <= map.len()` by the assertion, since `map.len()` is
        // the length of `bytes`, so `wrapping_add` stayed inside the mapping. A page
        // that the kernel can no longer back makes this a SIGBUS, see the head of
        // this file; the process ends at that instruction, so no Rust code sees a
        // half-done copy.
        //
        // The two do not overlap. The mapping lies where the kernel had nothing
        // before; its address never leaves this type and no reference into it
        // is ever made, so `data`, a valid reference, points elsewhere.
        //
        // No data race. This process reads through another mapping of the file only
        // bytes of segments that nobody writes (see `reads`);
        // all other reads go through pread, into memory of their own. Other writers
        // may have the same page mapped, but at another address, and they store to
        // other bytes: each stays inside its own segment (`check_inside`), segments
        // are disjoint, and a segment has one writer, which needs `&mut self`.
        // Stores of disjoint bytes in one page cannot disturb each other: a store
        // writes the bytes it names and no neighbours, also through aliases of one
        // physical page, and so does a pwrite of the kernel, which copies into that
        // same page of the page cache. Another process that writes to this file can
        // change the bytes at any time; nothing here relies on their value, as they
        // are never read back through this mapping.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len()) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOWS_OF_A_TEST: usize = 4;

    fn storage(total: u64) -> (MmapStorage, Arc<File>) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(total).unwrap();
        let budget = budget(WINDOWS_OF_A_TEST);
        (MmapStorage { budget, ..MmapStorage::new(Arc::clone(&file), total) }, file)
    }

    /// A budget of the test's own: tests share the process.
    fn budget(windows: usize) -> &'static WindowBudget {
        Box::leak(Box::new(WindowBudget::new(windows)))
    }

    fn contents(storage: &MmapStorage) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(storage.total_bytes).unwrap()];
        let mut filled = 0;
        while filled < bytes.len() {
            let n = storage.read_at(filled as u64, &mut bytes[filled..]).unwrap();
            assert!(n > 0, "the file is shorter than the object");
            filled += n;
        }
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Interleaved writers of many segments, random pieces in random order:
        /// the file equals a Vec with the same writes, whether a piece found a
        /// window or none was left, and whether it was stored in haste.
        #[test]
        fn windows_hold_what_was_written(
            total in 1_u64..9_000_000,
            segment_log2 in 10_u32..23,
            pieces in prop::collection::vec(
                (any::<prop::sample::Index>(), 1_usize..700_000, any::<bool>()),
                1..40,
            ),
        ) {
            let segment_bytes = 1_u64 << segment_log2;
            let (storage, _file) = storage(total);
            let mut writers: Vec<Option<Box<dyn SegmentWriter>>> =
                (0..total.div_ceil(segment_bytes)).map(|_| None).collect();
            let mut oracle = vec![0_u8; usize::try_from(total).unwrap()];
            let mut mappable = 0;
            for (at, len, hasty) in pieces {
                let start = at.index(oracle.len());
                let number = start as u64 / segment_bytes;
                let segment = ByteRange::new(
                    number * segment_bytes,
                    ((number + 1) * segment_bytes).min(total),
                );
                let end = (start + len).min(usize::try_from(segment.end()).unwrap());
                let seed = u8::try_from(len % 251).unwrap();
                let data: Vec<u8> =
                    (start..end).map(|i| (i % 253) as u8 ^ seed).collect();
                let writer = &mut writers[usize::try_from(number).unwrap()];
                if writer.is_none() {
                    *writer = Some(storage.segment_writer(segment).unwrap());
                }
                let writer = writer.as_mut().unwrap();
                if hasty {
                    writer.write_in_haste(start as u64, &data).unwrap();
                } else {
                    writer.write(start as u64, &data).unwrap();
                    mappable += data.len() as u64;
                }
                oracle[start..end].copy_from_slice(&data);
            }
            prop_assert!(contents(&storage) == oracle);
            let mapped = storage.mapped_bytes();
            prop_assert!(mapped <= mappable);
            if writers.len() <= WINDOWS_OF_A_TEST {
                prop_assert_eq!(mapped, if os::map::can_bring_in() { mappable } else { 0 });
            }
        }
    }

    #[test]
    fn writers_of_one_page_in_many_threads_do_not_disturb_each_other() {
        let (storage, _file) = storage(WINDOW_BYTES);
        std::thread::scope(|scope| {
            for number in 0..64_u8 {
                let start = u64::from(number) * 1024;
                let mut writer =
                    storage.segment_writer(ByteRange::new(start, start + 1024)).unwrap();
                scope.spawn(move || {
                    for offset in (start..start + 1024).step_by(7) {
                        let len = 7.min(start + 1024 - offset);
                        writer.write(offset, &[number + 1; 7][..len as usize]).unwrap();
                    }
                });
            }
        });
        let bytes = contents(&storage);
        for (number, segment) in bytes[..64 << 10].chunks(1024).enumerate() {
            assert!(segment.iter().all(|&b| usize::from(b) == number + 1), "segment {number}");
        }
    }

    #[test]
    fn finished_window_is_unmapped() {
        if !os::map::can_bring_in() {
            return;
        }
        let (storage, _file) = storage(3 * WINDOW_BYTES + 10);
        let free = || storage.budget.free.load(Ordering::Relaxed);
        let mut writer = storage.writer(ByteRange::new(0, WINDOW_BYTES + 9000)).unwrap();
        writer.write(100, &[1; 100]).unwrap();
        assert_eq!(writer.window.as_ref().unwrap().bytes, ByteRange::new(0, WINDOW_BYTES));
        assert_eq!(free(), 3);
        writer.write(200, &vec![1; (WINDOW_BYTES - 200) as usize]).unwrap();
        assert!(writer.window.is_none(), "the window is full");
        writer.write(WINDOW_BYTES, &[1; 1000]).unwrap();
        assert!(writer.window.is_some());
        writer.write(WINDOW_BYTES + 1000, &[1; 8000]).unwrap();
        assert!(writer.window.is_none(), "the segment is full");
        assert_eq!(free(), 4);
    }

    #[test]
    fn no_more_windows_are_kept_than_the_budget_has() {
        if !os::map::can_bring_in() {
            return;
        }
        let (mut storage, _file) = storage(4 * WINDOW_BYTES + 10);
        storage.budget = budget(2);
        let segments =
            (0..5).map(|i| i * WINDOW_BYTES).map(|start| ByteRange::new(start, start + 10));
        let mut writers: Vec<_> = segments.map(|s| storage.writer(s).unwrap()).collect();
        for writer in &mut writers {
            writer.write(writer.segment.start(), &[5; 5]).unwrap();
        }
        assert_eq!(writers.iter().filter(|writer| writer.window.is_some()).count(), 2);
        drop(writers.remove(0));
        let last = writers.last_mut().unwrap();
        last.write(last.segment.start(), &[5; 5]).unwrap();
        let kept = last.window.as_ref().unwrap().bytes;
        assert_eq!(kept, ByteRange::new(4 * WINDOW_BYTES, 4 * WINDOW_BYTES + 10));
        last.write(last.segment.start() + 5, &[5; 5]).unwrap();
        assert!(last.window.is_none(), "the file's end is the window's");
        writers[2].write(3 * WINDOW_BYTES + 5, &[5; 4]).unwrap();
        assert!(writers[2].window.is_some(), "a window that was given back is used again");
        let bytes = contents(&storage);
        assert_eq!(bytes.iter().filter(|&&b| b == 5).count(), 34);
        let without = 3 * 5;
        assert_eq!(storage.mapped_bytes(), 39 - without, "no window is mapped for one piece");
    }

    #[test]
    fn partial_truncated_before_a_window_is_mapped_is_an_error() {
        let (storage, file) = storage(4 * WINDOW_BYTES);
        let mut writer = storage.segment_writer(ByteRange::new(0, 4 * WINDOW_BYTES)).unwrap();
        writer.write(0, &vec![7; WINDOW_BYTES as usize]).unwrap();
        file.set_len(WINDOW_BYTES + 10).unwrap();
        let error = writer.write(WINDOW_BYTES, &[7; 4096]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("truncated"), "{error}");
        assert!(storage.sync_data().unwrap_err().to_string().contains("truncated"));
    }

    /// The case that comparing lengths cannot catch: the cut comes after the
    /// comparison.
    #[test]
    fn window_whose_pages_are_gone_is_an_error_and_no_signal() {
        if !os::map::can_bring_in() {
            return;
        }
        let (storage, file) = storage(2 * WINDOW_BYTES);
        let mut writer = storage.writer(ByteRange::new(0, WINDOW_BYTES)).unwrap();
        writer.write(0, &[7; 100]).unwrap();
        assert!(writer.window.is_some());
        file.set_len(0).unwrap();
        let error = writer.write(100, &[7; 100]).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
        assert_eq!(file.metadata().unwrap().len(), 0, "no hole was written over the cut");
        assert_eq!(storage.mapped_bytes(), 100);
    }

    #[test]
    fn the_length_is_never_changed() {
        let (storage, file) = storage(1000);
        storage.set_len(1000).unwrap();
        assert_eq!(storage.set_len(10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(file.metadata().unwrap().len(), 1000);
    }
}

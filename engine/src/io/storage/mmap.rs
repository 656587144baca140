//! Mapped windows: bytes are copied straight into the page cache.
//!
//! A writer maps one window of [`WINDOW_BYTES`], has its pages brought in by one
//! call, fills its part of it and unmaps it. The file is never mapped as a
//! whole: its pages would count as resident memory of this process until the
//! end. For the same reason the process maps no more than [`MAX_WINDOWS`] at a
//! time; a writer that gets none, and every writer in the last, incomplete
//! window of the file, writes with pwrite instead, which goes to the same page
//! cache.
//!
//! Windows are whole and aligned because that is what makes them cheap: the
//! kernel then maps one with a single entry of the page table. Where it cannot
//! (half the size, another alignment), each 4 KiB page of a large folio costs a
//! fault that looks at the whole folio, and writing a GiB to ext4 on Linux 6.18
//! took 4 to 6 s instead of 0.25 s.
//!
//! Three facts about Linux carry this. A shared mapping, pread and pwrite see
//! the same page cache, so [`Storage::read_at`] needs no map. fdatasync writes
//! pages that were dirtied through a mapping, also one that is gone, so
//! [`Storage::sync_data`] needs no msync. And a mapping holds a reference to the
//! open file, so the lock on it is not lost while a window lives.
//!
//! # Truncation by others, and failing disks
//!
//! A store into a mapped page for which the kernel cannot find a block is a
//! SIGBUS, which ends the process. It corrupts no memory. Four things keep it
//! away: [`super::open`] gives this storage only files whose blocks are
//! reserved; the lock keeps other hauls out; the length is compared before a
//! window is mapped; and MADV_POPULATE_WRITE takes the write faults of the whole
//! window inside a system call that returns an error. What remains is a file
//! that is truncated, or a device that dies, between that call and the copy, and
//! kernels before 5.14, which do not have the call. The command catches that
//! signal to say what happened; who embeds the library and cannot live with it
//! chooses [`crate::StorageKind::Pwrite`].
//!
//! A cut inside a page raises no signal: bytes between it and the end of the
//! page are dropped in silence. The length is compared once more after each
//! sync, so such a file is not taken for a complete one.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use super::pwrite::write_into_length;
use super::{SegmentWriter, Storage, check_inside, check_not_truncated, check_segment};
use crate::model::range::ByteRange;

/// The size and alignment of a window, in bytes: what one entry of the page
/// table's middle level maps where pages have 4 KiB, and a multiple of every
/// page size in use.
pub(super) const WINDOW_BYTES: u64 = 2 << 20;

/// The most windows that the process has mapped at once: 16 MiB, a quarter of
/// the memory it may use, however many connections and downloads there are.
pub(super) const MAX_WINDOWS: usize = 8;

static WINDOWS: WindowBudget = WindowBudget::new(MAX_WINDOWS);

/// Counts the windows that may still be mapped.
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

/// The right to one window, given back when dropped.
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
}

impl MmapStorage {
    /// `file` has `total_bytes` bytes, with a block reserved for each of them.
    pub(super) fn new(file: Arc<File>, total_bytes: u64) -> Self {
        Self { file, total_bytes, budget: &WINDOWS }
    }

    fn writer(&self, segment: ByteRange) -> io::Result<Writer> {
        check_segment(segment, self.total_bytes)?;
        Ok(Writer {
            file: Arc::clone(&self.file),
            segment,
            total_bytes: self.total_bytes,
            budget: self.budget,
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
        self.file.read_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        check_not_truncated(&self.file, self.total_bytes)
    }

    /// Never changes anything: cutting the file under a window of one's own
    /// would be the SIGBUS that this module avoids.
    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes == self.total_bytes {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the object has {} bytes, its length cannot become {len_bytes}",
                self.total_bytes
            ),
        ))
    }
}

struct Writer {
    file: Arc<File>,
    segment: ByteRange,
    total_bytes: u64,
    budget: &'static WindowBudget,
    window: Option<Window>,
}

impl SegmentWriter for Writer {
    fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        check_inside(self.segment, offset, data.len())?;
        let (mut offset, mut rest) = (offset, data);
        while !rest.is_empty() {
            // `filter` unmaps a window that does not fit before the next is mapped.
            let window = match self.window.take().filter(|window| window.bytes.contains(offset)) {
                Some(window) => Some(window),
                None => self.map_window(offset)?,
            };
            let stored = match window {
                Some(mut window) => {
                    let stored = window.store(offset, rest);
                    // A finished window goes at once: the writer may idle for long.
                    let next = offset + stored as u64;
                    let needed = window.bytes.contains(next) && next < self.segment.end();
                    self.window = needed.then_some(window);
                    stored
                }
                None => {
                    let in_window = WINDOW_BYTES - offset % WINDOW_BYTES;
                    let len = rest.len().min(in_window as usize);
                    write_into_length(&self.file, self.total_bytes, offset, &rest[..len])?;
                    len
                }
            };
            offset += stored as u64;
            rest = &rest[stored..];
        }
        Ok(())
    }
}

impl Writer {
    /// The window around `offset`, or `None` where the file ends inside it or
    /// no more may be mapped.
    fn map_window(&self, offset: u64) -> io::Result<Option<Window>> {
        let start = offset / WINDOW_BYTES * WINDOW_BYTES;
        if self.total_bytes - start < WINDOW_BYTES {
            return Ok(None);
        }
        let Some(permit) = self.budget.take() else { return Ok(None) };
        check_not_truncated(&self.file, self.total_bytes)?;
        Window::map(&self.file, start, permit).map(Some)
    }
}

/// A whole window of the file, mapped shared and writable. It may reach beyond
/// the writer's segment, whose other bytes in it are other writers'.
struct Window {
    // Dropped before the permit is given back.
    map: MmapRaw,
    bytes: ByteRange,
    _permit: WindowPermit,
}

impl Window {
    /// `start` is a multiple of [`WINDOW_BYTES`], and that many bytes of the
    /// file follow.
    fn map(file: &File, start: u64, permit: WindowPermit) -> io::Result<Self> {
        let map = MmapOptions::new().offset(start).len(WINDOW_BYTES as usize).map_raw(file)?;
        let bytes = ByteRange::new(start, start + WINDOW_BYTES);
        let window = Self { map, bytes, _permit: permit };
        window.bring_in()?;
        Ok(window)
    }

    /// Makes every page of the window present and writable.
    #[cfg(target_os = "linux")]
    fn bring_in(&self) -> io::Result<()> {
        use memmap2::Advice;

        // One folio for the whole window; a kernel without such works as well.
        let _ = self.map.advise(Advice::HugePage);
        match self.map.advise(Advice::PopulateWrite) {
            // EINVAL is Linux before 5.14: pages come in as they are touched.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => Err(io::Error::new(
                error.kind(),
                format!(
                    "bytes {} of the partial file cannot be written: it was truncated by another \
                     program, its disk is full, or its device failed ({error})",
                    self.bytes
                ),
            )),
            _ => Ok(()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn bring_in(&self) -> io::Result<()> {
        Ok(())
    }

    /// Copies the front of `data` that fits to `offset`, which the window
    /// contains, and says how many bytes that was: at least one of a `data`
    /// that is not empty.
    fn store(&mut self, offset: u64, data: &[u8]) -> usize {
        assert!(self.bytes.contains(offset), "offset {offset} is outside the window");
        // Both differences are at most the window's length, a usize.
        let skip = (offset - self.bytes.start()) as usize;
        let len = data.len().min(self.map.len() - skip);
        let target = self.map.as_mut_ptr().wrapping_add(skip);
        // SAFETY: `copy_nonoverlapping` asks for four things.
        //
        // `data` is readable for `len` bytes: it is a slice and `len` is at most
        // its length. Alignment: both are bytes.
        //
        // `target` is writable for `len` bytes. `map` is a live mapping of
        // `map.len()` bytes with PROT_WRITE: `map_raw` made it, only dropping
        // `self` unmaps it, and `self` is borrowed for the whole call.
        // `skip < map.len()` by the assertion, since `map.len()` is the length
        // of `bytes`, so `skip + len <= map.len()` and `wrapping_add` stayed
        // inside the mapping. A page that the kernel can no longer back makes
        // this a SIGBUS, see the head of this file; the process ends at that
        // instruction, so no Rust code sees a half-done copy.
        //
        // The two do not overlap. The mapping lies where the kernel had nothing
        // before; its address never leaves this type and no reference into it
        // is ever made, so `data`, a valid reference, points elsewhere.
        //
        // No data race. Nothing in this process reads through a mapping of the
        // file; reads go through pread, into memory of their own. Other writers
        // may have the same page mapped, but at another address, and they store
        // to other bytes: each copies inside its own segment (`check_inside`),
        // segments are disjoint, and a segment has one writer, which needs
        // `&mut self`. Copies of disjoint bytes in one page cannot disturb each
        // other: a store writes the bytes it names and no neighbours, also
        // through aliases of one physical page, and so does a pwrite of the
        // kernel. Another process that writes to this file can change the bytes
        // at any time; nothing here relies on their value, as they are never
        // read back through the mapping.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), target, len) };
        len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn storage(total: u64) -> (MmapStorage, Arc<File>) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.set_len(total).unwrap();
        (MmapStorage { file: Arc::clone(&file), total_bytes: total, budget: budget(4) }, file)
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
        /// window or none was left.
        #[test]
        fn windows_hold_what_was_written(
            total in 1_u64..9_000_000,
            segment_log2 in 10_u32..23,
            pieces in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..700_000), 1..40),
        ) {
            let segment_bytes = 1_u64 << segment_log2;
            let (storage, _file) = storage(total);
            let mut writers: Vec<Option<Box<dyn SegmentWriter>>> =
                (0..total.div_ceil(segment_bytes)).map(|_| None).collect();
            let mut oracle = vec![0_u8; usize::try_from(total).unwrap()];
            for (at, len) in pieces {
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
                writer.as_mut().unwrap().write(start as u64, &data).unwrap();
                oracle[start..end].copy_from_slice(&data);
            }
            prop_assert!(contents(&storage) == oracle);
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
    fn no_more_windows_are_mapped_than_the_budget_has() {
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
        assert!(last.window.is_none(), "the incomplete window at the end is never mapped");
        writers[2].write(3 * WINDOW_BYTES + 5, &[5; 4]).unwrap();
        assert!(writers[2].window.is_some(), "a window that was given back is used again");
        let bytes = contents(&storage);
        assert_eq!(bytes.iter().filter(|&&b| b == 5).count(), 29);
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

    /// The case that the comparison of lengths cannot see: the cut comes after it.
    #[test]
    #[cfg(target_os = "linux")]
    fn window_whose_pages_are_gone_is_an_error() {
        let (storage, file) = storage(WINDOW_BYTES);
        file.set_len(4096).unwrap();
        match Window::map(&file, 0, storage.budget.take().unwrap()) {
            Err(error) => assert!(error.to_string().contains("[0, 2097152)"), "{error}"),
            // The advice is unknown to Linux before 5.14.
            Ok(window) => {
                let error = window.map.advise(memmap2::Advice::PopulateWrite).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            }
        }
    }

    #[test]
    fn the_length_is_never_changed() {
        let (storage, file) = storage(1000);
        storage.set_len(1000).unwrap();
        assert_eq!(storage.set_len(10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(file.metadata().unwrap().len(), 1000);
    }
}

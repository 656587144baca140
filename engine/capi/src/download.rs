//! A running download.

use std::ffi::c_char;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use haul_engine::{Metadata, blocking};

use crate::failure::{Code, Failure, entry, entry_free};
use crate::options::{Options, number};
use crate::os;
use crate::pointer::{Out, Plain, borrow, fill, give, give_text, release};

/// In `haul_progress`: no response was accepted yet.
pub const HAUL_STATE_STARTING: i32 = 0;
/// In `haul_progress`: bytes arrive or are waited for.
pub const HAUL_STATE_RUNNING: i32 = 1;
/// In `haul_progress`: paused.
pub const HAUL_STATE_PAUSED: i32 = 2;
/// In `haul_progress`: all bytes are stored and are being synced.
pub const HAUL_STATE_SYNCING: i32 = 3;
/// In `haul_progress`: complete; the file has its name.
pub const HAUL_STATE_COMPLETE: i32 = 4;
/// In `haul_progress`: failed or cancelled; `haul_download_wait` tells why.
pub const HAUL_STATE_FAILED: i32 = 5;

/// A download.
// Beside it are its events that were not taken yet.
pub struct Download(blocking::Download, pub(crate) Mutex<blocking::Events>);

/// The progress of a download, at most 100 ms old.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes of the object that are stored, including those of earlier runs.
    pub bytes: u64,
    /// The size of the object in bytes; -1 while it is unknown.
    pub total_bytes: i64,
    /// Smoothed speed.
    pub bytes_per_second: f64,
    /// Bytes fetched in this run, divided by its duration.
    pub mean_bytes_per_second: f64,
    /// Milliseconds until the end at the smoothed speed; -1 while that is unknown.
    pub eta_milliseconds: i64,
    /// Connections that are fetching now.
    pub connections: u32,
    /// Rounds of backoff so far.
    pub retries: u32,
    /// One of `HAUL_STATE_*`.
    pub state: i32,
    /// 0.
    pub reserved: i32,
}
impl Plain for Progress {}

/// One of at most 256 equal cells of the object.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct MapCell {
    /// The fraction of its bytes that is stored, 0.0 to 1.0.
    pub done: f32,
    /// 1 if a connection is fetching it now, else 0.
    pub active: u32,
}

/// The summary of a completed download.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The size of the object in bytes.
    pub bytes: u64,
    /// Bytes read from the network in bodies, wasted ones included.
    pub fetched_bytes: u64,
    /// Bytes taken over from an earlier run.
    pub resumed_bytes: u64,
    /// HTTP requests sent.
    pub requests: u64,
    /// The time from the start until the file had its name.
    pub elapsed_milliseconds: u64,
    /// Rounds of backoff.
    pub retries: u32,
    /// The most connections at once.
    pub connections: u32,
    /// 1 if `blake3` is known, else 0.
    pub has_blake3: u32,
    /// 1 if the requested checksum was compared, else 0.
    pub verified: u32,
    /// The BLAKE3 of the object, or zeros.
    pub blake3: [u8; 32],
    /// Bytes that this run stored through the mapped file, not by positioned writes.
    pub mapped_bytes: u64,
}
impl Plain for Summary {}

// Nothing but numbers, without gaps: what is copied out is what was written.
const _: () = assert!(size_of::<Progress>() == 5 * 8 + 4 * 4);
const _: () = assert!(size_of::<Summary>() == 5 * 8 + 4 * 4 + 32 + 8);

pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn signed(number: Option<u64>) -> i64 {
    number.map_or(-1, |number| i64::try_from(number).unwrap_or(i64::MAX))
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Starts a download and returns at once; the options stay the caller's.
///
/// Gives: `*download`, to be freed by `haul_download_free`. Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `download` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_start(
    options: *const Options,
    download: *mut *mut Download,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(download, "download") }?;
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let download = options.builder().start()?;
        let events = Mutex::new(download.events());
        give(Download(download, events), out);
        Ok(())
    })
}

/// Frees a download; NULL is ignored. A running download is stopped in the background and leaves a
/// state from which the same download continues. Readers of a complete download keep working.
///
/// Takes: `download`. Threads: any, but nothing else may use `download` meanwhile, waiting
/// included: cancel it first, and let those that wait return.
///
/// # Safety
/// `download` is NULL or of `haul_download_start`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_free(download: *mut Download) {
    // SAFETY: the contract above.
    entry_free(|| unsafe { release(download) });
}

/// The current progress. The call is cheap and meant for polling. `size` is
/// `sizeof(haul_progress)`.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `progress` is NULL or has room for
/// `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_progress(
    download: *const Download,
    progress: *mut Progress,
    size: usize,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        let ended = download.wait_timeout(Duration::ZERO);
        let now = download.progress();
        let state = match ended {
            Some(Ok(_)) => HAUL_STATE_COMPLETE,
            Some(Err(_)) => HAUL_STATE_FAILED,
            None if now.paused => HAUL_STATE_PAUSED,
            None if now.syncing => HAUL_STATE_SYNCING,
            None if now.total_bytes.is_none() && download.metadata().is_none() => {
                HAUL_STATE_STARTING
            }
            None => HAUL_STATE_RUNNING,
        };
        let told = Progress {
            bytes: now.bytes,
            total_bytes: signed(now.total_bytes),
            bytes_per_second: now.bytes_per_second,
            mean_bytes_per_second: now.mean_bytes_per_second,
            eta_milliseconds: signed(now.eta.map(milliseconds)),
            connections: small(now.connections),
            retries: now.retries,
            state,
            reserved: 0,
        };
        // SAFETY: the contract above.
        unsafe { fill(&told, progress, size, "progress") }
    })
}

/// The object from its first to its last byte in equal cells: `*count` says how many cells there is
/// room for, and afterwards how many were written; 256 are enough. There are none before the object
/// is known.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `count` is NULL or can be read and
/// written; `cells` is NULL or has room for `*count` cells.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_map(
    download: *const Download,
    cells: *mut MapCell,
    count: *mut usize,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        if cells.is_null() || count.is_null() {
            return Err(Failure::Argument("cells and count", "one is NULL"));
        }
        // SAFETY: not null; readable by the contract above.
        let room = unsafe { count.read() };
        let map = download.progress().map;
        let told = map.len().min(room);
        for (at, cell) in map[..told].iter().enumerate() {
            let cell = MapCell { done: cell.done, active: u32::from(cell.active) };
            // SAFETY: `at` is below `*count`, for which there is room.
            let place = unsafe { cells.add(at) };
            // SAFETY: as above.
            unsafe { place.write(cell) };
        }
        // SAFETY: not null; can be written by the contract above.
        unsafe { count.write(told) };
        Ok(())
    })
}

/// Waits for the end, at most this many milliseconds; a negative number waits for ever, 0 not at
/// all. Returns `HAUL_OK` when the download is complete, `HAUL_PENDING` while it runs, and
/// otherwise the code of its failure. Repeated calls give the same answer.
///
/// Threads: any, several at once.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_wait(download: *const Download, milliseconds: i64) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        match u64::try_from(milliseconds) {
            Err(_) => download.wait()?,
            Ok(time) => match download.wait_timeout(Duration::from_millis(time)) {
                Some(result) => result?,
                None => return Err(Failure::Pending),
            },
        };
        Ok(())
    })
}

/// Sends no request until `haul_download_resume`, and ends those under way. The bytes that have
/// arrived are kept.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_pause(download: *const Download) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.pause();
        Ok(())
    })
}

/// Continues after `haul_download_pause`.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_resume(download: *const Download) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.resume();
        Ok(())
    })
}

/// Limits the rate from now on, in bytes a second; 0 is no limit.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_set_rate(
    download: *const Download,
    bytes_per_second: u64,
) -> Code {
    entry(|| {
        let rate = NonZeroU64::new(bytes_per_second);
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.limit_rate(rate);
        Ok(())
    })
}

/// Limits the number of connections from now on; 0 is automatic.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_set_connections(
    download: *const Download,
    connections: u32,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.set_connections(number(connections));
        Ok(())
    })
}

/// Changes the priority from now on; see `haul_options_set_priority`.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_set_priority(
    download: *const Download,
    priority: i32,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.set_priority(priority);
        Ok(())
    })
}

/// Stops the download, and waits until what was stored is recorded, which takes milliseconds unless
/// a disk is slow. Afterwards `haul_download_wait` gives `HAUL_CANCELLED`, and `haul_last_error`
/// the checkpoint. A download that has already ended stays as it is. Returns `HAUL_OK` in all these
/// cases.
///
/// Threads: any; those that wait return.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_cancel(download: *const Download) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.cancel()?;
        Ok(())
    })
}

/// Stops the download and removes what is stored, with its checkpoint, including that of an earlier
/// run. A complete file stays.
///
/// Threads: any; those that wait return.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_cancel_and_remove(download: *const Download) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        unsafe { borrow(download, "download") }?.0.cancel_and_remove()?;
        Ok(())
    })
}

/// The summary of a completed download; `size` is `sizeof(haul_summary)`. Returns `HAUL_PENDING`
/// while the download runs, and the code of its failure if it failed.
///
/// Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `summary` is NULL or has room for
/// `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_summary(
    download: *const Download,
    summary: *mut Summary,
    size: usize,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        let was = download.wait_timeout(Duration::ZERO).ok_or(Failure::Pending)??;
        let told = Summary {
            bytes: was.bytes,
            fetched_bytes: was.fetched_bytes,
            resumed_bytes: was.resumed_bytes,
            requests: was.requests,
            elapsed_milliseconds: milliseconds(was.elapsed),
            retries: was.retries,
            connections: small(was.connections),
            has_blake3: u32::from(was.blake3.is_some()),
            verified: u32::from(was.verified.is_some()),
            blake3: was.blake3.unwrap_or_default(),
            mapped_bytes: was.mapped_bytes,
        };
        // SAFETY: the contract above.
        unsafe { fill(&told, summary, size, "summary") }
    })
}

/// Gives out what `of` finds in the metadata.
fn give_known(
    download: &blocking::Download,
    out: Out<c_char>,
    of: impl FnOnce(&Metadata) -> Option<Vec<u8>>,
) -> Result<(), Failure> {
    let known = match download.metadata() {
        Some(metadata) => metadata,
        // Not before the first response, and not after it failed.
        None => match download.wait_timeout(Duration::ZERO) {
            Some(Err(error)) => return Err(error.into()),
            _ => return Err(Failure::Pending),
        },
    };
    if let Some(text) = of(&known) {
        give_text(&text, out);
    }
    Ok(())
}

/// The path of the file that the download becomes. Returns `HAUL_PENDING` before the first response
/// was accepted, since the server may name the file.
///
/// Gives: `*path`, to be freed by `haul_string_free`. Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `path` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_output(
    download: *const Download,
    path: *mut *mut c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(path, "path") }?;
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        give_known(download, out, |known| Some(os::bytes_of(&known.output)))
    })
}

/// The final URL, without login and query. Returns `HAUL_PENDING` before the first response was
/// accepted.
///
/// Gives: `*url`, to be freed by `haul_string_free`. Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `url` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_url(
    download: *const Download,
    url: *mut *mut c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(url, "url") }?;
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        give_known(download, out, |known| Some(known.url.clone().into_bytes()))
    })
}

/// The Content-Type as the server sent it; NULL in `*content_type` if it sent none. Returns
/// `HAUL_PENDING` before the first response was accepted.
///
/// Gives: `*content_type`, to be freed by `haul_string_free`. Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `content_type` is NULL or can be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_content_type(
    download: *const Download,
    content_type: *mut *mut c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(content_type, "content_type") }?;
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        give_known(download, out, |known| known.content_type.clone().map(String::into_bytes))
    })
}

/// The BLAKE3 of a complete object in hexadecimal digits; NULL in `*digits` if none was computed.
/// Returns `HAUL_PENDING` while the download runs, and the code of its failure if it failed.
///
/// Gives: `*digits`, to be freed by `haul_string_free`. Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `digits` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_blake3(
    download: *const Download,
    digits: *mut *mut c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(digits, "digits") }?;
        // SAFETY: the contract above.
        let download = &unsafe { borrow(download, "download") }?.0;
        let was = download.wait_timeout(Duration::ZERO).ok_or(Failure::Pending)??;
        if let Some(digest) = was.blake3_hex() {
            give_text(digest.as_bytes(), out);
        }
        Ok(())
    })
}

impl Download {
    pub(crate) fn reader(&self) -> blocking::Reader {
        self.0.reader()
    }
}

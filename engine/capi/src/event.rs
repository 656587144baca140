//! The events of a download, taken one by one.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use haul_engine::blocking;

use crate::download::{Download, milliseconds};
use crate::failure::{Code, Failure, HAUL_OK, c_string, code, entry, entry_free};
use crate::pointer::{Out, borrow, give, release};

/// In `haul_event`: an event that this version of the interface has no number for; its text
/// describes it.
pub const HAUL_EVENT_OTHER: i32 = 0;
/// In `haul_event`: the first response was accepted and the output is open.
pub const HAUL_EVENT_STARTED: i32 = 1;
/// In `haul_event`: the download waits for its turn among the downloads of its engine.
pub const HAUL_EVENT_QUEUED: i32 = 2;
/// In `haul_event`: a round of backoff begins; the text says why.
pub const HAUL_EVENT_RETRY: i32 = 3;
/// In `haul_event`: something a person should know; the download goes on.
pub const HAUL_EVENT_NOTICE: i32 = 4;
/// In `haul_event`: nothing is received from now on.
pub const HAUL_EVENT_PAUSED: i32 = 5;
/// In `haul_event`: the download continues after a pause.
pub const HAUL_EVENT_RESUMED: i32 = 6;
/// In `haul_event`: all bytes are stored and are being synced.
pub const HAUL_EVENT_SYNCING: i32 = 7;
/// In `haul_event`: events before this one were lost, because nobody took them.
pub const HAUL_EVENT_LAGGED: i32 = 8;
/// In `haul_event`: complete; the file has its name. The last event.
pub const HAUL_EVENT_COMPLETED: i32 = 9;
/// In `haul_event`: failed or cancelled; `code` and the text tell why. The last event.
pub const HAUL_EVENT_FAILED: i32 = 10;

/// Something that happened to a download. Texts are one line and hold no secret; they live as long
/// as the event.
#[repr(C)]
#[derive(Debug)]
pub struct Event {
    /// One of `HAUL_EVENT_*`.
    pub kind: i32,
    /// The code of the failure, or `HAUL_OK`.
    pub code: Code,
    /// For `HAUL_EVENT_RETRY`, the number of the round without progress, from 1.
    pub attempt: u32,
    /// For `HAUL_EVENT_FAILED`, 1 if the same download continues when it is started again, else 0.
    pub resumable: u32,
    /// For `HAUL_EVENT_RETRY`, the time until the next request.
    pub wait_milliseconds: u64,
    /// For `HAUL_EVENT_LAGGED`, how many events were lost.
    pub lost: u64,
    /// For `HAUL_EVENT_NOTICE`, a stable word for programs, such as "restarted"; else NULL.
    pub word: *const c_char,
    /// What happened, for a person, or NULL.
    pub message: *const c_char,
}

/// An event with the texts it points to.
#[repr(C)]
struct Told {
    event: Event,
    _texts: [Option<CString>; 2],
}

// SAFETY: the pointers are into the texts beside them, which nobody changes.
unsafe impl Send for Told {}
// SAFETY: as above.
unsafe impl Sync for Told {}

impl Told {
    fn new(event: haul_engine::Event) -> Self {
        use haul_engine::Event as Of;
        let (mut word, mut message) = (None, None);
        let (mut attempt, mut wait, mut lost) = (0, Duration::ZERO, 0);
        let (mut failed, mut resumable) = (HAUL_OK, false);
        let kind = match event {
            Of::Started(_) => HAUL_EVENT_STARTED,
            Of::Queued => HAUL_EVENT_QUEUED,
            Of::Retry { reason, attempt: round, wait: until } => {
                (message, attempt, wait) = (Some(reason), round, until);
                HAUL_EVENT_RETRY
            }
            Of::Notice(notice) => {
                (word, message) = (Some(notice.code.as_str()), Some(notice.message));
                HAUL_EVENT_NOTICE
            }
            Of::Paused => HAUL_EVENT_PAUSED,
            Of::Resumed => HAUL_EVENT_RESUMED,
            Of::Syncing => HAUL_EVENT_SYNCING,
            Of::Lagged(count) => {
                lost = count;
                HAUL_EVENT_LAGGED
            }
            Of::Completed(_) => HAUL_EVENT_COMPLETED,
            Of::Failed { kind, message: why, resumable: kept } => {
                (failed, message, resumable) = (code(kind), Some(why), kept);
                HAUL_EVENT_FAILED
            }
            other => {
                message = Some(format!("{other:?}"));
                HAUL_EVENT_OTHER
            }
        };
        let texts = [
            word.map(|word| c_string(word.as_bytes())),
            message.map(|message| c_string(message.as_bytes())),
        ];
        // A CString's bytes stay where they are when it is moved.
        let [word, message] =
            texts.each_ref().map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()));
        let event = Event {
            kind,
            code: failed,
            attempt,
            resumable: u32::from(resumable),
            wait_milliseconds: milliseconds(wait),
            lost,
            word,
            message,
        };
        Self { event, _texts: texts }
    }
}

/// Takes the next event, waiting at most this long; a negative number waits for ever.
fn next(
    events: &Mutex<blocking::Events>,
    milliseconds: i64,
) -> Result<Option<haul_engine::Event>, Failure> {
    // A thread that panicked while it held the lock has taken an event, or it has not.
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(time) = u64::try_from(milliseconds) else { return Ok(events.next()) };
    match events.next_timeout(Duration::from_millis(time)) {
        Ok(event) => Ok(Some(event)),
        Err(RecvTimeoutError::Disconnected) => Ok(None),
        Err(RecvTimeoutError::Timeout) => Err(Failure::Pending),
    }
}

/// Waits for the next event, at most this many milliseconds; a negative number waits for ever, 0
/// not at all. Returns `HAUL_PENDING` if none came in that time. After the last event, which is
/// `HAUL_EVENT_COMPLETED` or `_FAILED`, `*event` is NULL. From the start of the download, a few
/// dozen events are kept until they are taken; the last one is never lost.
///
/// Gives: `*event`, to be freed by `haul_event_free`. Threads: any; each event goes to one call, and
/// calls with one download wait for one another.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `event` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_download_next_event(
    download: *const Download,
    milliseconds: i64,
    event: *mut *mut Event,
) -> Code {
    entry(|| {
        // The handle points to a `Told`, which begins with the event.
        // SAFETY: the contract above.
        let out = unsafe { Out::new(event.cast::<*mut Told>(), "event") }?;
        // SAFETY: the contract above.
        let download = unsafe { borrow(download, "download") }?;
        if let Some(event) = next(&download.1, milliseconds)? {
            give(Told::new(event), out);
        }
        Ok(())
    })
}

/// Frees an event with its texts; NULL is ignored.
///
/// Takes: `event`. Threads: any, but nothing else may use `event` meanwhile.
///
/// # Safety
/// `event` is NULL or of `haul_download_next_event`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_event_free(event: *mut Event) {
    // SAFETY: it was given out as what begins with it, by the contract above.
    entry_free(|| unsafe { release(event.cast::<Told>()) });
}

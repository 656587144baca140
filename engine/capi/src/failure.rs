//! Error codes, and what the last error of a thread was.

use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::io::ErrorKind as Kind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use haul_engine::ErrorKind;

use crate::os;

/// What a function returns: 0, a negative number for something that is no error, or a positive one
/// for an error.
pub type Code = i32;

/// Done.
pub const HAUL_OK: Code = 0;
/// Not an error: the requested result is not there yet, because the download is still running.
pub const HAUL_PENDING: Code = -1;
/// A defect of haul.
pub const HAUL_INTERNAL: Code = 1;
/// An argument that cannot be used.
pub const HAUL_INVALID_INPUT: Code = 2;
/// The output exists and was not to be replaced.
pub const HAUL_OUTPUT_EXISTS: Code = 3;
/// Another download, in any process, is writing to the same output.
pub const HAUL_LOCKED: Code = 4;
/// A local file or directory failed.
pub const HAUL_LOCAL_FILE: Code = 5;
/// The disk or a quota is full, or the file is too large for the file system.
pub const HAUL_DISK_FULL: Code = 6;
/// A lookup, connect, reset or stall failed after all retries.
pub const HAUL_NETWORK: Code = 7;
/// TLS: an untrusted, expired or misnamed certificate, or a failed handshake.
pub const HAUL_TLS: Code = 8;
/// 401, 403, 407 or 410: refused, or the link expired.
pub const HAUL_ACCESS_DENIED: Code = 9;
/// The proxy wants a login or a different one, or refuses the connection.
pub const HAUL_PROXY_REFUSED: Code = 10;
/// The server broke HTTP; nothing wrong was stored.
pub const HAUL_PROTOCOL: Code = 11;
/// Any other HTTP error status.
pub const HAUL_HTTP_STATUS: Code = 12;
/// The bytes do not match the digest.
pub const HAUL_DIGEST_MISMATCH: Code = 13;
/// The object changed, again, while it was downloaded.
pub const HAUL_OBJECT_CHANGED: Code = 14;
/// A limit that the caller set was reached.
pub const HAUL_LIMIT_REACHED: Code = 15;
/// The download was cancelled.
pub const HAUL_CANCELLED: Code = 16;
/// A part of the program panicked, and the message names it. A C program has no such part.
pub const HAUL_CALLBACK: Code = 17;

/// What is known about a failure; see `haul_last_error`. Texts are one line, hold no secret (no
/// query of a URL, no password, no header), and end without a full stop.
#[repr(C)]
#[derive(Debug)]
pub struct Error {
    /// The code that the function returned.
    pub code: Code,
    /// The HTTP status that caused it, or 0.
    pub http_status: i32,
    /// What happened, and what it means for the download.
    pub message: *const c_char,
    /// The next step for a person, which names no option of the command, or NULL.
    pub hint: *const c_char,
    /// The path of the checkpoint, if what was stored is kept, or NULL.
    pub checkpoint: *const c_char,
    /// Whether the same download, started again, in any process and also with
    /// another signature in its URL, continues instead of starting from zero.
    pub resumable: bool,
}

/// Why an entry did not succeed.
pub(crate) enum Failure {
    Pending,
    Engine(haul_engine::Error),
    /// An argument that is refused, and why.
    Argument(&'static str, &'static str),
    Io(std::io::Error),
}

impl From<haul_engine::Error> for Failure {
    fn from(error: haul_engine::Error) -> Self {
        Self::Engine(error)
    }
}

/// The last error of a thread, with the texts it points to.
struct Last {
    error: Error,
    _texts: [Option<CString>; 3],
}

impl Last {
    fn new(code: Code, message: &str, of: Option<&haul_engine::Error>) -> Self {
        let path = of.and_then(haul_engine::Error::checkpoint);
        let texts = [
            Some(c_string(message.as_bytes())),
            of.and_then(haul_engine::Error::hint).map(|hint| c_string(hint.to_string().as_bytes())),
            path.map(|path| c_string(&os::bytes_of(path))),
        ];
        // A CString's bytes stay where they are when it is moved.
        let [message, hint, checkpoint] =
            texts.each_ref().map(|text| text.as_ref().map_or(ptr::null(), |text| text.as_ptr()));
        let error = Error {
            code,
            http_status: of.and_then(haul_engine::Error::http_status).map_or(0, i32::from),
            message,
            hint,
            checkpoint,
            resumable: of.is_some_and(haul_engine::Error::is_resumable),
        };
        Self { error, _texts: texts }
    }
}

thread_local! {
    static LAST: RefCell<Option<Box<Last>>> = const { RefCell::new(None) };
}

/// The failure of the last function that failed on this thread; NULL if none has. It is valid until
/// the next function fails on this thread or the thread ends. It belongs to haul and must not be
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn haul_last_error() -> *const Error {
    let last = LAST.try_with(|last| match last.try_borrow().as_deref() {
        Ok(Some(last)) => &raw const last.error,
        _ => ptr::null(),
    });
    last.unwrap_or(ptr::null())
}

/// A C string of these bytes; a NUL among them, which only a stray path has,
/// becomes a question mark.
pub(crate) fn c_string(bytes: &[u8]) -> CString {
    let bytes = bytes.iter().map(|byte| if *byte == 0 { b'?' } else { *byte });
    CString::new(bytes.collect::<Vec<u8>>()).unwrap_or_default()
}

pub(crate) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidInput => HAUL_INVALID_INPUT,
        ErrorKind::OutputExists => HAUL_OUTPUT_EXISTS,
        ErrorKind::Locked => HAUL_LOCKED,
        ErrorKind::LocalFile => HAUL_LOCAL_FILE,
        ErrorKind::DiskFull => HAUL_DISK_FULL,
        ErrorKind::Network => HAUL_NETWORK,
        ErrorKind::Tls => HAUL_TLS,
        ErrorKind::AccessDenied => HAUL_ACCESS_DENIED,
        ErrorKind::ProxyRefused => HAUL_PROXY_REFUSED,
        ErrorKind::Protocol => HAUL_PROTOCOL,
        ErrorKind::HttpStatus => HAUL_HTTP_STATUS,
        ErrorKind::DigestMismatch => HAUL_DIGEST_MISMATCH,
        ErrorKind::ObjectChanged => HAUL_OBJECT_CHANGED,
        ErrorKind::LimitReached => HAUL_LIMIT_REACHED,
        ErrorKind::Cancelled => HAUL_CANCELLED,
        ErrorKind::Callback => HAUL_CALLBACK,
        _ => HAUL_INTERNAL,
    }
}

fn last_of(failure: Failure) -> Option<Last> {
    let engine =
        |error: &haul_engine::Error| Last::new(code(error.kind()), &error.to_string(), Some(error));
    match failure {
        Failure::Pending => None,
        Failure::Engine(error) => Some(engine(&error)),
        Failure::Argument(name, why) => {
            Some(Last::new(HAUL_INVALID_INPUT, &format!("{name}: {why}"), None))
        }
        Failure::Io(error) => Some(
            match error.get_ref().and_then(|inner| inner.downcast_ref::<haul_engine::Error>()) {
                Some(inner) => engine(inner),
                // A place that is none, or the end of an object whose size nobody knows.
                None if matches!(error.kind(), Kind::InvalidInput | Kind::Unsupported) => {
                    Last::new(HAUL_INVALID_INPUT, &error.to_string(), None)
                }
                None => Last::new(HAUL_LOCAL_FILE, &error.to_string(), None),
            },
        ),
    }
}

/// Runs the body of a function: no unwinding leaves it, and what fails is kept
/// for `haul_last_error`.
pub(crate) fn entry(body: impl FnOnce() -> Result<(), Failure>) -> Code {
    // Whatever a panic left half done is behind locks that ignore poisoning and
    // hold plain data, as in the engine itself.
    let result = catch_unwind(AssertUnwindSafe(|| match body() {
        Ok(()) => (HAUL_OK, None),
        Err(failure) => match last_of(failure) {
            Some(last) => (last.error.code, Some(last)),
            None => (HAUL_PENDING, None),
        },
    }));
    let (code, last) = result.unwrap_or_else(|panic| {
        // What a panic carries may panic when it is dropped.
        std::mem::forget(panic);
        (HAUL_INTERNAL, Some(Last::new(HAUL_INTERNAL, "a defect of haul: a panic", None)))
    });
    if let Some(last) = last {
        // While the thread ends there may be no place for it any more.
        let _ = LAST.try_with(|place| place.replace(Some(Box::new(last))));
    }
    code
}

/// Runs the body of a free function.
pub(crate) fn entry_free(body: impl FnOnce()) {
    entry(|| {
        body();
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn message() -> String {
        let last = haul_last_error();
        assert!(!last.is_null());
        // SAFETY: not null, of this thread, and nothing failed since.
        let message = unsafe { (*last).message };
        // SAFETY: the message of an error is a C string that lives as long.
        unsafe { CStr::from_ptr(message) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_code_and_so_does_one_that_carries_a_panic() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in a drop");
            }
        }
        for body in [|| panic!("inside"), || std::panic::panic_any(Bomb)] {
            assert_eq!(entry(body), HAUL_INTERNAL);
            assert!(message().contains("defect"), "{}", message());
        }
    }

    #[test]
    fn each_thread_has_its_own_last_error() {
        assert_eq!(entry(|| Err(Failure::Argument("url", "it is NULL"))), HAUL_INVALID_INPUT);
        assert_eq!(message(), "url: it is NULL");
        std::thread::spawn(|| assert!(haul_last_error().is_null())).join().unwrap();
        assert_eq!(entry(|| Err(Failure::Pending)), HAUL_PENDING);
        assert_eq!(entry(|| Ok(())), HAUL_OK);
        assert_eq!(message(), "url: it is NULL", "what succeeds changes nothing");
    }

    #[test]
    fn errors_of_readers_are_those_of_their_download() {
        let inner: haul_engine::Error = "x".parse::<haul_engine::Checksum>().unwrap_err();
        let hint = inner.hint().unwrap().to_string();
        assert_eq!(entry(|| Err(Failure::Io(std::io::Error::other(inner)))), HAUL_INVALID_INPUT);
        // SAFETY: a call has just failed on this thread.
        let told = unsafe { (*haul_last_error()).hint };
        // SAFETY: this error has a hint.
        assert_eq!(unsafe { CStr::from_ptr(told) }.to_str().unwrap(), hint);
    }
}

//! Fresh URLs from a function of the program.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use haul_engine::{Refresh, Refreshing};

use crate::failure::{Code, HAUL_OK, c_string};

/// The space that a `haul_refresh` has for a URL, including its NUL.
pub const HAUL_URL_BYTES: usize = 65536;

/// A function of the program that gives a fresh URL for one that expired, such as a signed link: it
/// writes it with a NUL to `fresh`, which has room for `size` bytes, and returns `HAUL_OK`.
/// Anything else means that there is no fresh URL, and the download fails as if there were no
/// function.
///
/// It is called on a thread of haul, where it may wait for up to two minutes, and it may be called
/// for several downloads at once. It may call functions of haul, but must not wait for the download
/// it is called for, nor free its download or engine. No exception may leave it: the process is
/// aborted. `expired` and `fresh` are valid until it returns.
pub type RefreshFunction = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        expired: *const c_char,
        fresh: *mut c_char,
        size: usize,
    ) -> Code,
>;

/// A function of the program that frees what `context` points to: called once, on any thread, when
/// nothing can use it any more. No exception may leave it.
pub type ReleaseFunction = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// What the program gave, until the last download that may ask is gone.
struct Given {
    ask: RefreshFunction,
    context: *mut c_void,
    release: ReleaseFunction,
}

// SAFETY: by the contract of `haul_options_set_refresh` both functions may be
// called with the context on any thread.
unsafe impl Send for Given {}
// SAFETY: and several at once.
unsafe impl Sync for Given {}

impl Drop for Given {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the function's contract; nothing has the context any more.
            unsafe { release(self.context) };
        }
    }
}

impl Given {
    fn fresh(&self, expired: &str) -> Result<String, &'static str> {
        let expired = c_string(expired.as_bytes());
        let mut room = vec![0_u8; HAUL_URL_BYTES];
        let ask = self.ask.ok_or("the program has no function for it")?;
        // SAFETY: a string and room that live until it returns; the rest is
        // the program's promise.
        let code =
            unsafe { ask(self.context, expired.as_ptr(), room.as_mut_ptr().cast(), room.len()) };
        if code != HAUL_OK {
            return Err("the program has no fresh URL");
        }
        let fresh = CStr::from_bytes_until_nul(&room).map_err(|_| "the fresh URL has no end")?;
        let fresh = fresh.to_str().map_err(|_| "the fresh URL is not UTF-8")?;
        Ok(fresh.to_owned())
    }
}

/// The program's function as the engine asks it.
pub(crate) struct Refresher(Arc<Given>);

impl Refresher {
    pub(crate) fn new(
        ask: RefreshFunction,
        context: *mut c_void,
        release: ReleaseFunction,
    ) -> Self {
        Self(Arc::new(Given { ask, context, release }))
    }
}

impl Refresh for Refresher {
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a> {
        let (given, url) = (Arc::clone(&self.0), url.to_owned());
        Box::pin(async move {
            // It may wait, and not on the thread that drives all downloads.
            let asked = tokio::task::spawn_blocking(move || given.fresh(&url)).await;
            asked.map_err(|_| "the question for a fresh URL was lost")?.map_err(Into::into)
        })
    }
}

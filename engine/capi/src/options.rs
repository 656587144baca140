//! The options of a download.

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_engine::blocking::DownloadBuilder;
use haul_engine::{
    Checksum, Connections, DownloadOptions, Existing, Foreign, Resume, RetryPolicy, Selection,
};

use crate::engine::Engine;
use crate::failure::{Code, Failure, entry, entry_free};
use crate::pointer::{Out, borrow, give, path, release, text};
use crate::refresh::{RefreshFunction, Refresher, ReleaseFunction};

/// For `haul_options_set_resume`: an earlier partial download is continued when the object is
/// provably the same; otherwise it restarts. The default.
pub const HAUL_RESUME_AUTO: i32 = 0;
/// For `haul_options_set_resume`: an earlier partial download is continued even if only the size
/// shows that the object is the same.
pub const HAUL_RESUME_ALWAYS: i32 = 1;
/// For `haul_options_set_resume`: an earlier partial is discarded.
pub const HAUL_RESUME_NEVER: i32 = 2;

/// The options of one download. They may be used for several downloads.
pub struct Options(Mutex<DownloadBuilder>);

impl Options {
    fn lock(&self) -> MutexGuard<'_, DownloadBuilder> {
        // The builder is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut DownloadOptions)) {
        change(self.lock().options_mut());
    }

    pub(crate) fn builder(&self) -> DownloadBuilder {
        self.lock().clone()
    }
}

/// Creates the options of a download of `url`, which is checked when the download starts. A login
/// in it is sent as basic authentication and never shown.
///
/// Gives: `*options`, to be freed by `haul_options_free`. Threads: any.
///
/// # Safety
/// `engine` is NULL or of `haul_engine_new` and not freed; `url` is NULL or a string; `options` is
/// NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_new(
    engine: *const Engine,
    url: *const c_char,
    options: *mut *mut Options,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(options, "options") }?;
        // SAFETY: the contract above.
        let engine = unsafe { borrow(engine, "engine") }?;
        // SAFETY: the contract above.
        let url = unsafe { text(url, "url") }?;
        give(Options(Mutex::new(engine.0.download(url))), out);
        Ok(())
    })
}

/// Frees options; downloads started with them have their own. NULL is ignored.
///
/// Takes: `options`. Threads: any, but nothing else may use `options` meanwhile.
///
/// # Safety
/// `options` is NULL or of `haul_options_new`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_free(options: *mut Options) {
    // SAFETY: the contract above.
    entry_free(|| unsafe { release(options) });
}

/// The output file; a relative one is below the directory. Without it the server names the file, or
/// else the URL: such a name is always one safe component.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `file` is NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_output(
    options: *mut Options,
    file: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let file = unsafe { path(file, "file") }?;
        options.change(|it| it.output = Some(file.to_owned()));
        Ok(())
    })
}

/// The directory of the output, created if needed. The default is the working directory.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `directory` is NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_directory(
    options: *mut Options,
    directory: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let directory = unsafe { path(directory, "directory") }?;
        options.change(|it| it.directory = directory.to_owned());
        Ok(())
    })
}

/// The digest that the object must have to get its name, as `ALGO=HEX` with ALGO one of sha256,
/// sha512, sha1, md5, blake3; or bare hexadecimal digits, whose number implies the algorithm.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `checksum` is NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_checksum(
    options: *mut Options,
    checksum: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let checksum: Checksum = unsafe { text(checksum, "checksum") }?.parse()?;
        options.change(|it| it.checksum = Some(checksum));
        Ok(())
    })
}

/// The size in bytes that the object must have; any other size is `HAUL_LIMIT_REACHED`.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_expected_size(options: *mut Options, bytes: u64) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.expected_size_bytes = Some(bytes));
        Ok(())
    })
}

/// Limits the number of connections; 0, the default, adds connections while that makes the download
/// faster, up to 16.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_connections(
    options: *mut Options,
    connections: u32,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.connections = number(connections));
        Ok(())
    })
}

/// Limits the rate, in bytes a second; 0, the default, is no limit. `haul_download_set_rate`
/// changes it.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_rate(
    options: *mut Options,
    bytes_per_second: u64,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let rate = (bytes_per_second > 0).then_some(bytes_per_second);
        options.change(|it| it.limit_rate_bytes_per_second = rate);
        Ok(())
    })
}

/// Adds a request header. It is sent only to the URL's own origin, and not to where that redirects.
/// Whether it can be sent is checked when the download starts.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `name` and `value` are each NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_add_header(
    options: *mut Options,
    name: *const c_char,
    value: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let name = unsafe { text(name, "name") }?;
        // SAFETY: the contract above.
        let value = unsafe { text(value, "value") }?;
        options.change(|it| it.headers.push((name.to_owned(), value.to_owned())));
        Ok(())
    })
}

/// Basic authentication, for the URL's own origin only.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `user` and `password` are each NULL or a
/// string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_login(
    options: *mut Options,
    user: *const c_char,
    password: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let user = unsafe { text(user, "user") }?;
        // SAFETY: the contract above.
        let password = unsafe { text(password, "password") }?;
        options.change(|it| it.basic_auth = Some((user.to_owned(), password.to_owned())));
        Ok(())
    })
}

/// Whether an existing output is replaced at the moment the new one is complete. The default is
/// false: `HAUL_OUTPUT_EXISTS`.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_overwrite(options: *mut Options, on: bool) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let existing = if on { Existing::Replace } else { Existing::Refuse };
        options.change(|it| it.existing = existing);
        Ok(())
    })
}

/// Whether an earlier partial download is continued: `HAUL_RESUME_AUTO`, `_ALWAYS` or `_NEVER`.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_resume(options: *mut Options, resume: i32) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let resume = match resume {
            HAUL_RESUME_AUTO => Resume::Auto,
            HAUL_RESUME_ALWAYS => Resume::Always,
            HAUL_RESUME_NEVER => Resume::Never,
            _ => return Err(Failure::Argument("resume", "it is none of HAUL_RESUME_*")),
        };
        options.change(|it| it.resume = resume);
        Ok(())
    })
}

/// Whether a file that another program began (curl, wget, Firefox, aria2) is continued, if parts of
/// it, fetched again, are the same. It is left as it is otherwise. The default is false.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_continue_foreign(
    options: *mut Options,
    on: bool,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let foreign = if on { Foreign::Continue } else { Foreign::Leave };
        options.change(|it| it.foreign = foreign);
        Ok(())
    })
}

/// How many rounds of backoff without any progress end the download. The default is 10.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_retries(options: *mut Options, rounds: u32) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let policy = RetryPolicy {
            max_attempts: rounds,
            max_hopeless_attempts: rounds,
            ..RetryPolicy::default()
        };
        options.change(|it| it.retry = policy);
        Ok(())
    })
}

/// How many milliseconds without a byte make a connection be given up, from 100 to 86400000. The
/// default is 30000, and 300000 for the very first byte.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_stall_timeout(
    options: *mut Options,
    milliseconds: u64,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.stall_timeout = Some(Duration::from_millis(milliseconds)));
        Ok(())
    })
}

/// Whether data and directory are synced before the file gets its name. The default is true;
/// without it, a power cut may damage what was complete.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_sync(options: *mut Options, on: bool) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.sync = on);
        Ok(())
    })
}

/// Whether the BLAKE3 of the object is computed. The default is true; without it, what an
/// interrupted download stored since its last sync is fetched again.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_digest(options: *mut Options, on: bool) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.digest = on);
        Ok(())
    })
}

/// Decides which download comes first if the engine cannot serve all at once: a higher priority
/// gets the connections that it can use before a lower one gets any. The default is 0;
/// `haul_download_set_priority` changes it.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_priority(options: *mut Options, priority: i32) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        options.change(|it| it.priority = priority);
        Ok(())
    })
}

/// Another URL of the same object. With a checksum, or a digest that the server sends, all URLs are
/// used at once; without one, a mirror replaces a URL that failed, from zero. The URL is checked
/// when the download starts.
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `url` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_add_mirror(
    options: *mut Options,
    url: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let url = unsafe { text(url, "url") }?;
        options.change(|it| it.mirrors.push(url.to_owned()));
        Ok(())
    })
}

/// Selects only these bytes of the object, one after another: `FIRST-LAST`, `FIRST-` or `-COUNT`
/// (the last ones), several with commas between them; as in a `Range` field (RFC 9110 section
/// 14.1.1).
///
/// Threads: any.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `ranges` is NULL or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_range(
    options: *mut Options,
    ranges: *const c_char,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        // SAFETY: the contract above.
        let selection: Selection = unsafe { text(ranges, "ranges") }?.parse()?;
        options.change(|it| it.range = Some(selection));
        Ok(())
    })
}

/// Asks the program for a fresh URL when the current one expires: `refresh` is called with
/// `context`. `release`, unless it is NULL, is called once with it when the options and all
/// downloads started with them are freed and no call is under way. It is also called when another
/// function is set, and when this function fails.
///
/// Threads: any; the functions themselves are called on haul's threads.
///
/// # Safety
/// `options` is NULL or of `haul_options_new` and not freed; `refresh` is NULL or a `haul_refresh`,
/// and `release` NULL or a `haul_release`, which may be called with `context` from any thread until
/// `release` was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_options_set_refresh(
    options: *mut Options,
    refresh: RefreshFunction,
    context: *mut c_void,
    release: ReleaseFunction,
) -> Code {
    entry(|| {
        // From here on the context is released, whatever fails.
        let refresher = Refresher::new(refresh, context, release);
        if refresh.is_none() {
            return Err(Failure::Argument("refresh", "it is NULL"));
        }
        // SAFETY: the contract above.
        let options = unsafe { borrow(options, "options") }?;
        let mut builder = options.lock();
        *builder = builder.clone().refresh(refresher);
        Ok(())
    })
}

/// As C gives it: 0 is automatic.
pub(crate) fn number(connections: u32) -> Connections {
    match usize::try_from(connections) {
        Ok(0) => Connections::Auto,
        fixed => Connections::Fixed(fixed.unwrap_or(usize::MAX)),
    }
}

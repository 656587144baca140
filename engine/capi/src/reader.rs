//! Reading while it downloads.

use std::ffi::c_void;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::{Mutex, PoisonError};

use haul_engine::blocking;

use crate::download::Download;
use crate::failure::{Code, Failure, entry, entry_free};
use crate::pointer::{Out, borrow, give, release};

/// For `haul_reader_seek`: from the start of the object; SEEK_SET.
pub const HAUL_SEEK_SET: i32 = 0;
/// For `haul_reader_seek`: from the reader's position; SEEK_CUR.
pub const HAUL_SEEK_CUR: i32 = 1;
/// For `haul_reader_seek`: from the end of the object; SEEK_END.
pub const HAUL_SEEK_END: i32 = 2;

/// No call reads more: a reader holds pieces of 128 KiB.
const MOST_BYTES: usize = 1 << 20;

/// Reads the object of a download while it arrives, and afterwards.
pub struct Reader(Mutex<blocking::Reader>);

/// Opens a reader at the object's start; any number may read at once. What it reads is fetched
/// before the rest.
///
/// Gives: `*reader`, to be freed by `haul_reader_free`. Threads: any.
///
/// # Safety
/// `download` is NULL or of `haul_download_start` and not freed; `reader` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_reader_open(
    download: *const Download,
    reader: *mut *mut Reader,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let out = unsafe { Out::new(reader, "reader") }?;
        // SAFETY: the contract above.
        let download = unsafe { borrow(download, "download") }?;
        give(Reader(Mutex::new(download.reader())), out);
        Ok(())
    })
}

/// Reads at least one byte and at most `size`, and waits until there is one to read; `*read` is 0
/// only at the end of the object (or for a `size` of 0). The bytes came in validated responses, but
/// only `haul_download_wait` says whether a digest of the whole object matches. If the download
/// fails, this fails with the same code; cancelling the download ends the wait. The rest of the
/// buffer may be overwritten.
///
/// Threads: any; calls with one reader wait for one another.
///
/// # Safety
/// `reader` is NULL or of `haul_reader_open` and not freed; `buffer` is NULL or has room for `size`
/// bytes that nothing else uses meanwhile; `read` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_reader_read(
    reader: *const Reader,
    buffer: *mut c_void,
    size: usize,
    read: *mut usize,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let reader = unsafe { borrow(reader, "reader") }?;
        if buffer.is_null() || read.is_null() {
            return Err(Failure::Argument("buffer and read", "one is NULL"));
        }
        // SAFETY: not null; can be written by the contract above.
        unsafe { read.write(0) };
        let (buffer, size) = (buffer.cast::<u8>(), size.min(MOST_BYTES));
        // SAFETY: there is room for `size` bytes by the contract above. Zeroed,
        // they may be seen as bytes whatever was there.
        unsafe { buffer.write_bytes(0, size) };
        // SAFETY: not null, initialised just now, far below `isize::MAX`, and
        // nobody else's until this function returns.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, size) };
        // A reader whose call panicked stands where it stood.
        let mut reader = reader.0.lock().unwrap_or_else(PoisonError::into_inner);
        let got = loop {
            match reader.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(Failure::Io)?,
            }
        };
        // SAFETY: as above.
        unsafe { read.write(got) };
        Ok(())
    })
}

/// Moves to another position, which may be beyond the end. `whence` is `HAUL_SEEK_SET`, `_CUR` or
/// `_END`; the last waits until the size is known. `*position`, unless `position` is NULL, is then
/// the offset from the start.
///
/// Threads: any; calls with one reader wait for one another.
///
/// # Safety
/// `reader` is NULL or of `haul_reader_open` and not freed; `position` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_reader_seek(
    reader: *const Reader,
    offset: i64,
    whence: i32,
    position: *mut u64,
) -> Code {
    entry(|| {
        // SAFETY: the contract above.
        let reader = unsafe { borrow(reader, "reader") }?;
        let to = match whence {
            HAUL_SEEK_SET => SeekFrom::Start(
                u64::try_from(offset)
                    .map_err(|_| Failure::Argument("offset", "it is before the start"))?,
            ),
            HAUL_SEEK_CUR => SeekFrom::Current(offset),
            HAUL_SEEK_END => SeekFrom::End(offset),
            _ => return Err(Failure::Argument("whence", "it is none of HAUL_SEEK_*")),
        };
        let mut reader = reader.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = reader.seek(to).map_err(Failure::Io)?;
        if !position.is_null() {
            // SAFETY: not null; can be written by the contract above.
            unsafe { position.write(at) };
        }
        Ok(())
    })
}

/// Frees a reader; NULL is ignored.
///
/// Takes: `reader`. Threads: any, but nothing else may use `reader` meanwhile.
///
/// # Safety
/// `reader` is NULL or of `haul_reader_open`, and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn haul_reader_free(reader: *mut Reader) {
    // SAFETY: the contract above.
    entry_free(|| unsafe { release(reader) });
}

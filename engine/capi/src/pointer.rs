//! What comes from C and goes there: handles, texts, places for results.

use std::ffi::{CStr, CString, c_char};
use std::path::Path;
use std::ptr::NonNull;

use crate::failure::{Failure, c_string};
use crate::os;

/// The value behind a handle.
///
/// # Safety
/// `handle` is NULL, or [`give`] made it and [`release`] has not had it and
/// will not before `'a` ends. Only shared references to the value exist, so
/// `T: Sync` makes it fit for several threads.
pub(crate) unsafe fn borrow<'a, T: Sync>(
    handle: *const T,
    name: &'static str,
) -> Result<&'a T, Failure> {
    // SAFETY: not null, it points to a value that a box of ours holds, by the
    // contract above.
    unsafe { handle.as_ref() }.ok_or(Failure::Argument(name, "it is NULL"))
}

/// Frees what a handle stands for, if it is not NULL.
///
/// # Safety
/// `handle` is NULL, or [`give`] made it, nothing else uses it now, and nothing
/// uses it afterwards.
pub(crate) unsafe fn release<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: it came from `Box::into_raw` in `give`, and comes back once.
        drop(unsafe { Box::from_raw(handle) });
    }
}

/// A place for a pointer that a function gives; NULL until then.
pub(crate) struct Out<T>(NonNull<*mut T>);

impl<T> Out<T> {
    /// # Safety
    /// `place` is NULL or can be written until the function returns.
    pub(crate) unsafe fn new(place: *mut *mut T, name: &'static str) -> Result<Self, Failure> {
        let place = NonNull::new(place).ok_or(Failure::Argument(name, "it is NULL"))?;
        // SAFETY: it can be written, by the contract above.
        unsafe { place.write(std::ptr::null_mut()) };
        Ok(Self(place))
    }

    fn put(self, pointer: *mut T) {
        // SAFETY: it can be written, by the contract of `new`.
        unsafe { self.0.write(pointer) };
    }
}

/// Gives a value out as a handle.
pub(crate) fn give<T: Send + Sync>(value: T, out: Out<T>) {
    out.put(Box::into_raw(Box::new(value)));
}

/// Gives a text or a path out, to be freed by `haul_string_free`.
pub(crate) fn give_text(bytes: &[u8], out: Out<c_char>) {
    out.put(c_string(bytes).into_raw());
}

/// What [`give_text`] gave, taken back.
///
/// # Safety
/// As [`release`].
pub(crate) unsafe fn take_text(text: *mut c_char) -> Option<CString> {
    // SAFETY: it came from `CString::into_raw`, and comes back once.
    (!text.is_null()).then(|| unsafe { CString::from_raw(text) })
}

/// A text from outside.
///
/// # Safety
/// `text` is NULL, or a string with its NUL that does not change until `'a` ends.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &'static str) -> Result<&'a str, Failure> {
    // SAFETY: handed on.
    let bytes = unsafe { bytes(text, name) }?;
    // Not quoted: it may be a secret.
    std::str::from_utf8(bytes).map_err(|_| Failure::Argument(name, "it is not UTF-8"))
}

/// A path from outside, in the encoding that the system has for them.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path<'a>(
    path: *const c_char,
    name: &'static str,
) -> Result<&'a Path, Failure> {
    // SAFETY: handed on.
    let bytes = unsafe { bytes(path, name) }?;
    os::path_of(bytes).ok_or(Failure::Argument(name, "it is not UTF-8"))
}

/// # Safety
/// As [`text`].
unsafe fn bytes<'a>(text: *const c_char, name: &'static str) -> Result<&'a [u8], Failure> {
    if text.is_null() {
        return Err(Failure::Argument(name, "it is NULL"));
    }
    // SAFETY: not null, with a NUL at its end and unchanged, by the contract above.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Copies a structure into the caller's, which may be older or newer: what it
/// has no room for is left out, what it has more is zeroed.
///
/// # Safety
/// `place` is NULL or `size_bytes` from it on can be written. `T` has no
/// padding that is not written, or none that the caller may not see: its bytes
/// are plain numbers.
pub(crate) unsafe fn fill<T: Plain>(
    value: &T,
    place: *mut T,
    size_bytes: usize,
    name: &'static str,
) -> Result<(), Failure> {
    if place.is_null() {
        return Err(Failure::Argument(name, "it is NULL"));
    }
    let (from, to) = (std::ptr::from_ref(value).cast::<u8>(), place.cast::<u8>());
    let known = size_bytes.min(size_of::<T>());
    // SAFETY: `known` bytes are within the value and within the caller's
    // structure, which is his own memory and so cannot overlap with `value`.
    unsafe { std::ptr::copy_nonoverlapping(from, to, known) };
    // SAFETY: `known` is at most `size_bytes`, which can be written.
    let rest = unsafe { to.add(known) };
    // SAFETY: as above.
    unsafe { std::ptr::write_bytes(rest, 0, size_bytes - known) };
    Ok(())
}

/// A structure of numbers for [`fill`], and nothing that is ever freed.
pub(crate) trait Plain: Copy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq, Debug, Default)]
    #[repr(C)]
    struct Pair(u32, u32);
    impl Plain for Pair {}

    #[test]
    fn older_and_newer_callers_get_what_they_have_room_for() {
        for (size_bytes, expected) in
            [(0, [9, 9, 9, 9]), (4, [1, 9, 9, 9]), (8, [1, 2, 9, 9]), (12, [1, 2, 0, 9])]
        {
            let mut room = [9_u32; 4];
            // SAFETY: the room has 16 bytes, of which at most 12 are told.
            let filled =
                unsafe { fill(&Pair(1, 2), room.as_mut_ptr().cast::<Pair>(), size_bytes, "room") };
            assert!(filled.is_ok());
            assert_eq!(room, expected, "{size_bytes} bytes");
        }
    }

    #[test]
    fn texts_are_checked() {
        // SAFETY: C strings of this program.
        let read = |given: Option<&CStr>| unsafe {
            text(given.map_or(std::ptr::null(), CStr::as_ptr), "url").map(str::to_owned)
        };
        assert_eq!(read(Some(c"ä")).ok().as_deref(), Some("ä"));
        assert!(matches!(read(None), Err(Failure::Argument("url", "it is NULL"))));
        assert!(matches!(read(Some(c"\xff")), Err(Failure::Argument("url", "it is not UTF-8"))));
        // SAFETY: as above.
        let name = |given: &CStr| unsafe { path(given.as_ptr(), "path") }.ok().map(os::bytes_of);
        assert_eq!(name(c"\u{e4}").as_deref(), Some("\u{e4}".as_bytes()));
        // Windows has no such paths.
        assert!(name(c"\xff").is_none_or(|given| given == b"\xff"));
    }
}

//! What an error of the system means beyond its kind.

use std::io;

use windows_sys::Win32::Foundation as win32;

/// The numbers are unsigned in the system's headers and signed in std.
pub(super) const fn number(of: u32) -> i32 {
    of.cast_signed()
}

pub(super) const MORE_DATA: i32 = number(win32::ERROR_MORE_DATA);

/// Whether the system or the file system has no such operation.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    let numbers = [
        win32::ERROR_INVALID_FUNCTION,
        win32::ERROR_NOT_SUPPORTED,
        win32::ERROR_INVALID_PARAMETER,
        win32::ERROR_CALL_NOT_IMPLEMENTED,
    ];
    error.kind() == io::ErrorKind::Unsupported || is_any(error, &numbers)
}

/// Whether `error` has one of these numbers.
pub(super) fn is_any(error: &io::Error, of: &[u32]) -> bool {
    error.raw_os_error().is_some_and(|found| of.iter().any(|it| number(*it) == found))
}

/// The error that comes closest to the one with this C name, for tests that inject one.
#[cfg(any(test, feature = "fault-points"))]
pub(crate) fn named(name: &str) -> Option<io::Error> {
    let found = match name {
        "ENOSPC" => win32::ERROR_DISK_FULL,
        "EDQUOT" => win32::ERROR_DISK_QUOTA_EXCEEDED,
        "EIO" => win32::ERROR_IO_DEVICE,
        "EOPNOTSUPP" | "ENOLCK" => win32::ERROR_NOT_SUPPORTED,
        "ENOSYS" => win32::ERROR_CALL_NOT_IMPLEMENTED,
        "EINVAL" => win32::ERROR_INVALID_PARAMETER,
        "EPERM" => win32::ERROR_ACCESS_DENIED,
        "EMFILE" => win32::ERROR_TOO_MANY_OPEN_FILES,
        "EILSEQ" => win32::ERROR_INVALID_NAME,
        "ENAMETOOLONG" => win32::ERROR_FILENAME_EXCED_RANGE,
        _ => return None,
    };
    Some(io::Error::from_raw_os_error(number(found)))
}

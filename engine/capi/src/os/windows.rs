//! Windows, where threads have no signals and a path is given as UTF-8.

use std::path::Path;

/// The path that a program gave as these bytes; `None` where they are not UTF-8.
pub(crate) fn path_of(bytes: &[u8]) -> Option<&Path> {
    str::from_utf8(bytes).ok().map(Path::new)
}

/// The bytes of a path as a program is given it. What is no Unicode becomes a replacement character.
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    path.to_string_lossy().into_owned().into_bytes()
}

/// Runs `make`, whose threads take no signals since there are none.
pub(crate) fn blocked<T>(make: impl FnOnce() -> T) -> T {
    make()
}

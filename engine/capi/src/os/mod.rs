//! What differs between systems: how paths are written as bytes, and which signals threads take.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::{blocked, bytes_of, path_of};
#[cfg(windows)]
pub(crate) use windows::{blocked, bytes_of, path_of};

//! The operating system: the only room that knows which one it runs on.
//!
//! `cfg(unix)`, error numbers, system calls and the traits of `std::os` stay in here;
//! `.ci/check-rooms` enforces that. A function is named for what it promises, and each system keeps
//! the promise in its own way: `unix` and `windows` have the same functions. Failures leave as an
//! [`std::io::Error`], and where more than its kind counts, a function beside it tells what the
//! error means.
//!
//! Nothing in here decides anything about a download: the rooms above do.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

#[cfg(any(windows, target_vendor = "apple"))]
mod absent;
pub(crate) mod map;
pub(crate) mod net;
pub(crate) mod routes;
pub(crate) mod tcp;
mod terms;

#[cfg(feature = "fault-points")]
pub(crate) use system::process;
#[cfg(feature = "proxy")]
pub(crate) use system::proxy;
#[cfg(test)]
pub(crate) use system::testing;
pub(crate) use system::{attribute, clock, error, file, lock, name, parent, space};

//! The operating system: the only room that knows which one it runs on.
//!
//! `cfg(unix)`, error numbers, system calls and the traits of `std::os` stay in here;
//! `.ci/check-rooms` enforces that. A function is named for what it promises, so that another
//! system can keep the promise in its own way. Failures leave as an [`std::io::Error`], and where
//! more than its kind counts, a function beside it tells what the error means.
//!
//! Nothing in here decides anything about a download: the rooms above do.

pub(crate) mod attribute;
pub(crate) mod clock;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod name;
pub(crate) mod net;
#[cfg(feature = "fault-points")]
pub(crate) mod process;
pub(crate) mod routes;
pub(crate) mod space;
pub(crate) mod tcp;

//! Windows.

pub(crate) mod attribute;
mod calls;
pub(crate) mod clock;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod lock;
pub(crate) mod name;
pub(crate) mod parent;
#[cfg(feature = "fault-points")]
pub(crate) mod process;
#[cfg(feature = "proxy")]
pub(crate) mod proxy;
mod rights;
pub(crate) mod routes;
pub(crate) mod space;
#[cfg(test)]
pub(crate) mod testing;

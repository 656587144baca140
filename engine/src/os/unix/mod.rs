//! Linux, macOS and their kin. What differs between them is behind the functions of `kernel`.

#[cfg(target_vendor = "apple")]
mod apple;
#[cfg(not(target_vendor = "apple"))]
mod linux;

#[cfg(target_vendor = "apple")]
use apple as kernel;
#[cfg(not(target_vendor = "apple"))]
use linux as kernel;

pub(crate) mod attribute;
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
pub(crate) mod routes;
pub(crate) mod space;
#[cfg(test)]
pub(crate) mod testing;

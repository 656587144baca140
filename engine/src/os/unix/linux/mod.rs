//! Linux, where it differs from macOS.

mod claims;
mod files;
mod locks;
mod routes;
mod space;

use std::time::Duration;

use rustix::time::ClockId;

pub(crate) use self::claims::{claim, open_for_claims, release};
pub(crate) use self::files::{
    begin_write_back, can_name_unnamed, create_unnamed, name_unnamed, umask, writer_of,
};
#[cfg(test)]
pub(crate) use self::files::{make_fifo, unwritable};
pub(crate) use self::locks::{holder, lists_locks};
pub(crate) use self::routes::{is_change, routes_socket};
pub(crate) use self::space::{FileSystem, reserve};
use super::clock::read;

/// The proxies that are set beside the environment: none.
#[cfg(feature = "proxy")]
pub(crate) fn proxy_settings() -> Option<crate::os::terms::ProxySettings> {
    None
}

/// How long the machine has slept since it was started.
pub(crate) fn slept() -> Duration {
    // In this order, the time between the two reads never makes the difference too small.
    let awake = read(ClockId::Monotonic);
    read(ClockId::Boottime).saturating_sub(awake)
}

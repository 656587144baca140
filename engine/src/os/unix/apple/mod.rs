//! macOS, where it differs from Linux.

mod files;
#[cfg(feature = "proxy")]
mod proxy;
mod routes;
mod space;

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

pub(crate) use self::files::{lists_locks, umask};
#[cfg(test)]
pub(crate) use self::files::{make_fifo, unwritable};
#[cfg(feature = "proxy")]
pub(crate) use self::proxy::proxy_settings;
pub(crate) use self::routes::{is_change, routes_socket};
pub(crate) use self::space::{FileSystem, reserve};

use super::clock::read;
pub(crate) use crate::os::absent::{
    begin_write_back, can_name_unnamed, claim, create_unnamed, holder, name_unnamed,
    open_for_claims, release, writer_of,
};

/// How long the machine has slept since this was asked first. One clock goes on while it sleeps, and
/// the other one, which the standard library reads, does not.
pub(crate) fn slept() -> Duration {
    static START: LazyLock<(Duration, Instant)> =
        LazyLock::new(|| (read(ClockId::Monotonic), Instant::now()));
    let (all, awake) = *START;
    // In this order, the time between the two reads never makes the difference too small.
    let awake = awake.elapsed();
    read(ClockId::Monotonic).saturating_sub(all).saturating_sub(awake)
}

//! macOS, where it differs from Linux.

mod files;
mod routes;
mod space;

use std::time::Duration;

pub(crate) use self::files::{lists_locks, umask};
#[cfg(test)]
pub(crate) use self::files::{make_fifo, unwritable};
pub(crate) use self::routes::{is_change, routes_socket};
pub(crate) use self::space::{FileSystem, reserve};

pub(crate) use crate::os::absent::{
    begin_write_back, can_name_unnamed, create_unnamed, holder, name_unnamed, writer_of,
};

/// How long the machine has slept since it was started: no clock that can be read here tells.
pub(crate) fn slept() -> Duration {
    Duration::ZERO
}

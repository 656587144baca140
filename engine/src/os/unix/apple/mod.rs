//! macOS, where it differs from Linux.

mod files;
mod space;

use std::time::Duration;

pub(crate) use self::files::{
    begin_write_back, can_name_unnamed, create_unnamed, holder, lists_locks, name_unnamed, umask,
    writer_of,
};
#[cfg(test)]
pub(crate) use self::files::{make_fifo, unwritable};
pub(crate) use self::space::{FileSystem, reserve};

/// How long the machine has slept since it was started: no clock that can be read here tells.
pub(crate) fn slept() -> Duration {
    Duration::ZERO
}

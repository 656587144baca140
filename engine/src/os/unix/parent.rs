//! The process that started this one.

use rustix::process::{Pid, getppid};

/// A process is handed to another one as soon as its parent has ended, so the number that it sees
/// never stands for a second parent.
#[derive(Debug)]
pub(crate) struct Parent(Option<Pid>);

impl Parent {
    pub(crate) fn of_this_process() -> Self {
        Self(getppid())
    }

    pub(crate) fn is_alive(&self) -> bool {
        getppid() == self.0
    }
}

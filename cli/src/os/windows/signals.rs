//! Ctrl-C, Ctrl-Break and a window that is closed.

use std::io;

use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

use crate::os::terms::Interrupt;
pub(crate) use crate::os::terms::Mapped;

/// The events of the console that ask this process to stop.
pub(crate) struct Signals {
    c: CtrlC,
    r#break: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Signals {
    /// From now on these events do not end the process.
    ///
    /// # Errors
    /// When a handler cannot be set.
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            c: ctrl_c()?,
            r#break: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// The next of them; cancel safe.
    pub(crate) async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.c.recv() => Interrupt::Keyboard,
            _ = self.r#break.recv() => Interrupt::Terminate,
            _ = self.close.recv() => Interrupt::Hangup,
            _ = self.shutdown.recv() => Interrupt::Hangup,
        }
    }
}

/// What keeps this process from being suspended.
pub(crate) struct Unsuspended;

/// Windows suspends no process at the press of a key.
///
/// # Errors
/// Never.
pub(crate) fn refuse_suspension() -> io::Result<Unsuspended> {
    Ok(Unsuspended)
}

/// Nothing is mapped here: the engine maps only where it can bring in pages with a call.
pub(crate) fn explain_bus_errors(_: Mapped) {}

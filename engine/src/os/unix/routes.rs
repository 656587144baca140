//! News of the network from a socket of the kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::unix::AsyncFd;

use super::kernel;

/// See [`crate::os::routes`].
#[derive(Debug)]
pub(crate) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Listens from now on. Must be called on a tokio runtime with I/O.
    ///
    /// # Errors
    /// Where listening is not allowed, as in some containers.
    #[expect(unsafe_code, reason = "a descriptor is registered by a promise")]
    pub(crate) fn listen() -> io::Result<Self> {
        let socket = kernel::routes_socket()?;
        // SAFETY: the descriptor is open, since the `OwnedFd` owns it. It moves into the
        // `AsyncFd`, which gives out shared borrows of it only: nothing can close it or
        // put another one in its place before the `AsyncFd` is dropped.
        let registered = unsafe { AsyncFd::register(socket) };
        Ok(Self(registered?))
    }

    /// The next change; several at once are reported as one.
    ///
    /// # Errors
    /// When no more changes will be reported.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let (mut any, mut buffer) = (false, [0; 4096]);
            loop {
                match recv(self.0.get_ref(), &mut buffer[..], RecvFlags::empty()) {
                    Ok((len, _)) => any |= kernel::is_change(&buffer[..len]),
                    // What changed does not matter, and so neither do lost notices.
                    Err(Errno::NOBUFS) => any = true,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(error) => return Poll::Ready(Err(error.into())),
                }
            }
            ready.clear_ready();
            if any {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

//! Notices that the machine's addresses or routes changed: another Wi-Fi, a cable that was pulled,
//! a tunnel that came up, a laptop that slept.

use std::io;

#[cfg(any(target_os = "android", target_os = "linux"))]
pub(crate) use linux::Changes;
#[cfg(not(any(target_os = "android", target_os = "linux")))]
pub(crate) use nowhere::Changes;

#[cfg(any(target_os = "android", target_os = "linux"))]
mod linux {
    use std::os::fd::OwnedFd;
    use std::task::{Context, Poll, ready};

    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
    use tokio::io::unix::AsyncFd;

    use super::io;

    /// Addresses and routes of both families (rtnetlink(7)).
    const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

    /// See the module's documentation.
    #[derive(Debug)]
    pub(crate) struct Changes(AsyncFd<OwnedFd>);

    impl Changes {
        /// Listens from now on. Must be called on a tokio runtime with I/O.
        ///
        /// # Errors
        /// Where listening is not allowed, as in some containers.
        #[expect(unsafe_code, reason = "a descriptor is registered by a promise")]
        pub(crate) fn listen() -> io::Result<Self> {
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::RAW,
                SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                // NETLINK_ROUTE, which is zero.
                None,
            )?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
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
                        // Neither what changed matters, nor that some notices were lost.
                        Ok(_) | Err(Errno::NOBUFS) => any = true,
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
}

#[cfg(not(any(target_os = "android", target_os = "linux")))]
mod nowhere {
    use std::task::{Context, Poll};

    use super::io;

    /// See the module's documentation: on this system nothing reports changes.
    #[derive(Debug)]
    pub(crate) struct Changes;

    impl Changes {
        pub(crate) fn listen() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }
}

#[cfg(all(test, any(target_os = "android", target_os = "linux")))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nothing_is_told_while_nothing_changes() {
        // Listening is not allowed everywhere.
        let Ok(mut changes) = Changes::listen() else { return };
        let next = std::future::poll_fn(|context| changes.poll_next(context));
        let told = tokio::time::timeout(Duration::from_millis(50), next).await;
        // Another program may change something meanwhile; what matters is that polling never fails.
        assert!(told.is_err() || told.is_ok_and(|told| told.is_ok()));
    }
}

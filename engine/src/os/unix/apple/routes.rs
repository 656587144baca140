//! The kernel's notices of interfaces, addresses and routes, which come from a routing socket
//! (route(4)).

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketType, socket};

/// A socket that never waits, from which the notices can be read.
///
/// # Errors
/// Where listening is not allowed, as in a sandbox.
pub(crate) fn routes_socket() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::ROUTE, SocketType::RAW, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

/// Whether a notice tells of a change. The answers to what other programs ask the kernel, and the
/// lookups that found no route, come to every listener as well.
pub(crate) fn is_change(notice: &[u8]) -> bool {
    /// RTM_ADD, RTM_DELETE, RTM_CHANGE, RTM_NEWADDR, RTM_DELADDR and RTM_IFINFO
    /// (`<net/route.h>`).
    const CHANGES: [u8; 6] = [0x1, 0x2, 0x3, 0xc, 0xd, 0xe];
    // After the length, of two bytes, and the version.
    notice.get(3).is_some_and(|kind| CHANGES.contains(kind))
}

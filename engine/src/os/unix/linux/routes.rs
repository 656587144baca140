//! The kernel's notices of addresses and routes, which come by netlink.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// Addresses and routes of both families (rtnetlink(7)).
const GROUPS: u32 = 0x10 | 0x40 | 0x100 | 0x400;

/// A socket that never waits, from which the notices can be read.
///
/// # Errors
/// Where listening is not allowed, as in some containers.
pub(crate) fn routes_socket() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        // NETLINK_ROUTE, which is zero.
        None,
    )?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    Ok(socket)
}

/// Whether a notice tells of a change: in the groups above, each one does.
pub(crate) fn is_change(_: &[u8]) -> bool {
    true
}

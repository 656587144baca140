//! The TUN device: whole IP packets from and to the kernel of a namespace.
#![allow(unsafe_code, reason = "TUNSETIFF has no safe wrapper")]

use std::ffi::{c_int, c_short};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// `TUNSETIFF` of `linux/if_tun.h`.
const SET_INTERFACE: Opcode = opcode::write::<c_int>(b'T', 202);
/// Packets of the third layer, without four bytes of information ahead of each.
const TUN_WITHOUT_INFORMATION: c_short = 0x0001 | 0x1000;
const NAME_BYTES: usize = 16;

/// The kernel's `struct ifreq`, as far as this request fills it in.
#[repr(C, align(8))]
struct InterfaceRequest {
    name: [u8; NAME_BYTES],
    flags: c_short,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40, "the kernel copies 40 bytes");

/// Makes the device `name` in the namespace of this thread. Reads and writes do not block; the
/// device goes when the descriptor is closed.
pub(super) fn open(name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request =
        InterfaceRequest { name: [0; NAME_BYTES], flags: TUN_WITHOUT_INFORMATION, rest: [0; 22] };
    // The last byte stays zero and ends the name.
    for (to, from) in request.name[..NAME_BYTES - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: TUNSETIFF reads one `struct ifreq` and writes it back. `InterfaceRequest` has its
    // size (asserted above), alignment and layout, and every bit pattern is valid in it.
    let set = unsafe { Updater::<SET_INTERFACE, _>::new(&mut request) };
    // SAFETY: The kernel accesses nothing but the request, which `set` borrows for this call.
    unsafe { ioctl(&device, set) }?;
    Ok(device)
}

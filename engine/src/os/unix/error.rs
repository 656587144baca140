//! What an error of the system means beyond its kind.

use std::io;

use rustix::io::Errno;

/// Whether the system or the file system has no such operation.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    // Some blame the arguments. The last two are one number on Linux only.
    is_any(error, &[Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP])
}

/// Whether `error` is one of these.
pub(super) fn is_any(error: &io::Error, of: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|error| of.contains(&error))
}

/// The error with this C name, for tests that inject one.
#[cfg(any(test, feature = "fault-points"))]
pub(crate) fn named(name: &str) -> Option<io::Error> {
    let errno = match name {
        "ENOSPC" => Errno::NOSPC,
        "EDQUOT" => Errno::DQUOT,
        "EIO" => Errno::IO,
        "EOPNOTSUPP" => Errno::OPNOTSUPP,
        "ENOSYS" => Errno::NOSYS,
        "ENOLCK" => Errno::NOLCK,
        "EINVAL" => Errno::INVAL,
        "EILSEQ" => Errno::ILSEQ,
        "EPERM" => Errno::PERM,
        "EMFILE" => Errno::MFILE,
        "ENAMETOOLONG" => Errno::NAMETOOLONG,
        _ => return None,
    };
    Some(errno.into())
}

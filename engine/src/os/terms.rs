//! What all systems are asked for and tell, in terms of none.

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// What distinguishes a file from all others on the machine, as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What something at a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Link,
    Directory,
    Fifo,
    Other,
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misfit {
    TooLong,
    Refused,
}

/// The space of a file system, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Space {
    /// 0 where it has no bound, such as a tmpfs without a limit.
    pub(crate) total_bytes: u64,
    /// Includes what is kept for root.
    pub(crate) free_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// The proxies that a user sets for the whole system, as Windows writes them.
#[cfg(feature = "proxy")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProxySettings {
    /// `HOST:PORT` for everything, or `http=HOST:PORT;https=HOST:PORT` and the like.
    pub(crate) servers: String,
    /// What is asked directly, such as `*.example.org;10.*;<local>`.
    pub(crate) direct: String,
}

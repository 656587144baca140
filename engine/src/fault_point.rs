//! Places where a test makes the engine fail, and bugs that a test must notice.
//!
//! Without the feature `fault-points`, which only the test package turns on,
//! all of this is nothing: each call is an empty inline function. With it, the
//! environment of the process decides:
//!
//! - `HAUL_KILL_AT=N`: SIGKILL right before the N-th persistence call.
//! - `HAUL_FAIL_AT=CALL@N=ERRNO`: the N-th such call and all later ones fail
//!   with that error, such as `sync-data@1=EIO` or `write@20=ENOSPC`.
//! - `HAUL_SLOW_WRITES=Nms`: each call that stores bytes takes so long.
//! - `HAUL_BUG=NAME`: the bug of that name is in the program.

use std::io;

/// A call that changes what is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `NAME.part` is created.
    CreatePartial,
    /// Its blocks are reserved.
    Reserve,
    /// Bytes of the object are stored.
    Write,
    /// The data is synced.
    SyncData,
    /// A new checkpoint is written beside the old one.
    StageCheckpoint,
    /// It is synced.
    SyncCheckpoint,
    /// It takes the old one's place.
    RenameCheckpoint,
    /// The directory is synced for it.
    SyncCheckpointDirectory,
    /// Mode and time are set.
    SetAttributes,
    /// They are synced.
    SyncAttributes,
    /// The output gets its name.
    Publish,
    /// The directory is synced for it.
    SyncOutputDirectory,
    /// The checkpoint goes.
    RemoveCheckpoint,
    /// The partial goes.
    RemovePartial,
}

/// A bug that some test must notice. `.ci/check-tests-see-bugs` runs them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Publish without syncing the data.
    NoDataSync,
    /// Publish without syncing the directory.
    NoDirectorySync,
    /// Replace the checkpoint without syncing the directory.
    NoCheckpointDirectorySync,
    /// Take a 206 without looking at its Content-Range.
    AnyRange,
    /// Take a 206 without looking at its ETag.
    AnyTag,
    /// Believe complete segments of an earlier run without hashing them.
    TrustComplete,
    /// Store what a server sends beyond the range.
    BeyondRange,
    /// Send credentials wherever a redirect points.
    SecretsToAnyone,
    /// Count a response that brings no byte as progress.
    StallIsProgress,
    /// Look at no digest that a server sends.
    NoFieldDigests,
}

#[cfg(not(feature = "fault-points"))]
mod imp {
    use super::{Bug, Call, io};

    #[inline(always)]
    pub(crate) fn pass(_: Call) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn has(_: Bug) -> bool {
        false
    }
}

#[cfg(feature = "fault-points")]
mod imp {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::process::{Signal, getpid, kill_process};

    use super::{Bug, Call, io};

    struct Orders {
        kill_at: Option<u64>,
        fail: Option<(Call, u64, Errno)>,
        slow_writes: Option<Duration>,
        bug: Option<Bug>,
    }

    fn orders() -> &'static Orders {
        static ORDERS: OnceLock<Orders> = OnceLock::new();
        ORDERS.get_or_init(|| {
            let order = |name| std::env::var(name).ok();
            Orders {
                kill_at: order("HAUL_KILL_AT").map(|n| n.parse().expect("HAUL_KILL_AT: a number")),
                fail: order("HAUL_FAIL_AT").map(|text| fail_order(&text).expect("HAUL_FAIL_AT")),
                slow_writes: order("HAUL_SLOW_WRITES").map(|text| {
                    let millis = text.strip_suffix("ms").and_then(|text| text.parse().ok());
                    Duration::from_millis(millis.expect("HAUL_SLOW_WRITES: Nms"))
                }),
                bug: order("HAUL_BUG").map(|name| bug_named(&name).expect("HAUL_BUG: its name")),
            }
        })
    }

    fn fail_order(text: &str) -> Option<(Call, u64, Errno)> {
        let (call, rest) = text.split_once('@')?;
        let (number, errno) = rest.split_once('=')?;
        let call = match call {
            "create-partial" => Call::CreatePartial,
            "reserve" => Call::Reserve,
            "write" => Call::Write,
            "sync-data" => Call::SyncData,
            "stage-checkpoint" => Call::StageCheckpoint,
            "sync-checkpoint" => Call::SyncCheckpoint,
            "rename-checkpoint" => Call::RenameCheckpoint,
            "publish" => Call::Publish,
            "sync-output-directory" => Call::SyncOutputDirectory,
            _ => return None,
        };
        let errno = match errno {
            "ENOSPC" => Errno::NOSPC,
            "EDQUOT" => Errno::DQUOT,
            "EIO" => Errno::IO,
            "EOPNOTSUPP" => Errno::OPNOTSUPP,
            "EMFILE" => Errno::MFILE,
            _ => return None,
        };
        Some((call, number.parse().ok()?, errno))
    }

    fn bug_named(name: &str) -> Option<Bug> {
        Some(match name {
            "no-data-sync" => Bug::NoDataSync,
            "no-directory-sync" => Bug::NoDirectorySync,
            "no-checkpoint-directory-sync" => Bug::NoCheckpointDirectorySync,
            "any-range" => Bug::AnyRange,
            "any-tag" => Bug::AnyTag,
            "trust-complete" => Bug::TrustComplete,
            "beyond-range" => Bug::BeyondRange,
            "secrets-to-anyone" => Bug::SecretsToAnyone,
            "stall-is-progress" => Bug::StallIsProgress,
            "no-field-digests" => Bug::NoFieldDigests,
            _ => return None,
        })
    }

    pub(crate) fn pass(call: Call) -> io::Result<()> {
        static ALL: AtomicU64 = AtomicU64::new(0);
        static OF_THE_FAILING: AtomicU64 = AtomicU64::new(0);
        let orders = orders();
        if let (Call::Write, Some(time)) = (call, orders.slow_writes) {
            std::thread::sleep(time);
        }
        let number = ALL.fetch_add(1, Ordering::Relaxed) + 1;
        if orders.kill_at == Some(number) {
            let _ = kill_process(getpid(), Signal::KILL);
            // The signal is on its way; nothing more may happen.
            loop {
                std::thread::park();
            }
        }
        match orders.fail {
            Some((failing, from, errno))
                if failing == call
                    && OF_THE_FAILING.fetch_add(1, Ordering::Relaxed) + 1 >= from =>
            {
                Err(errno.into())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn has(bug: Bug) -> bool {
        orders().bug == Some(bug)
    }
}

pub(crate) use imp::{has, pass};

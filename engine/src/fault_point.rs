//! Places where a test makes the engine fail.
//!
//! Without the feature `fault-points`, which only the test package turns on, each
//! call here is an empty inline function. With it, the environment of the process
//! decides:
//!
//! - `HAUL_KILL_AT=N`: SIGKILL right before the N-th persistence call.
//! - `HAUL_WAIT_AT=N=PATH`: the N-th such call waits until a writer of the FIFO at `PATH`
//!   has closed it.
//! - `HAUL_FAIL_AT=CALL@N=ERRNO`: the N-th such call and all later ones fail
//!   with that error, such as `sync-data@1=EIO` or `write@20=ENOSPC`.
//!   Commas separate several such orders.
//! - `HAUL_NAMES=143` or `plain`: the file system accepts only names of up to that many
//!   bytes, or those that FAT accepts.
//! - `HAUL_SLOW_WRITES=Nms`: each call that stores bytes takes this long.
//!
//! The bugs that a test must notice are in `seeded_bugs`, and [`has_bug`] asks for them.

use std::io;
use std::path::Path;

/// A call that changes what is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `NAME.part` is created.
    CreatePartial,
    /// The partial's blocks are reserved.
    Reserve,
    /// Bytes of the object are stored.
    Write,
    /// The data is synced.
    SyncData,
    /// A new checkpoint is written beside the old one.
    StageCheckpoint,
    /// A checkpoint that was written without a name gets one beside the old one.
    NameStaged,
    /// The new checkpoint is synced.
    SyncCheckpoint,
    /// The new checkpoint's lock is taken.
    Lock,
    /// The new checkpoint takes the old one's place.
    RenameCheckpoint,
    /// The directory is synced after that.
    SyncCheckpointDirectory,
    /// The output's mode and time are set.
    SetAttributes,
    /// Mode and time are synced.
    SyncAttributes,
    /// The output gets its name.
    Publish,
    /// A name is given without replacing, by a rename.
    RenameNew,
    /// The same by a link.
    Link,
    /// The directory is synced for the new name.
    SyncOutputDirectory,
    /// The checkpoint is removed.
    RemoveCheckpoint,
    /// The partial is removed.
    RemovePartial,
    /// The directory is synced for another program's file, which was renamed.
    SyncAdoptedDirectory,
    /// What another program left beside its file is removed.
    RemoveForeign,
    /// Another program's file gets its length and its name back.
    GiveBack,
}

/// Whether this bug of [`crate::seeded_bugs`] is in the program. Without the feature it never is,
/// and the program does not even hold the bug's name.
#[cfg(feature = "fault-points")]
macro_rules! has_bug {
    ($bug:ident) => {
        $crate::seeded_bugs::is_in_the_program($crate::seeded_bugs::Bug::$bug)
    };
}
#[cfg(not(feature = "fault-points"))]
macro_rules! has_bug {
    ($bug:ident) => {
        false
    };
}

#[cfg(not(feature = "fault-points"))]
mod imp {
    use super::{Call, Path, io};

    #[inline(always)]
    pub(crate) fn pass(_: Call) -> io::Result<()> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn take_name(_: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "fault-points")]
mod imp {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Call, Path, io};
    use crate::os;

    struct Orders {
        kill_at: Option<u64>,
        wait_at: Option<(u64, PathBuf)>,
        fail: Vec<(Call, u64, String, AtomicU64)>,
        names: Option<String>,
        slow_writes: Option<Duration>,
    }

    fn orders() -> &'static Orders {
        static ORDERS: OnceLock<Orders> = OnceLock::new();
        ORDERS.get_or_init(|| {
            let order = |name| std::env::var(name).ok();
            Orders {
                kill_at: order("HAUL_KILL_AT").map(|n| n.parse().expect("HAUL_KILL_AT: a number")),
                wait_at: order("HAUL_WAIT_AT").map(|text| {
                    let order = text.split_once('=');
                    let order = order.and_then(|(n, path)| Some((n.parse().ok()?, path.into())));
                    order.expect("HAUL_WAIT_AT: a number and a path")
                }),
                fail: order("HAUL_FAIL_AT").map_or_else(Vec::new, |text| {
                    text.split(',').map(|text| fail_order(text).expect("HAUL_FAIL_AT")).collect()
                }),
                names: order("HAUL_NAMES"),
                slow_writes: order("HAUL_SLOW_WRITES").map(|text| {
                    let millis = text.strip_suffix("ms").and_then(|text| text.parse().ok());
                    Duration::from_millis(millis.expect("HAUL_SLOW_WRITES: Nms"))
                }),
            }
        })
    }

    fn fail_order(text: &str) -> Option<(Call, u64, String, AtomicU64)> {
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
            "lock" => Call::Lock,
            "rename-new" => Call::RenameNew,
            "link" => Call::Link,
            "sync-output-directory" => Call::SyncOutputDirectory,
            _ => return None,
        };
        os::error::named(errno)?;
        Some((call, number.parse().ok()?, errno.to_owned(), AtomicU64::new(0)))
    }

    pub(crate) fn pass(call: Call) -> io::Result<()> {
        static ALL: AtomicU64 = AtomicU64::new(0);
        let orders = orders();
        if let (Call::Write, Some(time)) = (call, orders.slow_writes) {
            std::thread::sleep(time);
        }
        let number = ALL.fetch_add(1, Ordering::Relaxed) + 1;
        if orders.kill_at == Some(number) {
            os::process::kill_self();
        }
        if let Some((_, path)) = orders.wait_at.as_ref().filter(|(at, _)| *at == number) {
            std::fs::read(path).expect("HAUL_WAIT_AT: a FIFO");
        }
        for (failing, from, errno, count) in &orders.fail {
            if *failing == call && count.fetch_add(1, Ordering::Relaxed) + 1 >= *from {
                return os::error::named(errno).map_or(Ok(()), Err);
            }
        }
        Ok(())
    }

    pub(crate) fn take_name(path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let error = match orders().names.as_deref() {
            Some("143") if name.len() > 143 => "ENAMETOOLONG",
            Some("plain") if name.contains([':', '?', '*', '"', '<', '>', '|']) => "EINVAL",
            _ => return Ok(()),
        };
        os::error::named(error).map_or(Ok(()), Err)
    }
}

pub(crate) use has_bug;
pub(crate) use imp::{pass, take_name};

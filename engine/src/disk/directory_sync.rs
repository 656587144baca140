//! Syncing a directory once for everyone who waits for it.
//!
//! A name is durable once a sync of its directory that began after the naming
//! has succeeded. Many downloads that end together can share one sync: while
//! one runs, new arrivals form the next group, whose first member syncs for all
//! of them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::checkpoint_file::{directory_of, sync_directory};
use crate::fault_point::Call;
use crate::model::error::Error;

/// The syncs of an engine's downloads.
#[derive(Debug, Default)]
pub(crate) struct DirectorySyncs {
    directories: Mutex<HashMap<PathBuf, Rounds>>,
    ended: Condvar,
}

/// The syncs of one directory, numbered from 1.
#[derive(Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    running: bool,
    waiting: usize,
    /// The last one that failed.
    failed: Option<(u64, io::ErrorKind, Option<i32>)>,
}

impl DirectorySyncs {
    /// Makes the name of a published file durable, with all others that are in
    /// its directory now.
    ///
    /// # Errors
    /// That of the sync that was to make it durable, or of a later one.
    pub(super) fn sync_after_publishing(&self, output: &Path) -> Result<(), Error> {
        let work = |directory: &Path| sync_directory(directory, Call::SyncOutputDirectory);
        let synced = self.sync(directory_of(output), work);
        synced.map_err(|error| {
            Error::io(
                "the download is complete, but its name may not survive a power cut: cannot sync \
                 the directory of",
                output,
                error,
            )
        })
    }

    fn sync(&self, directory: &Path, work: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let mut directories = self.lock();
        let rounds = directories.entry(directory.to_owned()).or_default();
        rounds.waiting += 1;
        // A sync under way may have begun before the name was given.
        let mine = rounds.begun + 1;
        loop {
            // The entry exists as long as somebody waits.
            let rounds = directories.entry(directory.to_owned()).or_default();
            if rounds.ended >= mine {
                break;
            }
            if rounds.running {
                directories = self.ended.wait(directories).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            rounds.running = true;
            rounds.begun += 1;
            drop(directories);
            let result = work(directory);
            directories = self.lock();
            let rounds = directories.entry(directory.to_owned()).or_default();
            (rounds.running, rounds.ended) = (false, rounds.begun);
            if let Err(error) = result {
                rounds.failed = Some((rounds.ended, error.kind(), error.raw_os_error()));
            }
            self.ended.notify_all();
        }
        let rounds = directories.entry(directory.to_owned()).or_default();
        rounds.waiting -= 1;
        let failed = rounds.failed.filter(|(number, ..)| *number >= mine);
        if rounds.waiting == 0 {
            directories.remove(directory);
        }
        match failed {
            None => Ok(()),
            Some((_, _, Some(code))) => Err(io::Error::from_raw_os_error(code)),
            Some((_, kind, None)) => Err(kind.into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Rounds>> {
        // `work` runs without the lock, so a panic leaves no change half done.
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn those_who_come_while_one_runs_share_the_next() {
        let (syncs, count) = (DirectorySyncs::default(), AtomicUsize::new(0));
        let (enter, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let (enter, left) = (Mutex::new(enter), Mutex::new(left));
        let work = |_: &Path| {
            count.fetch_add(1, Ordering::SeqCst);
            enter.lock().unwrap().send(()).unwrap();
            left.lock().unwrap().recv().unwrap();
            Ok(())
        };
        let directory = Path::new("d");
        std::thread::scope(|scope| {
            scope.spawn(|| syncs.sync(directory, work).unwrap());
            entered.recv().unwrap();
            for _ in 0..7 {
                scope.spawn(|| syncs.sync(directory, work).unwrap());
            }
            while syncs.lock()[directory].waiting < 8 {
                std::thread::yield_now();
            }
            leave.send(()).unwrap();
            entered.recv().unwrap();
            leave.send(()).unwrap();
        });
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(syncs.lock().is_empty());
    }

    #[test]
    fn a_failure_is_told_to_all_it_was_for_and_to_nobody_after() {
        let syncs = DirectorySyncs::default();
        let fails = |_: &Path| Err(io::Error::from_raw_os_error(5));
        assert_eq!(syncs.sync(Path::new("d"), fails).unwrap_err().raw_os_error(), Some(5));
        syncs.sync(Path::new("d"), |_| Ok(())).unwrap();
    }
}

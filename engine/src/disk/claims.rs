//! Outputs that are being fetched and have no file yet, told to other processes.
//!
//! The data of a small object has no name before it is complete, so nothing shows that somebody is
//! fetching it. A claim does, from before the first request: a lock on a number in the output's
//! directory, which goes with its process and leaves nothing there. The directory is created if
//! needed. Where the system or the file system has no such locks, nothing is claimed: then two
//! downloads both fetch, and the later one finds that the output exists.
//!
//! The number comes from the name that was chosen. Where the server has yet to give the name, it
//! comes from the URL, since many URLs may lead to one guessed name.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use url::Url;

use super::checkpoint_file::directory_of;
use crate::lock::Lock;
use crate::os;

/// The claims of an engine.
#[derive(Debug, Default)]
pub(crate) struct Claims(Lock<HashMap<PathBuf, Weak<Directory>>>);

/// A directory that is open while something in it is claimed.
#[derive(Debug)]
struct Directory {
    file: File,
    /// How many downloads of this engine have claimed a number, which the system counts as one.
    claimed: Lock<HashMap<u64, usize>>,
}

/// A claim, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    directory: Arc<Directory>,
    number: u64,
}

/// What is claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claimed<'a> {
    /// This path.
    Output(&'a Path),
    /// Whatever this URL will be called in this directory.
    Object(&'a Path, &'a Url),
}

/// Another process has the claim.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere;

impl Claims {
    /// Makes a claim; `None` where none can be made.
    pub(crate) fn take(&self, claimed: Claimed<'_>) -> Result<Option<Claim>, Elsewhere> {
        let number = claimed.number();
        let Some(directory) = self.directory(claimed.directory()) else { return Ok(None) };
        let mut counts = directory.claimed.lock();
        let count = counts.entry(number).or_default();
        if *count == 0 {
            match os::lock::claim(&directory.file, number) {
                Ok(true) => {}
                Ok(false) => {
                    counts.remove(&number);
                    return Err(Elsewhere);
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing can be claimed here");
                    counts.remove(&number);
                    return Ok(None);
                }
            }
        }
        *count += 1;
        drop(counts);
        Ok(Some(Claim { directory, number }))
    }

    fn directory(&self, path: &Path) -> Option<Arc<Directory>> {
        let mut known = self.0.lock();
        if let Some(directory) = known.get(path).and_then(Weak::upgrade) {
            return Some(directory);
        }
        known.retain(|_, directory| directory.strong_count() > 0);
        let open = || os::lock::open_for_claims(path);
        let file = open().or_else(|error| match error.kind() {
            // Two that begin at once must see each other's claims.
            io::ErrorKind::NotFound => fs::create_dir_all(path).and_then(|()| open()),
            _ => Err(error),
        });
        let file = file.ok()?;
        let directory = Arc::new(Directory { file, claimed: Lock::default() });
        known.insert(path.to_owned(), Arc::downgrade(&directory));
        Some(directory)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut counts = self.directory.claimed.lock();
        let Some(count) = counts.get_mut(&self.number) else { return };
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.number);
            os::lock::release(&self.directory.file, self.number);
        }
    }
}

impl Claimed<'_> {
    fn directory(&self) -> &Path {
        match self {
            Self::Output(path) => directory_of(path),
            Self::Object(directory, _) if directory.as_os_str().is_empty() => Path::new("."),
            Self::Object(directory, _) => directory,
        }
    }

    fn number(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        match self {
            Self::Output(path) => {
                hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
            }
            Self::Object(_, url) => {
                // No name has a slash.
                hasher.update(b"/").update(url[..url::Position::AfterQuery].as_bytes());
            }
        }
        let hash = hasher.finalize();
        hash.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_claim_keeps_others_away_until_it_is_dropped_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        if os::lock::open_for_claims(dir.path()).is_err() {
            return;
        }
        let (ours, theirs) = (Claims::default(), Claims::default());
        let film = dir.path().join("film");
        let claim = ours.take(Claimed::Output(&film)).unwrap().unwrap();
        assert_eq!(theirs.take(Claimed::Output(&film)).unwrap_err(), Elsewhere);
        let other = dir.path().join("other");
        drop(theirs.take(Claimed::Output(&other)).unwrap().unwrap());
        // Within an engine, the holds of names decide.
        let again = ours.take(Claimed::Output(&film)).unwrap().unwrap();
        drop(claim);
        assert_eq!(theirs.take(Claimed::Output(&film)).unwrap_err(), Elsewhere);
        drop(again);
        theirs.take(Claimed::Output(&film)).unwrap().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        assert!(ours.0.lock().values().all(|directory| directory.upgrade().is_none()));
    }

    #[test]
    fn what_the_server_names_is_claimed_by_its_url() {
        let dir = tempfile::tempdir().unwrap();
        if os::lock::open_for_claims(dir.path()).is_err() {
            return;
        }
        let (ours, theirs) = (Claims::default(), Claims::default());
        let url = |text: &str| Url::parse(text).unwrap();
        let (first, second) = (url("http://h/get?id=1#part"), url("http://h/get?id=2"));
        let _claim = ours.take(Claimed::Object(dir.path(), &first)).unwrap().unwrap();
        let same = url("http://h/get?id=1");
        assert_eq!(theirs.take(Claimed::Object(dir.path(), &same)).unwrap_err(), Elsewhere);
        theirs.take(Claimed::Object(dir.path(), &second)).unwrap().unwrap();
    }

    #[test]
    fn of_many_at_once_one_has_the_claim() {
        let dir = tempfile::tempdir().unwrap();
        if os::lock::open_for_claims(dir.path()).is_err() {
            return;
        }
        let (film, mut rounds) = (dir.path().join("film"), 0);
        for _ in 0..200 {
            let (start, won) = (Barrier::new(4), AtomicUsize::new(0));
            let claim = || {
                let claims = Claims::default();
                start.wait();
                let taken = claims.take(Claimed::Output(&film));
                won.fetch_add(usize::from(taken.is_ok()), Ordering::Relaxed);
                // Nobody gives it up before all have asked.
                start.wait();
            };
            std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(claim))));
            let won = won.into_inner();
            assert!(won <= 1, "{won} have it");
            rounds += won;
        }
        assert!(rounds > 150, "only {rounds} of 200 were claimed by anybody");
    }

    #[test]
    fn a_directory_is_created_for_a_claim_and_where_that_fails_nothing_is_claimed() {
        let dir = tempfile::tempdir().unwrap();
        if os::lock::open_for_claims(dir.path()).is_err() {
            return;
        }
        let claim = |path: &str| Claims::default().take(Claimed::Output(&dir.path().join(path)));
        assert!(claim("new/there/film").unwrap().is_some());
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(claim("file/film").unwrap().is_none());
    }
}

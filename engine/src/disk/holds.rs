//! Which outputs the downloads of one engine are writing.
//!
//! A download that was dropped or cancelled takes its time to end: it writes its last checkpoint,
//! and then gives up the lock of its partial. The next download to the same output, which the
//! program may start at once, waits for that instead of being told that somebody else is there.
//! Where the other download goes on, the next one is refused before it has made a file: for a small
//! object there is no lock that would reveal the conflict.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::lock::Lock;
use crate::model::error::{Error, ErrorKind};

/// How long to wait for an earlier download to end: the disk may have much to sync.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Holds(Lock<Names>);

#[derive(Debug, Default)]
struct Names {
    held: HashMap<PathBuf, Held>,
    next: u64,
}

#[derive(Debug)]
struct Held {
    number: u64,
    leaving: Arc<AtomicBool>,
    /// Signals, when its sender is dropped, that the name is free.
    released: watch::Receiver<()>,
}

/// The hold of a download on its output, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    holds: Arc<Holds>,
    name: PathBuf,
    number: u64,
    _released: watch::Sender<()>,
}

impl Holds {
    /// Takes the name of `output` for a download that sets `leaving` when it is about to end. Where
    /// another download of this engine has it and is about to end, waits for that.
    ///
    /// # Errors
    /// [`ErrorKind::Locked`] where another download has it and goes on.
    pub(crate) async fn take(
        self: &Arc<Self>,
        output: &Path,
        leaving: &Arc<AtomicBool>,
    ) -> Result<Arc<Hold>, Error> {
        let name = plain(output);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut released = {
                let mut names = self.0.lock();
                match names.held.get(&name) {
                    None => return Ok(self.put(&mut names, name, leaving)),
                    Some(held) if held.leaving.load(Ordering::Acquire) => held.released.clone(),
                    Some(_) => return Err(in_use(output)),
                }
            };
            if tokio::time::timeout_at(deadline, released.changed()).await.is_err() {
                return Err(in_use(output));
            }
        }
    }

    fn put(
        self: &Arc<Self>,
        names: &mut Names,
        name: PathBuf,
        leaving: &Arc<AtomicBool>,
    ) -> Arc<Hold> {
        let (sender, released) = watch::channel(());
        names.next += 1;
        let number = names.next;
        let held = Held { number, leaving: Arc::clone(leaving), released };
        names.held.insert(name.clone(), held);
        Arc::new(Hold { holds: Arc::clone(self), name, number, _released: sender })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut names = self.holds.0.lock();
        if names.held.get(&self.name).is_some_and(|held| held.number == self.number) {
            names.held.remove(&self.name);
        }
    }
}

fn in_use(output: &Path) -> Error {
    let message = format!("another download of this process is writing {}", output.display());
    Error::new(ErrorKind::Locked, message).with_hint("give each download a name of its own")
}

/// The same text for most ways to write one path, without a look at the disk: where links make a
/// path differ, only the lock of the partial reveals the conflict.
fn plain(output: &Path) -> PathBuf {
    std::path::absolute(output).unwrap_or_else(|_| output.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag() -> Arc<AtomicBool> {
        Arc::default()
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_one_waits_for_one_that_leaves_and_is_refused_by_one_that_stays() {
        let holds = Arc::new(Holds::default());
        let (first, second) = (flag(), flag());
        let held = holds.take(Path::new("film"), &first).await.unwrap();
        let began = tokio::time::Instant::now();
        drop(holds.take(Path::new("other"), &second).await.unwrap());
        let refused = holds.take(Path::new("./film"), &second).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked);
        assert!(refused.to_string().contains("film"), "{refused}");
        assert_eq!(began.elapsed(), Duration::ZERO, "it goes on: nothing to wait for");

        first.store(true, Ordering::Release);
        let later = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(held);
        });
        let next = holds.take(Path::new("./film"), &second).await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(3));
        later.await.unwrap();

        second.store(true, Ordering::Release);
        holds.take(Path::new("film"), &flag()).await.unwrap_err();
        assert_eq!(began.elapsed(), Duration::from_secs(13), "not for ever");
        drop(next);
        assert!(holds.0.lock().held.is_empty());
    }
}

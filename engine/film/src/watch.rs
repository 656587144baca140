//! What can be seen of a film while it is fetched.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use haul_engine::{Connections, Control, Download, Monitor};

use crate::model::Place;

/// What is happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Phase {
    /// Manifests are fetched.
    #[default]
    Reading,
    /// Pieces are fetched.
    Fetching,
    /// ffmpeg makes one file of several.
    Joining,
}

/// A snapshot of a film that is being fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FilmProgress {
    /// What is happening.
    pub phase: Phase,
    /// How many pieces there are as far as is known; more come while the film is live.
    pub pieces: usize,
    /// How many of them are there.
    pub done: usize,
    /// How many of those an earlier run left.
    pub resumed: usize,
    /// Bytes received, with those of an earlier run and of pieces that are not whole yet.
    pub bytes: u64,
    /// Those of them that the next run need not fetch if this one ends now.
    pub kept_bytes: u64,
    /// The size in bytes that the film will have: an estimate by its pieces so far. `None` before
    /// the first of them, and while the film is live.
    pub total_bytes: Option<u64>,
    /// Connections in use.
    pub connections: usize,
    /// Whether pieces are still being added.
    pub is_live: bool,
}

/// Looks at a film that is being fetched; clones look at the same one.
#[derive(Debug, Clone, Default)]
pub struct FilmMonitor {
    pub(crate) watch: Arc<Watch>,
}

impl FilmMonitor {
    /// How far it is now.
    #[must_use]
    pub fn progress(&self) -> FilmProgress {
        let state = self.watch.lock();
        state.running.values().fold(state.progress, |mut progress, running| {
            let one = running.monitor.progress();
            progress.bytes += one.bytes;
            progress.connections += one.connections;
            if running.place.is_none() {
                progress.kept_bytes += one.bytes;
                let of_pieces = progress.total_bytes.filter(|_| progress.pieces > 0);
                progress.total_bytes = match (one.total_bytes, progress.pieces) {
                    (Some(bytes), 0) => Some(progress.total_bytes.unwrap_or(0) + bytes),
                    (Some(bytes), _) => of_pieces.map(|pieces| pieces + bytes),
                    (None, _) => None,
                };
            }
            progress
        })
    }

    /// The name that it gets, as soon as that is known.
    #[must_use]
    pub fn output(&self) -> Option<PathBuf> {
        self.watch.lock().output.clone()
    }

    /// What is to be told, each once: lines without a full stop.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.watch.lock().notes)
    }
}

/// The written side of a [`FilmMonitor`].
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    progress: FilmProgress,
    notes: Vec<String>,
    output: Option<PathBuf>,
    running: HashMap<u64, Running>,
    next: u64,
}

#[derive(Debug)]
struct Running {
    monitor: Monitor,
    control: Control,
    /// The piece that it is; none for a whole reel.
    place: Option<Place>,
}

/// What a piece that gives way may have, in bytes a second: enough to keep its connection.
const GIVING_WAY: NonZeroU64 = NonZeroU64::new(1 << 10).unwrap();

impl Watch {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut FilmProgress)) {
        change(&mut self.lock().progress);
    }

    pub(crate) fn name(&self, output: PathBuf) {
        self.lock().output = Some(output);
    }

    pub(crate) fn note(&self, text: String) {
        self.lock().notes.push(text);
    }

    /// Lets each piece that is under way use so many connections at most.
    pub(crate) fn share(&self, connections: usize) {
        for running in self.lock().running.values().filter(|it| it.place.is_some()) {
            running.control.set_connections(Connections::AutoUpTo(connections));
        }
    }

    /// Has these pieces give way to all others.
    pub(crate) fn slow(&self, slowed: &BTreeSet<Place>) {
        for running in self.lock().running.values() {
            let gives_way = running.place.is_some_and(|place| slowed.contains(&place));
            running.control.limit_rate(gives_way.then_some(GIVING_WAY));
        }
    }

    /// Counts a download of the engine, of a piece or of a whole reel, until what is returned is
    /// dropped.
    pub(crate) fn of(self: &Arc<Self>, download: &Download, place: Option<Place>) -> Watched {
        let running = Running { monitor: download.monitor(), control: download.control(), place };
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.running.insert(number, running);
        drop(state);
        Watched { watch: Arc::clone(self), number }
    }
}

/// A download that counts while it runs.
pub(crate) struct Watched {
    watch: Arc<Watch>,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.lock().running.remove(&self.number);
    }
}

//! The readable part of a download: its storage, as far as it is filled, in one
//! version of the object at a time.
//!
//! The driver says when a version is opened, given up or complete, and when the
//! download ends. A reader of a version that is given up gets an error: two
//! versions are never mixed.

use std::sync::Arc;

use crate::disk::crew::Crew;
use crate::disk::readable::{Alarm, Readable};
use crate::disk::storage::Storage;
use crate::lock::Lock;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::Metadata;

/// One version of the object.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) stored: Arc<Readable>,
    pub(crate) metadata: Metadata,
    /// The crew that reads, where reading may block.
    pub(crate) crew: Crew,
}

#[derive(Debug, Default)]
enum Availability {
    /// Nothing is known yet, or it is just being closed.
    #[default]
    Unknown,
    Open(Open),
    Ended(Error),
}

#[derive(Debug, Default)]
struct State {
    /// The number of this version among those that were opened here.
    version: u64,
    availability: Availability,
    complete: bool,
}

/// What is found at a position.
pub(crate) enum Found {
    /// Bytes up to this offset, in this storage.
    Bytes { storage: Arc<dyn Storage>, crew: Crew, version: u64, end: u64 },
    /// The end of the object, or a position beyond it.
    End { version: u64 },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    state: Lock<State>,
    alarm: Arc<Alarm>,
}

impl Contents {
    /// Rings when there may be more to find.
    pub(crate) fn alarm(&self) -> &Arc<Alarm> {
        &self.alarm
    }

    /// The version that is downloaded from now on.
    pub(crate) fn open(&self, open: Open) {
        self.state.lock().availability = Availability::Open(open);
        self.alarm.ring();
    }

    /// Gives up the version. Must be called before anything of another one is
    /// stored in its place.
    pub(crate) fn give_up(&self) {
        let mut state = self.state.lock();
        state.version += 1;
        state.availability = Availability::Unknown;
        drop(state);
        self.alarm.ring();
    }

    /// From now on others may change what is stored; [`Self::end`] follows.
    pub(crate) fn close(&self) {
        self.state.lock().availability = Availability::Unknown;
    }

    /// All of it is published, and stays readable.
    pub(crate) fn complete(&self, total_bytes: u64) {
        let mut state = self.state.lock();
        state.complete = true;
        if let Availability::Open(open) = &mut state.availability {
            open.metadata.total_bytes = Some(total_bytes);
        }
        drop(state);
        self.alarm.ring();
    }

    /// The download ended with this error; no effect if it had already ended.
    pub(crate) fn end(&self, error: &Error) {
        let mut state = self.state.lock();
        if !state.complete && !matches!(state.availability, Availability::Ended(_)) {
            state.availability = Availability::Ended(error.clone());
        }
        drop(state);
        self.alarm.ring();
    }

    /// Whether the download ended, and how; `None` while it runs.
    pub(crate) fn ended(&self) -> Option<Result<(), Error>> {
        let state = self.state.lock();
        match &state.availability {
            Availability::Ended(error) => Some(Err(error.clone())),
            _ => state.complete.then_some(Ok(())),
        }
    }

    /// What is known of the object.
    pub(crate) fn metadata(&self) -> Option<Metadata> {
        match &self.state.lock().availability {
            Availability::Open(open) => Some(open.metadata.clone()),
            _ => None,
        }
    }

    /// Waits until the metadata is known.
    ///
    /// # Errors
    /// Whatever ended the download before.
    pub(crate) async fn opened(&self) -> Result<Metadata, Error> {
        let look = || match &self.state.lock().availability {
            Availability::Unknown => None,
            Availability::Open(open) => Some(Ok(open.metadata.clone())),
            Availability::Ended(error) => Some(Err(error.clone())),
        };
        self.alarm.wait(look).await
    }

    /// What is at `position` of the version `of` (`None`: of any); `None` until
    /// the byte there can be read, or never will be.
    pub(crate) fn look(&self, of: Option<u64>, position: u64) -> Option<Result<Found, Error>> {
        let state = self.state.lock();
        let version = state.version;
        if of.is_some_and(|of| of != version) {
            return Some(Err(given_up()));
        }
        match &state.availability {
            Availability::Unknown => None,
            Availability::Ended(error) => Some(Err(error.clone())),
            Availability::Open(open) => {
                if open.metadata.total_bytes.is_some_and(|total| position >= total) {
                    return Some(Ok(Found::End { version }));
                }
                let end = open.stored.end_from(position);
                (end > position).then(|| {
                    let (storage, crew) = (Arc::clone(&open.storage), open.crew);
                    Ok(Found::Bytes { storage, crew, version, end })
                })
            }
        }
    }

    /// Whether what was just read was of this version all the time.
    pub(crate) fn still_is(&self, version: u64) -> bool {
        let state = self.state.lock();
        state.version == version && matches!(state.availability, Availability::Open(_))
    }
}

fn given_up() -> Error {
    Error::new(
        ErrorKind::ObjectChanged,
        "the version that was being read was given up: the object changed, or its bytes could not \
         be trusted",
    )
    .with_hint("read it again from the start, with another reader")
}

//! What an earlier run left: the one place where it is found, judged and continued.
//!
//! A run that ends early leaves its data and a checkpoint (see [`super::partial`]), and both are
//! read twice.
//!
//! *Before the lock*, before the first request: [`ask`] looks at the names and reads any checkpoint
//! there, so that the first request asks for something that is missing and a download that must
//! fail does so before it costs a request ([`refusing`]). Nothing is locked or changed, since the
//! server may still give another name or another object, and a download that waits for its turn
//! must keep nobody away. So nothing found here is believed: it decides only what is asked for, and
//! what is shown.
//!
//! *With the lock*, once the first response has told what the object is: [`taking`] opens both
//! files under the lock of the checkpoint, and checks that the checkpoint still has its name and
//! that both are like files of ours. Between the two readings another run may have gone on, or
//! published. So the checkpoint is read again, and only this reading counts ([`believing`]). Three
//! questions decide:
//!
//! 1. Is the data the file that the checkpoint was written for ([`belonging`])? Device and number
//!    are compared, and two synced segments hashed. A file that is not the recorded one is hashed
//!    again as a whole if anything in it is right; else it is somebody else's and stays.
//! 2. Is it of the object that is asked for ([`judging`])? Size and validator are compared, and a
//!    digest that was given decides. The same URL is believed then. Another URL has to prove
//!    itself: the driver fetches stored segments again, comes back with the outcome, and both
//!    questions are asked once more, all under the same lock.
//! 3. Which segments count? Durable ones do: they were synced before they were recorded. Complete
//!    ones and beginnings are hashed again by the keeper while the missing ones are fetched. What
//!    is beyond the end of the file is missing ([`earlier`]).
//!
//! If an answer is no, nothing is believed: the download begins anew and says so, unless the file
//! must not be given up.
//!
//! Another program's file ([`foreign`]) goes the same way with one step before it: parts of it are
//! fetched again, and if they are the same, [`adopting`] gives it a checkpoint, which the opening
//! finds like any other.

pub(crate) mod adopting;
pub(crate) mod believing;
pub(crate) mod belonging;
pub(crate) mod earlier;
pub(crate) mod foreign;
mod judging;
pub(crate) mod refusing;
pub(crate) mod request;
pub(crate) mod taking;

use std::path::PathBuf;
use std::sync::Arc;

use self::adopting::finish_adopting;
use self::earlier::Earlier;
use self::refusing::{free_name, refuse_finished, refuse_foreign, refuse_locked};
use super::conditional::Version;
use super::crew::Crew;
use super::partial::Paths;
use super::storage::Storage;
use crate::disk::fitting::accepted;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::Existing;
use crate::model::error::{Error, Kept};
use crate::model::name::{plain_name, possible_names};

/// What a download asks before its first request.
#[derive(Debug)]
pub(crate) enum Question {
    /// What a storage of the program has of the object.
    Storage(Arc<dyn Storage>),
    /// What is at the names of its output.
    Names(Names),
}

/// Where the output would be, and what may be done with what is there.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) directory: PathBuf,
    /// `None` where the server has yet to give the name.
    pub(crate) output: Option<PathBuf>,
    /// The path of the URL, from which a name is guessed.
    pub(crate) url_path: String,
    /// Whether to try each name that the object may get from its type. With thousands of files this
    /// costs as much as fetching them, and a download begun under another name is found when that
    /// is opened.
    pub(crate) guesses: bool,
    pub(crate) existing: Existing,
    pub(crate) in_place: bool,
    /// Whether an empty file with the output's name counts as none.
    pub(crate) replaces_empty: bool,
    /// Whether another program's file is continued.
    pub(crate) adopts: bool,
    /// Whether an earlier run's checkpoint may be believed.
    pub(crate) believes: bool,
    /// Whether the download only reports what it would do.
    pub(crate) plan_only: bool,
    /// Whether a file that already has the server's version is not fetched again.
    pub(crate) if_changed: bool,
    /// How a finished file that stays can be shown to be the object.
    pub(crate) shown_by: Option<ShownBy>,
}

/// What shows that a finished file is the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShownBy {
    /// A digest that the user gave.
    Digest,
    /// What was recorded with the file, or what the server says.
    Version,
}

/// What is here before the first request. Nothing is locked yet, so it is no more than a reason to
/// ask for one part of the object first, or for none.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) found: Found,
    /// The finished file and its version, where the server is asked whether it has another one.
    pub(crate) known: Option<(PathBuf, Version)>,
}

/// See [`Answer`].
#[derive(Debug, Default)]
pub(crate) enum Found {
    #[default]
    Nothing,
    /// A download that may be continued, and where its checkpoint is.
    Begun(Box<Checkpoint>, Kept),
    /// A file of another program, which may be continued.
    Foreign,
    /// A finished file that stays: it may be the object.
    Finished,
}

impl From<Found> for Answer {
    fn from(found: Found) -> Self {
        Self { found, known: None }
    }
}

/// Finds what an earlier run left. Names are looked up at once, which is all that a download with
/// nothing here waits for; `crew` opens whatever has to be opened.
///
/// # Errors
/// Where the download must not go on: its output exists and stays, another download is writing it,
/// or a checkpoint must be left as it is.
pub(crate) async fn ask(crew: Crew, question: Question) -> Result<Answer, Error> {
    let names = match question {
        Question::Storage(storage) => {
            let found = crew.blocking(move || earlier::earlier_in(&*storage)).await.transpose()?;
            return Ok(match found {
                Some(Earlier::Checkpoint(it)) => Found::Begun(it, Kept::Storage).into(),
                _ => Answer::default(),
            });
        }
        Question::Names(names) => names,
    };
    let path = names.path();
    let paths = if names.in_place { Paths::in_place(&path) } else { Paths::of(&path) };
    // A guessed name may be the wrong one: then nothing is in the way yet.
    let is_final = names.output.is_some() && !names.plan_only;
    if names.adopts {
        let paths = paths.clone();
        // A file that a killed run had nearly taken over is ours afterwards.
        let look = move || finish_adopting(&paths).and_then(|()| foreign::find(&paths));
        if crew.blocking(look).await.transpose()?.flatten().is_some() {
            return Ok(Found::Foreign.into());
        }
    }
    if names.existing.keeps_old()
        && !names.plan_only
        && let Err(refused) = refuse_finished(&paths, names.replaces_empty)
    {
        match names.shown_by.filter(|_| names.existing == Existing::Verify && path.is_file()) {
            Some(by) => return Ok(finished(path, by)),
            None if is_final => return Err(refused),
            None => {}
        }
    }
    let found = if paths.checkpoint.exists() {
        let (in_place, believes) = (names.in_place, names.believes);
        let kept = Kept::File(paths.checkpoint.clone());
        let read = move || {
            if is_final {
                refuse_locked(&paths)?;
                if !in_place {
                    refuse_foreign(&paths)?;
                }
            }
            if believes { earlier::earlier(&paths) } else { Ok(Earlier::None) }
        };
        match crew.blocking(read).await {
            Some(Ok(Earlier::Checkpoint(checkpoint))) => Found::Begun(checkpoint, kept),
            Some(Err(error)) if is_final => return Err(error),
            // Anything but a readable checkpoint is judged when the output is opened.
            _ => Found::Nothing,
        }
    } else {
        if is_final && !names.in_place {
            refuse_foreign(&paths)?;
        }
        Found::Nothing
    };
    let asks = names.if_changed && !names.plan_only;
    let known = asks.then(|| Version::of(&path)).flatten().map(|version| (path, version));
    Ok(Answer { found, known })
}

/// A finished file that stays in any case: the only question is whether it is the object.
fn finished(path: PathBuf, by: ShownBy) -> Answer {
    let version = match by {
        ShownBy::Digest => None,
        ShownBy::Version => Version::of(&path).filter(Version::has_strong_tag),
    };
    Answer { found: Found::Finished, known: version.map(|version| (path, version)) }
}

impl Names {
    /// The name that the output would have now, as far as it is known or can be guessed.
    fn path(&self) -> PathBuf {
        let path = match &self.output {
            Some(output) => self.directory.join(output),
            None => {
                let path = |name: String| self.directory.join(accepted(&name));
                let plain = path(plain_name(&self.url_path));
                // The first name that has a checkpoint.
                let begun = |path: &PathBuf| Paths::of(path).checkpoint.exists();
                let guess = || possible_names(&self.url_path).map(path).find(begun);
                if self.guesses { guess().unwrap_or(plain) } else { plain }
            }
        };
        final_name(path, self.existing)
    }
}

/// The name that `output` would have now.
pub(crate) fn final_name(output: PathBuf, existing: Existing) -> PathBuf {
    match existing {
        Existing::Rename => free_name(&output),
        Existing::Refuse | Existing::Verify | Existing::Replace => output,
    }
}

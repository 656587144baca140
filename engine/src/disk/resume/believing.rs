//! What counts of an earlier run's work, now that the lock is held: the checkpoint is read again,
//! since another run may have gone on, and the data is examined.

use super::belonging::{Data, hash_again, judge_data};
use super::earlier::{Earlier, earlier_in, earlier_in_partial};
use super::judging::{Sifted, sift};
use super::request::Request;
use crate::disk::partial::{Partial, Paths, output_exists};
use crate::disk::storage::Storage;
use crate::model::checkpoint::{Checkpoint, SegmentRecord};
use crate::model::config::Existing;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::NoticeCode;
use crate::model::samples::{self, Proof};
use crate::os;

/// The verdict on what is here.
pub(crate) enum Believed {
    /// It counts.
    All(Box<Checkpoint>),
    /// Nothing counts, or nothing is here: the download begins anew.
    Nothing,
    /// It counts if this proof holds.
    IfProven(Proof),
    /// It belongs to another program and is given back, for this reason.
    NotOurs(String),
}

/// What to tell the user about the verdict.
pub(crate) type Notices = Vec<(NoticeCode, String)>;

/// Judges a locked partial, which may have been `proven` to have the same bytes as this URL, or
/// other bytes. Nothing in it counts where the download is to `begin_anew`.
///
/// # Errors
/// Where it must not be given up and cannot be continued, or cannot be examined.
pub(crate) fn believe(
    request: &Request,
    partial: &Partial,
    begin_anew: bool,
    proven: Option<bool>,
    notices: &mut Notices,
) -> Result<Believed, Error> {
    let found = of_this_file(request, partial, earlier_in_partial(partial)?, notices)?;
    let rests = match &found {
        Earlier::Checkpoint(checkpoint) => Some(&**checkpoint),
        _ => None,
    };
    if begin_anew && partial.adopted().is_some() {
        return Ok(Believed::NotOurs("it is to be begun anew".to_owned()));
    }
    let may_be_given_up = may_be_given_up(request, partial, rests);
    let why = match found {
        Earlier::None => return Ok(Believed::Nothing),
        Earlier::Damaged(_) | Earlier::Checkpoint(_) if begin_anew => {
            return may_be_given_up.map(|()| Believed::Nothing);
        }
        Earlier::Damaged(why) => format!("the checkpoint cannot be believed ({why})"),
        Earlier::Checkpoint(checkpoint) => {
            let read = |range| {
                samples::read(range, |at, buffer| os::file::read_at(partial.file(), buffer, at))
            };
            match sift(request, *checkpoint, proven, "the partial", read) {
                Sifted::Counts(checkpoint) => return Ok(Believed::All(checkpoint)),
                Sifted::Prove(proof) => return Ok(Believed::IfProven(proof)),
                Sifted::Refused(why) if partial.adopted().is_some() => {
                    return Ok(Believed::NotOurs(why));
                }
                Sifted::Refused(why) => why,
            }
        }
    };
    may_be_given_up?;
    notices.push(restarted(&why));
    Ok(Believed::Nothing)
}

/// The same for a storage of the program, where nothing need be locked.
///
/// # Errors
/// When its checkpoint cannot be read.
pub(crate) fn believe_stored(
    request: &Request,
    storage: &dyn Storage,
    proven: Option<bool>,
    notices: &mut Notices,
) -> Result<Believed, Error> {
    let why = match earlier_in(storage)? {
        Earlier::None => return Ok(Believed::Nothing),
        Earlier::Damaged(why) => format!("the checkpoint cannot be believed ({why})"),
        Earlier::Checkpoint(checkpoint) => {
            let read = |range| samples::read(range, |at, buffer| storage.read_at(at, buffer));
            match sift(request, *checkpoint, proven, "what the storage has", read) {
                Sifted::Counts(checkpoint) => return Ok(Believed::All(checkpoint)),
                Sifted::Prove(proof) => return Ok(Believed::IfProven(proof)),
                Sifted::Refused(why) => why,
            }
        }
    };
    notices.push(restarted(&why));
    Ok(Believed::Nothing)
}

fn restarted(why: &str) -> (NoticeCode, String) {
    (NoticeCode::Restarted, format!("{why}: starting from zero"))
}

/// What in an earlier run's checkpoint counts for the file that is there.
///
/// # Errors
/// [`ErrorKind::LocalFile`] for a file that the checkpoint was not written for.
fn of_this_file(
    request: &Request,
    partial: &Partial,
    found: Earlier,
    notices: &mut Vec<(NoticeCode, String)>,
) -> Result<Earlier, Error> {
    let Earlier::Checkpoint(mut checkpoint) = found else { return Ok(found) };
    let path = partial.paths().partial.display();
    Ok(match judge_data(partial, &checkpoint)? {
        Data::Same => Earlier::Checkpoint(checkpoint),
        Data::Remounted => {
            tracing::debug!(%path, "the partial's device has another number: it is hashed again");
            hash_again(&mut checkpoint);
            Earlier::Checkpoint(checkpoint)
        }
        Data::Unsure => {
            hash_again(&mut checkpoint);
            notices.push((
                NoticeCode::Refetch,
                format!(
                    "{path} is not as its checkpoint was written for it: all of it is hashed \
                     again, and what differs is fetched again"
                ),
            ));
            Earlier::Checkpoint(checkpoint)
        }
        // The file is to be replaced, whatever it is.
        Data::Foreign
            if partial.paths().are_in_place() && request.existing == Existing::Replace =>
        {
            Earlier::None
        }
        Data::Foreign => return Err(not_its_file(partial.paths())),
    })
}

/// The error for data that a checkpoint of ours was not written for.
pub(crate) fn not_its_file(paths: &Paths) -> Error {
    let (data, checkpoint) = (paths.partial.display(), paths.checkpoint.display());
    Error::new(
        ErrorKind::LocalFile,
        format!("{data} is not the file that {checkpoint} was written for; nothing was changed"),
    )
    .with_hint(format!("move {data} away, or remove {checkpoint}, or choose another output"))
}

/// Refuses to give up a file in place of the object that may be complete: only what this URL's own
/// download left unfinished may go without asking.
fn may_be_given_up(
    request: &Request,
    partial: &Partial,
    checkpoint: Option<&Checkpoint>,
) -> Result<(), Error> {
    let paths = partial.paths();
    if !paths.are_in_place() || request.existing == Existing::Replace {
        return Ok(());
    }
    let is_unfinished = |checkpoint: &Checkpoint| {
        checkpoint.identity.is_of(&request.url)
            && checkpoint.segments.contains(&SegmentRecord::Missing)
    };
    if checkpoint.is_some_and(is_unfinished) && partial.is_private() {
        return Ok(());
    }
    Err(output_exists(&paths.output, "it cannot be continued, and nothing was written"))
}

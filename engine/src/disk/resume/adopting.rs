//! Taking over what another program left: it becomes the partial of an interrupted download, and is
//! continued like any other.
//!
//! The order makes it safe to be killed at any instant. The data is synced and hashed where it is.
//! Then a checkpoint is written that has these hashes, and identifies the file by its number,
//! length and time; it is on the disk before the file gets its new name. After a kill between the
//! two the checkpoint tells the next run that only the renaming is left; a file that has changed
//! since is judged anew. The control file of aria2 stays until the object is complete and about to
//! be published: until then the file can be given back as it was.

use std::sync::Arc;
use std::{fs, io};

use super::earlier::restored_bytes;
use super::foreign::{self, Found, Leftover, MOVE_HINT, Wanted, former_path};
use super::judging::judge;
use super::request::Request;
use super::taking::take_lock;
use crate::disk::checkpoint_file::{self, directory_of, sync_directory};
use crate::disk::naming::rename_new;
use crate::disk::partial::{Partial, Paths};
use crate::disk::regular::{is_named, open_regular};
use crate::disk::rehash::{cores, on_threads, rehash};
use crate::disk::storage;
use crate::fault_point::{self, Call};
use crate::model::adoption::{Adopted, Cover, cover};
use crate::model::checkpoint::{Checkpoint, DataFile, Prefix, SegmentRecord};
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::{Hint, Way};
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::segment::{MIN_CHOSEN_SEGMENT_BYTES, choose_segment_size};
use crate::os;
use crate::os::file::{Access, Facts, Identity};

/// Examines what another program left of the object at these names. `None` where it left nothing,
/// something that may be the whole object, or something else: others judge that.
///
/// # Errors
/// Why it is not continued; nothing was changed.
pub(crate) fn look_into_leftover(
    paths: &Paths,
    resource: &Resource,
    has_digest: bool,
    seed: u64,
) -> Result<Option<Leftover>, Error> {
    finish_adopting(paths)?;
    let Some(found) = foreign::find(paths)? else { return Ok(None) };
    let Some(total_bytes) = resource.total else {
        let why = "the server does not tell the size of the object";
        // A file with the output's name may still be all of it.
        let is_named = found.path == paths.output;
        return if is_named { Ok(None) } else { Err(found.refused(why, MOVE_HINT)) };
    };
    let obstacle = match (resource.ranges, &resource.encoding) {
        (false, _) => Some("the server gives no byte ranges"),
        (true, Some(_)) => Some("the server sends the object in a content coding"),
        (true, None) => None,
    };
    found.look_into(paths, Wanted { total_bytes, obstacle, has_digest, seed })
}

const AGAIN_HINT: &str = "end what writes to it, and run it again";

/// Makes a file that was shown to hold the object's bytes the partial of `request`. Returns how
/// many of those bytes it has.
///
/// # Errors
/// Why it is not taken over; it is then as it was.
pub(crate) fn adopt(request: &Request, leftover: Leftover) -> Result<u64, Error> {
    let Leftover { found, file, adopted, have, piece_bytes, .. } = leftover;
    let paths = request.paths();
    let cannot = |what: &'static str| {
        let path = found.path.clone();
        move |error| Error::io(what, &path, error)
    };
    let mut request = request.clone();
    if let (Some(piece), None) = (piece_bytes, request.segment_size_bytes) {
        // Where the bytes lie scattered, short segments make more of them count.
        let usual = choose_segment_size(request.resource.total.unwrap_or(0));
        let piece = 1 << piece.ilog2();
        request.segment_size_bytes = Some(usual.min(piece).max(MIN_CHOSEN_SEGMENT_BYTES));
    }
    let mut checkpoint = request.first_checkpoint();
    if let Err(why) = judge(&request, &checkpoint, true, "it") {
        let why = format!("a later run could not go on with it: {why}");
        return Err(found.refused(why, Hint::File(&[Way::GiveDigest])));
    }
    refuse_changed(&found, &adopted, &file)?;
    let file = Arc::new(file);
    // Data recorded as durable must be durable.
    fault_point::pass(Call::SyncData)
        .and_then(|()| file.sync_all())
        .map_err(cannot("cannot sync"))?;
    hash(&mut checkpoint, &have, &file, &found)?;
    let Identity { device, inode } = Facts::of(&file).map_err(cannot("cannot examine"))?.identity();
    refuse_changed(&found, &adopted, &file)?;
    checkpoint.data_file = Some(DataFile { in_place: false, device, inode });
    checkpoint.adopted = Some(adopted);
    let written = checkpoint_file::create(&paths.checkpoint, &checkpoint.encode(), true);
    let written = written
        .map_err(|error| Error::io("cannot write the checkpoint", &paths.checkpoint, error))?;
    let Some((recorded, _)) = written else {
        let message = format!(
            "another haul has begun with {} meanwhile; nothing was changed",
            paths.output.display()
        );
        return Err(Error::new(ErrorKind::Locked, message)
            .with_hint("wait for it or stop it, or choose another output"));
    };
    let taken = refuse_changed(&found, &adopted, &file).and_then(|()| rename(&found, &paths));
    if let Err(error) = taken {
        let _ = checkpoint_file::remove(&paths.checkpoint);
        return Err(error);
    }
    drop(recorded);
    if request.sync {
        sync_directory(directory_of(&paths.partial), Call::SyncAdoptedDirectory)
            .map_err(cannot("cannot sync the directory of"))?;
    }
    Ok(restored_bytes(&checkpoint))
}

/// Records, with their hashes, the parts of `have` that fill or begin segments.
fn hash(
    checkpoint: &mut Checkpoint,
    have: &[ByteRange],
    file: &Arc<fs::File>,
    found: &Found,
) -> Result<(), Error> {
    let cannot = |error| Error::io("cannot read", &found.path, error);
    let layout = checkpoint.layout();
    let data = storage::at_rest(Arc::clone(file)).map_err(cannot)?;
    let covered = |number: usize| {
        let segment = u32::try_from(number).ok()?;
        let len_bytes = match cover(have, layout.range(segment)?) {
            Cover::Nothing => return None,
            Cover::Beginning(len_bytes) => Some(len_bytes),
            Cover::Whole => None,
        };
        let hasher = rehash(layout, segment, len_bytes, &*data, || true);
        Some((segment, len_bytes, hasher.map(|it| it.map(|it| it.finish()))))
    };
    let hashed = on_threads(cores(), checkpoint.segments.len(), covered);
    for (segment, len_bytes, hash) in hashed.into_iter().flatten() {
        let hash = hash.map_err(cannot)?.ok_or_else(|| changed(found))?;
        match len_bytes {
            Some(len_bytes) => checkpoint.prefixes.push(Prefix { segment, len_bytes, hash }),
            None => checkpoint.segments[segment as usize] = SegmentRecord::Durable(Some(hash)),
        }
    }
    Ok(())
}

fn changed(found: &Found) -> Error {
    found.refused("another program writes to it or has replaced it", AGAIN_HINT)
}

/// Refuses a file that has changed since it was examined.
fn refuse_changed(found: &Found, adopted: &Adopted, file: &fs::File) -> Result<(), Error> {
    let cannot = |error| Error::io("cannot examine", &found.path, error);
    let same = is_named(&found.path, file).map_err(cannot)?;
    let open = Facts::of(file).map_err(cannot)?;
    if same && is_as(adopted, &open) { Ok(()) } else { Err(changed(found)) }
}

fn is_as(adopted: &Adopted, found: &Facts) -> bool {
    (found.len_bytes(), found.modified()) == (adopted.len_bytes, adopted.modified)
}

fn rename(found: &Found, paths: &Paths) -> Result<(), Error> {
    if found.path == paths.partial {
        return Ok(());
    }
    match rename_new(&found.path, &paths.partial) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let why = format!("{} is in the way", paths.partial.display());
            Err(found.refused(why, "move one of the two away, or choose another output"))
        }
        Err(error) => Err(Error::io("cannot rename", &found.path, error)),
    }
}

/// Completes what a kill left of taking a file over, or of giving it back: the file gets the name
/// of a partial if it is as it was; otherwise its checkpoint goes.
///
/// # Errors
/// [`ErrorKind::Locked`] where another haul is working on it, or when a file cannot be examined or
/// changed.
pub(crate) fn finish_adopting(paths: &Paths) -> Result<(), Error> {
    let Some(file) = open_regular(&paths.checkpoint, Access::ReadWrite)? else { return Ok(()) };
    let read = || checkpoint_file::read_open(&file, &paths.checkpoint);
    let told = |bytes: &[u8]| {
        let checkpoint = Checkpoint::decode(bytes).ok()?;
        let former = former_path(paths, checkpoint.adopted?.former);
        Some((checkpoint.adopted?, checkpoint.data_file?, former))
    };
    // Nearly always there is nothing to do, which needs no lock.
    let Some((.., former)) = told(&read()?).filter(|(.., former)| *former != paths.partial) else {
        return Ok(());
    };
    let cannot = |error| Error::io("cannot examine", &former, error);
    let partial = || Facts::at(&paths.partial).map_err(cannot);
    let there = || Facts::at(&former).map_err(cannot);
    if partial()?.is_some() && there()?.is_none() {
        return Ok(());
    }
    if take_lock(paths, &file)?.is_none() {
        return Ok(());
    }
    let Some((adopted, data_file, _)) = told(&read()?) else { return Ok(()) };
    let recorded = Identity { device: data_file.device, inode: data_file.inode };
    let is_it = |found: &Facts| found.is_file() && found.identity() == recorded;
    match (partial()?, there()?) {
        // The file was linked to its new name where there is no renaming without replacing.
        (Some(partial), Some(there)) if is_it(&partial) && partial.is_same(&there) => {
            os::name::remove(&former).map_err(|error| Error::io("cannot rename", &former, error))
        }
        (Some(_), _) => Ok(()),
        (None, Some(there)) if is_it(&there) && is_as(&adopted, &there) => {
            rename_new(&former, &paths.partial)
                .map(drop)
                .map_err(|error| Error::io("cannot rename", &former, error))
        }
        (None, _) => checkpoint_file::remove(&paths.checkpoint)
            .map_err(|error| Error::io("cannot remove", &paths.checkpoint, error)),
    }
}

/// Gives a partial back to the other program that began it, since it cannot be continued; returns
/// the error that says so.
pub(crate) fn given_back(partial: &Partial, why: &str) -> Error {
    let Some(adopted) = partial.adopted() else {
        return Error::new(ErrorKind::Internal, "a partial that nobody else began");
    };
    let former = former_path(partial.paths(), adopted.former);
    match foreign::give_back(partial) {
        Ok(()) => Error::new(
            ErrorKind::OutputExists,
            format!(
                "{} was begun by another program and cannot be continued any more ({why}); it is \
                 as it was before",
                former.display()
            ),
        )
        .with_hint(Hint::File(&[Way::Replace, Way::ChooseOutput])),
        Err(error) => Error::io("cannot give back to another program", &former, error),
    }
}

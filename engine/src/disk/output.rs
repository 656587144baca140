//! Opening the output of a download once its first response is known: name, lock, what an earlier
//! run left, reserved blocks. Blocking.

use std::path::Path;
use std::sync::Arc;

use super::numbered::names;
use super::partial::{Partial, Paths};
use super::place::{self, Place};
use super::publish;
use super::regular::{is_placeholder, is_present};
use super::resume::adopting::given_back;
use super::resume::believing::{Believed, Notices, believe, believe_stored};
use super::resume::earlier::{forget_unreachable, restored};
use super::resume::refusing::{refuse_existing, refuse_finished};
pub(crate) use super::resume::request::Request;
use super::resume::taking::{First, create_dir};
use super::storage::{self, Storage};
use super::unnamed::Unnamed;
use crate::fault_point;
use crate::model::checkpoint::{Checkpoint, SegmentRecord};
use crate::model::config::{Existing, Resume, StorageKind};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::NoticeCode;
use crate::model::planner::Restored;
use crate::model::samples::Proof;
use crate::os;
use crate::os::file::Facts;

/// An object of at most this many bytes is not kept when its download ends early: fetching it again
/// costs one request, like the first time.
pub(crate) const SMALL_BYTES: u64 = 256 << 10;

/// An output that is ready to be stored into; it holds the lock, if there is one.
pub(crate) struct OpenedOutput {
    pub(crate) place: Place,
    pub(crate) storage: Arc<dyn Storage>,
    /// Why a file that could have been mapped is not.
    pub(crate) unmapped: Option<String>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) restored: Restored,
    pub(crate) restored_bytes: u64,
    pub(crate) notices: Notices,
    /// The accounts and groups, beside this user and administrators, that can read the file, since
    /// they can read all in its directory.
    pub(crate) readers: Option<String>,
}

impl OpenedOutput {
    /// What `checkpoint` records of an earlier run is here already.
    fn new(
        place: Place,
        storage: Arc<dyn Storage>,
        checkpoint: Checkpoint,
        notices: Notices,
    ) -> Self {
        let (restored, restored_bytes) = restored(&checkpoint);
        Self {
            place,
            storage,
            unmapped: None,
            checkpoint,
            restored,
            restored_bytes,
            notices,
            readers: None,
        }
    }
}

/// How an opening begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// With whatever an earlier run left; nothing of that counts unless `believe`.
    Acquire { believe: bool },
    /// In the place of this very download, which starts over.
    Over(Place),
    /// With the place that [`Opening::Prove`] asked about, and the outcome.
    Proven(Place, bool),
}

/// The outcome of an opening.
pub(crate) enum Opening {
    /// The output is ready.
    Ready(Box<OpenedOutput>),
    /// What is here, a partial that is now locked or a program's storage, came from another URL: it
    /// counts if this proof holds.
    Prove(Box<(Place, Proof)>),
}

/// Opens the output.
pub(crate) fn open(request: &Request, start: Start) -> Result<Opening, Error> {
    if let Some(storage) = request.own_storage.as_ref().filter(|_| request.window.is_none()) {
        return open_own(request, storage, &start);
    }
    if request.storage == StorageKind::Null || request.window.is_some() {
        let checkpoint = request.first_checkpoint();
        let storage = match &request.window {
            Some(window) => window.storage(checkpoint.segment_size_bytes),
            None => storage::null(),
        };
        let opened = OpenedOutput::new(Place::Nowhere, storage, checkpoint, Vec::new());
        return Ok(Opening::Ready(Box::new(opened)));
    }
    if is_small(request, &start)
        && request.unnamed.allow(&request.output)
        && let Some(opened) = open_small(request)?
    {
        return Ok(Opening::Ready(Box::new(opened)));
    }
    let mut notices = Vec::new();
    let never = request.resume == Resume::Never;
    let first = request.first_checkpoint();
    let starts_over = matches!(start, Start::Over(_));
    let (partial, fresh_start, proven) = match start {
        Start::Acquire { believe } => (acquire(request, &first)?, !believe || never, None),
        Start::Over(Place::Partial(partial)) if partial.adopted().is_some() => {
            return give_up_adopted(request, partial, "nothing of it counts any more");
        }
        Start::Over(Place::Partial(partial)) => (partial, true, None),
        Start::Proven(Place::Partial(partial), holds) => (partial, false, Some(holds)),
        Start::Over(_) | Start::Proven(..) => (acquire(request, &first)?, true, None),
    };
    if let Some(why) = partial.origin.unlocked.as_ref().filter(|_| !starts_over) {
        notices.push((
            NoticeCode::Other,
            format!(
                "the file system has no locks ({why}): start no second download to {}",
                request.output.display()
            ),
        ));
    }
    let mut old = None;
    if !starts_over && !partial.origin.created && !partial.origin.recorded {
        match believe(request, &partial, fresh_start, proven, &mut notices)? {
            Believed::All(checkpoint) => old = Some(*checkpoint),
            Believed::Nothing => {}
            Believed::IfProven(proof) => {
                return Ok(Opening::Prove(Box::new((Place::Partial(partial), proof))));
            }
            Believed::NotOurs(why) => return give_up_adopted(request, partial, &why),
        }
    }
    let mut checkpoint = old.unwrap_or(first);
    if fault_point::has_bug!(TrustComplete) {
        checkpoint.segments.iter_mut().for_each(SegmentRecord::make_durable);
    }
    let short = forget_unreachable(&partial, &mut checkpoint)?;
    if short > 0 {
        notices.push((
            NoticeCode::Refetch,
            format!("the partial is shorter than its checkpoint says: {short} segments are fetched again"),
        ));
    }
    checkpoint.pid = std::process::id();
    checkpoint.data_file = Some(partial.data_file()?);
    partial.make_private()?;
    let readers = os::file::open_to_others(partial.file())
        .inspect_err(|error| tracing::debug!(%error, "who may read the file is not known"))
        .unwrap_or_default()
        .filter(|_| !starts_over);
    // Before the file gets a size: data that no checkpoint describes is foreign.
    let recorded = partial.origin.recorded && !starts_over;
    if !recorded && let Err(error) = partial.record(&checkpoint.encode(), request.sync) {
        return Err(undo(partial, error));
    }
    let opened = storage::open(
        Arc::clone(partial.file()),
        &partial.paths().partial,
        checkpoint.total,
        request.storage,
        request.allocation,
    );
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => return Err(undo(partial, error)),
    };
    if let Some(why) = opened.fallback {
        notices.push((NoticeCode::StorageFallback, why));
    }
    Ok(Opening::Ready(Box::new(OpenedOutput {
        unmapped: opened.unmapped,
        readers,
        ..OpenedOutput::new(Place::Partial(partial), opened.storage, checkpoint, notices)
    })))
}

/// Gives back what another program began; the download starts from scratch only where that file may
/// be replaced.
fn give_up_adopted(request: &Request, partial: Partial, why: &str) -> Result<Opening, Error> {
    let error = given_back(&partial, why);
    drop(partial);
    match request.existing {
        Existing::Replace if error.kind() == ErrorKind::OutputExists => {
            open(request, Start::Acquire { believe: false })
        }
        _ => Err(error),
    }
}

/// Opens a storage of the program, and continues with its contents if its checkpoint is to be
/// believed and belongs to this object.
fn open_own(
    request: &Request,
    storage: &Arc<dyn Storage>,
    start: &Start,
) -> Result<Opening, Error> {
    let (believe, proven) = match start {
        Start::Acquire { believe } => (*believe && request.resume != Resume::Never, None),
        Start::Over(_) => (false, None),
        Start::Proven(_, holds) => (true, Some(*holds)),
    };
    let mut notices = Vec::new();
    let found = match believe {
        true => believe_stored(request, &**storage, proven, &mut notices)?,
        false => Believed::Nothing,
    };
    let kept = match found {
        Believed::All(checkpoint) => Some(*checkpoint),
        Believed::IfProven(proof) => {
            return Ok(Opening::Prove(Box::new((Place::Own(Arc::clone(storage)), proof))));
        }
        Believed::Nothing | Believed::NotOurs(_) => None,
    };
    let checkpoint = if let Some(mut checkpoint) = kept {
        checkpoint.pid = std::process::id();
        checkpoint
    } else {
        let name = Path::new(storage.name());
        let cannot = |error| Error::io("cannot store the object:", name, error);
        // A crash must not leave the old checkpoint beside a new beginning.
        place::remove_in(&**storage).map_err(cannot)?;
        storage.begin(request.resource.total).map_err(cannot)?;
        request.first_checkpoint()
    };
    let place = match storage.checkpoints() {
        Some(_) => Place::Own(Arc::clone(storage)),
        None => Place::Nowhere,
    };
    let opened = OpenedOutput::new(place, Arc::clone(storage), checkpoint, notices);
    Ok(Opening::Ready(Box::new(opened)))
}

/// Opens the output where that takes no more than a look at its names, which a runtime's thread may
/// do.
///
/// # Errors
/// As for [`open`].
pub(crate) fn open_at_once(
    request: &Request,
    start: &Start,
) -> Result<Option<Box<OpenedOutput>>, Error> {
    if !is_small(request, start) || !request.unnamed.are_known(&request.output) {
        return Ok(None);
    }
    Ok(open_small(request)?.map(Box::new))
}

/// The place of an object that was received whole already, as [`open_at_once`] finds it: `None`
/// where more than that is needed.
///
/// # Errors
/// As for [`open`].
pub(crate) fn place_at_once(request: &Request) -> Result<Option<Unnamed>, Error> {
    let start = Start::Acquire { believe: false };
    if !is_small(request, &start) || !request.unnamed.are_known(&request.output) {
        return Ok(None);
    }
    small_place(request)
}

/// Whether the object is small enough to be all or nothing, and the request allows that.
fn is_small(request: &Request, start: &Start) -> bool {
    let small = |total: u64| request.small_bytes > 0 && total <= request.small_bytes;
    let keeps_file = request.storage != StorageKind::Null
        && request.window.is_none()
        && request.own_storage.is_none();
    // A name that exists cannot be linked over, and a user who asks for mapping has reasons.
    let fits = request.existing.keeps_old()
        && request.storage != StorageKind::Mmap
        && !request.in_place
        && !(request.replaces_empty && is_placeholder(&request.output));
    keeps_file
        && fits
        && request.resource.total.is_some_and(small)
        && matches!(start, Start::Acquire { .. } | Start::Over(Place::Unnamed(_)))
}

/// `None` where an earlier run has left files.
fn open_small(request: &Request) -> Result<Option<OpenedOutput>, Error> {
    let Some(unnamed) = small_place(request)? else { return Ok(None) };
    let (storage, checkpoint) = (Arc::new(unnamed.bytes().clone()), request.first_checkpoint());
    Ok(Some(OpenedOutput::new(Place::Unnamed(unnamed), storage, checkpoint, Vec::new())))
}

/// `None` where an earlier run has left files.
fn small_place(request: &Request) -> Result<Option<Unnamed>, Error> {
    refuse_existing(&request.output)?;
    storage::refuse_beyond_limit(&request.output, request.resource.total.unwrap_or(0))?;
    let limit = usize::try_from(request.small_bytes).unwrap_or(usize::MAX);
    Unnamed::new(&request.output, limit, &request.unnamed.buffers)
}

fn acquire(request: &Request, first: &Checkpoint) -> Result<Partial, Error> {
    let paths = request.paths();
    if let Some(dir) = request.output.parent() {
        create_dir(dir)?;
    }
    if request.existing.keeps_old() {
        refuse_finished(&paths, request.replaces_empty)?;
    }
    if request.existing == Existing::Replace {
        publish::refuse_side_file(&paths.output)?;
    }
    let given_up = match paths.are_in_place() && request.existing == Existing::Replace {
        true => give_up(&paths)?,
        false => None,
    };
    let encode = |data_file| Checkpoint { data_file, ..first.clone() }.encode();
    let first = First { encode: &encode, durable: request.sync, replaced_mode: given_up };
    if request.existing == Existing::Rename {
        return acquire_free(&request.output, &first);
    }
    let partial = Partial::acquire(paths.clone(), &first)?;
    if request.existing.keeps_old()
        // The output may have appeared while the lock was taken.
        && let Err(error) = refuse_finished(&paths, request.replaces_empty)
    {
        return Err(undo(partial, error));
    }
    Ok(partial)
}

/// The partial of the first numbered name of `output` that no file has and no other download is
/// writing. A partial that an earlier run left there is continued.
fn acquire_free(output: &Path, first: &First<'_>) -> Result<Partial, Error> {
    let taken = |error: &Error| matches!(error.kind(), ErrorKind::OutputExists | ErrorKind::Locked);
    let mut last = None;
    for name in names(output) {
        let free = refuse_existing(&name);
        let partial = free.and_then(|()| Partial::acquire(Paths::of(&name), first));
        match partial {
            Err(error) if taken(&error) => last = Some(error),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "an output without a name")))
}

/// Removes what this very run created; what an earlier one left stays.
fn undo(partial: Partial, error: Error) -> Error {
    // The first error is the one to report.
    let _ = partial.undo();
    error
}

/// Removes whatever a new object is to replace and is no download of ours; returns the mode that it
/// had.
///
/// # Errors
/// When it cannot be removed, or is no regular file.
fn give_up(paths: &Paths) -> Result<Option<u32>, Error> {
    let cannot = |what: &'static str| move |error| Error::io(what, &paths.output, error);
    if !is_present(&paths.output)? || is_present(&paths.checkpoint)? {
        return Ok(None);
    }
    let Some(found) = Facts::at(&paths.output).map_err(cannot("cannot examine"))? else {
        return Ok(None);
    };
    os::name::remove(&paths.output).map_err(cannot("cannot remove"))?;
    Ok(Some(found.permissions()))
}

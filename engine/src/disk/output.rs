//! Opening the output of a download for what its first response told: name,
//! lock, what an earlier run left, reserved blocks. Blocking.

use std::fs;
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
use crate::os::file::Facts;

/// An object of at most so many bytes is not kept when its download ends early:
/// fetching it again costs one request, as the first time.
pub(crate) const SMALL_BYTES: u64 = 256 << 10;

/// An output that is ready to be stored into; it holds the lock, if there is one.
pub(crate) struct OpenedOutput {
    pub(crate) place: Place,
    pub(crate) storage: Arc<dyn Storage>,
    /// Why a file is not mapped that might have been.
    pub(crate) unmapped: Option<String>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) restored: Restored,
    pub(crate) restored_bytes: u64,
    pub(crate) notices: Notices,
}

/// How an opening begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// With whatever an earlier run left; nothing of it counts unless `believe`.
    Acquire { believe: bool },
    /// In the place of this very download, which starts over.
    Over(Place),
    /// With the place for which [`Opening::Prove`] asked, and the outcome.
    Proven(Place, bool),
}

/// What comes of an opening.
pub(crate) enum Opening {
    /// The output is ready.
    Ready(Box<OpenedOutput>),
    /// What is here, a partial that is locked now or a program's storage, is of
    /// another URL: it counts if this holds.
    Prove(Place, Proof),
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
        return Ok(Opening::Ready(Box::new(OpenedOutput {
            place: Place::Nowhere,
            storage,
            unmapped: None,
            checkpoint,
            restored: Restored::default(),
            restored_bytes: 0,
            notices: Vec::new(),
        })));
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
    if let Some(why) = partial.unlocked().filter(|_| !starts_over) {
        notices.push((
            NoticeCode::Other,
            format!(
                "the file system has no locks ({why}): start no second download to {}",
                request.output.display()
            ),
        ));
    }
    let mut old = None;
    if !starts_over && !partial.created() && !partial.is_recorded() {
        match believe(request, &partial, fresh_start, proven, &mut notices)? {
            Believed::All(checkpoint) => old = Some(*checkpoint),
            Believed::Nothing => {}
            Believed::IfProven(proof) => return Ok(Opening::Prove(Place::Partial(partial), proof)),
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
    // Before the file gets a size: data that no checkpoint tells of is foreign.
    let recorded = partial.is_recorded() && !starts_over;
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
    let (restored, restored_bytes) = restored(&checkpoint);
    Ok(Opening::Ready(Box::new(OpenedOutput {
        place: Place::Partial(partial),
        storage: opened.storage,
        unmapped: opened.unmapped,
        checkpoint,
        restored,
        restored_bytes,
        notices,
    })))
}

/// Gives back what another program began; the download begins anew only where that file
/// may be replaced.
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

/// Opens a storage of the program, and goes on with what is in it if its checkpoint is
/// to be believed and is of this object.
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
            return Ok(Opening::Prove(Place::Own(Arc::clone(storage)), proof));
        }
        Believed::Nothing | Believed::NotOurs(_) => None,
    };
    let checkpoint = if let Some(mut checkpoint) = kept {
        checkpoint.pid = std::process::id();
        checkpoint
    } else {
        let name = Path::new(storage.name());
        let cannot = |error| Error::io("cannot store the object:", name, error);
        // A crash must not find the old one beside what is begun anew.
        place::remove_in(&**storage).map_err(cannot)?;
        storage.begin(request.resource.total).map_err(cannot)?;
        request.first_checkpoint()
    };
    let place = match storage.checkpoints() {
        Some(_) => Place::Own(Arc::clone(storage)),
        None => Place::Nowhere,
    };
    let (restored, restored_bytes) = restored(&checkpoint);
    let storage = Arc::clone(storage);
    Ok(Opening::Ready(Box::new(OpenedOutput {
        place,
        storage,
        unmapped: None,
        checkpoint,
        restored,
        restored_bytes,
        notices,
    })))
}

/// Opens the output where that takes no more than a look at its names: a runtime's thread
/// may do that.
///
/// # Errors
/// As of [`open`].
pub(crate) fn open_at_once(
    request: &Request,
    start: &Start,
) -> Result<Option<Box<OpenedOutput>>, Error> {
    if !is_small(request, start) || !request.unnamed.are_known(&request.output) {
        return Ok(None);
    }
    Ok(open_small(request)?.map(Box::new))
}

/// Whether the object is small enough to be all or nothing, and may be.
fn is_small(request: &Request, start: &Start) -> bool {
    let small = |total: u64| request.small_bytes > 0 && total <= request.small_bytes;
    let keeps_file = request.storage != StorageKind::Null
        && request.window.is_none()
        && request.own_storage.is_none();
    // A name that exists cannot be linked over, and mapping was asked for with its reasons.
    let fits = request.existing.keeps_old()
        && request.storage != StorageKind::Mmap
        && !request.in_place
        && !(request.replaces_empty && is_placeholder(&request.output));
    keeps_file
        && fits
        && request.resource.total.is_some_and(small)
        && matches!(start, Start::Acquire { .. } | Start::Over(Place::Unnamed(_)))
}

/// `None` where an earlier run has its files.
fn open_small(request: &Request) -> Result<Option<OpenedOutput>, Error> {
    let total = request.resource.total.unwrap_or(0);
    refuse_existing(&request.output)?;
    storage::refuse_beyond_limit(&request.output, total)?;
    let limit = usize::try_from(request.small_bytes).unwrap_or(usize::MAX);
    let buffers = &request.unnamed.buffers;
    let Some(unnamed) = Unnamed::new(&request.output, limit, buffers)? else { return Ok(None) };
    Ok(Some(OpenedOutput {
        storage: Arc::new(unnamed.bytes().clone()),
        unmapped: None,
        place: Place::Unnamed(unnamed),
        checkpoint: request.first_checkpoint(),
        restored: Restored::default(),
        restored_bytes: 0,
        notices: Vec::new(),
    }))
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
    let holder = |bytes: &[u8]| Checkpoint::decode(bytes).ok().map(|checkpoint| checkpoint.pid);
    let encode = |data_file| Checkpoint { data_file, ..first.clone() }.encode();
    let first = First { encode: &encode, durable: request.sync, replaced_mode: given_up };
    if request.existing == Existing::Rename {
        return acquire_free(&request.output, &first, &holder);
    }
    let partial = Partial::acquire(paths.clone(), &first, &holder)?;
    if request.existing.keeps_old()
        // It may have appeared while the lock was taken.
        && let Err(error) = refuse_finished(&paths, request.replaces_empty)
    {
        return Err(undo(partial, error));
    }
    Ok(partial)
}

/// The partial of the first numbered name of `output` that no file has and no
/// other download is writing. One that an earlier run left there is continued.
fn acquire_free(
    output: &Path,
    first: &First<'_>,
    holder: &dyn Fn(&[u8]) -> Option<u32>,
) -> Result<Partial, Error> {
    let taken = |error: &Error| matches!(error.kind(), ErrorKind::OutputExists | ErrorKind::Locked);
    let mut last = None;
    for name in names(output) {
        let free = refuse_existing(&name);
        let partial = free.and_then(|()| Partial::acquire(Paths::of(&name), first, holder));
        match partial {
            Err(error) if taken(&error) => last = Some(error),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Internal, "an output without a name")))
}

/// What this very run created goes away again; what an earlier one left stays.
fn undo(partial: Partial, error: Error) -> Error {
    // The first error is the one to tell.
    let _ = partial.undo();
    error
}

/// Removes what is in place of an object that is to replace it, and is no download of
/// ours; gives the mode that it had.
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
    fs::remove_file(&paths.output).map_err(cannot("cannot remove"))?;
    Ok(Some(found.permissions()))
}

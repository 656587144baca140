//! Opening the output of a download for what its first response told: name,
//! lock, what an earlier run left, reserved blocks. Blocking.

mod adopting;
mod belonging;
mod judging;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::adopting::given_back;
pub(crate) use self::adopting::{adopt, finish_adopting};
use self::belonging::hash_again;
pub(crate) use self::belonging::{Data, has_any_of, judge_data};
use self::judging::{Sifted, identity, sift};
use super::checkpoint_file;
use super::numbered::names;
use super::partial::{self, First, Partial, Paths};
use super::place::{self, Place};
use super::publish;
use super::storage::window::Window;
use super::storage::{self, Storage};
use super::unnamed::{Directories, Unnamed};
use crate::fault_point;
use crate::model::checkpoint::{Checkpoint, CheckpointError, SegmentRecord};
use crate::model::config::{Allocation, Existing, Resume, StorageKind};
use crate::model::error::{Error, ErrorKind};
use crate::model::event::NoticeCode;
use crate::model::layout::segment_count;
use crate::model::planner::Restored;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::samples::{self, Proof};
use crate::model::segment::segment_size;
use crate::model::selection::Selected;
use crate::os;

/// An object of at most so many bytes is not kept when its download ends early:
/// fetching it again costs one request, as the first time.
pub(crate) const SMALL_BYTES: u64 = 256 << 10;

/// What the opening rests on.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) output: PathBuf,
    pub(crate) existing: Existing,
    /// Whether an empty file that has the output's name is none.
    pub(crate) replaces_empty: bool,
    /// Whether the data has the final name from the start.
    pub(crate) in_place: bool,
    pub(crate) resume: Resume,
    pub(crate) storage: StorageKind,
    /// Where nothing is kept but what is on its way to a reader.
    pub(crate) window: Option<Arc<Window>>,
    pub(crate) allocation: Allocation,
    /// Where the program keeps the bytes itself.
    pub(crate) own_storage: Option<Arc<dyn Storage>>,
    pub(crate) segment_size_bytes: Option<u64>,
    pub(crate) has_digest: bool,
    /// Whether the server tells a digest of the object.
    pub(crate) told_digest: bool,
    /// Of what size an object is all or nothing, at most; 0 is none, not even an empty one.
    pub(crate) small_bytes: u64,
    /// Where files without a name are possible.
    pub(crate) unnamed: Arc<Directories>,
    pub(crate) sync: bool,
    /// What was asked, and what answered.
    pub(crate) url: url::Url,
    pub(crate) answered: url::Url,
    /// Of what is chosen at random.
    pub(crate) seed: u64,
    /// As if what is downloaded were all of it.
    pub(crate) resource: Resource,
    /// Which bytes of the object that is, where not all are wanted.
    pub(crate) selected: Option<Selected>,
}

impl Request {
    fn paths(&self) -> Paths {
        if self.in_place { Paths::in_place(&self.output) } else { Paths::of(&self.output) }
    }
}

/// An output that is ready to be stored into; it holds the lock, if there is one.
pub(crate) struct OpenedOutput {
    pub(crate) place: Place,
    pub(crate) storage: Arc<dyn Storage>,
    /// Why a file is not mapped that might have been.
    pub(crate) unmapped: Option<String>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) restored: Restored,
    pub(crate) restored_bytes: u64,
    pub(crate) notices: Vec<(NoticeCode, String)>,
}

/// What an earlier run left at these names, if it can be believed at all. The
/// error is a checkpoint that must be left as it is.
pub(crate) fn earlier(paths: &Paths) -> Result<Earlier, Error> {
    let Some(bytes) = checkpoint_file::read(&paths.checkpoint)? else { return Ok(Earlier::None) };
    if !paths.partial.exists() {
        return Ok(Earlier::None);
    }
    earlier_of(&bytes, paths)
}

/// The same of a checkpoint at this name.
pub(crate) fn earlier_at(checkpoint: &Path) -> Result<Earlier, Error> {
    match checkpoint_file::read(checkpoint)? {
        Some(bytes) => read_from(&bytes, checkpoint),
        None => Ok(Earlier::None),
    }
}

/// The same of a partial that is locked.
pub(crate) fn earlier_in_partial(partial: &Partial) -> Result<Earlier, Error> {
    earlier_of(&partial.checkpoint()?, partial.paths())
}

fn earlier_of(bytes: &[u8], paths: &Paths) -> Result<Earlier, Error> {
    read_from(bytes, &paths.checkpoint).map_err(|error| {
        error.with_hint("use the newer haul, or remove the .part and .haul files to start over")
    })
}

/// The same of a storage of the program. Blocking.
pub(crate) fn earlier_in(storage: &dyn Storage) -> Result<Earlier, Error> {
    let Some(checkpoints) = storage.checkpoints() else { return Ok(Earlier::None) };
    let name = Path::new(storage.name());
    let loaded = checkpoints.load();
    match loaded.map_err(|error| Error::io("cannot read the checkpoint of", name, error))? {
        Some(bytes) => read_from(&bytes, &name.join("checkpoint")),
        None => Ok(Earlier::None),
    }
}

fn read_from(bytes: &[u8], at: &Path) -> Result<Earlier, Error> {
    match Checkpoint::decode(bytes) {
        Ok(checkpoint) => Ok(Earlier::Checkpoint(Box::new(checkpoint))),
        Err(CheckpointError::Newer { version }) => Err(Error::new(
            ErrorKind::LocalFile,
            format!(
                "{} was written by a newer haul (format {version}): nothing was changed",
                at.display()
            ),
        )),
        Err(error) => Ok(Earlier::Damaged(error.to_string())),
    }
}

/// See [`earlier`].
pub(crate) enum Earlier {
    None,
    Damaged(String),
    Checkpoint(Box<Checkpoint>),
}

/// The range with which a resumed download opens: the first missing bytes that
/// need no hashing first, or one byte to see whether the object is the same.
pub(crate) fn opening_range(checkpoint: &Checkpoint, at_most_bytes: u64) -> ByteRange {
    let total = checkpoint.total.unwrap_or(0);
    let size = checkpoint.segment_size_bytes;
    let prefixed = |index: usize| checkpoint.prefixes.iter().any(|p| p.segment as usize == index);
    let missing = |index: usize| {
        matches!(checkpoint.segments.get(index), Some(SegmentRecord::Missing)) && !prefixed(index)
    };
    let Some(first) = (0..checkpoint.segments.len()).find(|index| missing(*index)) else {
        return ByteRange::new(0, 1);
    };
    let mut last = first;
    while missing(last + 1) && (last + 1 - first) as u64 * size < at_most_bytes {
        last += 1;
    }
    let start = first as u64 * size;
    ByteRange::new(start, ((last as u64 + 1) * size).min(total).min(start + at_most_bytes))
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
        let checkpoint = fresh(request);
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
    let first = fresh(request);
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
        let found = earlier_in_partial(&partial)?;
        let found = of_this_file(request, &partial, found, &mut notices)?;
        let rests = match &found {
            Earlier::Checkpoint(checkpoint) => Some(&**checkpoint),
            _ => None,
        };
        if fresh_start && partial.adopted().is_some() {
            return give_up_adopted(request, partial, "it is to be begun anew");
        }
        let may_be_given_up = may_be_given_up(request, &partial, rests);
        match found {
            Earlier::None => {}
            Earlier::Damaged(_) | Earlier::Checkpoint(_) if fresh_start => may_be_given_up?,
            Earlier::Damaged(why) => {
                may_be_given_up?;
                notices.push((
                    NoticeCode::Restarted,
                    format!("the checkpoint cannot be believed ({why}): starting from zero"),
                ));
            }
            Earlier::Checkpoint(checkpoint) => {
                let file = Arc::clone(partial.file());
                let read =
                    |range| samples::read(range, |at, buffer| os::file::read_at(&file, buffer, at));
                match sift(request, *checkpoint, proven, "the partial", read) {
                    Sifted::Counts(checkpoint) => old = Some(*checkpoint),
                    Sifted::Prove(proof) => {
                        return Ok(Opening::Prove(Place::Partial(partial), proof));
                    }
                    Sifted::Refused(why) if partial.adopted().is_some() => {
                        return give_up_adopted(request, partial, &why);
                    }
                    Sifted::Refused(why) => {
                        may_be_given_up?;
                        notices.push((NoticeCode::Restarted, format!("{why}: starting from zero")));
                    }
                }
            }
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

/// What of an earlier run's checkpoint counts for the file that is there.
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
        // It is to be replaced, whatever it is.
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

/// Says no to giving up what is in place of the object and may be complete: only what
/// this URL's own download left unfinished may go unasked.
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
    Err(partial::output_exists(&paths.output, "it cannot be continued, and nothing was written"))
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
    let found = if believe { earlier_in(&**storage)? } else { Earlier::None };
    let (kept, why) = match found {
        Earlier::None => (None, None),
        Earlier::Damaged(why) => (None, Some(format!("the checkpoint cannot be believed ({why})"))),
        Earlier::Checkpoint(checkpoint) => {
            let read = |range| samples::read(range, |at, buffer| storage.read_at(at, buffer));
            match sift(request, *checkpoint, proven, "what the storage has", read) {
                Sifted::Counts(checkpoint) => (Some(*checkpoint), None),
                Sifted::Prove(proof) => {
                    return Ok(Opening::Prove(Place::Own(Arc::clone(storage)), proof));
                }
                Sifted::Refused(why) => (None, Some(why)),
            }
        }
    };
    if let Some(why) = why {
        notices.push((NoticeCode::Restarted, format!("{why}: starting from zero")));
    }
    let checkpoint = if let Some(mut checkpoint) = kept {
        checkpoint.pid = std::process::id();
        checkpoint
    } else {
        let name = Path::new(storage.name());
        let cannot = |error| Error::io("cannot store the object:", name, error);
        // A crash must not find the old one beside what is begun anew.
        place::remove_in(&**storage).map_err(cannot)?;
        storage.begin(request.resource.total).map_err(cannot)?;
        fresh(request)
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
        && !(request.replaces_empty && partial::is_placeholder(&request.output));
    keeps_file
        && fits
        && request.resource.total.is_some_and(small)
        && matches!(start, Start::Acquire { .. } | Start::Over(Place::Unnamed(_)))
}

/// `None` where an earlier run has its files.
fn open_small(request: &Request) -> Result<Option<OpenedOutput>, Error> {
    let total = request.resource.total.unwrap_or(0);
    partial::refuse_existing(&request.output)?;
    storage::refuse_beyond_limit(&request.output, total)?;
    let limit = usize::try_from(request.small_bytes).unwrap_or(usize::MAX);
    let buffers = &request.unnamed.buffers;
    let Some(unnamed) = Unnamed::new(&request.output, limit, buffers)? else { return Ok(None) };
    Ok(Some(OpenedOutput {
        storage: Arc::new(unnamed.bytes().clone()),
        unmapped: None,
        place: Place::Unnamed(unnamed),
        checkpoint: fresh(request),
        restored: Restored::default(),
        restored_bytes: 0,
        notices: Vec::new(),
    }))
}

fn acquire(request: &Request, first: &Checkpoint) -> Result<Partial, Error> {
    let paths = request.paths();
    if let Some(dir) = request.output.parent() {
        partial::create_dir(dir)?;
    }
    if request.existing.keeps_old() {
        partial::refuse_finished(&paths, request.replaces_empty)?;
    }
    if request.existing == Existing::Replace {
        publish::refuse_side_file(&paths.output)?;
    }
    let given_up = match paths.are_in_place() && request.existing == Existing::Replace {
        true => partial::give_up(&paths)?,
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
        && let Err(error) = partial::refuse_finished(&paths, request.replaces_empty)
    {
        return Err(undo(partial, error));
    }
    Ok(partial)
}

/// The first of the numbered names of `output` that nothing has.
pub(crate) fn free_name(output: &Path) -> PathBuf {
    let free = |name: &PathBuf| partial::refuse_existing(name).is_ok();
    names(output).find(free).unwrap_or_else(|| output.to_owned())
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
        let free = partial::refuse_existing(&name);
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

fn fresh(request: &Request) -> Checkpoint {
    let total = request.resource.total;
    let size = segment_size(total.unwrap_or(0), request.segment_size_bytes);
    let count = total.map_or(0, |total| segment_count(total, size)) as usize;
    let mut salt = [0u8; 16];
    for chunk in salt.chunks_mut(8) {
        chunk.copy_from_slice(&fastrand::u64(..).to_le_bytes());
    }
    Checkpoint {
        identity: identity(request, salt),
        host: request.url.host_str().unwrap_or_default().to_owned(),
        total,
        validator: request.resource.validator.clone(),
        encoding: request.resource.encoding.clone(),
        content_type: request.resource.content_type.clone(),
        segment_size_bytes: size,
        segments: vec![SegmentRecord::Missing; count],
        prefixes: Vec::new(),
        pid: std::process::id(),
        selected: request.selected.clone(),
        data_file: None,
        mixed: false,
        adopted: None,
    }
}

/// Segments beyond the file's end are missing, whatever the checkpoint says.
fn forget_unreachable(partial: &Partial, checkpoint: &mut Checkpoint) -> Result<usize, Error> {
    let len = partial
        .file()
        .metadata()
        .map_err(|error| Error::io("cannot read", &partial.paths().partial, error))?
        .len();
    let size = checkpoint.segment_size_bytes;
    let total = checkpoint.total.unwrap_or(0);
    let mut forgotten = 0;
    for (index, record) in checkpoint.segments.iter_mut().enumerate() {
        let end = ((index as u64 + 1) * size).min(total);
        if end > len && !matches!(record, SegmentRecord::Missing) {
            *record = SegmentRecord::Missing;
            forgotten += 1;
        }
    }
    checkpoint.prefixes.retain(|p| u64::from(p.segment) * size + p.len_bytes <= len);
    Ok(forgotten)
}

/// Bytes of an earlier run that its checkpoint claims.
pub(crate) fn restored_bytes(checkpoint: &Checkpoint) -> u64 {
    restored(checkpoint).1
}

fn restored(checkpoint: &Checkpoint) -> (Restored, u64) {
    let mut restored = Restored::default();
    let mut bytes = 0;
    let size = checkpoint.segment_size_bytes;
    let total = checkpoint.total.unwrap_or(0);
    for (index, record) in checkpoint.segments.iter().enumerate() {
        let start = index as u64 * size;
        match record {
            SegmentRecord::Missing => continue,
            SegmentRecord::Complete(_) => restored.verifying.push(index),
            SegmentRecord::Durable(_) => restored.durable.push(index),
        }
        bytes += (start + size).min(total) - start;
    }
    for prefix in &checkpoint.prefixes {
        restored.verifying.push(prefix.segment as usize);
        bytes += prefix.len_bytes;
    }
    (restored, bytes)
}

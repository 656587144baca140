//! Files that another program began and did not complete: what is there, under which names, and
//! which bytes may be believed. Blocking.
//!
//! Programs that write in order leave a prefix of the object, and a file with a hole was not
//! written in order. aria2 writes pieces in any order, and only its control file tells which are
//! there. Files that another program has open for writing, and files unlike those that we make
//! here, are left alone. [`super::adopting`] takes over the rest, once the object was shown to have
//! the same bytes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::taking::{owner_here, unlike_ours};
use crate::disk::checkpoint_file::directory_of;
use crate::disk::naming::rename_new;
use crate::disk::partial::{Partial, Paths};
use crate::disk::regular::{is_placeholder, open_regular};
use crate::fault_point::{self, Call};
use crate::model::adoption::{Adopted, FormerName, SALT_BYTES, is_salt, samples};
use crate::model::aria2_control::{ControlFile, MAX_CONTROL_BYTES};
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::{Hint, Way};
use crate::model::range::ByteRange;
use crate::model::samples;
use crate::model::size::differing;
use crate::os;
use crate::os::file::{Access, Facts};

/// A file that another program left, as its names show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) former: FormerName,
    pub(crate) path: PathBuf,
    /// Whether the output is there as well, and empty.
    placeholder: bool,
}

/// The same file, examined.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) found: Found,
    /// Open for reading and writing, and locked where that is possible.
    pub(crate) file: File,
    pub(crate) adopted: Adopted,
    /// The parts of the object that are in it.
    pub(crate) have: Vec<ByteRange>,
    /// Which of those to fetch again, with the bytes that are here.
    pub(crate) samples: Vec<(u64, Bytes)>,
    /// The longest segment that makes sense.
    pub(crate) piece_bytes: Option<u64>,
}

/// What is known of the object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) total_bytes: u64,
    /// Why nothing of it can be continued, if so.
    pub(crate) obstacle: Option<&'static str>,
    /// Whether the whole or its pieces are compared with digests.
    pub(crate) has_digest: bool,
    /// Chooses among the bytes that can be compared.
    pub(crate) seed: u64,
}

/// What another program left of the object that is to be at these names. `None` where haul itself
/// has begun it.
///
/// # Errors
/// When a name cannot be looked up.
pub(crate) fn find(paths: &Paths) -> Result<Option<Found>, Error> {
    let examined = |path: &Path| Facts::at(path).map_err(|e| Error::io("cannot examine", path, e));
    let has_data = |path: &Path| {
        Ok::<_, Error>(
            examined(path)?.is_some_and(|found| found.is_file() && found.len_bytes() > 0),
        )
    };
    if examined(&paths.checkpoint)?.is_some() {
        return Ok(None);
    }
    let output = examined(&paths.output)?;
    let placeholder = output.as_ref().is_some_and(|it| it.is_file() && it.len_bytes() == 0);
    let found = |former, path| Ok(Some(Found { former, path, placeholder }));
    if output.is_some() && !placeholder {
        let former = match examined(&control_path(paths))? {
            Some(_) => FormerName::Controlled,
            None => FormerName::Output,
        };
        return match has_data(&paths.output)? {
            true => found(former, paths.output.clone()),
            false => Ok(None),
        };
    }
    if has_data(&paths.partial)? {
        return found(FormerName::Part, paths.partial.clone());
    }
    if placeholder && let Some(salt) = salted(paths)? {
        let former = FormerName::Salted(salt);
        return found(former, former_path(paths, former));
    }
    let chromium = former_path(paths, FormerName::Chromium);
    if has_data(&chromium)? { found(FormerName::Chromium, chromium) } else { Ok(None) }
}

/// The name that the data of the object at these names had.
pub(crate) fn former_path(paths: &Paths, former: FormerName) -> PathBuf {
    match former {
        FormerName::Output | FormerName::Controlled => paths.output.clone(),
        FormerName::Part => paths.partial.clone(),
        FormerName::Chromium => with(paths, ".crdownload"),
        FormerName::Salted(salt) => {
            let (stem, extension) = split(&paths.output);
            let parts = [stem.as_encoded_bytes(), b".", &salt, extension, b".part"];
            paths.output.with_file_name(os::name::of_bytes(parts.concat()))
        }
    }
}

fn control_path(paths: &Paths) -> PathBuf {
    with(paths, ".aria2")
}

fn with(paths: &Paths, suffix: &str) -> PathBuf {
    let mut name = paths.output.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    paths.output.with_file_name(name)
}

/// The name of a file before its extension, and the extension with its dot.
fn split(output: &Path) -> (&OsStr, &[u8]) {
    let stem = output.file_stem().unwrap_or_default();
    let name = output.file_name().unwrap_or_default().as_encoded_bytes();
    (stem, name.get(stem.len()..).unwrap_or_default())
}

/// The random characters in the name of the only file that Firefox may have begun.
fn salted(paths: &Paths) -> Result<Option<[u8; SALT_BYTES]>, Error> {
    let directory = directory_of(&paths.output);
    let cannot = |error| Error::io("cannot read the directory", directory, error);
    let (stem, extension) = split(&paths.output);
    let salt_of = |name: OsString| -> Option<[u8; SALT_BYTES]> {
        let name = name.as_encoded_bytes();
        let rest = name.strip_prefix(stem.as_encoded_bytes())?.strip_prefix(b".")?;
        let salt = rest.strip_suffix(b".part")?.strip_suffix(extension)?;
        salt.try_into().ok().filter(|salt: &[u8; SALT_BYTES]| salt.iter().all(|it| is_salt(*it)))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot)? {
        found.extend(salt_of(entry.map_err(cannot)?.file_name()));
    }
    match found[..] {
        [] => Ok(None),
        [salt] => Ok(Some(salt)),
        [first, second, ..] => {
            let shown = |salt| former_path(paths, FormerName::Salted(salt));
            let (first, second) = (shown(first), shown(second));
            let message = format!(
                "{} and {} may both be what a browser left of {}; nothing was changed",
                first.display(),
                second.display(),
                paths.output.display()
            );
            Err(Error::new(ErrorKind::LocalFile, message)
                .with_hint("move the one away that is not to be continued"))
        }
    }
}

impl Found {
    /// The error for a file that is not continued.
    pub(crate) fn refused(&self, why: impl std::fmt::Display, hint: impl Into<Hint>) -> Error {
        let kind = match self.former {
            FormerName::Output | FormerName::Controlled => ErrorKind::OutputExists,
            _ => ErrorKind::LocalFile,
        };
        let message =
            format!("{} cannot be continued: {why}; it was left as it is", self.path.display());
        Error::new(kind, message).with_hint(hint)
    }

    fn cannot(&self, what: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| Error::io(what, &self.path, error)
    }

    /// Examines the file. `None` where its size shows that it is no part of the object, but may be
    /// all of it, or something else: others judge that.
    ///
    /// # Errors
    /// Why it is not continued; nothing was changed.
    pub(crate) fn look_into(
        self,
        paths: &Paths,
        wanted: Wanted,
    ) -> Result<Option<Leftover>, Error> {
        let Some(file) = open_regular(&self.path, Access::ReadWrite)? else { return Ok(None) };
        let facts = Facts::of(&file).map_err(self.cannot("cannot examine"))?;
        let len_bytes = facts.len_bytes();
        let total = wanted.total_bytes;
        if self.former == FormerName::Output && len_bytes >= total {
            return Ok(None);
        }
        if let Some(why) = wanted.obstacle {
            return Err(self.refused(why, MOVE_HINT));
        }
        let own = owner_here(&self.path)?;
        if let Some(why) = unlike_ours(&facts, own) {
            return Err(self.refused(format_args!("it {why}"), MOVE_HINT));
        }
        if self.path != paths.partial
            && Facts::at(&paths.partial).is_ok_and(|found| found.is_some())
        {
            let why = format!("{} is in the way", paths.partial.display());
            return Err(self.refused(why, "move one of the two away, or choose another output"));
        }
        let is_unsure = match self.former {
            FormerName::Chromium => true,
            FormerName::Part => !self.placeholder,
            _ => false,
        };
        if is_unsure && !wanted.has_digest {
            let why = "another program began it, and only a digest of the object can show in the \
                       end that nothing of it is missing";
            return Err(self.refused(why, DIGEST_HINT));
        }
        self.refuse_in_use(&file)?;
        let (have, piece_bytes) = match self.former {
            FormerName::Controlled => {
                let ControlFile { piece_bytes, have, .. } = self.control(paths, total, own)?;
                (have, Some(piece_bytes))
            }
            _ if len_bytes > total => {
                let (has, total) = differing(len_bytes, total);
                let why = format!("it has {has}, and the object has {total}");
                return Err(self.refused(why, MOVE_HINT));
            }
            _ => {
                let all = ByteRange::new(0, len_bytes);
                (if all.is_empty() { Vec::new() } else { vec![all] }, None)
            }
        };
        self.refuse_holes(&file, len_bytes, &have)?;
        let read = |range| {
            samples::read(range, |at, buffer| os::file::read_at(&file, buffer, at))
                .map(|bytes| (range.start(), bytes))
                .ok_or_else(|| self.refused("it cannot be read", MOVE_HINT))
        };
        let samples =
            samples(&have, wanted.seed).into_iter().map(read).collect::<Result<_, _>>()?;
        let adopted = Adopted {
            former: self.former,
            len_bytes,
            modified: facts.modified(),
            mode: facts.mode(),
        };
        Ok(Some(Leftover { found: self, file, adopted, have, samples, piece_bytes }))
    }

    /// Refuses a file that another program has locked, or has open for writing.
    fn refuse_in_use(&self, file: &File) -> Result<(), Error> {
        let why = match (os::lock::try_lock(file), os::file::writer_of(file)) {
            (_, Some(process)) => format!("process {process} has it open for writing"),
            (Err(TryLockError::WouldBlock), None) => "another program has locked it".to_owned(),
            // Without locks, the size and the time have to decide.
            _ => return Ok(()),
        };
        Err(self.refused(why, "end that program first, or choose another output"))
    }

    /// Refuses bytes that are claimed but are a hole in the file, or beyond its end.
    fn refuse_holes(&self, file: &File, len: u64, have: &[ByteRange]) -> Result<(), Error> {
        let Some(missing) =
            have.iter().find(|run| run.end() > len || os::file::has_hole(file, **run))
        else {
            return Ok(());
        };
        let (what, hint) = match self.former {
            FormerName::Controlled => ("the pieces that NAME.aria2 tells of", CONTROL_HINT),
            _ => ("bytes between others, so it was not written in order", MOVE_HINT),
        };
        let control = control_name(&self.path);
        let what = what.replace("NAME.aria2", &control);
        let why = format!("it lacks {what} (from {} to {})", missing.start(), missing.end());
        Err(self.refused(why, hint))
    }

    /// Reads the control file beside the data.
    fn control(&self, paths: &Paths, total: u64, own: u32) -> Result<ControlFile, Error> {
        let path = control_path(paths);
        let shown = path.display();
        let refused = |why: String| self.refused(why, CONTROL_HINT);
        let cannot = |error| Error::io("cannot read", &path, error);
        let file = open_regular(&path, Access::Read)?
            .ok_or_else(|| refused(format!("{shown} is gone")))?;
        let facts = Facts::of(&file).map_err(cannot)?;
        if let Some(why) = unlike_ours(&facts, own) {
            return Err(refused(format!("{shown} {why}")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_CONTROL_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
        let control = ControlFile::parse(&bytes)
            .map_err(|why| refused(format!("{shown} is no control file of aria2's: {why}")))?;
        if control.have.is_empty() {
            let why = "tells of no complete piece, so nothing shows that it is of the object";
            return Err(refused(format!("{shown} {why}")));
        }
        if control.total_bytes != total {
            let (told, total) = differing(control.total_bytes, total);
            return Err(refused(format!("{shown} is of {told}, and the object has {total}")));
        }
        Ok(control)
    }
}

fn control_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}.aria2")
}

pub(crate) const MOVE_HINT: Hint = Hint::File(&[Way::MoveAway, Way::Replace, Way::ChooseOutput]);
const CONTROL_HINT: Hint = Hint::File(&[Way::LetAria2Complete, Way::Replace, Way::ChooseOutput]);
const DIGEST_HINT: Hint = Hint::File(&[Way::GiveDigest, Way::MoveAway, Way::ChooseOutput]);

/// Gives another program's data its length, time, mode and name back, and removes the checkpoint.
/// After a kill in between, the checkpoint still tells whose it was.
///
/// # Errors
/// Where something else has taken its name, or a file cannot be changed. Data and checkpoint stay
/// then.
pub(crate) fn give_back(partial: &Partial) -> io::Result<()> {
    let Some(adopted) = partial.adopted() else { return Ok(()) };
    let paths = partial.paths();
    if partial.still_ours()? {
        let file = partial.file();
        fault_point::pass(Call::GiveBack)?;
        file.set_len(adopted.len_bytes)?;
        os::file::set_mode(file, adopted.mode)?;
        let (seconds, nanoseconds) = adopted.modified;
        let time = u64::try_from(seconds).ok().map(Duration::from_secs).and_then(|since| {
            UNIX_EPOCH.checked_add(since + Duration::from_nanos(u64::from(nanoseconds)))
        });
        time.map_or(Ok(()), |time: SystemTime| os::file::set_modified(file, time))?;
        let former = former_path(paths, adopted.former);
        if former != paths.partial {
            // The placeholder gives way to the file that had the name before.
            if is_placeholder(&former) {
                os::name::remove(&former)?;
            }
            rename_new(&paths.partial, &former)?;
        }
    }
    partial.remove_checkpoint()
}

/// Removes what another program left beside the data that is about to get its final name: an empty
/// file that held the name, if `replaces_empty`, and the control file of data that is now complete.
///
/// # Errors
/// When one of them cannot be removed.
pub(crate) fn clear_away(partial: &Partial, replaces_empty: bool) -> Result<(), Error> {
    let paths = partial.paths();
    let remove = |path: &Path| {
        let removed = fault_point::pass(Call::RemoveForeign).and_then(|()| os::name::remove(path));
        removed.map_err(|error| Error::io("cannot remove", path, error))
    };
    if replaces_empty && is_placeholder(&paths.output) {
        remove(&paths.output)?;
    }
    let controlled = partial.adopted().is_some_and(|it| it.former == FormerName::Controlled);
    let taken =
        Facts::at(&paths.output).map_err(|e| Error::io("cannot examine", &paths.output, e))?;
    // If aria2 has begun anew meanwhile, the control file belongs to that.
    if controlled && taken.is_none() {
        let control = control_path(paths);
        let found = Facts::at(&control).map_err(|e| Error::io("cannot examine", &control, e))?;
        if found.is_some_and(|found| found.is_file()) {
            remove(&control)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod tests;

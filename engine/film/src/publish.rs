//! Giving whole files their final names, so that a kill at any moment leaves enough to go on with.
//!
//! The log first says which file is about to get which name, for all of them. Then they get their
//! names, then what they were made of is removed, and the log last. A run that finds these lines in
//! a log only does what is left to be done. A file is known again by its length and the time of its
//! last change, which a new name does not alter.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use haul_engine::Existing;

use crate::checkpoint::{Checkpoint, Record};
use crate::error::FilmError;
use crate::name;

/// A whole file and the name that it is to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    /// Whether it is the film or a track of it, and not the text beside it.
    pub(crate) is_film: bool,
}

/// Files that the log says to be whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    files: Vec<(Ready, Mark)>,
    /// How many pieces are missing in them.
    pub(crate) holes: usize,
}

/// What a file is known again by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    bytes: u64,
    modified_ns: u64,
}

impl Mark {
    /// That of the file at `path`; `None` where there is none.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() => found,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Some(Self { bytes: found.len(), modified_ns }))
    }
}

impl Announced {
    /// The final names of the film and its tracks.
    pub(crate) fn outputs(&self) -> Vec<PathBuf> {
        self.files.iter().filter(|(it, _)| it.is_film).map(|(it, _)| it.to.clone()).collect()
    }

    /// The final name of the text beside it.
    pub(crate) fn subtitles(&self) -> Option<PathBuf> {
        self.files.iter().find(|(it, _)| !it.is_film).map(|(it, _)| it.to.clone())
    }

    /// The length of the film and its tracks.
    pub(crate) fn film_bytes(&self) -> u64 {
        self.files.iter().filter(|(it, _)| it.is_film).map(|(_, mark)| mark.bytes).sum()
    }

    /// What a log says of the files in `directory`, if it says that all were about to get their
    /// names.
    pub(crate) fn in_log(records: &[Record], directory: &Path) -> Option<Self> {
        let begin = records.iter().rposition(|record| *record == Record::Joining)?;
        let mut announced = Self { files: Vec::new(), holes: 0 };
        for record in &records[begin..] {
            match record {
                Record::Output { from, to, bytes, modified_ns, is_film } => {
                    let ready = Ready {
                        from: directory.join(from),
                        to: directory.join(to),
                        is_film: *is_film,
                    };
                    let mark = Mark { bytes: *bytes, modified_ns: *modified_ns };
                    announced.files.push((ready, mark));
                }
                Record::Publishing { holes } => {
                    announced.holes = *holes;
                    return Some(announced);
                }
                _ => {}
            }
        }
        None
    }
}

/// Says in the log which files are about to get their names. Names that are no UTF-8 are not
/// written there, so a kill while such a film is published costs its log.
///
/// # Errors
/// [`FilmError::Local`].
pub(crate) fn announce(
    ready: Vec<Ready>,
    holes: usize,
    sync: bool,
    checkpoint: &mut Checkpoint,
) -> Result<Announced, FilmError> {
    let mut announced = Announced { files: Vec::new(), holes };
    for one in ready {
        let cannot = |error| FilmError::local("sync", &one.from, error);
        if sync {
            File::open(&one.from).and_then(|file| file.sync_all()).map_err(cannot)?;
        }
        let mark = Mark::of(&one.from).map_err(cannot)?;
        let mark = mark.ok_or_else(|| cannot(io::ErrorKind::NotFound.into()))?;
        announced.files.push((one, mark));
    }
    let line = |(ready, mark): &(Ready, Mark)| {
        Some(Record::Output {
            from: within(&ready.from, &ready.to)?,
            to: ready.to.file_name()?.to_str()?.to_owned(),
            bytes: mark.bytes,
            modified_ns: mark.modified_ns,
            is_film: ready.is_film,
        })
    };
    if let Some(lines) = announced.files.iter().map(line).collect::<Option<Vec<_>>>() {
        lines.iter().try_for_each(|line| checkpoint.add(line))?;
        checkpoint.add(&Record::Publishing { holes })?;
        if sync {
            checkpoint.sync()?;
        }
    }
    Ok(announced)
}

/// The path of `from` below the directory of `to`.
fn within(from: &Path, to: &Path) -> Option<String> {
    from.strip_prefix(to.parent()?).ok()?.to_str().map(str::to_owned)
}

/// Gives the files their names, as far as they do not have them yet. `false` where one of them is
/// not there any more, under neither name.
///
/// # Errors
/// [`FilmError::Exists`] and [`FilmError::Local`]; the files are kept then.
pub(crate) fn settle(
    announced: &Announced,
    existing: Existing,
    sync: bool,
) -> Result<bool, FilmError> {
    for (Ready { from, to, .. }, mark) in &announced.files {
        let is_there = |path: &Path| {
            let found = Mark::of(path).map_err(|error| FilmError::local("examine", path, error));
            found.map(|found| found == Some(*mark))
        };
        match (is_there(from)?, is_there(to)?) {
            (true, true) => remove(from)?,
            (false, true) => {}
            (true, false) => publish(from, to, existing, sync)?,
            (false, false) => return Ok(false),
        }
    }
    Ok(true)
}

/// Removes what the film was made of, with the directory for what ffmpeg is given where there was
/// one, and then its log.
///
/// # Errors
/// [`FilmError::Local`].
pub(crate) fn clear(
    output: &Path,
    reels: impl IntoIterator<Item = usize>,
    checkpoint: &Checkpoint,
    has_scratch: bool,
) -> Result<(), FilmError> {
    for reel in reels {
        remove(&name::reel(output, reel))?;
    }
    if has_scratch {
        remove_scratch(&name::scratch(output))?;
    }
    checkpoint.remove()
}

/// Removes the directory for what ffmpeg is given.
///
/// # Errors
/// [`FilmError::Local`].
pub(crate) fn remove_scratch(directory: &Path) -> Result<(), FilmError> {
    // The ffmpeg of a run that was killed may create its file meanwhile.
    let mut tries = (0..3).map(|_| fs::remove_dir_all(directory));
    let removed = tries.find(|it| {
        !it.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty)
    });
    match removed {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
            Err(FilmError::local("remove", directory, error))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), FilmError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FilmError::local("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Gives a file its final name, which is not taken from another file unless that is wanted.
fn publish(from: &Path, to: &Path, existing: Existing, sync: bool) -> Result<(), FilmError> {
    let cannot = |error| FilmError::local("name", to, error);
    if existing == Existing::Replace {
        fs::rename(from, to).map_err(cannot)?;
    } else {
        match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map_err(cannot)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FilmError::Exists(to.to_owned()));
            }
            // There are no links here. The name is taken by an empty file first.
            Err(_) => {
                match File::create_new(to) {
                    Ok(file) => drop(file),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        return Err(FilmError::Exists(to.to_owned()));
                    }
                    Err(error) => return Err(cannot(error)),
                }
                fs::rename(from, to).map_err(cannot)?;
            }
        }
    }
    if sync {
        let directory = to.parent().filter(|it| !it.as_os_str().is_empty());
        // Not every system opens directories, and none offers more.
        let opened = File::open(directory.unwrap_or(Path::new(".")));
        let _ = opened.and_then(|directory| directory.sync_all());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A film of a directory with everything up to its announcement done.
    fn announced(dir: &Path) -> (Announced, Checkpoint, PathBuf) {
        let output = dir.join("film.mp4");
        let (mut checkpoint, _) = Checkpoint::open(dir.join("film.mp4.film"), "film").unwrap();
        fs::write(name::reel(&output, 0), "pictures").unwrap();
        fs::write(name::reel(&output, 1), "text, raw").unwrap();
        fs::create_dir(name::scratch(&output)).unwrap();
        let text = name::scratch(&output).join("1");
        fs::write(&text, "text").unwrap();
        checkpoint.add(&Record::Joining).unwrap();
        let film = Ready { from: name::reel(&output, 0), to: output.clone(), is_film: true };
        let text = Ready { from: text, to: dir.join("film.vtt"), is_film: false };
        let announced = announce(vec![film, text], 2, true, &mut checkpoint).unwrap();
        (announced, checkpoint, output)
    }

    #[test]
    fn a_kill_at_any_step_leaves_enough_to_end_with() {
        type Step = fn(&Path);
        let steps: [Step; 5] = [
            |dir| fs::hard_link(dir.join("film.mp4.part"), dir.join("film.mp4")).unwrap(),
            |dir| fs::remove_file(dir.join("film.mp4.part")).unwrap(),
            |dir| fs::rename(dir.join("film.mp4.film.d/1"), dir.join("film.vtt")).unwrap(),
            |dir| fs::remove_file(dir.join("film.mp4.part2")).unwrap(),
            |dir| fs::remove_dir_all(dir.join("film.mp4.film.d")).unwrap(),
        ];
        for killed_after in 0..=steps.len() {
            let dir = tempfile::tempdir().unwrap();
            let (before, checkpoint, output) = announced(dir.path());
            drop(checkpoint);
            steps[..killed_after].iter().for_each(|step| step(dir.path()));
            let log = dir.path().join("film.mp4.film");
            let (checkpoint, records) = Checkpoint::open(log, "film").unwrap();
            let found = Announced::in_log(&records, dir.path()).unwrap();
            assert_eq!(found, before);
            assert!(settle(&found, Existing::Refuse, true).unwrap(), "{killed_after}");
            clear(&output, [0, 1], &checkpoint, true).unwrap();
            let mut names: Vec<_> =
                fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["film.mp4", "film.vtt"], "{killed_after}");
            assert_eq!(fs::read(&output).unwrap(), b"pictures");
            assert_eq!(found.outputs(), [output]);
            assert_eq!((found.film_bytes(), found.holes), (8, 2));
        }
    }

    #[test]
    fn a_file_of_somebody_else_is_not_taken_for_the_film() {
        let dir = tempfile::tempdir().unwrap();
        let (found, _checkpoint, output) = announced(dir.path());
        fs::write(&output, "my own words").unwrap();
        let error = settle(&found, Existing::Refuse, false).unwrap_err();
        assert!(matches!(error, FilmError::Exists(_)), "{error}");
        fs::remove_file(name::reel(&output, 0)).unwrap();
        assert!(!settle(&found, Existing::Refuse, false).unwrap());
        assert_eq!(fs::read(&output).unwrap(), b"my own words");
    }
}

//! An object small enough to be all or nothing: in memory while it arrives, then in a file whose
//! first name is its final one.
//!
//! Nobody else can open such a file, and it is gone when its process is. So it needs no lock and no
//! checkpoint, and a kill leaves nothing behind. That two downloads do not both fetch one output is
//! up to [`super::claims`]; if they do, the first to end gets the name. All disk work is done in one
//! go at the end, since with thousands of files each thread switch counts.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoint_file::directory_of;
use super::directory_sync::DirectorySyncs;
use super::naming::{Named, name};
use super::partial::{Paths, output_exists};
use super::publish::{PublishOptions, set_version};
use super::same::is_same;
use super::storage::memory::{Buffers, MemoryStorage};
use crate::fault_point::{self, Call};
use crate::lock::Lock;
use crate::model::config::Existing;
use crate::model::error::{Error, ErrorKind};
use crate::model::size::differing;
use crate::os;

/// How many directories are remembered; a list of downloads uses few.
const MAX_DIRECTORIES: usize = 256;

/// The directories known to allow files without a name, and the memory for the objects that will go
/// there.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    known: Lock<HashSet<PathBuf>>,
    pub(super) buffers: Arc<Buffers>,
}

impl Directories {
    /// Whether the directory of `output` is known to allow them. Does not block.
    pub(super) fn are_known(&self, output: &Path) -> bool {
        self.known.lock().contains(directory_of(output))
    }

    /// Whether it allows them, tried out unless known; creates the directory if needed.
    pub(super) fn allow(&self, output: &Path) -> bool {
        if self.are_known(output) {
            return true;
        }
        // If something is wrong, creating a partial instead reports it.
        if !os::name::can_name_unnamed() || create_for(output).is_err() {
            return false;
        }
        let mut known = self.known.lock();
        if known.len() >= MAX_DIRECTORIES {
            known.clear();
        }
        known.insert(directory_of(output).to_owned());
        true
    }
}

/// The bytes of an object, and its final name.
#[derive(Debug)]
pub(crate) struct Unnamed {
    bytes: MemoryStorage,
    output: PathBuf,
    /// Present once the bytes are written.
    file: Option<File>,
}

impl Unnamed {
    /// For an object of at most `limit_bytes`. `None` where an earlier run or another haul has
    /// files. The caller must have checked that [`Directories`] allow it.
    ///
    /// # Errors
    /// [`ErrorKind::LocalFile`] when a name cannot be looked up.
    pub(super) fn new(
        output: &Path,
        limit_bytes: usize,
        buffers: &Arc<Buffers>,
    ) -> Result<Option<Self>, Error> {
        let paths = Paths::of(output);
        for path in [&paths.partial, &paths.checkpoint] {
            match fs::symlink_metadata(path) {
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("cannot examine", path, error)),
            }
        }
        let bytes = MemoryStorage::of(buffers, limit_bytes);
        Ok(Some(Self { bytes, output: output.to_owned(), file: None }))
    }

    /// The storage of the bytes.
    pub(crate) fn bytes(&self) -> &MemoryStorage {
        &self.bytes
    }

    /// The final name.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// Writes the object into a new file without a name. If it is to be synced, the disk starts on
    /// it now.
    ///
    /// # Errors
    /// As for [`super::publish::publish`], here and below; there is nothing to be kept.
    pub(super) fn write(&mut self, len_bytes: u64, options: &PublishOptions) -> Result<(), Error> {
        let output = &self.output;
        let failed = |what: &'static str| move |error| Error::io(what, output, error);
        let mut file = create_for(output).map_err(failed("cannot create"))?;
        self.bytes.with(|bytes| {
            if bytes.len() as u64 != len_bytes {
                let (found, all) = differing(bytes.len() as u64, len_bytes);
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("{found} of {all} are here; nothing was published"),
                ));
            }
            fault_point::pass(Call::Write)
                .and_then(|()| file.write_all(bytes))
                .map_err(failed("nothing was published: cannot write"))
        })?;
        fault_point::pass(Call::SetAttributes)
            .and_then(|()| set_version(&file, options))
            .map_err(failed("cannot set the attributes of"))?;
        if options.sync {
            os::file::begin_write_back(&file);
        }
        self.file = Some(file);
        Ok(())
    }

    /// Syncs what [`Self::write`] wrote, if asked to, and gives it its name, which must not exist.
    /// A file that has the name and the same bytes will do as well, where files that are there are
    /// compared.
    pub(super) fn name(&self, options: &PublishOptions) -> Result<(PathBuf, Named), Error> {
        let Some(file) = &self.file else {
            return Err(Error::new(ErrorKind::Internal, "a file is named before it is written"));
        };
        if options.sync && !fault_point::has_bug!(NoDataSync) {
            let synced = fault_point::pass(Call::SyncData).and_then(|()| file.sync_all());
            let what = "nothing was published: cannot sync";
            synced.map_err(|error| Error::io(what, &self.output, error))?;
        }
        let named = fault_point::pass(Call::Publish).and_then(|()| name(file, &self.output));
        let how = match named {
            Ok(()) => Named::AtOnce,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.is_there(options)? {
                    return Err(output_exists(&self.output, "nothing was written"));
                }
                Named::ToAnother
            }
            Err(error) => return Err(Error::io("cannot create", &self.output, error)),
        };
        Ok((self.output.clone(), how))
    }

    /// Whether another process has published the same bytes meanwhile.
    fn is_there(&self, options: &PublishOptions) -> Result<bool, Error> {
        if options.existing != Existing::Verify {
            return Ok(false);
        }
        self.bytes.with(|bytes| {
            let ours = |at: usize, part: &mut [u8]| {
                part.copy_from_slice(&bytes[at..at + part.len()]);
                Ok(())
            };
            is_same(&self.output, bytes.len() as u64, options.sync, ours)
        })
    }

    /// Makes the name durable, if asked to, with all others in its directory by now, unless the
    /// directory is already in `durable`. Where the sync fails, the output exists.
    pub(super) fn sync_directory(
        &self,
        options: &PublishOptions,
        directories: &DirectorySyncs,
        durable: &mut HashSet<PathBuf>,
    ) -> Result<(), Error> {
        let directory = directory_of(&self.output);
        let wanted = options.sync && !fault_point::has_bug!(NoDirectorySync);
        if wanted && !durable.contains(directory) {
            directories.sync_after_publishing(&self.output)?;
            durable.insert(directory.to_owned());
        }
        Ok(())
    }
}

/// A new file without a name in the directory of `output`, which is created if needed. It has the
/// mode of the published file: without a name it is private anyway.
fn create_for(output: &Path) -> io::Result<File> {
    let directory = directory_of(output);
    let create = || {
        fault_point::pass(Call::CreatePartial)?;
        os::name::create_unnamed(directory, os::file::OPEN_MODE)
    };
    create().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => fs::create_dir_all(directory).and_then(|()| create()),
        _ => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::storage::Storage as _;
    use crate::model::range::ByteRange;

    const OPTIONS: PublishOptions = PublishOptions {
        existing: Existing::Refuse,
        replaces_empty: false,
        sync: true,
        modified_unix: Some(1_000_000_000),
        note: None,
    };

    fn create(output: &Path) -> Option<Unnamed> {
        assert!(Directories::default().allow(output));
        Unnamed::new(output, 100, &Arc::default()).unwrap()
    }

    fn publish(unnamed: &mut Unnamed, len_bytes: u64) -> Result<PathBuf, Error> {
        unnamed.write(len_bytes, &OPTIONS)?;
        let (output, _) = unnamed.name(&OPTIONS)?;
        unnamed.sync_directory(&OPTIONS, &DirectorySyncs::default(), &mut HashSet::new())?;
        Ok(output)
    }

    #[test]
    fn the_final_name_is_its_first() {
        if !os::name::can_name_unnamed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a/b/film");
        let mut unnamed = create(&output).unwrap();
        let mut writer = unnamed.bytes().segment_writer(ByteRange::new(0, 4)).unwrap();
        writer.write(0, b"data").unwrap();
        assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 0);
        assert_eq!(publish(&mut unnamed, 5).unwrap_err().kind(), ErrorKind::Internal);
        assert!(!output.exists());
        publish(&mut unnamed, 4).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"data");
        let probe = dir.path().join("probe");
        File::create(&probe).unwrap();
        assert_eq!(os::testing::mode(&output), os::testing::mode(&probe));
    }

    #[test]
    fn what_is_there_stays() {
        if !os::name::can_name_unnamed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("film");
        let mut unnamed = create(&output).unwrap();
        fs::write(&output, "old").unwrap();
        assert_eq!(publish(&mut unnamed, 0).unwrap_err().kind(), ErrorKind::OutputExists);
        assert_eq!(fs::read(&output).unwrap(), b"old");
        for name in ["x.part", "x.haul"] {
            fs::write(dir.path().join(name), "").unwrap();
            assert!(create(&dir.path().join("x")).is_none());
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }

    #[test]
    fn the_same_bytes_under_the_name_are_as_good() {
        if !os::name::can_name_unnamed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("film");
        let verify = PublishOptions { existing: Existing::Verify, ..OPTIONS };
        for (there, how) in [("data", Some(Named::ToAnother)), ("date", None), ("dat", None)] {
            let mut unnamed = create(&output).unwrap();
            unnamed.bytes().fill(&["data".into()]);
            unnamed.write(4, &verify).unwrap();
            fs::write(&output, there).unwrap();
            assert_eq!(unnamed.name(&verify).ok().map(|(_, how)| how), how, "{there}");
            assert_eq!(unnamed.name(&OPTIONS).unwrap_err().kind(), ErrorKind::OutputExists);
            assert_eq!(fs::read(&output).unwrap(), there.as_bytes());
            fs::remove_file(&output).unwrap();
        }
    }

    #[test]
    fn a_directory_is_tried_out_once() {
        if !os::name::can_name_unnamed() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("new/film");
        let directories = Directories::default();
        assert!(!directories.are_known(&output));
        assert!(directories.allow(&output));
        assert!(directories.are_known(&output.with_file_name("other")));
        assert!(!directories.are_known(dir.path()));
        assert!(!directories.allow(Path::new("/proc/film")), "it has no files of ours");
    }
}

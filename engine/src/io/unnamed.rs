//! A file without a name, for an object small enough to be all or nothing.
//!
//! Nobody else can open it, and it is gone when its process is; the final name
//! is the only one that it ever gets. So it needs no lock and no checkpoint,
//! and a kill leaves nothing behind. Two downloads to one output both fetch;
//! the first to end has the name.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::checkpoint_file::directory_of;
use super::directory_sync::DirectorySyncs;
use super::partial::{Paths, output_exists};
use super::publish::{PublishOptions, set_modified};
use crate::error::{Error, ErrorKind};
use crate::fault_point::{self, Bug, Call};

/// Where each open file of this process can be found.
const OPEN_FILES: &str = "/proc/self/fd";

/// The open file, and the name that it is for.
#[derive(Debug)]
pub(crate) struct Unnamed {
    file: Arc<File>,
    output: PathBuf,
}

impl Unnamed {
    /// A new file for `output`, in its directory, which is created if needed.
    /// Its mode is the published one: private it is by having no name. `None` where there cannot be one,
    /// and where an earlier run or another haul has its files.
    ///
    /// # Errors
    /// [`ErrorKind::LocalFile`] when a name cannot be looked up.
    pub(crate) fn create(output: &Path) -> Result<Option<Self>, Error> {
        let paths = Paths::of(output);
        for path in [&paths.partial, &paths.checkpoint] {
            match fs::symlink_metadata(path) {
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("cannot examine", path, error)),
            }
        }
        static HAS_OPEN_FILES: LazyLock<bool> = LazyLock::new(|| Path::new(OPEN_FILES).exists());
        if !*HAS_OPEN_FILES {
            return Ok(None);
        }
        let directory = directory_of(output);
        let create = || {
            fault_point::pass(Call::CreatePartial)?;
            let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o666);
            Ok::<_, io::Error>(File::from(rustix::fs::open(directory, flags, mode)?))
        };
        let file = create().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(directory).and_then(|()| create()),
            _ => Err(error),
        });
        // Whatever is wrong is told where a partial is created instead.
        let Ok(file) = file else { return Ok(None) };
        Ok(Some(Self { file: Arc::new(file), output: output.to_owned() }))
    }

    /// The open file.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The name that it is for.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// Gives the complete object its name, which must not exist. Its data is
    /// synced before, if it is to be, and the directory afterwards.
    ///
    /// # Errors
    /// As of [`super::publish::publish`]; there is nothing to be kept. Only when
    /// the sync of the directory fails does the output exist.
    pub(super) fn publish(
        &self,
        len_bytes: u64,
        options: &PublishOptions,
        directories: &DirectorySyncs,
    ) -> Result<PathBuf, Error> {
        let failed = |what: &'static str| move |error| Error::io(what, &self.output, error);
        let found_bytes = self.file.metadata().map_err(failed("cannot examine"))?.len();
        if found_bytes != len_bytes {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("{found_bytes} bytes of {len_bytes} are stored; nothing was published"),
            ));
        }
        fault_point::pass(Call::SetAttributes)
            .and_then(|()| set_modified(&self.file, options.modified_unix))
            .map_err(failed("cannot set the attributes of"))?;
        if options.sync && !fault_point::has(Bug::NoDataSync) {
            fault_point::pass(Call::SyncData)
                .and_then(|()| self.file.sync_all())
                .map_err(failed("nothing was published: cannot sync"))?;
        }
        self.link()?;
        if options.sync && !fault_point::has(Bug::NoDirectorySync) {
            directories.sync_after_publishing(&self.output)?;
        }
        Ok(self.output.clone())
    }

    fn link(&self) -> Result<(), Error> {
        let open = format!("{OPEN_FILES}/{}", self.file.as_raw_fd());
        let linked = fault_point::pass(Call::Publish).and_then(|()| {
            let flags = AtFlags::SYMLINK_FOLLOW;
            Ok(rustix::fs::linkat(CWD, open, CWD, &self.output, flags)?)
        });
        linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => output_exists(&self.output, "nothing was written"),
            _ => Error::io("cannot create", &self.output, error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Existing;

    const OPTIONS: PublishOptions = PublishOptions {
        existing: Existing::Refuse,
        sync: true,
        modified_unix: Some(1_000_000_000),
    };

    fn create(output: &Path) -> Option<Unnamed> {
        Unnamed::create(output).unwrap()
    }

    fn publish(unnamed: &Unnamed, len_bytes: u64) -> Result<PathBuf, Error> {
        unnamed.publish(len_bytes, &OPTIONS, &DirectorySyncs::default())
    }

    #[test]
    fn the_final_name_is_its_first() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("a/b/film");
        let unnamed = create(&output).unwrap();
        unnamed.file().as_ref().write_all(b"data").unwrap();
        assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 0);
        assert_eq!(publish(&unnamed, 5).unwrap_err().kind(), ErrorKind::Internal);
        assert!(!output.exists());
        publish(&unnamed, 4).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"data");
        let probe = File::create(dir.path().join("probe")).unwrap();
        let mode = |metadata: fs::Metadata| metadata.permissions().mode() & 0o7777;
        assert_eq!(mode(fs::metadata(&output).unwrap()), mode(probe.metadata().unwrap()));
    }

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("film");
        let unnamed = create(&output).unwrap();
        fs::write(&output, "old").unwrap();
        assert_eq!(publish(&unnamed, 0).unwrap_err().kind(), ErrorKind::OutputExists);
        assert_eq!(fs::read(&output).unwrap(), b"old");
        for name in ["x.part", "x.haul"] {
            fs::write(dir.path().join(name), "").unwrap();
            assert!(create(&dir.path().join("x")).is_none());
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}

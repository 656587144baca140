//! A temporary directory of one command.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::os;
use crate::render::escape;
use crate::signals::Stop;

/// A directory that is removed when this is dropped, and when a second Ctrl-C ends the process at
/// once.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    stop: Stop,
}

impl Scratch {
    /// Creates a new directory of `command` in `parent`, which must exist.
    ///
    /// # Errors
    /// Exit 3 when it cannot be created.
    pub(crate) fn create(parent: &Path, command: &str, stop: &Stop) -> Result<Self, Failure> {
        // The directory must be new: a name that someone else put there is an error.
        for attempt in 0..100 {
            let path = parent.join(format!("haul-{command}-{}-{attempt}", std::process::id()));
            match os::create_private_directory(&path) {
                Ok(()) => {
                    stop.set_scratch(Some(path.clone()));
                    return Ok(Self { path, stop: stop.clone() });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Self::refused(parent, &error)),
            }
        }
        Err(Self::refused(parent, &io::ErrorKind::AlreadyExists.into()))
    }

    /// Does the same in a `parent` that is created if needed and then stays.
    ///
    /// # Errors
    /// As [`Scratch::create`].
    pub(crate) fn create_below(parent: &Path, command: &str, stop: &Stop) -> Result<Self, Failure> {
        fs::create_dir_all(parent).map_err(|error| Self::refused(parent, &error))?;
        Self::create(parent, command, stop)
    }

    fn refused(parent: &Path, error: &io::Error) -> Failure {
        let parent = escape(&parent.to_string_lossy());
        Failure::local(format!("no temporary directory can be made in `{parent}`: {error}"))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it now, so that a message that it is gone is true.
    ///
    /// # Errors
    /// Exit 3 when some of it is left.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.path).map_err(|error| {
            let path = escape(&self.path.to_string_lossy());
            Failure::local(format!("the temporary directory `{path}` cannot be removed: {error}"))
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        self.stop.set_scratch(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_directory_is_removed_and_private() {
        let parent = tempfile::tempdir().unwrap();
        let (stop, new) = (Stop::never(), parent.path().join("new"));
        assert!(Scratch::create(&new, "test", &stop).is_err(), "there is no such parent");
        let scratch = Scratch::create_below(&new, "test", &stop).unwrap();
        let path = scratch.path().to_owned();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        fs::write(path.join("object.part"), b"x").unwrap();
        drop(scratch);
        assert!(!path.exists());

        let scratch = Scratch::create(&new, "test", &stop).unwrap();
        let path = scratch.path().to_owned();
        scratch.remove().unwrap();
        assert!(!path.exists());
    }
}

//! Where a download keeps its data and its checkpoint: in a partial beside its output, in a file
//! without a name, in a storage of the program, or nowhere. The keeper asks for what must be done
//! and need not know which place it has.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory_sync::DirectorySyncs;
use super::naming::Named;
use super::partial::{Partial, replaced};
use super::publish::{PublishOptions, publish};
use super::resume::foreign;
use super::storage::{Checkpoints, Storage};
use super::unnamed::Unnamed;
use crate::model::checkpoint::Checkpoint;
use crate::model::error::{Error, Kept};

/// What errors call a program's own storage.
const IN_STORAGE: &str = "the storage";

/// Replaces the checkpoint that `storage` keeps, if it keeps one.
pub(super) fn save_in(storage: &dyn Storage, checkpoint: &Checkpoint) -> Result<(), Error> {
    let Some(checkpoints) = storage.checkpoints() else { return Ok(()) };
    let saved = checkpoints.save(&checkpoint.encode());
    saved.map_err(|error| Error::io("cannot keep the checkpoint in", Path::new(IN_STORAGE), error))
}

/// Removes the checkpoint that `storage` keeps, if any.
pub(super) fn remove_in(storage: &dyn Storage) -> io::Result<()> {
    storage.checkpoints().map_or(Ok(()), Checkpoints::remove)
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) enum Place {
    /// `NAME.part` and `NAME.haul`, which become `NAME`.
    Partial(Partial),
    /// A file whose first name is `NAME`; it has no checkpoint.
    Unnamed(Unnamed),
    /// A program's own storage, which keeps the checkpoint as well.
    Own(Arc<dyn Storage>),
    /// Nothing is recorded or published: for [`crate::StorageKind::Null`], for a
    /// [`crate::ByteStream`], whose bytes are in memory until they are taken, and for a program's
    /// own storage that keeps no checkpoint.
    Nowhere,
}

impl Place {
    /// The final name, where there will be one.
    pub(crate) fn output(&self) -> Option<&Path> {
        match self {
            Self::Partial(partial) => Some(&partial.paths().output),
            Self::Unnamed(unnamed) => Some(unnamed.output()),
            Self::Own(_) | Self::Nowhere => None,
        }
    }

    /// The path that errors about the data name.
    pub(crate) fn data(&self) -> &Path {
        match self {
            Self::Partial(partial) => &partial.paths().partial,
            Self::Unnamed(unnamed) => unnamed.output(),
            Self::Own(_) | Self::Nowhere => Path::new(IN_STORAGE),
        }
    }

    /// Replaces the checkpoint on the disk.
    ///
    /// # Errors
    /// [`ErrorKind::LocalFile`] when the partial's name is not ours any more, and any error that
    /// keeps a file from being written.
    pub(super) fn record(&self, checkpoint: &Checkpoint, sync: bool) -> Result<(), Error> {
        let partial = match self {
            Self::Partial(partial) => partial,
            Self::Own(storage) => return save_in(&**storage, checkpoint),
            Self::Unnamed(_) | Self::Nowhere => return Ok(()),
        };
        let paths = partial.paths();
        let ours = partial
            .still_ours()
            .map_err(|error| Error::io("cannot examine", &paths.partial, error))?;
        if !ours {
            return Err(replaced(&paths.partial, "no checkpoint was written"));
        }
        partial.record(&checkpoint.encode(), sync)
    }

    /// Where the checkpoint is, if there is one.
    pub(crate) fn kept(&self) -> Option<Kept> {
        match self {
            Self::Partial(partial) => Some(Kept::File(partial.paths().checkpoint.clone())),
            Self::Own(_) => Some(Kept::Storage),
            Self::Unnamed(_) | Self::Nowhere => None,
        }
    }

    /// Where the checkpoint is after it was `written`, or where an older one is if that failed: on
    /// a full disk the next run continues from the older one.
    pub(super) fn recorded(&self, written: Result<(), Error>) -> Result<Option<Kept>, Error> {
        match (self, written) {
            (Self::Partial(partial), Err(error))
                if partial.still_ours().unwrap_or(false) && partial.paths().checkpoint.exists() =>
            {
                tracing::warn!(%error, "an older checkpoint is kept");
                Ok(self.kept())
            }
            (_, written) => written.map(|()| self.kept()),
        }
    }

    /// Writes the complete object, of `len_bytes`, where it is only in memory and is to become a
    /// file.
    pub(super) fn write(&mut self, len_bytes: u64, options: &PublishOptions) -> Result<(), Error> {
        match self {
            Self::Unnamed(unnamed) => unnamed.write(len_bytes, options),
            Self::Partial(_) | Self::Own(_) | Self::Nowhere => Ok(()),
        }
    }

    /// Gives the complete object its name, and removes the checkpoint; see [`publish`].
    pub(super) fn name(
        &self,
        len_bytes: u64,
        options: &PublishOptions,
        directories: &DirectorySyncs,
    ) -> Result<(Option<PathBuf>, Named), Error> {
        let at_once = |output| (output, Named::AtOnce);
        match self {
            Self::Partial(partial) => publish(partial, len_bytes, options, directories)
                .map(|(output, named)| (Some(output), named)),
            Self::Unnamed(unnamed) => {
                unnamed.name(options).map(|(output, how)| (Some(output), how))
            }
            Self::Own(storage) => remove_in(&**storage)
                .map(|()| at_once(None))
                .map_err(|error| Error::io("cannot remove the checkpoint of", self.data(), error)),
            Self::Nowhere => Ok(at_once(None)),
        }
    }

    /// Makes the name durable where [`Self::name`] did not, unless its directory is already in
    /// `durable`.
    pub(super) fn sync_directory(
        &self,
        options: &PublishOptions,
        directories: &DirectorySyncs,
        durable: &mut HashSet<PathBuf>,
    ) -> Result<(), Error> {
        match self {
            Self::Unnamed(unnamed) => unnamed.sync_directory(options, directories, durable),
            Self::Partial(_) | Self::Own(_) | Self::Nowhere => Ok(()),
        }
    }

    /// Releases the lock. A background sync, or a sink that a fetcher has not dropped yet, may keep
    /// the file open for a while; neither can write any more.
    pub(super) fn unlock(&self) {
        if let Self::Partial(partial) = self {
            partial.unlock();
        }
    }

    /// The file that removing this gives back, where another program began it.
    pub(crate) fn gives_back(&self) -> Option<PathBuf> {
        let Self::Partial(partial) = self else { return None };
        partial.adopted().map(|adopted| foreign::former_path(partial.paths(), adopted.former))
    }

    /// See [`Partial::remove`]. Data that another program began is given back instead.
    pub(crate) fn remove(self) -> io::Result<()> {
        match self {
            Self::Partial(partial) if partial.adopted().is_some() => foreign::give_back(&partial),
            Self::Partial(partial) => partial.remove(),
            // Without a name the file is gone with its last handle.
            Self::Unnamed(_) | Self::Nowhere => Ok(()),
            Self::Own(storage) => remove_in(&*storage),
        }
    }

    /// Whether nothing is left of a download that ends early, so that there is nothing to record or
    /// sync while it runs either.
    pub(super) fn keeps_nothing(&self) -> bool {
        matches!(self, Self::Unnamed(_) | Self::Nowhere)
    }

    /// Whether publishing syncs the data and the attributes in one sync.
    pub(super) fn syncs_at_once(&self) -> bool {
        matches!(self, Self::Unnamed(_))
    }
}

//! Files that others may not read before they have their final names: what a login gives is nobody
//! else's, and while pieces arrive nobody has chosen who may read them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// How such a file is opened; one that is created has mode 0600 where files have modes.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a directory that others may not look into.
pub(crate) fn create_directory(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "there are no modes"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Lets those read a file who may read a new file of this user, or the file that it replaces.
/// `directory` is one of ours, where the mode of a new file is found out.
pub(crate) fn open_up(path: &Path, replaced: Option<&Path>, directory: &Path) -> io::Result<()> {
    let permissions = match replaced.map(fs::metadata) {
        Some(Ok(found)) => found.permissions(),
        _ => {
            let probe = directory.join("mode");
            let permissions = File::create_new(&probe)?.metadata()?.permissions();
            fs::remove_file(&probe)?;
            permissions
        }
    };
    match fs::set_permissions(path, permissions) {
        // FAT and some network file systems have no modes.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

//! Where a user's own files are.

use std::path::PathBuf;

use crate::os::terms::absolute;

/// What names the user's own directory, for messages.
pub(crate) const HOME: &str = "%USERPROFILE%";

/// The names that a netrc may have there, in the order in which curl looks.
pub(crate) const NETRCS: [&str; 2] = [".netrc", "_netrc"];

/// The user's own directory.
pub(crate) fn home() -> Option<PathBuf> {
    absolute("USERPROFILE")
}

/// The directory with the settings of programs, which goes with the user to other machines:
/// `%APPDATA%`.
pub(crate) fn settings() -> Option<PathBuf> {
    absolute("APPDATA")
}

/// The directory in which programs keep what they found out on this machine: `%LOCALAPPDATA%`.
pub(crate) fn state() -> Option<PathBuf> {
    absolute("LOCALAPPDATA")
}

//! Where a user's own files are.
//!
//! The variables of the XDG specification count everywhere; a relative path in one is ignored, as
//! the specification requires. Without them macOS has a place of its own for them.

use std::path::PathBuf;

use crate::os::terms::absolute;

/// What names the user's own directory, for messages.
pub(crate) const HOME: &str = "$HOME";

/// The names that a netrc may have there.
pub(crate) const NETRCS: [&str; 1] = [".netrc"];

/// The user's own directory.
pub(crate) fn home() -> Option<PathBuf> {
    absolute("HOME")
}

/// The directory with the settings of programs: `$XDG_CONFIG_HOME`, or else `~/.config`.
pub(crate) fn settings() -> Option<PathBuf> {
    below("XDG_CONFIG_HOME", ".config")
}

/// The directory in which programs keep what they found out: `$XDG_STATE_HOME`, or else
/// `~/.local/state`.
pub(crate) fn state() -> Option<PathBuf> {
    below("XDG_STATE_HOME", ".local/state")
}

fn below(variable: &str, usual: &str) -> Option<PathBuf> {
    let usual = if cfg!(target_os = "macos") { "Library/Application Support" } else { usual };
    absolute(variable).or_else(|| Some(home()?.join(usual)))
}

//! What Python says, in the engine's terms.

use std::path::PathBuf;

use haul_engine::{DownloadOptions, Existing, StorageKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyMapping;

/// What happens when the output exists, and when another download holds its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conflicts {
    pub(crate) existing: Existing,
    /// Whether any file with the name of the output counts as done.
    pub(crate) skips: bool,
    /// Whether to wait while another download writes to the same output.
    pub(crate) waits: bool,
}

impl Conflicts {
    /// From the words that Python has for them.
    ///
    /// # Errors
    /// `ValueError` for any other word.
    pub(crate) fn parse(existing: &str, locked: &str) -> PyResult<Self> {
        let (existing, skips) = match existing {
            "error" => (Existing::Refuse, false),
            "skip" => (Existing::Refuse, true),
            "verify" => (Existing::Verify, false),
            "overwrite" => (Existing::Replace, false),
            other => {
                return Err(PyValueError::new_err(format!(
                    "existing={other:?} is none of 'error', 'verify', 'skip' and 'overwrite'"
                )));
            }
        };
        let waits = match locked {
            "error" => false,
            "wait" => true,
            other => {
                let text = format!("locked={other:?} is neither 'error' nor 'wait'");
                return Err(PyValueError::new_err(text));
            }
        };
        Ok(Self { existing, skips, waits })
    }
}

/// The options of every download of the package.
pub(crate) fn options(directory: PathBuf, conflicts: Conflicts, sync: bool) -> DownloadOptions {
    let mut options = DownloadOptions::default();
    options.directory = directory;
    options.existing = conflicts.existing;
    options.sync = sync;
    // A file that is truncated while it is mapped would end the interpreter.
    options.storage = StorageKind::Pwrite;
    options
}

/// Request headers, from a mapping or from pairs.
///
/// # Errors
/// `TypeError` for anything else.
pub(crate) fn headers(given: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(String, String)>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    let pairs = match given.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => given.clone(),
    };
    pairs.try_iter()?.map(|pair| pair?.extract()).collect()
}

//! What Python is told of downloads, as instances of the classes in `haul._types`, and of objects.

use std::time::UNIX_EPOCH;

use haul_engine::{Error, Metadata, Progress, Summary, ValidatorKind};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::failure::{self, class};

/// `haul.Summary`.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn summary<'py>(py: Python<'py>, of: &Summary) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let verified = of.verified.as_ref().map(|(algorithm, digest)| {
        let digits = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{algorithm}={digits}")
    });
    class(py, &CLASS, "Summary")?.call1((
        of.output.as_os_str(),
        of.bytes,
        of.fetched_bytes,
        of.resumed_bytes,
        of.unchanged,
        of.blake3_hex(),
        verified,
        of.elapsed.as_secs_f64(),
        of.connections,
        of.requests,
        of.retries,
    ))
}

/// `haul.Progress`.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn progress<'py>(py: Python<'py>, of: &Progress) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    class(py, &CLASS, "Progress")?.call1((
        of.bytes,
        of.total_bytes,
        of.bytes_per_second,
        of.eta.map(|eta| eta.as_secs_f64()),
        of.connections,
        of.retries,
    ))
}

/// `haul.Result`, for an item as it was given.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn result<'py>(
    py: Python<'py>,
    item: &Py<PyAny>,
    ended: &Result<Summary, Error>,
) -> PyResult<Bound<'py, PyAny>> {
    match ended {
        Ok(done) => of_item(py, item, Some(summary(py, done)?), None),
        Err(error) => of_item(py, item, None, Some(failure::instance(py, error)?)),
    }
}

/// `haul.Result`.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn of_item<'py>(
    py: Python<'py>,
    item: &Py<PyAny>,
    summary: Option<Bound<'py, PyAny>>,
    error: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    class(py, &CLASS, "Result")?.call1((item, summary, error))
}

/// The fields of `haul._object.Object`.
pub(crate) type Object =
    (Option<u64>, String, Option<String>, Option<u64>, Option<String>, bool, bool);

/// What the server told of an object.
pub(crate) fn object(told: Metadata) -> Object {
    let modified = told.last_modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    (
        told.object_bytes,
        told.url,
        told.etag,
        modified.map(|since| since.as_secs()),
        told.content_type,
        told.ranges,
        matches!(told.validator, ValidatorKind::StrongEtag | ValidatorKind::LastModified),
    )
}

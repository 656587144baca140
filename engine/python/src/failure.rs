//! Failures as `haul.Error`.

use std::io;

use haul_cli::programs::{self, Refused};
use haul_engine::{Error, ErrorKind};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// Statuses that say that the server may answer otherwise in a while.
const PASSING: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// An exception's instance for the engine's error.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn instance<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("code", programs::word(error))?;
    fields.set_item("retryable", is_retryable(error))?;
    let checkpoint = error.checkpoint().map(std::path::Path::as_os_str);
    fields.set_item("checkpoint", checkpoint)?;
    fields.set_item("status", error.http_status())?;
    fields.set_item("hint", error.hint().map(ToString::to_string))?;
    of(py, error.to_string(), &fields)
}

/// The same, to be raised.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    instance(py, error).map_or_else(|error| error, PyErr::from_value)
}

/// Of an item that was refused, as an instance.
///
/// # Errors
/// When Python cannot make it.
pub(crate) fn refusal<'py>(py: Python<'py>, refused: &Refused) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("code", refused.word())?;
    fields.set_item("hint", refused.hint())?;
    of(py, refused.to_string(), &fields)
}

/// The same, to be raised.
pub(crate) fn refused(py: Python<'_>, refused: &Refused) -> PyErr {
    refusal(py, refused).map_or_else(|error| error, PyErr::from_value)
}

/// A failed read: the download's error, if that is why.
pub(crate) fn of_read(py: Python<'_>, error: &io::Error) -> PyErr {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => raised(py, inner),
        None if error.kind() == io::ErrorKind::InvalidInput => {
            PyValueError::new_err(error.to_string())
        }
        None => PyOSError::new_err(error.to_string()),
    }
}

/// A class of `haul._types`, kept at its place.
///
/// # Errors
/// When Python has none of this name.
pub(crate) fn class<'py>(
    py: Python<'py>,
    place: &'static PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    let found =
        place.get_or_try_init(py, || py.import("haul._types")?.getattr(name).map(Bound::unbind));
    Ok(found?.bind(py))
}

/// `haul.Error`, with this message.
fn of<'py>(
    py: Python<'py>,
    message: String,
    fields: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    class(py, &CLASS, "Error")?.call((message,), Some(fields))
}

/// Whether the same call may succeed later with nothing changed on this side.
fn is_retryable(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Network | ErrorKind::Locked | ErrorKind::ObjectChanged => true,
        ErrorKind::Cancelled => error.is_resumable(),
        _ => error.http_status().is_some_and(|status| PASSING.contains(&status)),
    }
}

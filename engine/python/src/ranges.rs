//! `parts`: parts of objects, in memory.

use std::sync::Arc;

use haul_engine::{Connections, DownloadOptions, Error, Metadata, Selection};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::failure;
use crate::options::headers;
use crate::process::Network;
use crate::told::object;

/// How many ranges are fetched at a time.
const AT_ONCE: usize = 32;

/// A shorter range is not split.
const MIN_SPLIT_BYTES: u64 = 8 << 20;

/// Nothing for a range without bytes, which is not asked for.
type Fetched = Result<Option<(Vec<u8>, Metadata)>, Error>;

/// For each range, in the order of the arguments, its bytes and what the server told of the object
/// with them, or the `Error` that it met.
#[pyfunction]
pub(crate) fn parts<'py>(
    py: Python<'py>,
    urls: Vec<String>,
    starts: Vec<Option<i64>>,
    ends: Vec<Option<u64>>,
    given: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    if urls.len() != starts.len() || urls.len() != ends.len() {
        return Err(PyValueError::new_err(format!(
            "there are {} URLs, {} starts and {} ends: give as many of each",
            urls.len(),
            starts.len(),
            ends.len()
        )));
    }
    let headers = headers(given)?;
    let network = Network::of(py, "")?;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    let mut fetched: Vec<Option<Fetched>> = Vec::new();
    for (at, (url, (start, end))) in urls.into_iter().zip(starts.into_iter().zip(ends)).enumerate()
    {
        let Some((selection, bytes)) = selection(start, end)? else {
            fetched.push(Some(Ok(None)));
            continue;
        };
        fetched.push(None);
        let mut options = DownloadOptions::default();
        options.headers.clone_from(&headers);
        options.range = selection;
        if bytes.is_some_and(|bytes| bytes < MIN_SPLIT_BYTES) {
            options.connections = Connections::Fixed(1);
        }
        let of_url = Network::of(py, &url)?;
        let builder = of_url.download(&url, options);
        let turns = Arc::clone(&turns);
        let one = async move {
            let _turn = turns.acquire().await;
            (at, builder.bytes_and_metadata(usize::MAX).await.map(Some))
        };
        running.spawn_on(one, &of_url.runtime);
    }
    let all = async {
        while let Some(ended) = running.join_next().await {
            if let Ok((at, ended)) = ended {
                fetched[at] = Some(ended);
            }
        }
        fetched
    };
    let list = PyList::empty(py);
    for ended in network.wait(py, all, |_| Ok(()))? {
        match ended {
            Some(Ok(Some((bytes, told)))) => {
                list.append((PyBytes::new(py, &bytes), object(told)))?;
            }
            Some(Ok(None)) => list.append((PyBytes::new(py, b""), py.None()))?,
            Some(Err(error)) => list.append(failure::instance(py, &error)?)?,
            None => {
                return Err(pyo3::exceptions::PyRuntimeError::new_err(
                    "a defect of haul: the task of a range ended without a result",
                ));
            }
        }
    }
    Ok(list)
}

/// The range as the engine takes it, which is `None` for the whole object, with its length where
/// that is known; nothing for a range without bytes. A start below zero counts from the end.
fn selection(
    start: Option<i64>,
    end: Option<u64>,
) -> PyResult<Option<(Option<Selection>, Option<u64>)>> {
    let start = start.unwrap_or(0);
    let (text, bytes) = match (u64::try_from(start), end) {
        (Ok(0), None) => return Ok(Some((None, None))),
        (Ok(start), None) => (format!("{start}-"), None),
        (Ok(start), Some(end)) if end <= start => return Ok(None),
        (Ok(start), Some(end)) => (format!("{start}-{}", end - 1), Some(end - start)),
        (Err(_), None) => (format!("-{}", start.unsigned_abs()), Some(start.unsigned_abs())),
        (Err(_), Some(end)) => {
            return Err(PyValueError::new_err(format!(
                "a range from {start}, which counts from the end, to {end}: leave the end out"
            )));
        }
    };
    let selection =
        text.parse().map_err(|error: Error| PyValueError::new_err(error.to_string()))?;
    Ok(Some((Some(selection), bytes)))
}

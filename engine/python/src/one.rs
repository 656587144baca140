//! `download` and `adownload`: one file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use haul_engine::{DownloadBuilder, Error, Monitor};
use pyo3::prelude::*;
use tokio::task::JoinHandle;

use crate::attempt::{self, Done};
use crate::failure;
use crate::options::{Conflicts, headers, options};
use crate::process::{Network, Owned};
use crate::told;

/// The view of the running attempt, once there is one.
#[derive(Clone, Default)]
struct View(Arc<Mutex<Option<Monitor>>>);

impl View {
    fn set(&self, monitor: Monitor) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(monitor);
    }

    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let monitor = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        monitor.map(|monitor| told::progress(py, &monitor.progress())).transpose()
    }
}

/// What both functions take.
#[derive(FromPyObject)]
pub(crate) struct Wanted<'py> {
    url: String,
    output: Option<PathBuf>,
    dir: PathBuf,
    digest: Option<String>,
    size: Option<u64>,
    headers: Option<Bound<'py, PyAny>>,
    mirrors: Vec<String>,
    existing: String,
    locked: String,
    sync: bool,
}

impl Wanted<'_> {
    fn build(self, py: Python<'_>) -> PyResult<(Network, DownloadBuilder, Conflicts)> {
        let conflicts = Conflicts::parse(&self.existing, &self.locked)?;
        let mut options = options(self.dir, conflicts, self.sync);
        options.output = self.output;
        options.checksum = self
            .digest
            .map(|digest| digest.parse().map_err(|error| failure::raised(py, &error)))
            .transpose()?;
        options.expected_size_bytes = self.size;
        options.headers = headers(self.headers.as_ref())?;
        options.mirrors = self.mirrors;
        let network = Network::of(py, &self.url)?;
        let builder = network.download(&self.url, options);
        Ok((network, builder, conflicts))
    }
}

/// Downloads one file and returns its `Summary`.
#[pyfunction]
pub(crate) fn download<'py>(
    py: Python<'py>,
    wanted: Wanted<'py>,
    on_progress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (network, builder, conflicts) = wanted.build(py)?;
    let view = View::default();
    let shown = view.clone();
    let ended = network.wait(
        py,
        attempt::run(builder, conflicts, move |monitor| shown.set(monitor)),
        |py| match (on_progress, view.progress(py)?) {
            (Some(call), Some(progress)) => call.call1((progress,)).map(drop),
            _ => Ok(()),
        },
    )?;
    let done = ended.map_err(|error| failure::raised(py, &error))?;
    if let (Some(call), Some(progress)) = (on_progress, view.progress(py)?) {
        call.call1((progress,))?;
    }
    told::summary(py, &done.summary)
}

/// A download that runs beside the caller.
#[pyclass(frozen, module = "haul._haul")]
pub(crate) struct Running {
    task: Owned<JoinHandle<()>>,
    view: View,
}

#[pymethods]
impl Running {
    /// How far it is, as a `Progress`; `None` before it has begun.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.task.get()?;
        self.view.progress(py)
    }

    /// Stops it; what it has is kept. In a forked child there is nothing to stop.
    fn stop(&self) {
        if let Ok(Some(task)) = self.task.get() {
            task.abort();
        }
    }
}

/// Starts a download, at whose end a thread of haul calls `done` with a `Summary` or an `Error`.
#[pyfunction]
pub(crate) fn start(py: Python<'_>, wanted: Wanted<'_>, done: Py<PyAny>) -> PyResult<Running> {
    let (network, builder, conflicts) = wanted.build(py)?;
    let view = View::default();
    let shown = view.clone();
    let task = network.runtime.spawn(async move {
        let ended = attempt::run(builder, conflicts, move |monitor| shown.set(monitor)).await;
        tokio::task::spawn_blocking(move || tell(&done, &ended));
    });
    Ok(Running { task: Owned::new(task), view })
}

fn tell(done: &Py<PyAny>, ended: &Result<Done, Error>) {
    Python::attach(|py| {
        let told = match ended {
            Ok(done) => told::summary(py, &done.summary),
            Err(error) => failure::instance(py, error),
        };
        let called = told.and_then(|told| done.bind(py).call1((told,)));
        if let Err(error) = called {
            error.write_unraisable(py, Some(done.bind(py)));
        }
    });
}

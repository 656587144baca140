//! `open`: an object that is read while it downloads.

use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use haul_engine::Download;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::io::{AsyncReadExt as _, AsyncSeek as _, AsyncSeekExt as _};

use crate::failure;
use crate::options::headers;
use crate::process::{Network, Owned};
use crate::scratch::Scratch;
use crate::told::{Object, object};

struct Inner {
    network: Network,
    download: Download,
    /// One thread reads or seeks at a time; the others wait.
    reader: tokio::sync::Mutex<haul_engine::Reader>,
    /// The offset of the next byte to return. The reader's own is further after a read that was
    /// interrupted, whose bytes nobody got. It changes only while the reader is locked.
    position: AtomicU64,
}

impl Inner {
    /// The reader at the position, and the position.
    async fn reader(&self) -> io::Result<(tokio::sync::MutexGuard<'_, haul_engine::Reader>, u64)> {
        let mut reader = self.reader.lock().await;
        let position = self.position.load(Ordering::Relaxed);
        // This also ends a seek that was interrupted, and needs no wait.
        Pin::new(&mut *reader).start_seek(SeekFrom::Start(position))?;
        Ok((reader, position))
    }
}

/// What `haul.Reader` reads from.
#[pyclass(frozen, module = "haul._haul")]
pub(crate) struct Source(Mutex<Owned<Arc<Inner>>>);

impl Source {
    fn inner(&self) -> PyResult<Arc<Inner>> {
        let owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = || PyValueError::new_err("I/O operation on closed file.");
        owned.get()?.cloned().ok_or_else(closed)
    }
}

#[pymethods]
impl Source {
    #[new]
    fn new(
        py: Python<'_>,
        url: &str,
        fields: Option<&Bound<'_, PyAny>>,
        mirrors: Vec<String>,
    ) -> PyResult<Self> {
        let scratch = Scratch::new().map_err(|error| {
            let place = std::env::temp_dir();
            PyOSError::new_err(format!("no file can be made in {}: {error}", place.display()))
        })?;
        let network = Network::of(py, url)?;
        let builder = network.engine.download(url).store_in(Arc::new(scratch));
        let builder = builder.headers(headers(fields)?).mirrors(mirrors).digest(false);
        let download = {
            let _inside = network.runtime.enter();
            builder.start().map_err(|error| failure::raised(py, &error))?
        };
        let reader = tokio::sync::Mutex::new(download.reader());
        let inner = Inner { network, download, reader, position: AtomicU64::new(0) };
        Ok(Self(Mutex::new(Owned::new(Arc::new(inner)))))
    }

    /// What the server told of the object; waits for the first response.
    fn object(&self, py: Python<'_>) -> PyResult<Object> {
        let inner = self.inner()?;
        let opened = inner.network.wait(py, inner.download.opened(), |_| Ok(()))?;
        let mut told = opened.map_err(|error| failure::raised(py, &error))?;
        // What the server did not tell is known at the end.
        told.object_bytes = told.object_bytes.or(told.total_bytes);
        Ok(object(told))
    }

    /// Reads this many bytes, or fewer at the end of the object. A read that fails or is interrupted
    /// leaves the position as it is.
    fn read<'py>(&self, py: Python<'py>, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let inner = self.inner()?;
        let read = async {
            let (mut reader, position) = inner.reader().await?;
            let mut bytes = Vec::new();
            (&mut *reader).take(size as u64).read_to_end(&mut bytes).await?;
            inner.position.store(position + bytes.len() as u64, Ordering::Relaxed);
            Ok::<_, io::Error>(bytes)
        };
        let bytes = inner.network.wait(py, read, |_| Ok(()))?;
        Ok(PyBytes::new(py, &bytes.map_err(|error| failure::of_read(py, &error))?))
    }

    /// Goes to this offset, from the start (0), the position (1) or the end (2), and returns it from
    /// the start.
    fn seek(&self, py: Python<'_>, offset: i64, whence: i32) -> PyResult<u64> {
        let inner = self.inner()?;
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| {
                PyValueError::new_err(format!("a position of {offset} is before the start"))
            })?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            other => return Err(PyValueError::new_err(format!("whence={other} is not 0, 1 or 2"))),
        };
        let sought = async {
            let (mut reader, _) = inner.reader().await?;
            let position = reader.seek(to).await?;
            inner.position.store(position, Ordering::Relaxed);
            Ok::<_, io::Error>(position)
        };
        let sought = inner.network.wait(py, sought, |_| Ok(()))?;
        sought.map_err(|error| failure::of_read(py, &error))
    }

    /// The offset of the next byte.
    fn tell(&self) -> PyResult<u64> {
        Ok(self.inner()?.position.load(Ordering::Relaxed))
    }

    /// Stops the download, and forgets what it has.
    fn close(&self) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(inner);
    }
}

//! What all downloads of a process share: an engine, and the threads of its network.
//!
//! A forked child has none of its parent's threads. What was made in another process is therefore
//! neither used nor dropped there: a lock in it may be held for good by a thread that is not there.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use haul_engine::{DownloadBuilder, DownloadOptions, Engine, EngineConfig, Proxies};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyCFunction;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::failure;

/// How often a call that waits looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// How long downloads that still run at the end of the process may take to record what they have.
const LAST_WORK: Duration = Duration::from_secs(5);

/// More threads than these are of no use, since the engine stores and hashes on its own.
const MOST_THREADS: usize = 4;

/// Only a thread that holds the interpreter's lock takes this one, and runs no Python before it lets
/// go, since that may hand the interpreter's lock to a thread that waits here. A fork by Python holds
/// the interpreter's lock, too, so this one is free in a child.
static PROCESS: Mutex<Option<Owned<Process>>> = Mutex::new(None);

/// A value that only the process that made it uses and drops.
pub(crate) struct Owned<T> {
    process: u32,
    value: Option<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: std::process::id(), value: Some(value) }
    }

    fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// The value, unless it was taken.
    ///
    /// # Errors
    /// `RuntimeError` in another process.
    pub(crate) fn get(&self) -> PyResult<Option<&T>> {
        if self.is_ours() {
            return Ok(self.value.as_ref());
        }
        Err(PyRuntimeError::new_err(
            "this was made before a fork, in the parent process, and cannot be used here: make \
             another one in this process",
        ))
    }

    /// Takes the value out, if it is this process's.
    pub(crate) fn take(&mut self) -> Option<T> {
        if self.is_ours() { self.value.take() } else { None }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            std::mem::forget(self.value.take());
        }
    }
}

struct Process {
    engine: Engine,
    /// One thread, which is enough to receive what needs no decrypting.
    plain: Runtime,
    /// For TLS; made when it is needed.
    decrypting: Option<Runtime>,
}

/// The engine, on the runtime that suits an URL.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) engine: Engine,
    pub(crate) runtime: Handle,
}

impl Network {
    /// That of this process.
    ///
    /// # Errors
    /// `haul.Error` for proxies of the environment that cannot be used, and `OSError` when the
    /// system gives no threads or descriptors.
    pub(crate) fn of(py: Python<'_>, url: &str) -> PyResult<Self> {
        let (found, is_new) = {
            let mut process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = process.as_ref().is_none_or(|process| !process.is_ours());
            (Process::network(&mut process, is_new, url), is_new)
        };
        let network = found.map_err(|unusable| unusable.raised(py))?;
        if is_new {
            // Also in a child, whose inherited handlers may have been cleared.
            let end = PyCFunction::new_closure(py, None, None, |args, _| shut_down(args.py()))?;
            py.import("atexit")?.call_method1("register", (end,))?;
        }
        Ok(network)
    }

    pub(crate) fn download(&self, url: &str, options: DownloadOptions) -> DownloadBuilder {
        self.engine.download_with(url, options)
    }

    /// Waits for a future on the caller's thread, without the interpreter's lock. It is dropped when
    /// a signal's handler raises, such as that of Ctrl-C, or when `now_and_then` does, which is
    /// called every 50 ms with the lock.
    pub(crate) fn wait<T: Send>(
        &self,
        py: Python<'_>,
        future: impl Future<Output = T> + Send,
        mut now_and_then: impl FnMut(Python<'_>) -> PyResult<()>,
    ) -> PyResult<T> {
        let mut future = std::pin::pin!(future);
        loop {
            let waited = py.detach(|| {
                self.runtime
                    .block_on(async { tokio::time::timeout(SIGNALS, future.as_mut()).await })
            });
            if let Ok(done) = waited {
                return Ok(done);
            }
            py.check_signals()?;
            now_and_then(py)?;
        }
    }
}

/// Why there is no engine.
enum Unusable {
    Engine(haul_engine::Error),
    Threads(io::Error),
}

impl Unusable {
    fn raised(&self, py: Python<'_>) -> PyErr {
        match self {
            Self::Engine(error) => failure::raised(py, error),
            Self::Threads(error) => {
                PyOSError::new_err(format!("the threads of haul cannot start: {error}"))
            }
        }
    }
}

impl Process {
    fn new() -> Result<Self, Unusable> {
        let mut config = EngineConfig::default();
        config.proxies = Proxies::from_env(|name| std::env::var(name).ok())
            .map_err(Unusable::Engine)?
            .or_of_system();
        let engine = Engine::new(config).map_err(Unusable::Engine)?;
        let plain = runtime(1).map_err(Unusable::Threads)?;
        Ok(Self { engine, plain, decrypting: None })
    }

    /// The network for an URL, of a process that is made if there is none.
    fn network(
        place: &mut Option<Owned<Self>>,
        is_new: bool,
        url: &str,
    ) -> Result<Network, Unusable> {
        if is_new {
            *place = Some(Owned::new(Self::new()?));
        }
        let process = place.as_mut().and_then(|process| process.value.as_mut());
        let Some(process) = process else {
            return Err(Unusable::Threads(io::Error::other("they were ended")));
        };
        let runtime = if url.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("https:")) {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            match &mut process.decrypting {
                Some(runtime) => runtime,
                none => none.insert(runtime(cores.min(MOST_THREADS)).map_err(Unusable::Threads)?),
            }
        } else {
            &process.plain
        };
        Ok(Network { engine: process.engine.clone(), runtime: runtime.handle().clone() })
    }

    fn end(self) {
        let Self { engine, plain, decrypting } = self;
        plain.block_on(async {
            let _ = tokio::time::timeout(LAST_WORK, engine.shutdown()).await;
        });
        drop(engine);
        for runtime in [Some(plain), decrypting].into_iter().flatten() {
            // Lookups of names may take longer, and nobody waits for them any more.
            runtime.shutdown_timeout(Duration::from_millis(500));
        }
    }
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("haul-network")
        .enable_all()
        .build()
}

/// Stops all downloads of this process, which record what they have, and ends all of haul's threads.
/// The next download starts them anew.
#[pyfunction]
pub(crate) fn shut_down(py: Python<'_>) {
    let process = PROCESS.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(process) = process.and_then(|mut process| process.take()) {
        py.detach(|| process.end());
    }
}

//! `fetch_many` and `afetch_many`: a list, with one result for each item.
//!
//! The caller's thread hands over items while there is room for some ahead, and takes results. A
//! task starts the downloads and sees their ends, so they go on while the caller is busy.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use haul_cli::programs::{Complete, Item, Refused, Results, Width};
use haul_engine::{DownloadId, DownloadOptions, Error, Event, Observer, Summary};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{JoinHandle, JoinSet};

use crate::attempt;
use crate::failure;
use crate::options::{Conflicts, options};
use crate::process::{Network, Owned};
use crate::told;

/// How many items wait to be started at most.
const AHEAD: usize = 64;

/// An item, and the object that described it.
struct Given {
    item: Item,
    object: Py<PyAny>,
    network: Network,
}

/// What the caller takes.
enum News {
    Ended(Py<PyAny>, Box<Result<Summary, Error>>),
    Refused(Py<PyAny>, Refused),
    /// The record of results is not complete.
    Unrecorded(Refused),
}

/// What the caller's side hands over to; gone once there are no more items.
struct Input {
    items: UnboundedSender<Given>,
    /// How many of them wait to be started.
    waiting: Arc<AtomicUsize>,
    news: UnboundedSender<News>,
}

struct Inner {
    network: Network,
    options: DownloadOptions,
    input: Mutex<Option<Input>>,
    news: Arc<tokio::sync::Mutex<UnboundedReceiver<News>>>,
    driver: JoinHandle<()>,
    complete: Complete,
}

/// The downloads of a list.
#[pyclass(frozen, module = "haul._haul")]
pub(crate) struct Many(Owned<Inner>);

#[pymethods]
impl Many {
    #[new]
    #[pyo3(signature = (*, dir, results, jobs, existing, locked, sync))]
    fn new(
        py: Python<'_>,
        dir: PathBuf,
        results: Option<PathBuf>,
        jobs: Option<NonZeroUsize>,
        existing: &str,
        locked: &str,
        sync: bool,
    ) -> PyResult<Self> {
        let conflicts = Conflicts::parse(existing, locked)?;
        let mut options = options(dir, conflicts, sync);
        options.small_all_or_nothing = true;
        // A retry finds what was completed, also where the server tells no version.
        options.trust_url = true;
        let network = Network::of(py, "")?;
        let (results, complete) = match results {
            None => (None, Complete::default()),
            Some(path) => {
                let opened = Results::open(&path);
                let opened = opened.map_err(|refused| failure::refused(py, &refused));
                opened.map(|(results, complete)| (Some(results), complete))?
            }
        };
        let (items, given) = mpsc::unbounded_channel();
        let (sender, news) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let driver = Driver {
            options: options.clone(),
            conflicts,
            width: Arc::new(Width::new(jobs.map(NonZeroUsize::get))),
            results,
            waiting: Arc::clone(&waiting),
            news: sender.clone(),
        };
        let driver = network.runtime.spawn(driver.run(given));
        let input = Mutex::new(Some(Input { items, waiting, news: sender }));
        let news = Arc::new(tokio::sync::Mutex::new(news));
        Ok(Self(Owned::new(Inner { network, options, input, news, driver, complete })))
    }

    /// Takes items from an iterator while there is room for some ahead.
    fn fill(&self, items: &Bound<'_, PyIterator>) -> PyResult<()> {
        let Some(inner) = self.0.get()? else { return Ok(()) };
        while inner.has_room() {
            // Python's code may run here, and call this again.
            let Some(object) = items.clone().next().transpose()? else {
                inner.input.lock().unwrap_or_else(PoisonError::into_inner).take();
                break;
            };
            inner.give(&object)?;
        }
        Ok(())
    }

    /// Waits for results, and returns all that are there; none at the end.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let Some(inner) = self.0.get()? else { return Ok(Vec::new()) };
        let news = inner.network.wait(py, next(Arc::clone(&inner.news)), |_| Ok(()))?;
        news.iter().map(|news| news.result(py)).collect()
    }

    /// Has a thread of haul call `done` with what `take` returns, or with what it raises.
    fn take_soon(&self, done: Py<PyAny>) -> PyResult<()> {
        let Some(inner) = self.0.get()? else { return Ok(()) };
        let news = Arc::clone(&inner.news);
        inner.network.runtime.spawn(async move {
            let news = next(news).await;
            tokio::task::spawn_blocking(move || {
                Python::attach(|py| {
                    let results: PyResult<Vec<_>> =
                        news.iter().map(|news| news.result(py)).collect();
                    let called = match results {
                        Ok(results) => done.bind(py).call1((results, py.None())),
                        Err(error) => done.bind(py).call1((py.None(), error.into_value(py))),
                    };
                    if let Err(error) = called {
                        error.write_unraisable(py, Some(done.bind(py)));
                    }
                });
            });
        });
        Ok(())
    }

    /// Stops what still runs; what it has is kept. In a forked child there is nothing to stop.
    fn close(&self) {
        if let Ok(Some(inner)) = self.0.get() {
            inner.input.lock().unwrap_or_else(PoisonError::into_inner).take();
            inner.driver.abort();
        }
    }
}

impl Inner {
    fn has_room(&self) -> bool {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.as_ref().is_some_and(|input| input.waiting.load(Ordering::Relaxed) < AHEAD)
    }

    fn give(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        let item = item(object)?;
        let kept = object.clone().unbind();
        let network = item.as_ref().ok().map(|item| Network::of(py, item.url())).transpose()?;
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Input { items, waiting, news }) = &*input else { return Ok(()) };
        let told = match (item, network) {
            (Err(refused), _) => News::Refused(kept, refused),
            (Ok(item), _) if self.complete.has(&item) => {
                News::Ended(kept, Box::new(Ok(self.done_before(&item))))
            }
            (Ok(item), Some(network)) => {
                waiting.fetch_add(1, Ordering::Relaxed);
                let _ = items.send(Given { item, object: kept, network });
                return Ok(());
            }
            (Ok(_), None) => return Ok(()),
        };
        let _ = news.send(told);
        Ok(())
    }

    /// What there is to say of an item that is complete according to the record.
    fn done_before(&self, item: &Item) -> Summary {
        let mut options = self.options.clone();
        item.apply(&mut options);
        let mut summary = Summary::default();
        summary.unchanged = true;
        if let Some(output) = options.output {
            summary.output = options.directory.join(output);
            summary.bytes = std::fs::metadata(&summary.output).map_or(0, |found| found.len());
        }
        summary
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl News {
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Ended(object, ended) => told::result(py, object, ended),
            Self::Refused(object, refused) => {
                told::of_item(py, object, None, Some(failure::refusal(py, refused)?))
            }
            Self::Unrecorded(refused) => Err(failure::refused(py, refused)),
        }
    }
}

/// Waits for news, and gives all that are there; none at the end.
async fn next(news: Arc<tokio::sync::Mutex<UnboundedReceiver<News>>>) -> Vec<News> {
    let mut news = news.lock().await;
    let mut all = Vec::new();
    all.extend(news.recv().await);
    while let Ok(more) = news.try_recv() {
        all.push(more);
    }
    all
}

/// The item that an object of Python describes: a URL, a pair of it and the output, or a mapping with
/// the keys of a list's JSON object.
fn item(object: &Bound<'_, PyAny>) -> PyResult<Result<Item, Refused>> {
    let py = object.py();
    if let Ok(url) = object.cast::<PyString>() {
        return Ok(Item::of_url(&url.to_cow()?));
    }
    let keys = match object.extract::<(String, PathBuf)>() {
        Ok((url, output)) => {
            let keys = PyDict::new(py);
            keys.set_item("url", url)?;
            keys.set_item("out", output.as_os_str())?;
            keys.into_any()
        }
        Err(_) => object.clone(),
    };
    match py.import("json")?.call_method1("dumps", (keys,)) {
        Ok(text) => Ok(Item::of_json(&text.extract::<String>()?)),
        Err(error) => {
            let kind = object.get_type().name()?;
            Ok(Err(Refused::new(format!("an item that is a {kind} cannot be used: {error}"))))
        }
    }
}

/// Starts the downloads, and tells how they ended.
struct Driver {
    options: DownloadOptions,
    conflicts: Conflicts,
    width: Arc<Width>,
    results: Option<Results>,
    waiting: Arc<AtomicUsize>,
    news: UnboundedSender<News>,
}

impl Driver {
    async fn run(self, mut given: UnboundedReceiver<Given>) {
        let mut running = JoinSet::new();
        let mut all = false;
        loop {
            tokio::select! {
                biased;
                next = given.recv(), if !all && running.len() < self.width.now() => match next {
                    Some(given) => {
                        self.waiting.fetch_sub(1, Ordering::Relaxed);
                        let network = given.network.runtime.clone();
                        running.spawn_on(self.one(given), &network);
                    }
                    None => all = true,
                },
                () = self.width.grew(), if !all && !running.is_empty() => {}
                Some(Ok((given, ended, began))) = running.join_next(), if !running.is_empty() => {
                    self.ended(given, ended, began);
                }
                else => break,
            }
        }
        if let Some(results) = self.results {
            let closed = tokio::task::spawn_blocking(|| results.close()).await;
            if let Ok(Err(refused)) = closed {
                let _ = self.news.send(News::Unrecorded(refused));
            }
        }
    }

    /// The download of an item.
    fn one(
        &self,
        given: Given,
    ) -> impl Future<Output = (Given, Result<Summary, Error>, Instant)> + Send + 'static {
        let mut options = self.options.clone();
        given.item.apply(&mut options);
        let builder = given.network.download(given.item.url(), options);
        let builder = builder.observe(Learner(Arc::clone(&self.width)));
        let conflicts = self.conflicts;
        async move {
            let began = Instant::now();
            (given, attempt::run(builder, conflicts, |_| ()).await, began)
        }
    }

    fn ended(&self, given: Given, ended: Result<Summary, Error>, began: Instant) {
        if let Some(results) = &self.results {
            results.add(&given.item, &ended, began.elapsed());
        }
        let _ = self.news.send(News::Ended(given.object, Box::new(ended)));
    }
}

/// Tells the width what becomes known of a download.
struct Learner(Arc<Width>);

impl Observer for Learner {
    fn event(&self, _: DownloadId, event: &Event) {
        self.0.learn(event);
    }
}

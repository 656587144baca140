//! `fetch_many` and `afetch_many`: a list, with one result for each item.
//!
//! The caller's thread hands over items while there is room for some ahead, and takes results. A
//! task starts the downloads and sees their ends, so they go on while the caller is busy.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use haul_cli::programs::{Complete, Ended, Item, Refused, Results, Width};
use haul_engine::{DownloadId, DownloadOptions, Error, Event, Observer, Summary, redact_url};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use crate::attempt::{self, Done};
use crate::failure;
use crate::options::{Conflicts, options};
use crate::process::{Network, Owned};
use crate::told;

/// How many items, at most, wait to be started or have a result that waits to be taken. Items are
/// not read beyond that, however slow the caller is.
const AHEAD: usize = 64;

/// How many items wait to be started or have news that nobody has taken.
type Ahead = Arc<AtomicUsize>;

/// An item, and the object that described it.
struct Given {
    item: Item,
    object: Py<PyAny>,
    network: Network,
}

/// What the caller takes; sent by [`tell`].
enum News {
    Ended(Py<PyAny>, Box<Result<Summary, Error>>),
    Refused(Py<PyAny>, Refused),
    /// The record of results is not complete.
    Unrecorded(Refused),
}

/// What the caller's side hands over to; gone once there are no more items.
struct Input {
    items: UnboundedSender<Given>,
    news: UnboundedSender<News>,
}

struct Inner {
    network: Network,
    input: Mutex<Option<Input>>,
    ahead: Ahead,
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
                let opened = py.detach(|| Results::open(&path));
                let opened = opened.map_err(|refused| failure::refused(py, &refused));
                opened.map(|(results, complete)| (Some(results), complete))?
            }
        };
        let (items, given) = mpsc::unbounded_channel();
        let (sender, news) = mpsc::unbounded_channel();
        let ahead = Ahead::default();
        let driver = Driver {
            options,
            conflicts,
            width: Arc::new(Width::new(jobs.map(NonZeroUsize::get))),
            results,
            ahead: Arc::clone(&ahead),
            news: sender.clone(),
        };
        let driver = network.runtime.spawn(driver.run(given));
        let input = Mutex::new(Some(Input { items, news: sender }));
        let news = Arc::new(tokio::sync::Mutex::new(news));
        Ok(Self(Owned::new(Inner { network, input, ahead, news, driver, complete })))
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
        let next = next(Arc::clone(&inner.news), Arc::clone(&inner.ahead));
        let news = inner.network.wait(py, next, |_| Ok(()))?;
        news.iter().map(|news| news.result(py)).collect()
    }

    /// Has a thread of haul call `done` with what `take` returns, or with what it raises.
    fn take_soon(&self, done: Py<PyAny>) -> PyResult<()> {
        let Some(inner) = self.0.get()? else { return Ok(()) };
        let next = next(Arc::clone(&inner.news), Arc::clone(&inner.ahead));
        inner.network.runtime.spawn(async move {
            let news = next.await;
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
        input.is_some() && self.ahead.load(Ordering::Relaxed) < AHEAD
    }

    fn give(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let kept = object.clone().unbind();
        // Python may run here, and not while the input is locked.
        let given = match item(object)? {
            Err(refused) => Err(News::Refused(kept, refused)),
            Ok(item) => match self.complete.summary(&item) {
                Some(summary) => Err(News::Ended(kept, Box::new(Ok(summary)))),
                None => {
                    let network = Network::of(object.py(), item.url())?;
                    Ok(Given { item, object: kept, network })
                }
            },
        };
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Input { items, news }) = &*input else { return Ok(()) };
        match given {
            Ok(given) => {
                self.ahead.fetch_add(1, Ordering::Relaxed);
                let _ = items.send(given);
            }
            Err(told) => tell(news, &self.ahead, told),
        }
        Ok(())
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

/// Has the caller take this.
fn tell(news: &UnboundedSender<News>, ahead: &Ahead, told: News) {
    ahead.fetch_add(1, Ordering::Relaxed);
    let _ = news.send(told);
}

/// Waits for news, and gives all that are there; none at the end.
async fn next(news: Arc<tokio::sync::Mutex<UnboundedReceiver<News>>>, ahead: Ahead) -> Vec<News> {
    let mut news = news.lock().await;
    let mut all = Vec::new();
    all.extend(news.recv().await);
    while let Ok(more) = news.try_recv() {
        all.push(more);
    }
    ahead.fetch_sub(all.len(), Ordering::Relaxed);
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
    ahead: Ahead,
    news: UnboundedSender<News>,
}

/// An item whose download runs, by the id of its task, so that it has a result also if that panics.
type Running = HashMap<Id, (Given, Instant)>;

impl Driver {
    async fn run(self, mut given: UnboundedReceiver<Given>) {
        let mut tasks = JoinSet::new();
        let mut running = Running::new();
        let mut all = false;
        loop {
            tokio::select! {
                biased;
                next = given.recv(), if !all && tasks.len() < self.width.now() => match next {
                    Some(given) => {
                        self.ahead.fetch_sub(1, Ordering::Relaxed);
                        let task = tasks.spawn_on(self.one(&given), &given.network.runtime);
                        running.insert(task.id(), (given, Instant::now()));
                    }
                    None => all = true,
                },
                () = self.width.grew(), if !all && !tasks.is_empty() => {}
                Some(joined) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    let id = joined.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                    if let Some((given, began)) = running.remove(&id) {
                        self.ended(given, joined.map(|(_, ended)| ended).ok(), began);
                    }
                }
                else => break,
            }
        }
        if let Some(results) = self.results {
            let closed = tokio::task::spawn_blocking(|| results.close()).await;
            if let Ok(Err(refused)) = closed {
                tell(&self.news, &self.ahead, News::Unrecorded(refused));
            }
        }
    }

    /// The download of an item.
    fn one(
        &self,
        given: &Given,
    ) -> impl Future<Output = Result<Done, Error>> + Send + 'static + use<> {
        let mut options = self.options.clone();
        given.item.apply(&mut options);
        let builder = given.network.download(given.item.url(), options);
        let builder = builder.observe(Learner(Arc::clone(&self.width)));
        let conflicts = self.conflicts;
        attempt::run(builder, conflicts, |_| ())
    }

    /// Records how an item ended, and tells it; nothing is known of a task that panicked.
    fn ended(&self, given: Given, ended: Option<Result<Done, Error>>, began: Instant) {
        let ended = ended.ok_or_else(|| {
            Refused::internal(format!(
                "a defect of haul: the download of {} ended without a result",
                redact_url(given.item.url())
            ))
        });
        if let Some(results) = &self.results {
            let recorded = match &ended {
                Ok(Ok(done)) if done.is_skipped => Ended::Skipped,
                Ok(Ok(done)) => Ended::Completed(&done.summary),
                Ok(Err(error)) => Ended::Failed(error),
                Err(refused) => Ended::Refused(refused),
            };
            results.add(&given.item, recorded, began.elapsed());
        }
        let told = match ended {
            Ok(ended) => News::Ended(given.object, Box::new(ended.map(|done| done.summary))),
            Err(refused) => News::Refused(given.object, refused),
        };
        tell(&self.news, &self.ahead, told);
    }
}

/// Tells the width what becomes known of a download.
struct Learner(Arc<Width>);

impl Observer for Learner {
    fn event(&self, _: DownloadId, event: &Event) {
        self.0.learn(event);
    }
}

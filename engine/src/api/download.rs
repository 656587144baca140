//! The builder of one download.

use std::fmt;
use std::sync::Arc;

use crate::api::handle::{Download, launch, launch_stream};
use crate::api::setters::setters;
use crate::api::stream::ByteStream;
use crate::disk::storage::MemoryStorage;
use crate::disk::storage::window::Window;
use crate::driver::downloads::Stopper;
use crate::driver::engine::EngineInner;
use crate::driver::observer::Observers;
use crate::driver::options::{Attached, Options, Target};
use crate::driver::shared::Shared;
use crate::driver::{Driver, Outcome};
use crate::model::error::Error;
use crate::model::event::{Metadata, Plan};
use crate::model::options::DownloadOptions;
use crate::model::redact::redact_url;

/// Builds one download, from [`crate::Engine::download`]. [`DownloadBuilder::start`] reports
/// unusable options before it does anything.
#[derive(Clone)]
#[must_use = "nothing is downloaded before start() or plan()"]
pub struct DownloadBuilder {
    engine: Arc<EngineInner>,
    url: String,
    pub(crate) options: DownloadOptions,
    pub(crate) attached: Attached,
}

/// Shows no secret, and only the presence of what the program attached, whose own `Debug` may show
/// anything.
impl fmt::Debug for DownloadBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadBuilder")
            .field("url", &redact_url(&self.url))
            .field("options", &self.options)
            .field("refresh", &self.attached.refresh.is_some())
            .field("cookies", &self.attached.cookies.is_some())
            .field("storage", &self.attached.storage)
            .field("observers", &self.attached.observers)
            .finish_non_exhaustive()
    }
}

setters!(DownloadBuilder);

impl DownloadBuilder {
    pub(crate) fn new(engine: Arc<EngineInner>, url: &str, options: DownloadOptions) -> Self {
        Self { engine, url: url.to_owned(), options, attached: Attached::default() }
    }

    fn inner(&mut self) -> &mut Self {
        self
    }

    /// Starts the download on the current tokio runtime.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a URL, header or size that cannot be used, and
    /// [`crate::ErrorKind::Cancelled`] after [`crate::Engine::shutdown`]. In both cases nothing was
    /// done.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn start(self) -> Result<Download, Error> {
        let (engine, options) = self.resolve(Target::Output)?;
        launch(engine, options)
    }

    /// Starts the download on the current tokio runtime, to be read in order
    /// from memory: nothing is written, there is no checkpoint, and options
    /// about files have no effect; an output is only reported. [`Self::pieces`]
    /// are not compared if there is a [`Self::checksum`], which covers all
    /// bytes. See [`ByteStream`]. The [`Download`] steers it, and dropping that
    /// stops it.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], and [`crate::ErrorKind::InvalidInput`] with
    /// [`Self::if_changed`], [`Self::store_in`], or pieces without a checksum.
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub fn stream(self) -> Result<(Download, ByteStream), Error> {
        let window = Arc::new(Window::new(self.options.window_bytes));
        let (engine, options) = self.resolve(Target::Stream(Arc::clone(&window)))?;
        launch_stream(engine, options, window)
    }

    /// Finds out what a download would do, with one request whose body is
    /// dropped. Nothing is written, and observers are not called.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], and whatever the request meets.
    pub async fn plan(self) -> Result<Plan, Error> {
        let (engine, options) = self.resolve(Target::Plan)?;
        let (stopper, stopped) = Stopper::new();
        let entry = engine.downloads.enter(&stopper)?;
        let shared = Arc::new(Shared::new(entry.id, None, Observers::default()));
        match Driver::new(engine, options, shared).run(stopped).await? {
            Outcome::Planned(plan) => Ok(*plan),
            Outcome::Completed(_) => Err(Error::lost()),
        }
    }

    /// Fetches the whole object into memory instead of a file, on the current tokio runtime: for
    /// documents such as lists of digests and Metalinks.
    ///
    /// It is a download like any other, with retries, mirrors, sizes, digests and a range, but it
    /// does not count among [`crate::EngineConfig::max_active`]. Options about files have no
    /// effect, since there is no file: output, directory, storage, what exists and what an earlier
    /// run left. A content coding that the server insists on is refused, since the bytes would not
    /// be those of the document.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], whatever ends a download,
    /// [`crate::ErrorKind::LimitReached`] for more than `most_bytes`, and
    /// [`crate::ErrorKind::InvalidInput`] with [`Self::if_changed`] or [`Self::store_in`].
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub async fn bytes(self, most_bytes: usize) -> Result<Vec<u8>, Error> {
        Ok(self.bytes_and_metadata(most_bytes).await?.0)
    }

    /// As [`Self::bytes`], with what the server told of the object: whether two parts are of one
    /// version shows by comparing that.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub async fn bytes_and_metadata(
        mut self,
        most_bytes: usize,
    ) -> Result<(Vec<u8>, Metadata), Error> {
        let memory = MemoryStorage::new(usize::MAX);
        if most_bytes < usize::MAX {
            let most = self.options.max_size_bytes.unwrap_or(u64::MAX).min(most_bytes as u64);
            self.options.max_size_bytes = Some(most);
        }
        let (engine, options) = self.resolve(Target::Document(memory.clone()))?;
        let download = launch(engine, options)?;
        download.wait().await?;
        Ok((memory.take(), download.opened().await?))
    }

    /// The options, checked.
    pub(crate) fn resolve(self, target: Target) -> Result<(Arc<EngineInner>, Options), Error> {
        let Self { engine, url, options, attached } = self;
        let options = Options::resolve(&url, options, attached, target, &*engine.transport)?;
        Ok((engine, options))
    }
}

//! Turns the resolved flags and what an item specifies into a download of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use haul_engine::{DownloadBuilder, DownloadOptions};

use crate::exit::Failure;
use crate::input::Item;
use crate::refresh::RefreshCommand;
use crate::sink::Sink;
use crate::sums::Sums;

/// The flags that apply to every download of a run, in the engine's types.
#[derive(Debug)]
pub(super) struct Output {
    /// The options that all downloads of this plan start from.
    pub(super) options: DownloadOptions,
    /// The directory of the outputs, if one was given.
    pub(super) directory: Option<PathBuf>,
    /// The place of a list of digests, and its contents once it is read.
    pub(super) sums_place: Option<String>,
    pub(super) sums: Option<Arc<Sums>>,
    pub(super) refresh: Option<RefreshCommand>,
}

impl Output {
    /// Sets what the item itself specifies on its download, which has these options already. The
    /// item takes precedence over the flags.
    ///
    /// # Errors
    /// Exit 2 when the list of digests has none for the item.
    pub(super) fn apply(
        &self,
        mut download: DownloadBuilder,
        item: &Item,
        sink: Option<&Sink>,
    ) -> Result<DownloadBuilder, Failure> {
        let options = download.options_mut();
        options.headers.extend(item.headers.iter().cloned());
        if let Some(file) = &item.out {
            options.output = Some(file.clone());
        }
        options.checksum = item.checksum.clone().or(options.checksum.take());
        if let (None, Some(sums)) = (&options.checksum, &self.sums) {
            options.checksum = Some(sums.find(&item.urls[0], options.output.as_deref())?.clone());
        }
        if let Some(sink) = sink {
            options.output = Some(sink.name().into());
        }
        match (&self.directory, &item.dir) {
            (Some(directory), Some(inner)) => options.directory = directory.join(inner),
            (Some(directory), None) | (None, Some(directory)) => {
                options.directory.clone_from(directory);
            }
            (None, None) => {}
        }
        options.mirrors.splice(0..0, item.urls[1..].iter().cloned());
        options.pieces.clone_from(&item.pieces);
        options.expected_size_bytes = item.size_bytes.or(options.expected_size_bytes);
        Ok(match &self.refresh {
            Some(command) => download.refresh(command.clone()),
            None => download,
        })
    }
}

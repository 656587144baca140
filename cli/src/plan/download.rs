//! Turns the resolved flags into calls of the engine's builder.

use std::path::PathBuf;
use std::sync::Arc;

use haul_engine::{
    Allocation, Checksum, Connections, DownloadBuilder, Existing, Foreign, Resume, Selection,
    StorageKind,
};

use crate::exit::Failure;
use crate::input::Item;
use crate::refresh::RefreshCommand;
use crate::sink::Sink;
use crate::sums::Sums;

/// The flags that apply to every download of a run, in the engine's types.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: Option<PathBuf>,
    pub(super) directory: Option<PathBuf>,
    pub(super) connections: Connections,
    pub(super) resume: Resume,
    pub(super) foreign: Foreign,
    pub(super) existing: Existing,
    pub(super) if_changed: bool,
    pub(super) in_place: bool,
    pub(super) checksum: Option<Checksum>,
    pub(super) expected_size_bytes: Option<u64>,
    pub(super) max_size_bytes: Option<u64>,
    /// The place of a list of digests, and its contents once it is read.
    pub(super) sums_place: Option<String>,
    pub(super) sums: Option<Arc<Sums>>,
    pub(super) mirrors: Vec<String>,
    pub(super) refresh: Option<RefreshCommand>,
    pub(super) storage: StorageKind,
    pub(super) allocation: Allocation,
    pub(super) segment_size_bytes: Option<u64>,
    pub(super) min_split_bytes: Option<u64>,
    pub(super) selection: Option<Selection>,
    pub(super) sync: bool,
    pub(super) digest: bool,
    pub(super) remote_time: bool,
}

impl Output {
    /// Sets these options, and what the item itself specifies, on the item's download. The item
    /// takes precedence over the flags.
    ///
    /// # Errors
    /// Exit 2 when the list of digests has none for the item.
    pub(super) fn apply(
        &self,
        download: DownloadBuilder,
        item: &Item,
        sink: Option<&Sink>,
    ) -> Result<DownloadBuilder, Failure> {
        let mut download = download
            .connections(self.connections)
            .resume(self.resume)
            .foreign(self.foreign)
            .existing(self.existing)
            .if_changed(self.if_changed)
            .in_place(self.in_place)
            .storage(self.storage)
            .allocation(self.allocation)
            .sync(self.sync)
            .digest(self.digest)
            .remote_time(self.remote_time);
        for (name, value) in &item.headers {
            download = download.header(name, value);
        }
        if let Some(sink) = sink {
            download = download.output(sink.name());
        } else if let Some(file) = item.out.as_ref().or(self.file.as_ref()) {
            download = download.output(file);
        }
        match (&self.directory, &item.dir) {
            (Some(directory), Some(inner)) => download = download.directory(directory.join(inner)),
            (Some(directory), None) | (None, Some(directory)) => {
                download = download.directory(directory);
            }
            (None, None) => {}
        }
        for mirror in item.urls[1..].iter().chain(&self.mirrors) {
            download = download.mirror(mirror);
        }
        if let Some(command) = &self.refresh {
            download = download.refresh(command.clone());
        }
        if let Some(checksum) = item.checksum.as_ref().or(self.checksum.as_ref()) {
            download = download.checksum(checksum.clone());
        } else if let Some(sums) = &self.sums {
            let file = item.out.as_ref().or(self.file.as_ref());
            download =
                download.checksum(sums.find(&item.urls[0], file.map(PathBuf::as_path))?.clone());
        }
        if let Some(pieces) = &item.pieces {
            download = download.pieces(pieces.clone());
        }
        if let Some(bytes) = self.max_size_bytes {
            download = download.max_size_bytes(bytes);
        }
        if let Some(bytes) = self.min_split_bytes {
            download = download.min_split_bytes(bytes);
        }
        if let Some(bytes) = item.size_bytes.or(self.expected_size_bytes) {
            download = download.expected_size_bytes(bytes);
        }
        if let Some(bytes) = self.segment_size_bytes {
            download = download.segment_size_bytes(bytes);
        }
        if let Some(selection) = &self.selection {
            download = download.range(selection.clone());
        }
        Ok(download)
    }
}

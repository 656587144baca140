//! Turns the resolved flags and what an item specifies into a download of the engine.

use std::path::PathBuf;
use std::sync::Arc;

use haul_engine::{
    Allocation, Connections, DownloadBuilder, DownloadOptions, Existing, Foreign, Resume,
    StorageKind,
};
use haul_film::FilmOptions;
use haul_film::choice::Wanted;

use crate::args::{
    AllocationArg, ContinueArg, ExistingArg, FileArgs, FilmArgs, IntegrityArgs, OutputArgs,
    StorageArg, TransferArgs,
};
use crate::exit::Failure;
use crate::input::Item;
use crate::refresh::RefreshCommand;
use crate::sink::Sink;
use crate::sums::Sums;
use crate::units::size;

/// The smallest segment that the engine takes, in bytes.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

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
        item.shape(options);
        if item.is_of_hub && options.range.is_some() {
            // They are those of the whole file.
            (options.checksum, options.expected_size_bytes) = (None, None);
        }
        if !item.links.is_empty() {
            // The name says what the bytes are, and other programs believe it.
            options.in_place = false;
            if matches!(options.existing, Existing::Rename | Existing::Refuse) {
                options.existing = Existing::Verify;
            }
        }
        if let (None, Some(sums)) = (&options.checksum, &self.sums) {
            options.checksum = Some(sums.find(&item.urls[0], options.output.as_deref())?.clone());
        }
        if let Some(sink) = sink {
            options.output = Some(sink.name());
        }
        match (&self.directory, &item.dir) {
            (Some(directory), Some(inner)) => options.directory = directory.join(inner),
            (Some(directory), None) | (None, Some(directory)) => {
                options.directory.clone_from(directory);
            }
            (None, None) => {}
        }
        Ok(match &self.refresh {
            Some(command) => download.refresh(command.clone()),
            None => download,
        })
    }
}

impl Output {
    /// How a film is downloaded with these flags.
    ///
    /// # Errors
    /// Exit 2 for flags that describe one object.
    pub(super) fn film_options(
        &self,
        item: &Item,
        film: &FilmArgs,
        sink: Option<&Sink>,
    ) -> Result<FilmOptions, Failure> {
        let of_object = [
            (self.options.range.is_some(), "--range"),
            (self.options.checksum.is_some() || item.checksum.is_some(), "--checksum"),
            (self.sums_place.is_some(), "--checksum"),
            (self.options.if_changed, "--if-changed"),
            (self.options.in_place, "--no-part"),
            (sink.is_some(), "--output to a stream"),
        ];
        if let Some((_, flag)) = of_object.iter().find(|(given, _)| *given) {
            let text = format!("{flag} is for one object, and this URL describes a film of many");
            return Err(Failure::usage(text).hint("--as-is fetches the playlist itself"));
        }
        let mut options = FilmOptions::default();
        options.output = item.out.clone().or_else(|| self.options.output.clone());
        options.directory = match (&self.directory, &item.dir) {
            (Some(directory), Some(inner)) => directory.join(inner),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => options.directory,
        };
        options.existing = self.options.existing;
        options.sync = self.options.sync;
        options.allow_holes = film.allow_holes;
        options.live_from_start = !film.live_from_now;
        options.wanted = Wanted {
            quality: film.quality.unwrap_or_default(),
            audio: film.audio.clone(),
            subtitles: film.subs.clone(),
        };
        options.at_once = match self.options.connections {
            Connections::Fixed(count) | Connections::AutoUpTo(count) => Some(count),
            _ => None,
        };
        Ok(options)
    }
}

/// The options that the flags of these groups ask for.
///
/// # Errors
/// Exit 2 for a segment size that the engine does not take.
pub(super) fn options(
    output: &OutputArgs,
    file: &FileArgs,
    transfer: &TransferArgs,
    integrity: &IntegrityArgs,
) -> Result<DownloadOptions, Failure> {
    let existing = output.existing();
    let mut options = DownloadOptions::default();
    options.output.clone_from(&output.output);
    options.connections = transfer.connections.unwrap_or_default();
    options.resume = match output.r#continue {
        None | Some(ContinueArg::Auto | ContinueArg::Foreign) => Resume::Auto,
        Some(ContinueArg::Always) => Resume::Always,
        Some(ContinueArg::Never) => Resume::Never,
    };
    options.foreign = match (output.r#continue, existing) {
        // Any file at all is to be refused or to count as done.
        (_, Some(ExistingArg::Skip | ExistingArg::Error)) => Foreign::Leave,
        (Some(ContinueArg::Foreign | ContinueArg::Always), _) => Foreign::Continue,
        _ => Foreign::Leave,
    };
    options.existing = match existing {
        None => Existing::Rename,
        Some(ExistingArg::Verify) => Existing::Verify,
        Some(ExistingArg::Skip | ExistingArg::Error) => Existing::Refuse,
        Some(ExistingArg::Overwrite) => Existing::Replace,
    };
    options.if_changed = output.if_changed;
    options.in_place = output.no_part;
    options.storage = storage(file.storage.unwrap_or(StorageArg::Auto));
    options.expected_size_bytes = integrity.expect_size;
    options.max_size_bytes = integrity.max_filesize;
    options.allocation = match file.file_allocation {
        None | Some(AllocationArg::Auto) => Allocation::Auto,
        Some(AllocationArg::None) => Allocation::Sparse,
        Some(AllocationArg::Falloc) => Allocation::Reserve,
    };
    options.min_split_bytes = transfer.min_split_size;
    options.segment_size_bytes = transfer.segment_size.map(segment_size).transpose()?;
    options.range.clone_from(&transfer.range);
    options.sync = !file.no_sync;
    options.digest = !file.no_digest;
    options.remote_time = !file.no_remote_time;
    Ok(options)
}

/// The engine's name for a storage of the command line.
fn storage(arg: StorageArg) -> StorageKind {
    match arg {
        StorageArg::Auto => StorageKind::Auto,
        StorageArg::Mmap => StorageKind::Mmap,
        StorageArg::Pwrite => StorageKind::Pwrite,
    }
}

fn segment_size(bytes: u64) -> Result<u64, Failure> {
    if bytes.is_power_of_two() && bytes >= MIN_SEGMENT_BYTES {
        return Ok(bytes);
    }
    let words = size(bytes);
    Err(Failure::usage(format!(
        "--segment-size: {bytes} bytes ({words}) is not a power of two of 1M or more"
    ))
    .hint("write 1M, 2M, 4M and so on"))
}

//! What is served: an object, or a film of many pieces.

use std::future::Future;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use haul_engine::{Metadata, Monitor, Reader, ValidatorKind};
use haul_film::{FilmMonitor, FilmReader, Viewer};
use tokio::io::{AsyncRead as _, AsyncSeek as _, ReadBuf};

use super::mp4;
use super::page::Status;
use crate::film::Speed;

/// How long an answer waits for the length of a film. Players cannot move in one whose length they
/// were not told.
const LENGTH_WITHIN: Duration = Duration::from_secs(3);

/// See the module's documentation.
pub(super) enum Served {
    Object { monitor: Monitor, reader: Reader },
    Film { monitor: FilmMonitor, viewer: Viewer, speed: Mutex<Speed>, started: Instant },
}

/// What an answer states of it.
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) total_bytes: Option<u64>,
    pub(super) strong_etag: Option<String>,
}

/// A name for what is served.
pub(super) struct Named {
    pub(super) name: String,
    /// Whether what has the name is a playlist of files beside it.
    pub(super) has_files: bool,
}

impl Served {
    pub(super) fn film(monitor: FilmMonitor, viewer: Viewer) -> Self {
        Self::Film { monitor, viewer, speed: Mutex::default(), started: Instant::now() }
    }

    /// Waits until it can be served; `None` where it never can.
    pub(super) async fn opened(&self) -> Option<Named> {
        match self {
            Self::Object { monitor, .. } => {
                let name = monitor.opened().await.ok()?.name.clone();
                Some(Named { name, has_files: false })
            }
            Self::Film { viewer, .. } => {
                let shown = viewer.opened().await?;
                Some(Named { name: shown.name, has_files: !shown.is_stream })
            }
        }
    }

    /// Has fetched first what a player needs first.
    pub(super) async fn begin(&self) {
        // The download reports its own failure.
        match self {
            Self::Object { reader, .. } => {
                let _ = mp4::read_moov(&mut reader.clone()).await;
            }
            Self::Film { viewer, .. } => {
                let _ = viewer.reader().read().await;
            }
        }
    }

    /// What is known of it now; `None` while an object is being fetched again from its start.
    pub(super) async fn facts(&self) -> Option<Facts> {
        match self {
            Self::Object { monitor, .. } => monitor.metadata().map(|it| Facts::of(&it)),
            Self::Film { viewer, .. } => {
                let shown = viewer.opened().await?;
                let total_bytes = match shown.is_stream {
                    true => viewer.total_bytes(LENGTH_WITHIN).await,
                    false => None,
                };
                let content_type = shown.content_type.to_owned();
                Some(Facts { name: shown.name, content_type, total_bytes, strong_etag: None })
            }
        }
    }

    /// The state of the download, as the page takes it.
    pub(super) async fn status(&self) -> Option<String> {
        match self {
            Self::Object { monitor, .. } => {
                let facts = Facts::of(&monitor.metadata()?);
                Some(Status::of(&facts, &monitor.progress()).json())
            }
            Self::Film { monitor, viewer, speed, started } => {
                let shown = viewer.opened().await?;
                let (film, pieces) = (monitor.progress(), viewer.pieces().await);
                let mut speed = speed.lock().unwrap_or_else(PoisonError::into_inner);
                let progress = speed.of(&film, *started);
                let facts = Facts {
                    name: shown.name,
                    content_type: shown.content_type.to_owned(),
                    total_bytes: progress.total_bytes,
                    strong_etag: None,
                };
                let mut status = Status::of(&facts, &progress);
                status.of_pieces(&pieces);
                Some(status.json())
            }
        }
    }

    /// A file beside a film's playlist.
    pub(super) async fn file(&self, name: &str) -> io::Result<(&'static str, Vec<u8>)> {
        match self {
            Self::Object { .. } => Err(io::ErrorKind::NotFound.into()),
            Self::Film { viewer, .. } => viewer.file(name).await,
        }
    }

    /// The bytes from a place on.
    pub(super) fn bytes(&self, range: &Range<u64>) -> Source {
        match self {
            Self::Object { reader, .. } => {
                let mut reader = reader.clone();
                // Seeking from the start takes effect at once.
                let _ = Pin::new(&mut reader).start_seek(SeekFrom::Start(range.start));
                Source::Object(Box::new(reader))
            }
            Self::Film { viewer, .. } => {
                let (mut reader, from) = (viewer.reader(), range.start);
                Source::Film(Box::pin(async move {
                    let found = match from {
                        0 => Ok(()),
                        from => reader.seek(from).await,
                    };
                    match found {
                        Ok(()) => read(reader).await,
                        Err(error) => (reader, Err(error)),
                    }
                }))
            }
        }
    }
}

impl Facts {
    fn of(metadata: &Metadata) -> Self {
        let is_strong = metadata.validator == ValidatorKind::StrongEtag;
        Self {
            name: metadata.name.clone(),
            content_type: content_type(metadata),
            total_bytes: metadata.total_bytes,
            strong_etag: metadata.etag.clone().filter(|_| is_strong),
        }
    }
}

/// The type that the server states, or else the one that the file's name suggests.
fn content_type(metadata: &Metadata) -> String {
    let told = metadata.content_type.as_deref().map(str::trim).unwrap_or_default();
    let media = told.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let silent = ["", "application/octet-stream", "binary/octet-stream"];
    if !silent.contains(&media.as_str()) {
        return told.to_owned();
    }
    let extension = metadata.name.rsplit_once('.').map(|(_, extension)| extension);
    let known = match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "mp4" | "m4v" => "video/mp4",
        "webm" => "video/webm",
        "mkv" => "video/x-matroska",
        "mov" => "video/quicktime",
        "avi" => "video/x-msvideo",
        "ts" | "m2ts" => "video/mp2t",
        "ogv" => "video/ogg",
        "mp3" => "audio/mpeg",
        "m4a" => "audio/mp4",
        "ogg" | "oga" | "opus" => "audio/ogg",
        "flac" => "audio/flac",
        "wav" => "audio/wav",
        _ => "application/octet-stream",
    };
    known.to_owned()
}

type Read = (FilmReader, io::Result<Option<Bytes>>);

async fn read(mut reader: FilmReader) -> Read {
    let read = reader.read().await;
    (reader, read)
}

/// Yields the bytes of one answer.
pub(super) enum Source {
    Object(Box<Reader>),
    Film(Pin<Box<dyn Future<Output = Read> + Send>>),
}

impl Source {
    /// The next bytes: of an object at most so many. `None` at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        match self {
            Self::Object(reader) => {
                let mut piece = vec![0; most];
                let mut buffer = ReadBuf::new(&mut piece);
                ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
                let read = buffer.filled().len();
                piece.truncate(read);
                Poll::Ready(Ok((read > 0).then(|| piece.into())))
            }
            Self::Film(reading) => {
                let (reader, bytes) = ready!(reading.as_mut().poll(cx));
                *reading = Box::pin(read(reader));
                Poll::Ready(bytes)
            }
        }
    }
}

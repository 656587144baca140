//! Fetching one piece into memory, and judging what came.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use haul_engine::storage::MemoryStorage;
use haul_engine::{Connections, DownloadBuilder, Error, ErrorKind, Selection};
use tokio::sync::{OnceCell, mpsc};
use url::Url;

use crate::cipher::{self, BLOCK_BYTES, KEY_BYTES};
use crate::container::Container;
use crate::model::{Key, Piece, Place, Role};
use crate::source::Requests;
use crate::watch::Watch;

/// No piece may be larger, in bytes, unless it is a track of its own.
pub(crate) const MAX_PIECE_BYTES: u64 = 64 << 20;
/// How long a connection may be silent within a piece. Pieces are short, and another attempt costs
/// little.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a piece is tried before something else is.
const RETRY_TIME: Duration = Duration::from_secs(30);
/// How long the server of a piece that failed is asked whether it is there.
const PROBE_TIME: Duration = Duration::from_secs(5);
/// What is longer, in bytes, is no key.
const MAX_KEY_FILE_BYTES: usize = 1 << 16;
/// How often a piece is fetched whose bytes are not what they should be.
const ATTEMPTS: u32 = 2;

/// Why a piece is not there.
#[derive(Debug)]
pub(crate) enum PieceError {
    /// Its link is refused: 401, 403 or 410.
    Refused(Error),
    /// It is not there, or not what it should be. Other pieces may be.
    Hole(String),
    /// Nothing can be fetched or kept.
    Fatal(Error),
}

/// Tells how long a piece is going to be, as soon as its response does.
pub(crate) type Promises = mpsc::UnboundedSender<(usize, usize, u64)>;

/// What all pieces of a film share.
pub(crate) struct Fetcher {
    pub(crate) requests: Arc<dyn Requests>,
    /// Keys by their URL, each fetched once.
    keys: Mutex<HashMap<Url, Arc<OnceCell<[u8; KEY_BYTES]>>>>,
    watch: Arc<Watch>,
}

impl Fetcher {
    pub(crate) fn new(requests: Arc<dyn Requests>, watch: Arc<Watch>) -> Self {
        Self { requests, keys: Mutex::default(), watch }
    }

    /// Fetches a piece with so many connections at most, decrypts it and checks that it is whole
    /// media.
    ///
    /// # Errors
    /// See [`PieceError`].
    pub(crate) async fn fetch(
        &self,
        piece: &Piece,
        place: Place,
        promises: &Promises,
        connections: usize,
    ) -> Result<(Vec<u8>, Container), PieceError> {
        let mut attempt = 1;
        loop {
            match self.fetch_once(piece, place, promises, connections).await {
                Err(PieceError::Hole(_)) if attempt < ATTEMPTS && !piece.is_gap => attempt += 1,
                Err(PieceError::Fatal(error))
                    if error.kind() == ErrorKind::Network && self.is_answered(piece).await =>
                {
                    // The network may have come back only now.
                    if attempt == ATTEMPTS {
                        return Err(PieceError::Hole(error.to_string()));
                    }
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Whether the server of a piece that failed answers a request for its first byte. Then the
    /// network is there, and waiting for it would not help.
    async fn is_answered(&self, piece: &Piece) -> bool {
        let Some(request) = self.one(piece, &(0..1)) else { return false };
        let mut request = request.store_in(Arc::new(MemoryStorage::new(1)));
        request.options_mut().retry.max_time = Some(PROBE_TIME);
        match request.start() {
            Ok(probe) => probe.opened().await.is_ok(),
            Err(_) => false,
        }
    }

    async fn fetch_once(
        &self,
        piece: &Piece,
        place: Place,
        promises: &Promises,
        connections: usize,
    ) -> Result<(Vec<u8>, Container), PieceError> {
        if piece.is_gap {
            return Err(PieceError::Hole("the playlist itself says that it is missing".to_owned()));
        }
        if !self.requests.allows(&piece.url) {
            let why = format!("its scheme, {}, is not allowed", piece.url.scheme());
            return Err(PieceError::Hole(why));
        }
        let key = match &piece.key {
            Some(key) => Some(self.key(key).await?),
            None => None,
        };
        let memory = MemoryStorage::new(usize::try_from(MAX_PIECE_BYTES).unwrap_or(usize::MAX));
        let request = self.requests.request(&piece.url).map_err(judged)?;
        let mut request = request
            .digest(false)
            .connections(Connections::AutoUpTo(connections))
            .max_size_bytes(MAX_PIECE_BYTES)
            .mirrors(self.allowed(&piece.mirrors))
            .store_in(Arc::new(memory.clone()));
        let options = request.options_mut();
        options.stall_timeout = options.stall_timeout.or(Some(STALL_TIMEOUT));
        options.retry.max_time = options.retry.max_time.or(Some(RETRY_TIME));
        if let Some(range) = &piece.range {
            request = request.range(selection(range)?);
        }
        let download = request.start().map_err(judged)?;
        let _watched = self.watch.of(&download, Some(place));
        if piece.key.is_none()
            && let Ok(metadata) = download.opened().await
            && let Some(bytes) = metadata.total_bytes.filter(|bytes| *bytes <= MAX_PIECE_BYTES)
        {
            // The receiver is gone only when nobody wants the piece any more.
            let _ = promises.send((place.0, place.1, bytes));
        }
        download.wait().await.map_err(judged)?;
        let mut bytes = memory.take();
        if let Some(range) = &piece.range
            && bytes.len() as u64 != range.end - range.start
        {
            let want = range.end - range.start;
            let why = format!("has {} bytes instead of the {want} that its range has", bytes.len());
            return Err(PieceError::Hole(why));
        }
        if let (Some(key), Some(Key { iv, .. })) = (key, &piece.key) {
            cipher::decrypt(&key, *iv, &mut bytes).map_err(|_| {
                let why = "cannot be decrypted: it or its key is not what it should be";
                PieceError::Hole(why.to_owned())
            })?;
        }
        let container = Container::of_whole(&bytes).map_err(PieceError::Hole)?;
        if piece.role == Role::Init && container == Container::Text {
            return Err(PieceError::Hole("is text, and no initialization".to_owned()));
        }
        Ok((bytes, container))
    }

    /// The length of a piece in bytes, decrypted, by asking for as little of it as tells. `None` where
    /// its server does not tell, for whatever reason.
    pub(crate) async fn length(&self, piece: &Piece) -> Option<u64> {
        let range = match &piece.range {
            Some(range) => range.clone(),
            None => 0..self.object_bytes(piece).await.filter(|it| *it <= MAX_PIECE_BYTES)?,
        };
        let bytes = range.end.checked_sub(range.start)?;
        let Some(key) = &piece.key else { return Some(bytes) };
        // The padding is in the last block, which is decrypted with the one before it.
        let blocks =
            range.end.checked_sub(2 * BLOCK_BYTES as u64).filter(|it| *it >= range.start)?;
        let key = self.key(key).await.ok()?;
        let both = self.part(piece, blocks..range.end).await?;
        let (before, mut last) = (both.first_chunk::<BLOCK_BYTES>()?, both[BLOCK_BYTES..].to_vec());
        cipher::decrypt(&key, *before, &mut last).ok()?;
        Some(bytes - (BLOCK_BYTES - last.len()) as u64)
    }

    /// A part of the object that a piece is in.
    pub(crate) async fn part(&self, piece: &Piece, range: Range<u64>) -> Option<Vec<u8>> {
        let most = usize::try_from(range.end - range.start).ok()?;
        self.one(piece, &range)?.bytes(most).await.ok()
    }

    /// How long the object is that a piece is in.
    pub(crate) async fn object_bytes(&self, piece: &Piece) -> Option<u64> {
        let memory = Arc::new(MemoryStorage::new(BLOCK_BYTES));
        let download = self.one(piece, &(0..1))?.store_in(memory).start().ok()?;
        let metadata = download.opened().await.ok()?;
        // Its connection is for the next one.
        let _ = download.wait().await;
        metadata.object_bytes
    }

    /// A request over one connection.
    fn one(&self, piece: &Piece, range: &Range<u64>) -> Option<DownloadBuilder> {
        if !self.requests.allows(&piece.url) {
            return None;
        }
        let request = self.requests.request(&piece.url).ok()?.digest(false);
        Some(request.connections(Connections::AutoUpTo(1)).range(selection(range).ok()?))
    }

    async fn key(&self, key: &Key) -> Result<[u8; KEY_BYTES], PieceError> {
        let cell = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keys.entry(key.url.clone()).or_default())
        };
        cell.get_or_try_init(|| self.fetch_key(&key.url)).await.copied()
    }

    /// The mirrors that may be requested.
    pub(crate) fn allowed(&self, mirrors: &[Url]) -> Vec<String> {
        let allowed = mirrors.iter().filter(|url| self.requests.allows(url));
        allowed.map(|url| url.as_str().to_owned()).collect()
    }

    async fn fetch_key(&self, url: &Url) -> Result<[u8; KEY_BYTES], PieceError> {
        if url.scheme() == "data" {
            return key_within(url)
                .ok_or_else(|| PieceError::Hole("its key, a data: URL, is none".to_owned()));
        }
        if !self.requests.allows(url) {
            let why = format!("the scheme of its key, {}, is not allowed", url.scheme());
            return Err(PieceError::Hole(why));
        }
        let of_key = |error| match judged(error) {
            PieceError::Hole(why) => PieceError::Hole(format!("its key cannot be fetched: {why}")),
            other => other,
        };
        let request = self.requests.request(url).map_err(of_key)?;
        let bytes = request.digest(false).bytes(MAX_KEY_FILE_BYTES).await.map_err(of_key)?;
        bytes.as_slice().try_into().map_err(|_| {
            let why = format!("its key has {} bytes instead of {KEY_BYTES}", bytes.len());
            PieceError::Hole(why)
        })
    }
}

/// The key in a `data:` URL (RFC 2397), which has it in base 64.
fn key_within(url: &Url) -> Option<[u8; KEY_BYTES]> {
    let text = url.path().split_once(";base64,")?.1;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

/// A range of bytes as the engine takes it.
pub(crate) fn selection(range: &Range<u64>) -> Result<Selection, PieceError> {
    let last = range.end.saturating_sub(1);
    format!("{}-{last}", range.start).parse().map_err(PieceError::Fatal)
}

/// What a failed request means for the film.
fn judged(error: Error) -> PieceError {
    match error.kind() {
        ErrorKind::AccessDenied => PieceError::Refused(error),
        ErrorKind::HttpStatus | ErrorKind::Protocol | ErrorKind::ObjectChanged => {
            PieceError::Hole(error.to_string())
        }
        // Too long for memory.
        ErrorKind::LimitReached => PieceError::Hole(error.to_string()),
        _ => PieceError::Fatal(error),
    }
}

//! Downloading a film: which pieces are fetched when, and what becomes of those that do not come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use haul_engine::{Connections, Error, ErrorKind, Existing, Resume, Summary};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use crate::checkpoint::{self, Checkpoint, Record};
use crate::choice::Wanted;
use crate::container::Container;
use crate::error::{FilmError, Hole, PieceName};
use crate::fetch::{Fetcher, PieceError, Promises, selection};
use crate::join::{self, Reel as JoinReel};
use crate::model::{Kind, Piece, Role};
use crate::name;
use crate::reel::{self, Next, Object, Splitter};
use crate::source::{self, Requests, Selected};
use crate::store::{TrackStore, key_of};
use crate::watch::{FilmMonitor, Phase, Watch};

/// How many pieces are fetched at once where nobody chose.
const AT_ONCE: usize = 16;
/// The bytes of pieces that are in memory, arriving or waiting for their place: about as many, since
/// a piece that arrives is taken to be as long as the longest one so far.
const MEMORY_BYTES: u64 = 40 << 20;
/// What a piece is taken to be, in bytes, before a longer one has come: sixteen fit.
const UNKNOWN_BYTES: u64 = 2 << 20;
/// Adjacent ranges of a file are no more bytes than this in all, and no fewer each, where they are
/// fetched like the pieces that they are: that is over before the engine has learnt how many
/// connections help a single object.
const APART_BYTES: (u64, u64) = (16 << 20, 64 << 10);
/// As many parts are joined, and files open, at most.
const MAX_REELS: usize = 500;
/// Reels that are one object each are fetched at the same time, so only a few may be.
const FEW_REELS: usize = 4;
/// How often the manifest is fetched again without a piece having come since.
const MAX_REFRESHES: u32 = 3;
/// How often one piece's link may be refused.
const MAX_REFUSALS: u32 = 3;
/// How long the network may be away.
const MAX_SILENCE: Duration = Duration::from_secs(240);
/// A live film whose playlist cannot be fetched for this long has ended badly.
const MAX_OUTAGE: Duration = Duration::from_secs(600);
/// So many pieces in a row, without one that came, are no film.
const HOPELESS_HOLES: usize = 16;
/// How often a live playlist is fetched at most and at least.
const POLL: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// How a film is downloaded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FilmOptions {
    /// The output, below [`Self::directory`] if relative. Its extension chooses the container:
    /// `.mp4`, `.mkv`, `.ts`. Default: named by the manifest's URL.
    pub output: Option<PathBuf>,
    /// The directory of the output, created if needed. Default `.`.
    pub directory: PathBuf,
    /// What happens when the output exists. Default: the film is refused.
    pub existing: Existing,
    /// Which renditions.
    pub wanted: Wanted,
    /// Whether a film with missing pieces is written. Default false: it is an error.
    pub allow_holes: bool,
    /// Whether the output is synced before it gets its name. Default true.
    pub sync: bool,
    /// How many pieces are fetched at once. Default 16.
    pub at_once: Option<usize>,
}

impl Default for FilmOptions {
    fn default() -> Self {
        Self {
            output: None,
            directory: PathBuf::from("."),
            existing: Existing::Refuse,
            wanted: Wanted::default(),
            allow_holes: false,
            sync: true,
            at_once: None,
        }
    }
}

/// A film that is there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FilmSummary {
    /// The film; several files only where ffmpeg was needed to make one and is not there.
    pub outputs: Vec<PathBuf>,
    /// The text beside it, where that was wanted.
    pub subtitles: Option<PathBuf>,
    /// The size of the outputs in bytes.
    pub bytes: u64,
    /// Bytes of pieces that this run stored.
    pub fetched_bytes: u64,
    /// Bytes of pieces that an earlier run left.
    pub resumed_bytes: u64,
    /// How many pieces it has.
    pub pieces: usize,
    /// What is missing; empty unless holes were allowed.
    pub holes: Vec<Hole>,
}

/// Downloads the film that the manifest at `url` describes. Dropping the future stops it; the same
/// call continues later with what was stored.
///
/// # Errors
/// See [`FilmError`]. Unless the output is complete there is none.
pub async fn download(
    url: &Url,
    requests: Arc<dyn Requests>,
    options: &FilmOptions,
    monitor: &FilmMonitor,
) -> Result<FilmSummary, FilmError> {
    let watch = Arc::clone(&monitor.watch);
    let selected = source::select(&*requests, url, &options.wanted).await?;
    let output = name::output(url, options, &selected)?;
    let mut run = Run {
        url: url.clone(),
        fetcher: Arc::new(Fetcher::new(Arc::clone(&requests), Arc::clone(&watch))),
        watch,
        options: options.clone(),
        output,
        reels: Vec::new(),
        splitters: Vec::new(),
        selected,
        disk: None,
        queue: VecDeque::new(),
        holes: BTreeMap::new(),
        refusals: BTreeMap::new(),
        failures: BTreeMap::new(),
        last_came: Instant::now(),
        running: BTreeSet::new(),
        generation: 0,
        refreshes: 0,
        inherits_query: false,
        longest_bytes: UNKNOWN_BYTES,
        resumed_bytes: 0,
        fetched_bytes: 0,
        any_stored: false,
    };
    run.run().await
}

/// The file of a stretch of a track.
struct Reel {
    /// Which of the selected renditions it is of.
    track: usize,
    kind: Kind,
    path: PathBuf,
    pieces: Vec<Piece>,
    form: Form,
    container: Option<Container>,
    /// Whether it is one object that is here already.
    is_whole: bool,
}

enum Form {
    /// The engine makes the file.
    Object(Object),
    /// Its pieces are stored in [`Disk::stores`].
    Pieces,
}

/// What is written while pieces arrive.
struct Disk {
    checkpoint: Checkpoint,
    /// One for each reel that is made of pieces.
    stores: Vec<Option<TrackStore>>,
    /// What was there at the start.
    records: Vec<Record>,
}

type Place = (usize, usize);

enum Came {
    Piece { place: Place, generation: u64, outcome: Result<(Vec<u8>, Container), PieceError> },
    Object { reel: usize, outcome: Result<Box<Summary>, Error> },
}

struct Run {
    url: Url,
    fetcher: Arc<Fetcher>,
    watch: Arc<Watch>,
    options: FilmOptions,
    output: PathBuf,
    selected: Vec<Selected>,
    reels: Vec<Reel>,
    /// One for each selected rendition.
    splitters: Vec<Splitter>,
    disk: Option<Arc<Mutex<Disk>>>,
    /// What is to be fetched, in the order of the film.
    queue: VecDeque<Place>,
    running: BTreeSet<Place>,
    holes: BTreeMap<Place, String>,
    refusals: BTreeMap<Place, u32>,
    /// When the network failed a piece for the first time.
    failures: BTreeMap<Place, Instant>,
    /// When a piece came the last time, or the start.
    last_came: Instant,
    /// Counts the manifests: a piece that was asked for by an older one is simply asked for again.
    generation: u64,
    /// Manifests fetched since the last piece came.
    refreshes: u32,
    /// Whether the manifest's query goes to pieces that have none.
    inherits_query: bool,
    longest_bytes: u64,
    resumed_bytes: u64,
    fetched_bytes: u64,
    any_stored: bool,
}

impl Run {
    async fn run(&mut self) -> Result<FilmSummary, FilmError> {
        self.split()?;
        self.open().await?;
        self.prove().await?;
        self.fetch().await?;
        self.end().await
    }

    /// Makes reels of the tracks.
    fn split(&mut self) -> Result<(), FilmError> {
        let mut found = Vec::new();
        for (track, selected) in self.selected.iter().enumerate() {
            let reels = reel::reels(&selected.track);
            if reels.len() > MAX_REELS {
                return Err(FilmError::Unsupported(format!(
                    "the film has {} breaks, and haul joins {MAX_REELS} parts at most",
                    reels.len()
                )));
            }
            let are_few = reels.len() <= FEW_REELS;
            for pieces in reels {
                let object = Object::of(&pieces)
                    .filter(|object| are_few && !is_faster_apart(object, &pieces))
                    .filter(|_| selected.track.is_complete);
                let form = object.map_or(Form::Pieces, Form::Object);
                found.push((track, selected.kind, pieces, form));
            }
            let mut splitter = Splitter::default();
            for piece in &selected.track.pieces {
                let _ = splitter.next(piece);
            }
            self.splitters.push(splitter);
        }
        for (track, kind, pieces, form) in found {
            self.add_reel(track, kind, pieces, form);
        }
        Ok(())
    }

    fn add_reel(&mut self, track: usize, kind: Kind, pieces: Vec<Piece>, form: Form) {
        let path = name::reel(&self.output, self.reels.len());
        self.reels.push(Reel { track, kind, path, pieces, form, container: None, is_whole: false });
    }

    /// Opens the checkpoint and the files of the reels, and queues what is missing.
    async fn open(&mut self) -> Result<(), FilmError> {
        self.watch.update(|progress| progress.phase = Phase::Fetching);
        // Neither paths nor queries: both may hold tokens that are others in the next run. That it
        // is the same film is proven.
        let name = self.url.path().rsplit('/').next().unwrap_or_default();
        let mut identity = blake3::Hasher::new();
        for part in std::iter::once(name).chain(self.selected.iter().map(|it| it.traits.as_str())) {
            identity.update(part.as_bytes()).update(b"\n");
        }
        let film = identity.finalize().to_hex().to_string();
        let path = checkpoint::path_of(&self.output);
        let reels: Vec<_> = self.reels.iter().map(Reel::to_open).collect();
        let opened = blocking(move || open_disk(path, &film, &reels)).await?;
        let Opened { disk, whole, containers } = opened;
        let count = |store: &TrackStore| (0..store.count()).filter(|it| store.has(*it)).count();
        let resumed: usize = disk.stores.iter().flatten().map(count).sum();
        for reel in whole {
            self.reels[reel].is_whole = true;
        }
        for (reel, container) in self.reels.iter_mut().zip(containers) {
            reel.container = container;
        }
        self.resumed_bytes = disk.stores.iter().flatten().map(TrackStore::stored_bytes).sum();
        self.watch.update(|progress| progress.resumed = resumed);
        self.any_stored = resumed > 0;
        self.disk = Some(Arc::new(Mutex::new(disk)));
        self.queue_missing();
        self.tell_progress()
    }

    /// Shows that what an earlier run left is of the same film: a piece of each reel, fetched again,
    /// must be the same.
    async fn prove(&mut self) -> Result<(), FilmError> {
        if !self.any_stored {
            return Ok(());
        }
        let samples = self
            .with_disk(|disk| {
                let all = disk.stores.iter_mut().enumerate();
                let samples =
                    all.filter_map(|(reel, store)| Some((reel, store.as_mut()?.sample())));
                let samples = samples.map(|(reel, sample)| Ok((reel, sample?)));
                samples.collect::<Result<Vec<_>, FilmError>>()
            })
            .await??;
        let (nobody, _) = mpsc::unbounded_channel();
        for (reel, sample) in samples {
            let Some((at, hash)) = sample else { continue };
            let mut piece = self.reels[reel].pieces[at].clone();
            let outcome = match self.fetcher.fetch(&piece, (reel, at), &nobody).await {
                Err(PieceError::Refused(_)) if may_inherit(&self.url, &piece.url) => {
                    self.inherits_query = true;
                    piece.url.set_query(self.url.query());
                    self.fetcher.fetch(&piece, (reel, at), &nobody).await
                }
                outcome => outcome,
            };
            match outcome {
                Ok((bytes, _)) if blake3::hash(&bytes).to_hex().as_str() == hash => {}
                Ok(_) => return Err(FilmError::Changed(checkpoint::path_of(&self.output))),
                Err(error) => return Err(self.fatal((reel, at), error)),
            }
        }
        Ok(())
    }

    fn lock_disk(&self) -> Option<std::sync::MutexGuard<'_, Disk>> {
        self.disk.as_ref().map(|disk| disk.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues all that is neither there nor under way nor given up, in the order in which a viewer
    /// needs it.
    fn queue_missing(&mut self) {
        let Some(disk) = self.lock_disk() else { return };
        let mut missing = Vec::new();
        let mut times = vec![Duration::ZERO; self.selected.len()];
        for (index, reel) in self.reels.iter().enumerate() {
            for (at, piece) in reel.pieces.iter().enumerate() {
                let place = (index, at);
                let has = disk.stores[index].as_ref().is_none_or(|store| store.has(at));
                if !has && !self.running.contains(&place) && !self.holes.contains_key(&place) {
                    missing.push((times[reel.track], place));
                }
                times[reel.track] = times[reel.track].saturating_add(piece.duration);
            }
        }
        drop(disk);
        missing.sort();
        self.queue = missing.into_iter().map(|(_, place)| place).collect();
    }

    fn tell_progress(&self) -> Result<(), FilmError> {
        let (mut pieces, mut done, mut bytes, mut kept) = (0, 0, 0, 0);
        if let Some(disk) = self.lock_disk() {
            for store in disk.stores.iter().flatten() {
                pieces += store.count();
                done += (0..store.count()).filter(|it| store.has(*it)).count();
                bytes += store.stored_bytes() + store.held_bytes();
                kept += store.stored_bytes();
            }
        }
        let is_live = self.is_live();
        self.watch.update(|progress| {
            (progress.pieces, progress.done, progress.is_live) = (pieces, done, is_live);
            (progress.bytes, progress.kept_bytes) = (bytes, kept);
            let each = bytes.checked_div(done as u64).filter(|_| !is_live);
            progress.total_bytes = each.map(|each| each * pieces as u64);
        });
        Ok(())
    }

    fn is_live(&self) -> bool {
        self.selected.iter().any(|selected| !selected.track.is_complete)
    }

    /// Fetches until everything is there or given up.
    async fn fetch(&mut self) -> Result<(), FilmError> {
        let (promises, mut promised) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for reel in 0..self.reels.len() {
            if matches!(self.reels[reel].form, Form::Object(_)) && !self.reels[reel].is_whole {
                self.start_object(reel, &mut tasks)?;
            }
        }
        let mut next_poll = Instant::now() + self.poll_interval();
        let (mut outage_since, mut shared) = (None, 1);
        loop {
            while self.has_room() {
                let Some(place) = self.queue.pop_front() else { break };
                self.start_piece(place, &promises, &mut tasks);
            }
            // The last pieces are not left to one connection each.
            let at_once = self.options.at_once.unwrap_or(AT_ONCE);
            if self.queue.is_empty() && !self.running.is_empty() {
                let each = (at_once / self.running.len()).max(1);
                if each != std::mem::replace(&mut shared, each) {
                    self.watch.share(each);
                }
            }
            let live = self.is_live();
            if tasks.is_empty() && !live {
                return Ok(());
            }
            tokio::select! {
                Some((reel, at, bytes)) = promised.recv() => {
                    self.longest_bytes = self.longest_bytes.max(bytes);
                    self.with_disk(move |disk| match &mut disk.stores[reel] {
                        Some(store) => store.promise(at, bytes, &mut disk.checkpoint),
                        None => Ok(()),
                    }).await??;
                }
                Some(came) = tasks.join_next(), if !tasks.is_empty() => match came {
                    Ok(Came::Piece { place, generation, outcome }) => {
                        self.running.remove(&place);
                        self.piece_came(place, generation, outcome).await?;
                        self.tell_progress()?;
                    }
                    Ok(Came::Object { reel, outcome }) => self.object_came(reel, outcome).await?,
                    Err(panic) => {
                        return Err(FilmError::Unsupported(format!("a task failed: {panic}")));
                    }
                },
                () = tokio::time::sleep_until(next_poll), if live => {
                    match self.poll_live().await {
                        Ok(()) if self.last_came.elapsed() > MAX_OUTAGE => {
                            return Err(FilmError::Unsupported(
                                "the live playlist has had nothing new for ten minutes, and does \
                                 not say that the film has ended"
                                    .to_owned(),
                            ));
                        }
                        Ok(()) => outage_since = None,
                        Err(error) => {
                            let since = *outage_since.get_or_insert_with(Instant::now);
                            if !may_pass(&error) || since.elapsed() > MAX_OUTAGE {
                                return Err(error);
                            }
                        }
                    }
                    next_poll = Instant::now() + self.poll_interval();
                }
            }
        }
    }

    fn poll_interval(&self) -> Duration {
        let target = self.selected.iter().filter_map(|it| it.track.target_duration).min();
        let [least, most] = POLL;
        (target.unwrap_or(Duration::from_secs(4)) / 2).clamp(least, most)
    }

    /// Whether another piece fits into memory, and among those that are under way.
    fn has_room(&self) -> bool {
        let at_once = self.options.at_once.unwrap_or(AT_ONCE).max(1);
        if self.running.is_empty() {
            return true;
        }
        let held: u64 = match self.lock_disk() {
            Some(disk) => disk.stores.iter().flatten().map(TrackStore::held_bytes).sum(),
            None => 0,
        };
        let next = self.running.len() as u64 + 1;
        self.running.len() < at_once && held + next * self.longest_bytes <= MEMORY_BYTES
    }

    fn start_piece(&mut self, place: Place, promises: &Promises, tasks: &mut JoinSet<Came>) {
        let mut piece = self.reels[place.0].pieces[place.1].clone();
        if self.inherits_query && may_inherit(&self.url, &piece.url) {
            piece.url.set_query(self.url.query());
        }
        self.running.insert(place);
        let (fetcher, promises) = (Arc::clone(&self.fetcher), promises.clone());
        let generation = self.generation;
        tasks.spawn(async move {
            let outcome = fetcher.fetch(&piece, place, &promises).await;
            Came::Piece { place, generation, outcome }
        });
    }

    fn start_object(&mut self, index: usize, tasks: &mut JoinSet<Came>) -> Result<(), FilmError> {
        let reel = &self.reels[index];
        let Form::Object(object) = &reel.form else { return Ok(()) };
        if !self.fetcher.requests.allows(&object.url) {
            let why = format!("its scheme, {}, is not allowed", object.url.scheme());
            return Err(self.fatal((index, 0), PieceError::Hole(why)));
        }
        let connections = self.options.at_once.map_or(Connections::Auto, Connections::Fixed);
        let mut request = self
            .fetcher
            .requests
            .request(&object.url)?
            .mirrors(self.fetcher.allowed(&object.mirrors))
            .connections(connections)
            .resume(Resume::Auto)
            .digest(true)
            .sync(false)
            .directory(".")
            .output(reel.path.clone())
            // The name of a reel is ours by the checkpoint.
            .existing(Existing::Replace);
        if let Some(range) = &object.range {
            request =
                request.range(selection(range).map_err(|error| self.fatal((index, 0), error))?);
        }
        let download = request.start()?;
        let watched = self.watch.of(&download, true);
        tasks.spawn(async move {
            let outcome = download.wait().await.map(Box::new);
            drop(watched);
            Came::Object { reel: index, outcome }
        });
        Ok(())
    }

    async fn object_came(
        &mut self,
        reel: usize,
        outcome: Result<Box<Summary>, Error>,
    ) -> Result<(), FilmError> {
        let blake3 = match outcome {
            Ok(summary) => {
                self.fetched_bytes += summary.fetched_bytes;
                self.resumed_bytes += summary.resumed_bytes;
                summary.blake3_hex().unwrap_or_default()
            }
            Err(error) => return Err(self.fatal((reel, 0), PieceError::Fatal(error))),
        };
        let path = self.reels[reel].path.clone();
        let (container, bytes) = blocking(move || examine(&path)).await?;
        match container {
            Ok(container) => self.reels[reel].container = Some(container),
            Err(why) => {
                // It has its name already, and is not what it should be.
                let path = self.reels[reel].path.clone();
                let removed = std::fs::remove_file(&path);
                removed.map_err(|error| FilmError::local("remove", &path, error))?;
                self.holes.insert((reel, 0), why);
                return Ok(());
            }
        }
        self.reels[reel].is_whole = true;
        self.with_disk(move |disk| {
            let piece = WHOLE.to_owned();
            disk.checkpoint.add(&Record::Stored { track: reel, piece, offset: 0, bytes, blake3 })
        })
        .await?
    }

    async fn piece_came(
        &mut self,
        place: Place,
        generation: u64,
        outcome: Result<(Vec<u8>, Container), PieceError>,
    ) -> Result<(), FilmError> {
        match outcome {
            Ok((bytes, container)) => self.store(place, bytes, container).await,
            Err(PieceError::Hole(why)) => {
                self.give_up(place, why).await?;
                let is_hopeless = !self.any_stored && self.holes.len() >= HOPELESS_HOLES;
                if is_hopeless && self.running.is_empty() && !self.options.allow_holes {
                    return Err(self.told_holes());
                }
                Ok(())
            }
            // There is a newer manifest than the one that this link is from.
            Err(PieceError::Refused(_)) if generation < self.generation => {
                self.queue.push_front(place);
                Ok(())
            }
            Err(PieceError::Refused(error)) => self.refused(place, error).await,
            Err(PieceError::Fatal(error)) if error.kind() == ErrorKind::Network => {
                self.failed(place, error).await
            }
            Err(fatal) => Err(self.fatal(place, fatal)),
        }
    }

    async fn store(
        &mut self,
        place: Place,
        bytes: Vec<u8>,
        container: Container,
    ) -> Result<(), FilmError> {
        let (reel, at) = place;
        let expected = *self.reels[reel].container.get_or_insert(container);
        if expected != container {
            let why = format!("is {}, and other pieces are {}", container.name(), expected.name());
            return self.give_up(place, why).await;
        }
        self.longest_bytes = self.longest_bytes.max(bytes.len() as u64);
        self.fetched_bytes += bytes.len() as u64;
        (self.refreshes, self.any_stored, self.last_came) = (0, true, Instant::now());
        self.with_disk(move |disk| match &mut disk.stores[reel] {
            Some(store) => store.take(at, bytes, &mut disk.checkpoint),
            None => Ok(()),
        })
        .await?
    }

    /// Notes a hole. What comes after it takes its place for now, so that it need not wait in memory
    /// and be lost at the end; if the piece comes in a later run, room is made for it.
    async fn give_up(&mut self, place: Place, why: String) -> Result<(), FilmError> {
        self.holes.insert(place, why);
        let (reel, at) = place;
        self.with_disk(move |disk| match &mut disk.stores[reel] {
            Some(store) => store.promise(at, 0, &mut disk.checkpoint),
            None => Ok(()),
        })
        .await?
    }

    /// The network failed one piece, after its retries. While others come it is the piece's own
    /// fault; and where nothing comes, the network may come back.
    async fn failed(&mut self, place: Place, error: Error) -> Result<(), FilmError> {
        let failed_at = *self.failures.entry(place).or_insert_with(Instant::now);
        if failed_at < self.last_came {
            self.give_up(place, error.to_string()).await?;
        } else if self.last_came.elapsed() < MAX_SILENCE {
            // What comes after it may have to wait for it.
            self.queue.push_front(place);
        } else {
            return Err(self.fatal(place, PieceError::Fatal(error)));
        }
        Ok(())
    }

    /// A link does not work any more: other links are had, once for all pieces.
    async fn refused(&mut self, place: Place, error: Error) -> Result<(), FilmError> {
        let refusals = self.refusals.entry(place).or_default();
        *refusals += 1;
        if *refusals > MAX_REFUSALS {
            return self.give_up(place, error.to_string()).await;
        }
        self.queue.push_front(place);
        self.generation += 1;
        if !self.inherits_query && may_inherit(&self.url, &self.reels[place.0].pieces[place.1].url)
        {
            self.inherits_query = true;
            return Ok(());
        }
        self.refreshes += 1;
        if self.refreshes > MAX_REFRESHES {
            return Err(self.fatal(place, PieceError::Refused(error)));
        }
        self.watch.note("links have expired: the manifest is fetched again".to_owned());
        let again =
            source::select_again(&*self.fetcher.requests, &self.url, &self.selected).await?;
        for (track, new) in again.into_iter().enumerate() {
            self.renew(track, new)?;
        }
        Ok(())
    }

    /// Takes the links of a manifest that was fetched again, and the pieces that are new in it.
    fn renew(&mut self, track: usize, new: Selected) -> Result<(), FilmError> {
        let mut links: BTreeMap<String, &Piece> = BTreeMap::new();
        for piece in &new.track.pieces {
            links.insert(key_of(piece), piece);
        }
        let last = self.reels.iter().filter(|reel| reel.track == track);
        let last = last.flat_map(|reel| &reel.pieces).filter(|piece| piece.role == Role::Media);
        let last = last.map(|piece| piece.sequence).max();
        for reel in self.reels.iter_mut().filter(|reel| reel.track == track) {
            for piece in &mut reel.pieces {
                if let Some(found) = links.get(&key_of(piece)) {
                    piece.url.clone_from(&found.url);
                    piece.mirrors.clone_from(&found.mirrors);
                    piece.key.clone_from(&found.key);
                }
            }
        }
        let was_live = !self.selected[track].track.is_complete;
        if was_live {
            let newest = new.track.pieces.iter().map(|piece| piece.sequence).max();
            if newest.is_some_and(|newest| last.is_some_and(|last| newest < last)) {
                return Err(FilmError::Unsupported(
                    "the live playlist has started over with other numbers, so what follows cannot \
                     be joined to what is here"
                        .to_owned(),
                ));
            }
            let later = |piece: &&Piece| last.is_none_or(|last| piece.sequence > last);
            let mut added: Vec<Piece> = new.track.pieces.iter().filter(later).cloned().collect();
            // A playlist counts its breaks from its own first piece.
            let known = self.reels.iter().rev().find(|reel| reel.track == track);
            let known = known.and_then(|reel| reel.pieces.last()).map_or(0, |piece| piece.part);
            let same = new.track.pieces.iter().find(|piece| Some(piece.sequence) == last);
            let follows =
                added.first().is_some_and(|it| last.is_none_or(|last| it.sequence == last + 1));
            let (from, to) = match same {
                Some(same) => (same.part, known),
                None if follows => (0, known),
                // What is between is lost, and with it whether it ended in a break.
                None => (added.first().map_or(0, |piece| piece.part), known.saturating_add(1)),
            };
            for piece in &mut added {
                piece.part = (piece.part - from.min(piece.part)).saturating_add(to);
            }
            let lost = match (last, added.iter().find(|piece| piece.role == Role::Media)) {
                (Some(last), Some(first)) => first.sequence.saturating_sub(last + 1),
                _ => 0,
            };
            if lost > 0 {
                let why =
                    format!("{lost} pieces were gone from the playlist before they were seen");
                let at = self.reels.iter().rposition(|reel| reel.track == track).unwrap_or(0);
                self.holes.insert((at, self.reels[at].pieces.len()), why);
            }
            if !added.is_empty() {
                self.last_came = Instant::now();
            }
            for piece in added {
                self.append(track, piece)?;
            }
        }
        self.selected[track] = new;
        Ok(())
    }

    fn append(&mut self, track: usize, piece: Piece) -> Result<(), FilmError> {
        let kind = self.selected[track].kind;
        match self.splitters[track].next(&piece) {
            Next::Continue => {
                let Some(index) = self.reels.iter().rposition(|reel| reel.track == track) else {
                    return Ok(());
                };
                if let Some(mut disk) = self.lock_disk()
                    && let Some(store) = &mut disk.stores[index]
                {
                    store.extend([key_of(&piece)]);
                }
                self.reels[index].pieces.push(piece);
            }
            Next::Begin(init) => {
                let pieces: Vec<Piece> =
                    init.into_iter().map(|init| *init).chain([piece]).collect();
                self.add_reel(track, kind, pieces, Form::Pieces);
                let Some(reel) = self.reels.last() else { return Ok(()) };
                let (path, keys) = reel.to_open();
                let index = self.reels.len() - 1;
                if let Some(mut disk) = self.lock_disk() {
                    let disk = &mut *disk;
                    let keys = keys.unwrap_or_default();
                    let Disk { checkpoint, records, .. } = disk;
                    let store = TrackStore::open(path, index, keys, records, checkpoint)?;
                    disk.stores.push(Some(store));
                }
            }
        }
        Ok(())
    }

    async fn poll_live(&mut self) -> Result<(), FilmError> {
        for track in 0..self.selected.len() {
            if self.selected[track].track.is_complete {
                continue;
            }
            let before = &self.selected[track];
            let new = match &before.playlist {
                Some(url) => {
                    let track = source::playlist(&*self.fetcher.requests, url).await?;
                    Selected { track, ..before.clone() }
                }
                None => {
                    let requests = &*self.fetcher.requests;
                    let mut all = source::select_again(requests, &self.url, &self.selected).await?;
                    all.swap_remove(track)
                }
            };
            self.renew(track, new)?;
        }
        self.queue_missing();
        self.tell_progress()
    }

    fn name_of(&self, (reel, at): Place) -> PieceName {
        let reel = &self.reels[reel];
        let before: usize = self
            .reels
            .iter()
            .take_while(|it| !std::ptr::eq(*it, reel))
            .filter(|it| it.track == reel.track)
            .map(|it| it.pieces.len())
            .sum();
        let known = reel.pieces.get(at).or(reel.pieces.last());
        match known {
            Some(piece) => PieceName::of(reel.kind, before + at, piece),
            None => PieceName { kind: reel.kind, place: before + at + 1, url: String::new() },
        }
    }

    fn fatal(&self, place: Place, error: PieceError) -> FilmError {
        let piece = self.name_of(place);
        match error {
            PieceError::Refused(error) | PieceError::Fatal(error) => {
                FilmError::Piece { piece, error }
            }
            PieceError::Hole(why) => {
                FilmError::Holes { holes: vec![Hole { piece, why }], pieces: 1 }
            }
        }
    }

    fn named_holes(&self) -> Vec<Hole> {
        let hole = |(place, why): (&Place, &String)| Hole {
            piece: self.name_of(*place),
            why: why.clone(),
        };
        self.holes.iter().map(hole).collect()
    }

    fn told_holes(&self) -> FilmError {
        let pieces = self.reels.iter().map(|reel| reel.pieces.len()).sum();
        FilmError::Holes { holes: self.named_holes(), pieces }
    }

    async fn with_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Disk) -> T + Send + 'static,
    ) -> Result<T, FilmError> {
        let Some(disk) = self.disk.clone() else {
            return Err(FilmError::Unsupported("nothing is open".to_owned()));
        };
        blocking(move || Ok(act(&mut disk.lock().unwrap_or_else(PoisonError::into_inner)))).await
    }

    /// Makes the output of the reels.
    async fn end(&mut self) -> Result<FilmSummary, FilmError> {
        if !self.holes.is_empty() && !self.options.allow_holes {
            return Err(self.told_holes());
        }
        let holes = self.named_holes();
        let pieces = self.reels.iter().map(|reel| reel.pieces.len()).sum();
        let missing: Vec<Place> = self.holes.keys().copied().collect();
        let sync = self.options.sync;
        self.with_disk(move |disk| {
            for (reel, at) in missing {
                if let Some(store) = &mut disk.stores[reel]
                    && at < store.count()
                {
                    store.leave_out(at, &mut disk.checkpoint)?;
                }
            }
            disk.stores.iter_mut().flatten().try_for_each(|store| store.finish(sync))
        })
        .await??;
        self.watch.update(|progress| progress.phase = Phase::Joining);
        let tracks: Vec<(Kind, Option<String>, Vec<JoinReel>)> = self
            .selected
            .iter()
            .enumerate()
            .map(|(track, selected)| {
                let reels = self.reels.iter().filter(|reel| reel.track == track);
                let reels = reels
                    .map(|reel| JoinReel { path: reel.path.clone(), container: reel.container });
                (selected.kind, selected.language.clone(), reels.collect())
            })
            .collect();
        let scratch = self.scratch().await?;
        let made = join::join(&self.output, tracks, self.options.existing, sync, scratch).await?;
        made.notes.into_iter().for_each(|note| self.watch.note(note));
        if let Some(disk) = self.disk.take()
            && let Ok(disk) = Arc::try_unwrap(disk)
        {
            let disk = disk.into_inner().unwrap_or_else(PoisonError::into_inner);
            drop(disk.stores);
            disk.checkpoint.remove()?;
        }
        let bytes =
            made.outputs.iter().filter_map(|it| std::fs::metadata(it).ok()).map(|it| it.len());
        let bytes = bytes.sum();
        Ok(self.summary(made.outputs, made.subtitles, bytes, pieces, holes))
    }

    /// The directory for what ffmpeg is given: ours by the checkpoint, and new.
    async fn scratch(&self) -> Result<PathBuf, FilmError> {
        let path = name::with_suffix(&checkpoint::path_of(&self.output), ".d");
        let directory = path.clone();
        self.with_disk(move |disk| {
            if disk.records.contains(&Record::Joining) {
                let removed = std::fs::remove_dir_all(&directory);
                match removed {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(FilmError::local("remove", &directory, error));
                    }
                    _ => {}
                }
            } else if directory.symlink_metadata().is_ok() {
                return Err(FilmError::Exists(directory));
            }
            disk.checkpoint.add(&Record::Joining)?;
            std::fs::create_dir(&directory)
                .map_err(|error| FilmError::local("create", &directory, error))
        })
        .await??;
        Ok(path)
    }

    fn summary(
        &self,
        outputs: Vec<PathBuf>,
        subtitles: Option<PathBuf>,
        bytes: u64,
        pieces: usize,
        holes: Vec<Hole>,
    ) -> FilmSummary {
        let (fetched_bytes, resumed_bytes) = (self.fetched_bytes, self.resumed_bytes);
        FilmSummary { outputs, subtitles, bytes, fetched_bytes, resumed_bytes, pieces, holes }
    }
}

impl Reel {
    /// Its file, and the names of its pieces where it is made of pieces.
    fn to_open(&self) -> (PathBuf, Option<Vec<String>>) {
        let keys = match self.form {
            Form::Pieces => Some(self.pieces.iter().map(key_of).collect()),
            Form::Object(_) => None,
        };
        (self.path.clone(), keys)
    }
}

fn is_faster_apart(object: &Object, pieces: &[Piece]) -> bool {
    let Some(range) = &object.range else { return false };
    let (bytes, count) = (range.end - range.start, pieces.len() as u64);
    let (most, each) = APART_BYTES;
    bytes <= most && bytes >= each * count && pieces.len() >= AT_ONCE / 2
}

/// Names a reel that is one object, in the checkpoint.
const WHOLE: &str = "whole";

/// The outcome of [`open_disk`].
struct Opened {
    disk: Disk,
    /// Reels of one object that are there already.
    whole: Vec<usize>,
    /// What the reels are, as far as their beginnings are there.
    containers: Vec<Option<Container>>,
}

/// Opens everything.
fn open_disk(
    path: PathBuf,
    film: &str,
    reels: &[(PathBuf, Option<Vec<String>>)],
) -> Result<Opened, FilmError> {
    let (mut checkpoint, records) = Checkpoint::open(path.clone(), film)?;
    for (index, (_, keys)) in reels.iter().enumerate() {
        // A live playlist drops pieces, and a film may be cut anew.
        let keys: BTreeSet<&String> = keys.iter().flatten().collect();
        let is_known = |record: &Record| match record {
            Record::Stored { track, piece, .. } if *track == index && piece != WHOLE => {
                keys.contains(piece)
            }
            _ => true,
        };
        if !records.iter().all(is_known) {
            return Err(FilmError::Changed(path));
        }
    }
    let (mut stores, mut whole, mut containers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (path, keys)) in reels.iter().enumerate() {
        if let Some(keys) = keys {
            let keys = keys.clone();
            let mut store = TrackStore::open(path.clone(), index, keys, &records, &mut checkpoint)?;
            let beginning = store.beginning()?;
            containers.push(beginning.and_then(|bytes| Container::of_beginning(&bytes).ok()));
            stores.push(Some(store));
            continue;
        }
        stores.push(None);
        containers.push(None);
        if !records.contains(&Record::Begun { track: index }) {
            if path.symlink_metadata().is_ok() {
                return Err(FilmError::Exists(path.clone()));
            }
            checkpoint.add(&Record::Begun { track: index })?;
        }
        let recorded = records.iter().rev().find_map(|record| match record {
            Record::Stored { track, piece, bytes, blake3, .. }
                if *track == index && piece == WHOLE =>
            {
                Some((*bytes, blake3))
            }
            _ => None,
        });
        if let Some((bytes, blake3)) = recorded
            && std::fs::metadata(path).is_ok_and(|found| found.len() == bytes)
            && hash_of(path).is_ok_and(|found| found == *blake3)
        {
            whole.push(index);
        }
    }
    Ok(Opened { disk: Disk { checkpoint, stores, records }, whole, containers })
}

fn hash_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// What the file of a reel is, and its length.
fn examine(path: &Path) -> Result<(Result<Container, String>, u64), FilmError> {
    let look = || {
        let mut beginning = Vec::new();
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, 4096), &mut beginning)?;
        Ok((Container::of_beginning(&beginning), bytes))
    };
    look().map_err(|error| FilmError::local("read", path, error))
}

/// Runs what blocks on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, FilmError> + Send + 'static,
) -> Result<T, FilmError> {
    let ended = tokio::task::spawn_blocking(act).await;
    ended.unwrap_or_else(|error| Err(FilmError::Unsupported(format!("a task failed: {error}"))))
}

/// Whether a piece without a query may get the manifest's: only on the same origin, since a token is
/// a secret.
fn may_inherit(manifest: &Url, piece: &Url) -> bool {
    manifest.query().is_some() && piece.query().is_none() && manifest.origin() == piece.origin()
}

/// Whether a live film may go on after this error.
fn may_pass(error: &FilmError) -> bool {
    match error {
        FilmError::Request(error) => {
            matches!(error.kind(), ErrorKind::Network | ErrorKind::HttpStatus | ErrorKind::Protocol)
        }
        // A page of a gateway, for example.
        FilmError::Manifest { .. } => true,
        _ => false,
    }
}

//! Downloading a film: which pieces are fetched when.
//!
//! A [`Run`] opens what an earlier one left (`opening`), fetches what is missing, deals with what came
//! and what did not (`arrivals`), fetches manifests again where links expire or a live film goes on
//! (`live`), and makes the output (`ending`).

mod arrivals;
mod ending;
mod links;
mod live;
mod opening;
mod recorded;
mod showing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haul_engine::{Connections, Error, Existing, Resume, Summary};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

use self::links::{Links, Newest, ObjectLinks};
use self::showing::Audience;
use crate::choice::Wanted;
use crate::container::Container;
use crate::disk::Disk;
use crate::error::{FilmError, Hole, PieceName};
use crate::fetch::{Fetcher, PieceError, Promises, selection};
use crate::model::{Film, Kind, Piece, Place};
use crate::name;
use crate::reel::{self, Object, Splitter};
use crate::source::{self, Finder, Origin, Requests, Selected};
use crate::store::{TrackStore, key_of};
use crate::viewer::Viewer;
use crate::watch::{FilmMonitor, Watch};

/// How many pieces are fetched at once where nobody chose.
const AT_ONCE: usize = 16;
/// The bytes of pieces that are in memory, arriving or waiting for their place: about as many, since
/// a piece that arrives is taken to be as long as the longest one so far.
const MEMORY_BYTES: u64 = 16 << 20;
/// What a second of a piece is taken to be, in bytes, before a response has told: much for a film.
const UNKNOWN_BYTES_PER_SECOND: u64 = 512 << 10;
/// Adjacent ranges of a file are no more bytes than this in all, and no fewer each, where they are
/// fetched like the pieces that they are: that is over before the engine has learnt how many
/// connections help a single object.
const APART_BYTES: (u64, u64) = (16 << 20, 64 << 10);
/// As many parts are joined, and files open, at most.
const MAX_REELS: usize = 500;
/// Reels that are one object each are fetched at the same time, so only a few may be.
const FEW_REELS: usize = 4;

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
    /// Whether a live film begins with the first piece that its playlist has, and not with the last
    /// three. Default true.
    pub live_from_start: bool,
    /// Whether the output is synced before it gets its name. Default true.
    pub sync: bool,
    /// How many pieces are fetched at once. Default 16.
    pub at_once: Option<usize>,
    /// Who watches it meanwhile. A live film, and one whose tracks are files of their own, cannot be
    /// watched. Default: nobody.
    pub viewer: Option<Viewer>,
}

impl Default for FilmOptions {
    fn default() -> Self {
        Self {
            output: None,
            directory: PathBuf::from("."),
            existing: Existing::Refuse,
            wanted: Wanted::default(),
            allow_holes: false,
            live_from_start: true,
            sync: true,
            at_once: None,
            viewer: None,
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
    // However it ends, also by being dropped.
    let _shown = options.viewer.as_ref().map(showing::Ends::new);
    let film = source::read_manifest(&*requests, url).await?;
    begin(&film, Origin::Manifest(url.clone()), requests, options, monitor).await
}

/// As [`download`] for a film that was found already. `film` is what to choose from now; `finder`
/// finds the same renditions again when links expire.
///
/// # Errors
/// See [`FilmError`].
pub async fn download_found(
    film: &Film,
    finder: Arc<dyn Finder>,
    requests: Arc<dyn Requests>,
    options: &FilmOptions,
    monitor: &FilmMonitor,
) -> Result<FilmSummary, FilmError> {
    let _shown = options.viewer.as_ref().map(showing::Ends::new);
    begin(film, Origin::Found(finder), requests, options, monitor).await
}

async fn begin(
    film: &Film,
    origin: Origin,
    requests: Arc<dyn Requests>,
    options: &FilmOptions,
    monitor: &FilmMonitor,
) -> Result<FilmSummary, FilmError> {
    let watch = Arc::clone(&monitor.watch);
    let mut selected = source::select(&*requests, film, &options.wanted).await?;
    if !options.live_from_start {
        selected.iter_mut().for_each(|it| live::from_now(&mut it.track));
    }
    let url = origin.url();
    let output = name::output(&url, options, &selected)?;
    watch.name(output.clone());
    let links = Links::new(Arc::clone(&requests), origin, &selected, Arc::clone(&watch));
    let mut run = Run {
        url,
        links: Arc::new(links),
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
        manifest: 0,
        refused: Vec::new(),
        refreshes: 0,
        inherits_query: false,
        longest_bytes: None,
        resumed_bytes: 0,
        fetched_bytes: 0,
        any_stored: false,
        audience: Audience::default(),
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

enum Came {
    Piece {
        place: Place,
        generation: u64,
        outcome: Result<(Vec<u8>, Container), PieceError>,
    },
    Object {
        reel: usize,
        outcome: Result<Box<Summary>, Error>,
    },
    /// A manifest with fresh links.
    Links(Result<Newest, FilmError>),
    /// The renditions that are live, as they are now.
    Polled(Result<Vec<(usize, Selected)>, FilmError>),
}

struct Run {
    /// See [`Origin::url`].
    url: Url,
    links: Arc<Links>,
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
    /// Counts the changes of links: a piece that was asked for by an older one is simply asked for
    /// again.
    generation: u64,
    /// Counts the manifests, as [`Links`] does.
    manifest: u64,
    /// Pieces that wait for the next manifest. No others are asked for meanwhile.
    refused: Vec<Place>,
    /// Manifests fetched since the last piece came.
    refreshes: u32,
    /// Whether the manifest's query goes to pieces that have none.
    inherits_query: bool,
    /// The longest piece so far, as soon as a response has told of one.
    longest_bytes: Option<u64>,
    resumed_bytes: u64,
    fetched_bytes: u64,
    any_stored: bool,
    audience: Audience,
}

impl Run {
    async fn run(&mut self) -> Result<FilmSummary, FilmError> {
        self.cut().await?;
        self.split()?;
        if let Some(film) = self.open().await? {
            return Ok(film);
        }
        self.prove().await?;
        self.show()?;
        self.fetch().await?;
        self.end().await
    }

    /// Makes reels of the tracks.
    fn split(&mut self) -> Result<(), FilmError> {
        let is_live = self.is_live();
        let mut found = Vec::new();
        for (track, selected) in self.selected.iter().enumerate() {
            let (reels, splitter) = reel::reels(&selected.track);
            if reels.len() > MAX_REELS {
                return Err(FilmError::Unsupported(format!(
                    "the film has {} breaks, and haul joins {MAX_REELS} parts at most",
                    reels.len()
                )));
            }
            // Who watches pieces cannot watch objects.
            let are_few = reels.len() <= FEW_REELS && self.options.viewer.is_none();
            for pieces in reels {
                let object = Object::of(&pieces)
                    .filter(|object| are_few && !is_faster_apart(object, &pieces))
                    .filter(|_| !is_live);
                let form = object.map_or(Form::Pieces, Form::Object);
                found.push((track, selected.kind, pieces, form));
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
                let is_under_way = self.running.contains(&place) || self.refused.contains(&place);
                if !has && !is_under_way && !self.holes.contains_key(&place) {
                    missing.push((times[reel.track], place));
                }
                times[reel.track] = times[reel.track].saturating_add(piece.duration);
            }
        }
        drop(disk);
        missing.sort();
        self.queue = missing.into_iter().map(|(_, place)| place).collect();
    }

    fn tell_progress(&self) {
        let (mut pieces, mut done, mut bytes, mut kept) = (0, 0, 0, 0);
        if let Some(disk) = self.lock_disk() {
            for store in disk.stores.iter().flatten() {
                pieces += store.count();
                done += store.done();
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
    }

    /// Whether any of it is still being added to.
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
        let (mut is_polling, mut outage_since, mut shared) = (false, None, 1);
        let viewer = self.options.viewer.clone();
        let mut probes = None;
        loop {
            let may_start = self.refused.is_empty() && !self.is_hopeless();
            while may_start && self.has_room() {
                let Some(place) = self.queue.pop_front() else { break };
                self.start_piece(place, &promises, &mut tasks);
            }
            if viewer.is_some() && probes.is_none() {
                probes = Some(self.probe_lengths(&promises));
            }
            // Neither the last pieces nor long ones, of which few fit, are left to one connection
            // each.
            let at_once = self.at_once();
            if !self.running.is_empty() {
                let each = (at_once / self.running.len()).max(1);
                if each != std::mem::replace(&mut shared, each) {
                    self.watch.share(each);
                }
            }
            let live = self.is_live();
            if tasks.is_empty() && (!live || self.is_hopeless()) {
                return Ok(());
            }
            tokio::select! {
                Some((reel, at, bytes)) = promised.recv() => {
                    self.longest_bytes = self.longest_bytes.max(Some(bytes));
                    self.with_disk(move |disk| match &mut disk.stores[reel] {
                        Some(store) => store.promise(at, bytes, &mut disk.checkpoint),
                        None => Ok(()),
                    }).await??;
                    self.tell_viewer();
                }
                Some(came) = tasks.join_next(), if !tasks.is_empty() => match came {
                    Ok(Came::Piece { place, generation, outcome }) => {
                        self.running.remove(&place);
                        self.ended(place);
                        let is_waiting = !self.refused.is_empty();
                        self.piece_came(place, generation, outcome).await?;
                        if !is_waiting && !self.refused.is_empty() {
                            let (links, known) = (Arc::clone(&self.links), self.manifest);
                            tasks.spawn(async move { Came::Links(links.newer_than(known).await) });
                        }
                        self.tell_progress();
                        self.tell_viewer();
                    }
                    Ok(Came::Object { reel, outcome }) => self.object_came(reel, outcome).await?,
                    Ok(Came::Links(newest)) => self.links_came(&newest?)?,
                    Ok(Came::Polled(polled)) => {
                        self.polled(polled, &mut outage_since)?;
                        (is_polling, next_poll) = (false, Instant::now() + self.poll_interval());
                    }
                    Err(panic) => {
                        return Err(FilmError::Unsupported(format!("a task failed: {panic}")));
                    }
                },
                wanted = showing::wants(viewer.as_ref()) => {
                    self.attend(&wanted, &promises, &mut tasks);
                }
                () = self.audience.calm() => self.make_way(),
                () = tokio::time::sleep_until(next_poll), if live && !is_polling => {
                    is_polling = true;
                    let playlists = self.live_playlists();
                    let links = Arc::clone(&self.links);
                    tasks.spawn(async move { Came::Polled(live::poll(&links, playlists).await) });
                }
            }
        }
    }

    fn at_once(&self) -> usize {
        self.options.at_once.unwrap_or(AT_ONCE).max(1)
    }

    /// Whether another piece fits into memory, and among those that are under way.
    fn has_room(&self) -> bool {
        if self.running.is_empty() {
            return true;
        }
        let each = self
            .longest_bytes
            .unwrap_or_else(|| self.queue.front().map_or(0, |front| self.unknown_bytes(*front)));
        let all = (self.running.len() as u64 + 1).saturating_mul(each);
        self.running.len() < self.at_once()
            && self.may_start_beside_hurried()
            && self.held_bytes().saturating_add(all) <= MEMORY_BYTES
    }

    /// The bytes of pieces that wait in memory for their place.
    fn held_bytes(&self) -> u64 {
        self.lock_disk()
            .map_or(0, |disk| disk.stores.iter().flatten().map(TrackStore::held_bytes).sum())
    }

    /// What a piece is taken to have, in bytes, before a response has told.
    fn unknown_bytes(&self, (reel, at): Place) -> u64 {
        let seconds = self.reels[reel].pieces[at].duration.as_secs();
        UNKNOWN_BYTES_PER_SECOND.saturating_mul(seconds.max(1))
    }

    /// A piece with the link that is asked for.
    fn asked(&self, (reel, at): Place) -> Piece {
        let mut piece = self.reels[reel].pieces[at].clone();
        if self.inherits_query && may_inherit(&self.url, &piece.url) {
            piece.url.set_query(self.url.query());
        }
        piece
    }

    /// Whether a piece that was refused is to be asked for with the manifest's query, as are all that
    /// have none from now on.
    fn begins_to_inherit(&mut self, (reel, at): Place) -> bool {
        let begins =
            !self.inherits_query && may_inherit(&self.url, &self.reels[reel].pieces[at].url);
        self.inherits_query |= begins;
        begins
    }

    fn start_piece(&mut self, place: Place, promises: &Promises, tasks: &mut JoinSet<Came>) {
        let piece = self.asked(place);
        self.running.insert(place);
        let (fetcher, promises) = (Arc::clone(&self.fetcher), promises.clone());
        let generation = self.generation;
        let connections = self.audience.connections(place);
        tasks.spawn(async move {
            let outcome = fetcher.fetch(&piece, place, &promises, connections).await;
            Came::Piece { place, generation, outcome }
        });
    }

    fn start_object(&mut self, index: usize, tasks: &mut JoinSet<Came>) -> Result<(), FilmError> {
        let reel = &self.reels[index];
        let (Form::Object(object), Some(first)) = (&reel.form, reel.pieces.first()) else {
            return Ok(());
        };
        let refresh = ObjectLinks {
            links: Arc::clone(&self.links),
            track: reel.track,
            piece: key_of(first),
            known: tokio::sync::Mutex::new(self.manifest),
        };
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
            .refresh(refresh)
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
        let watched = self.watch.of(&download, None);
        tasks.spawn(async move {
            let outcome = download.wait().await.map(Box::new);
            drop(watched);
            Came::Object { reel: index, outcome }
        });
        Ok(())
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
                FilmError::Piece { piece: Box::new(piece), error }
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

//! Films of many pieces: `haul-film` fetches them, and this module puts it to work for a URL and
//! tells the view.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_engine::{DownloadBuilder, Engine, Error, Event, Progress, Summary};
use haul_film::choice::{Row, Wanted, table};
use haul_film::model::{Film, ManifestError};
use haul_film::{
    FilmError, FilmMonitor, FilmProgress, FilmSummary, Finder, Phase, Requests, Viewer,
};
use url::Url;

use crate::address::are_of_one_origin;
use crate::drive::{Curfew, Outcome};
use crate::exit::{self, Failure};
use crate::input::Item;
use crate::plan::GetPlan;
use crate::render::{View, Voice, escape, seconds, to_stdout};
use crate::request::Request;

/// How long the speed is averaged over.
const SPEED_OVER: Duration = Duration::from_secs(3);
/// Holes of a film that are told one by one.
const TOLD_HOLES: usize = 20;

/// Whether a URL names a playlist or a manifest.
pub(crate) fn is_manifest(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let name = url.path().to_ascii_lowercase();
    [".m3u8", ".mpd"].iter().any(|end| name.ends_with(end))
}

/// The requests of a film.
pub(crate) struct FilmRequests {
    pub(crate) engine: Engine,
    pub(crate) request: Request,
    /// Headers of the list's item, for its own origin.
    pub(crate) of_item: Vec<(String, String)>,
    /// The URL whose origin the user's headers and login are for.
    pub(crate) manifest: Option<String>,
}

impl Requests for FilmRequests {
    fn request(&self, url: &Url) -> Result<DownloadBuilder, Error> {
        let url = url.as_str();
        let own = self.manifest.as_ref().is_some_and(|manifest| are_of_one_origin(manifest, url));
        let download = self.engine.download(url);
        let mut download = self.request.apply_to_piece(download, url, own);
        if own {
            download.options_mut().headers.extend(self.of_item.iter().cloned());
        }
        Ok(download)
    }

    fn allows(&self, url: &Url) -> bool {
        matches!(url.scheme(), "http" | "https") && self.request.allow(url.as_str()).is_ok()
    }
}

/// A film of a run, and what it needs of the run.
pub(crate) struct FilmJob<'a> {
    pub(crate) plan: &'a GetPlan,
    pub(crate) engine: &'a Engine,
    pub(crate) item: &'a Item,
    pub(crate) id: usize,
    pub(crate) view: &'a dyn View,
}

/// A film that is no manifest's, such as one of a page.
pub(crate) struct FoundFilm {
    /// What is wanted of it.
    pub(crate) film: Film,
    pub(crate) requests: Arc<dyn Requests>,
    pub(crate) finder: Arc<dyn Finder>,
    /// The language of the subtitles that are in it.
    pub(crate) subtitles: Option<String>,
}

impl FilmJob<'_> {
    /// Downloads the film, or lists what there is of it.
    pub(crate) async fn run(&self, curfew: &mut Curfew) -> Outcome {
        match self.plan.film.list || self.plan.dry_run {
            true => self.list(curfew).await,
            false => self.download(&FilmMonitor::default(), None, curfew).await,
        }
    }

    fn requests(&self) -> Result<(Url, Arc<FilmRequests>), Failure> {
        let url = &self.item.urls[0];
        let requests = self.plan.film_requests(self.engine, url, self.item);
        let url = Url::parse(url).map_err(|error| Failure::usage(error.to_string()))?;
        Ok((url, Arc::new(requests)))
    }

    async fn list(&self, curfew: &mut Curfew) -> Outcome {
        let Self { plan, id, view, .. } = *self;
        let started = Instant::now();
        let (url, requests) = match self.requests() {
            Ok(both) => both,
            Err(failure) => return Outcome::Failed(failure),
        };
        let listed = tokio::select! {
            listed = haul_film::read_manifest(&*requests, &url) => listed,
            early = curfew.reached() => return curfew.outcome(&early, None, id, view),
        };
        match listed {
            Ok(film) => {
                list(&table(&film), plan.voice, id, started.elapsed());
                Outcome::Planned
            }
            Err(error) => Outcome::Failed(failure(error)),
        }
    }

    /// Downloads the film, for this viewer if there is one.
    pub(crate) async fn download(
        &self,
        monitor: &FilmMonitor,
        viewer: Option<&Viewer>,
        curfew: &mut Curfew,
    ) -> Outcome {
        let Self { plan, item, .. } = *self;
        let both = self.requests().and_then(|both| Ok((both, plan.film_options(item)?)));
        let ((url, requests), mut options) = match both {
            Ok(both) => both,
            Err(failure) => return Outcome::Failed(failure),
        };
        options.viewer = viewer.cloned();
        let download = haul_film::download(&url, requests, &options, monitor);
        self.follow(download, monitor, curfew).await
    }

    /// Downloads a film that was found.
    pub(crate) async fn download_found(&self, found: FoundFilm, curfew: &mut Curfew) -> Outcome {
        let FoundFilm { film, requests, finder, subtitles } = found;
        let mut options = match self.plan.film_options(self.item) {
            Ok(options) => options,
            Err(failure) => return Outcome::Failed(failure),
        };
        // The choice is made already, but for what may be left out.
        options.wanted = Wanted { subtitles, ..Wanted::default() };
        let monitor = FilmMonitor::default();
        let download = haul_film::download_found(&film, finder, requests, &options, &monitor);
        self.follow(download, &monitor, curfew).await
    }

    /// Follows the download of a film to its end.
    async fn follow(
        &self,
        download: impl Future<Output = Result<FilmSummary, FilmError>>,
        monitor: &FilmMonitor,
        curfew: &mut Curfew,
    ) -> Outcome {
        let Self { id, view, .. } = *self;
        let started = Instant::now();
        let mut speed = Speed::default();
        let mut tick = tokio::time::interval(view.interval());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tokio::pin!(download);
        let ended = loop {
            tokio::select! {
                biased;
                early = curfew.reached() => {
                    let kept = monitor.progress().kept_bytes;
                    return curfew.outcome(&early, Some(kept), id, view);
                }
                ended = &mut download => break ended,
                _ = tick.tick() => {
                    tell(monitor, id, view);
                    if let Some(output) = monitor.output() {
                        view.named(id, &output);
                    }
                    let progress = monitor.progress();
                    let shown = speed.of(&progress, started);
                    match progress.phase {
                        Phase::Reading => view.connecting(id, &shown),
                        _ => view.progress(id, &shown),
                    }
                }
            }
        };
        tell(monitor, id, view);
        match ended {
            Ok(film) => complete(&film, started, id, view),
            Err(error) => Outcome::Failed(failure(error)),
        }
    }
}

fn tell(monitor: &FilmMonitor, id: usize, view: &dyn View) {
    for note in monitor.take_notes() {
        view.note(id, "film", &note);
    }
}

/// Removes a playlist that was downloaded, because the film that it describes takes its place.
pub(crate) fn replace_playlist(
    playlist: &Summary,
    id: usize,
    view: &dyn View,
) -> Result<(), Failure> {
    view.note(id, "film", "this is a playlist: the film that it describes is fetched");
    // One that was there before is the user's.
    if playlist.unchanged {
        return Ok(());
    }
    std::fs::remove_file(&playlist.output).map_err(|error| {
        let shown = playlist.output.display();
        Failure::local(format!("cannot remove the playlist {shown}: {error}"))
    })
}

fn complete(film: &FilmSummary, started: Instant, id: usize, view: &dyn View) -> Outcome {
    for hole in film.holes.iter().take(TOLD_HOLES) {
        view.note(id, "hole", &format!("missing: {hole}"));
    }
    if film.holes.len() > TOLD_HOLES {
        view.note(id, "hole", &format!("missing: {} more", film.holes.len() - TOLD_HOLES));
    }
    for other in film.outputs.iter().skip(1).chain(&film.subtitles) {
        view.note(id, "output", &format!("also written: {}", other.display()));
    }
    let mut summary = Summary::default();
    summary.output = film.outputs.first().cloned().unwrap_or_default();
    summary.bytes = film.bytes;
    summary.elapsed = started.elapsed();
    summary.fetched_bytes = film.fetched_bytes;
    summary.resumed_bytes = film.resumed_bytes;
    view.event(id, &Event::Completed(summary.clone()));
    Outcome::Completed(Box::new(summary))
}

/// The speed of a film, which the engine knows only for each of its pieces.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    looks: std::collections::VecDeque<(Instant, u64)>,
}

impl Speed {
    /// The progress in the terms of one download. The size is estimated from the pieces so far.
    pub(crate) fn of(&mut self, film: &FilmProgress, started: Instant) -> Progress {
        let now = Instant::now();
        self.looks.push_back((now, film.bytes));
        while self.looks.len() > 2 && self.looks[1].0 + SPEED_OVER < now {
            self.looks.pop_front();
        }
        let (then, before) = self.looks[0];
        let seconds = now.duration_since(then).as_secs_f64();
        let mut shown = Progress::default();
        shown.bytes = film.bytes;
        shown.connections = film.connections;
        shown.measured_for = started.elapsed();
        if seconds > 0.0 {
            shown.bytes_per_second = film.bytes.saturating_sub(before) as f64 / seconds;
            shown.mean_bytes_per_second = shown.bytes_per_second;
        }
        shown.total_bytes = film.total_bytes;
        if let Some(total) = shown.total_bytes
            && shown.bytes_per_second > 0.0
        {
            let rest = total.saturating_sub(film.bytes) as f64 / shown.bytes_per_second;
            shown.eta = Duration::try_from_secs_f64(rest).ok();
        }
        shown.syncing = film.phase == Phase::Joining;
        shown
    }
}

/// What a failed film means for the shell.
pub(crate) fn failure(error: FilmError) -> Failure {
    let text = escape(&error.to_string());
    match error {
        FilmError::Manifest { error: ManifestError::Protected { .. }, .. } => {
            Failure::new(exit::PROTECTED, "protected", text)
                .hint("nothing was fetched; haul does not open protected films")
        }
        FilmError::Manifest { .. } => Failure::new(7, "manifest", text)
            .hint("--as-is fetches the manifest itself, to look at it"),
        FilmError::NotFound(_) => {
            Failure { resumable: true, ..Failure::new(exit::DENIED, "access-denied", text) }
        }
        FilmError::NoSuch(_) => Failure::usage(text).hint("--list shows what there is"),
        FilmError::Request(error) => error.into(),
        FilmError::Piece { piece, error } => {
            let mut failure = Failure::from(error);
            failure.message = escape(&format!(
                "piece {} of the {}: {}",
                piece.place, piece.kind, failure.message
            ));
            failure.resumable = true;
            failure
        }
        FilmError::Holes { .. } => {
            let failure = Failure::new(7, "holes", text)
                .hint("--allow-holes writes the film without the missing pieces");
            Failure { resumable: true, ..failure }
        }
        FilmError::Exists(_) => Failure::new(exit::LOCAL, exit::OUTPUT_EXISTS, text)
            .hint("choose another name with -o FILE, or --overwrite"),
        FilmError::OtherFilm(_) | FilmError::Changed(_) => Failure::local(text).hint(
            "choose another name with -o FILE, or remove the .film file and the .part files of \
             that name to start over",
        ),
        FilmError::Locked(_) => Failure::new(exit::LOCAL, exit::LOCKED, text),
        FilmError::Local { ref error, .. }
            if matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull
                    | std::io::ErrorKind::QuotaExceeded
                    | std::io::ErrorKind::FileTooLarge
            ) =>
        {
            Failure { resumable: true, ..Failure::new(11, "disk-full", text) }
        }
        FilmError::Local { .. } | FilmError::Join { .. } | FilmError::Unsupported(_) => {
            Failure::local(text)
        }
        _ => Failure::internal(text),
    }
}

/// Prints what there is to choose from.
pub(crate) fn list(rows: &[Row], voice: Voice, id: usize, since_start: Duration) {
    to_stdout(&match voice {
        Voice::Json => vec![json(id, since_start, rows)],
        _ => lines(rows),
    });
}

/// The answer to `--list --json`.
fn json(id: usize, since_start: Duration, rows: &[Row]) -> String {
    let rendition = |row: &Row| {
        serde_json::json!({
            "kind": row.kind.to_string(),
            "name": row.name,
            "height": row.height,
            "bits_per_second": row.bandwidth,
            "codecs": row.codecs,
            "language": row.language,
            "default": row.is_default,
        })
    };
    let renditions: Vec<_> = rows.iter().map(rendition).collect();
    serde_json::json!({ "v": 1, "event": "renditions", "id": id, "t": seconds(since_start), "renditions": renditions })
        .to_string()
}

/// The table of `--list`.
fn lines(rows: &[Row]) -> Vec<String> {
    let head = ["", "HEIGHT", "KBIT/S", "CODECS", "LANG", "NAME"].map(str::to_owned);
    let cell = |row: &Row| {
        let default = if row.is_default { " (default)" } else { "" };
        [
            row.kind.to_string(),
            row.height.map(|it| format!("{it}p")).unwrap_or_default(),
            row.bandwidth.map(|it| (it / 1000).to_string()).unwrap_or_default(),
            row.codecs.clone().unwrap_or_default(),
            row.language.clone().unwrap_or_default(),
            format!("{}{default}", row.name.as_deref().unwrap_or_default()),
        ]
        .map(|text| escape(&text))
    };
    let all: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(cell)).collect();
    let width = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use haul_film::hls;

    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let text = "#EXTM3U\n\
                    #EXT-X-STREAM-INF:BANDWIDTH=900000,RESOLUTION=1280x720,AUDIO=\"a\"\nhigh.m3u8\n\
                    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Deutsch\",LANGUAGE=\"de\",\
                    DEFAULT=YES,URI=\"de.m3u8\"\n";
        let film = hls::parse(text, &Url::parse("http://film.example/").unwrap()).unwrap();
        assert_eq!(
            lines(&table(&film)),
            [
                "       HEIGHT  KBIT/S  CODECS  LANG  NAME",
                "video  720p    900",
                "audio                          de    Deutsch (default)",
            ]
        );
    }
}

//! Runs the downloads, several at a time, and decides how the run ends.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haul_engine::{Download, DownloadBuilder, Engine, Event, Existing, NoticeCode, redact_url};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::drive::{Curfew, Outcome, Queue, drive};
use crate::exec;
use crate::exit::{self, End, Failure};
use crate::film::{self, FilmJob};
use crate::hub::{self, Concluded, Snapshot};
use crate::input::Item;
use crate::page::{self, Leads, PagePlan};
use crate::plan::GetPlan;
use crate::render::{self, Ended, View, file_name};
use crate::results::Results;
use crate::signals::Stop;
use crate::sink::Sink;
use crate::source::{Next, Source};

/// Downloads everything that the source yields and returns how the run ended.
pub(crate) async fn run(
    mut source: Source,
    plan: Arc<GetPlan>,
    engine: Engine,
    results: Option<Results>,
    view: Arc<dyn View>,
    mut stop: Stop,
) -> End {
    let mut running = JoinSet::new();
    let mut tally = Tally::default();
    let began = Instant::now();
    view.expect(source.count());
    let tells_end = plan.several() && !plan.dry_run;
    if tells_end {
        view.will_end();
    }
    let width = Arc::new(Width::new(plan.jobs));
    let told_of_page = Arc::new(AtomicBool::new(false));
    let mut all = false;
    loop {
        let too_many =
            plan.max_failures.is_some_and(|most| most.exceeded(tally.ended.failed, tally.count));
        let room = width.has_room() && running.len() < width.now() + Width::MOST_WAITING;
        let wanted = !all && !too_many && room && stop.now().is_none();
        tokio::select! {
            biased;
            _ = stop.requested(), if wanted => {}
            () = width.grew(), if !all && !running.is_empty() => {}
            next = source.next(), if wanted => match next {
                Some(Next::Item(id, item)) => {
                    let (plan, engine) = (Arc::clone(&plan), engine.clone());
                    let (view, stop) = (Arc::clone(&view), stop.clone());
                    let (width, told_of_page) = (Arc::clone(&width), Arc::clone(&told_of_page));
                    width.enter();
                    running.spawn(async move {
                        let (started, plan) = (Instant::now(), plan.for_url(&item.urls[0]));
                        let (engine, view, width) = (&engine, &*view, &*width);
                        let told_of_page = &*told_of_page;
                        let job = Job { plan, engine, id, item: &item, view, width, told_of_page };
                        let outcome = job.run(stop).await;
                        (item, outcome, started.elapsed())
                    });
                }
                Some(Next::Fault(id, failure)) => {
                    view.failed(id, &failure);
                    tally.fail(&failure);
                }
                Some(Next::Note(text)) => view.warning(&text),
                None => all = true,
            },
            Some(one) = running.join_next(), if !running.is_empty() => match one {
                Ok((item, outcome, elapsed)) => {
                    width.leave();
                    if let Some(results) = &results {
                        results.add(&item, &outcome, elapsed);
                    }
                    tally.add(&item, &outcome);
                }
                Err(panic) => {
                    width.leave();
                    let failure = Failure::internal(format!("a download's task failed: {panic}"));
                    view.failed(0, &failure);
                    tally.fail(&failure);
                }
            },
            else => break,
        }
    }
    if let Some(Err(failure)) = results.map(Results::close) {
        view.failed(0, &failure);
        tally.end = tally.end.and(&failure);
    }
    if !plan.dry_run {
        tally.conclude(&plan.snapshots, &*view);
    }
    let ended_early = tally.ended.stopped > 0 || !source.has_ended();
    let ended = tally.ended_of(source.count(), began.elapsed());
    if tells_end {
        view.ended(&ended);
    }
    if plan.notify && stop.now().is_none() {
        render::notify(&notification(&ended, &tally.last));
    }
    match stop.now() {
        // A signal that came after everything was done changes nothing.
        Some(interrupt) if ended_early || tally.end.code != exit::OK => {
            view.interrupted(tally.kept_bytes);
            interrupt.exit_code().into()
        }
        stopped => {
            if stopped.is_none() && !all {
                view.warning(&format!(
                    "{} of {} failed, more than --max-failures allows: nothing more was started",
                    ended.failed, tally.count
                ));
            }
            tally.end
        }
    }
}

/// How many downloads run at a time: as many as asked for, or else more of them while they are
/// small, because a small download spends most of its time waiting for the server. The first
/// response says how large an object is, so that the number grows a round trip after the start,
/// and again with each that turns out to be small.
///
/// One that waits for another haul is not counted: others are downloaded meanwhile.
#[derive(Debug)]
pub struct Width {
    now: AtomicUsize,
    /// How many run.
    active: AtomicUsize,
    learns: bool,
    /// It became more, or there is more room.
    grew: Notify,
}

impl Width {
    const LARGE: usize = 4;
    /// Each with a connection of its own.
    const SMALL: usize = 32;
    /// On a few connections.
    const SHARING: usize = 100;
    const SMALL_BYTES: u64 = 1 << 20;
    /// So many more are begun for each small one.
    const STEP: usize = 8;
    /// While more than this wait for another haul, no others are begun: each takes some memory.
    const MOST_WAITING: usize = 400;

    /// As many as asked for, or else as many as prove good.
    #[must_use]
    pub fn new(asked: Option<usize>) -> Self {
        let now = AtomicUsize::new(asked.unwrap_or(Self::LARGE));
        Self { now, active: AtomicUsize::new(0), learns: asked.is_none(), grew: Notify::new() }
    }

    fn has_room(&self) -> bool {
        self.active.load(Ordering::Relaxed) < self.now()
    }

    fn enter(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Enters if there is room.
    fn try_enter(&self) -> bool {
        let add = |active: usize| (active < self.now()).then_some(active + 1);
        self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Leaves, so that another one is begun.
    fn step_aside(&self) {
        self.leave();
        self.grew.notify_one();
    }

    /// How many may run now.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Waits until more may run; cancel safe.
    pub async fn grew(&self) {
        self.grew.notified().await;
    }

    /// Learns from what a download tells.
    pub fn learn(&self, event: &Event) {
        if !self.learns {
            return;
        }
        match event {
            Event::Started(started)
                if started.total_bytes.is_some_and(|it| it <= Self::SMALL_BYTES) =>
            {
                let most = if started.shares_connection { Self::SHARING } else { Self::SMALL };
                let now = (self.now() + Self::STEP).min(most);
                self.now.store(now, Ordering::Relaxed);
                self.grew.notify_one();
            }
            // A large one, or a server that may have had enough.
            Event::Started(_) | Event::Retry { .. } => {
                self.now.store(Self::LARGE, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// The totals of a run so far.
#[derive(Debug, Default)]
struct Tally {
    /// How many downloads have ended by themselves.
    count: u64,
    /// How the run would end now.
    end: End,
    ended: Ended,
    kept_bytes: u64,
    /// Other names of files that are not complete, or may not be.
    broken: HashSet<PathBuf>,
    /// The name of the last download that ended.
    last: String,
}

impl Tally {
    fn add(&mut self, item: &Item, outcome: &Outcome) {
        self.last = match outcome {
            Outcome::Completed(summary) => file_name(&summary.output),
            _ => called(item),
        };
        match outcome {
            Outcome::Completed(summary) => {
                self.count += 1;
                let which = match summary.unchanged {
                    true => &mut self.ended.skipped,
                    false => &mut self.ended.downloaded,
                };
                *which += 1;
                self.ended.bytes += if summary.unchanged { 0 } else { summary.bytes };
            }
            Outcome::Planned => self.count += 1,
            Outcome::Skipped => {
                self.count += 1;
                self.ended.skipped += 1;
            }
            Outcome::Failed(failure) => {
                self.broken.extend(item.links.iter().cloned());
                self.fail(failure);
            }
            Outcome::Interrupted { kept_bytes } => {
                self.broken.extend(item.links.iter().cloned());
                self.kept_bytes += kept_bytes;
                self.ended.stopped += 1;
            }
        }
    }

    /// Counts a failed download.
    fn fail(&mut self, failure: &Failure) {
        self.count += 1;
        self.end = self.end.and(failure);
        self.ended.failed += 1;
    }

    /// Tells where the snapshots are whose files are all there, and that others are not whole,
    /// unless that shows.
    fn conclude(&mut self, snapshots: &[Snapshot], view: &dyn View) {
        for snapshot in snapshots {
            match snapshot.conclude(&self.broken) {
                Ok(Concluded::Whole(text)) => view.note(0, "snapshot", &text),
                Ok(Concluded::Partly(text)) if self.broken.is_empty() => view.warning(&text),
                Ok(Concluded::Partly(_)) => {}
                Err(failure) => {
                    view.failed(0, &failure);
                    self.end = self.end.and(&failure);
                }
            }
        }
    }

    /// The final counts, where `expected` is the number of all downloads if it is known.
    fn ended_of(&mut self, expected: Option<usize>, elapsed: Duration) -> Ended {
        let ended = std::mem::take(&mut self.ended);
        let begun = self.count + ended.stopped;
        let waiting = expected.map_or(0, |expected| (expected as u64).saturating_sub(begun));
        Ended { waiting, elapsed, ..ended }
    }
}

/// A name without secrets for a download that may have no file.
fn called(item: &Item) -> String {
    match item.told_output() {
        Some(output) => file_name(output),
        None => redact_url(&item.urls[0]),
    }
}

/// The text of the `--notify` notification.
fn notification(ended: &Ended, last: &str) -> String {
    let failed = match ended.failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let all = ended.downloaded + ended.skipped + ended.failed + ended.waiting;
    match (all, ended.failed) {
        (0 | 1, 0) => format!("haul: {last} is complete"),
        (0 | 1, _) => format!("haul: {last} failed"),
        _ => format!("haul: {} of {all} downloaded{failed}", ended.downloaded),
    }
}

/// Whether a Content-Type is that of a web page.
fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"].iter().any(|it| it.eq_ignore_ascii_case(kind))
}

/// One download of the run, and what it needs of the run.
struct Job<'a> {
    plan: &'a GetPlan,
    engine: &'a Engine,
    id: usize,
    item: &'a Item,
    view: &'a dyn View,
    width: &'a Width,
    /// Whether the run has told that what it downloaded is a page, or could not.
    told_of_page: &'a AtomicBool,
}

impl Job<'_> {
    async fn run(&self, stop: Stop) -> Outcome {
        let Self { plan, id, view, .. } = *self;
        view.begin(id, &self.item.urls[0]);
        let mut curfew = Curfew::from_now(stop.clone(), plan.max_time);
        let outcome = match self.unlocked(&mut curfew).await {
            Outcome::Failed(failure)
                if plan.skip_existing && failure.is_of_existing() && self.item.links.is_empty() =>
            {
                view.note(id, "skipped", &format!("skipped: {}", failure.message));
                Outcome::Skipped
            }
            Outcome::Failed(failure) => self.failed(failure),
            Outcome::Completed(summary) => {
                match exec::run(plan.exec.as_ref(), &summary, plan.voice, stop).await {
                    Ok(()) => Outcome::Completed(summary),
                    Err(failure) => self.failed(failure),
                }
            }
            outcome => outcome,
        };
        view.end(id);
        outcome
    }

    /// Runs [`Self::attempt`], and again after another haul that was to be waited for.
    async fn unlocked(&self, curfew: &mut Curfew) -> Outcome {
        let mut queue = Queue::new(self.plan.waits_for_others);
        let mut replaces = false;
        loop {
            let outcome = self.attempt(curfew, replaces).await;
            if !replaces && self.may_replace(&outcome) {
                replaces = true;
                continue;
            }
            if !queue.is_for(&outcome) {
                return outcome;
            }
            self.width.step_aside();
            let turn = || self.width.try_enter();
            if let Some(outcome) = queue.wait(outcome, self.id, self.view, curfew, turn).await {
                self.width.enter();
                return outcome;
            }
            // Another haul may have put a file there meanwhile, which is not this one's to replace.
            replaces = false;
        }
    }

    /// Whether the file that is in the way is haul's own: the list asks for another version by now.
    /// Where the server names the output, it is not known which file is in the way.
    fn may_replace(&self, outcome: &Outcome) -> bool {
        let Outcome::Failed(failure) = outcome else { return false };
        failure.is_of_existing()
            && self.plan.verifies_existing()
            && self.item.own_file.as_deref().is_some_and(|own| {
                self.chosen_output().is_some_and(|output| own.is_at(&output)) && own.is_unchanged()
            })
    }

    /// The absolute path of the output, if its name was chosen.
    fn chosen_output(&self) -> Option<PathBuf> {
        let mut download = self.plan.download(self.engine, self.item).ok()?;
        let options = download.options_mut();
        std::path::absolute(options.directory.join(options.output.as_ref()?)).ok()
    }

    /// Runs the download once, and `replaces` what is there or not. The view has not been told of a
    /// failure yet.
    async fn attempt(&self, curfew: &mut Curfew, replaces: bool) -> Outcome {
        let Self { plan, engine, item, .. } = *self;
        if let Some(page) = &plan.page {
            return Box::pin(self.of_page(page, curfew, replaces)).await;
        }
        let as_is = plan.film.as_is || item.is_of_hub;
        if !as_is && (plan.film.list || film::is_manifest(&item.urls[0])) {
            return self.film(curfew).await;
        }
        match plan.download(engine, item) {
            Ok(download) => self.fetch(download, curfew, replaces).await,
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Downloads what yt-dlp finds in the page at the item's URL.
    async fn of_page(&self, page: &PagePlan, curfew: &mut Curfew, replaces: bool) -> Outcome {
        let Self { plan, engine, item, id, view, .. } = *self;
        let requests = plan.film_requests(engine, &item.urls[0], item);
        match page::find(plan, page, requests, item, (id, view), curfew).await {
            Ok(Leads::Film(item, film)) => {
                let job = FilmJob { plan, engine, item: &item, id, view };
                job.download_found(film, curfew).await
            }
            Ok(Leads::Object(item, lookout)) => {
                let job = Job { item: &item, ..*self };
                match plan.download(engine, &item) {
                    Ok(download) => job.fetch(download.refresh(lookout), curfew, replaces).await,
                    Err(failure) => Outcome::Failed(failure),
                }
            }
            Err(outcome) => outcome,
        }
    }

    /// Downloads one object, as it is planned, and `replaces` what is there or not.
    async fn fetch(
        &self,
        download: DownloadBuilder,
        curfew: &mut Curfew,
        replaces: bool,
    ) -> Outcome {
        let Self { plan, id, view, .. } = *self;
        let download = match replaces {
            true => download.existing(Existing::Replace),
            false => download,
        };
        if plan.dry_run {
            let planned = tokio::select! {
                planned = download.plan() => planned,
                early = curfew.reached() => return curfew.outcome(&early, None, id, view),
            };
            return match planned {
                Ok(mut planned) => {
                    self.show_as_linked(&mut planned.output);
                    view.planned(id, &planned, plan.head);
                    Outcome::Planned
                }
                Err(error) => Outcome::Failed(error.into()),
            };
        }
        if let Some(sink) = &plan.sink {
            return Box::pin(self.streamed(download, sink.clone(), curfew)).await;
        }
        let download = match download.start() {
            Ok(download) => download,
            Err(error) => return Outcome::Failed(error.into()),
        };
        let monitor = download.monitor();
        let (is_playlist, is_other) = (AtomicBool::new(false), AtomicBool::new(false));
        let takes_films = plan.takes_films() && !self.item.is_of_hub;
        let outcome = drive(download, id, view, curfew, |event| {
            self.width.learn(event);
            match event {
                Event::Started(started) => self.show_as_linked(&mut started.output),
                // Whoever is told of it must find it.
                Event::Completed(summary) => {
                    if hub::link(&self.item.links, &summary.output).is_err() {
                        return false;
                    }
                    self.show_as_linked(&mut summary.output);
                }
                _ => {}
            }
            match event {
                Event::Notice(notice) if notice.code == NoticeCode::Playlist => {
                    is_playlist.store(takes_films, Ordering::Relaxed);
                    !takes_films
                }
                Event::Notice(notice) if notice.code == NoticeCode::OtherContent => {
                    is_other.store(true, Ordering::Relaxed);
                    true
                }
                // The film takes its place.
                Event::Completed(_) => !is_playlist.load(Ordering::Relaxed),
                _ => true,
            }
        })
        .await;
        match outcome {
            Outcome::Completed(playlist) if is_playlist.load(Ordering::Relaxed) => {
                match film::replace_playlist(&playlist, id, view) {
                    Ok(()) => self.film(curfew).await,
                    Err(failure) => Outcome::Failed(failure),
                }
            }
            Outcome::Completed(mut summary) => {
                if let Err(failure) = hub::link(&self.item.links, &summary.output) {
                    return Outcome::Failed(failure);
                }
                self.show_as_linked(&mut summary.output);
                let kind = monitor.metadata().and_then(|found| found.content_type);
                if kind.is_some_and(|kind| is_page(&kind)) && !is_other.load(Ordering::Relaxed) {
                    self.note_page(&summary.output);
                }
                Outcome::Completed(summary)
            }
            outcome => outcome,
        }
    }

    /// Names a file as its user will find it, if that is a link to it.
    fn show_as_linked(&self, output: &mut PathBuf) {
        if let Some(link) = self.item.links.first() {
            output.clone_from(link);
        }
    }

    /// Tells what takes the film of a page that was downloaded as it is, once in a run.
    fn note_page(&self, output: &Path) {
        let Self { plan, item, id, view, .. } = *self;
        let asks = plan.page.is_none()
            && !plan.film.as_is
            && !item.is_of_hub
            && !page::is_meant(item, output);
        // The program is looked for once, whether it is there or not.
        if asks
            && !self.told_of_page.swap(true, Ordering::Relaxed)
            && plan.film.yt_dlp.clone().unwrap_or_default().is_there()
        {
            view.note(id, "page", page::NOTE);
        }
    }

    async fn film(&self, curfew: &mut Curfew) -> Outcome {
        let Self { plan, engine, item, id, view, .. } = *self;
        let job = FilmJob { plan, engine, item, id, view };
        Box::pin(job.run(curfew)).await
    }

    async fn drive(&self, download: Download, curfew: &mut Curfew) -> Outcome {
        let shows = |event: &mut Event| {
            self.width.learn(event);
            true
        };
        drive(download, self.id, self.view, curfew, shows).await
    }

    /// Does the same as [`Self::attempt`] for a download that is written in order while it
    /// arrives.
    async fn streamed(
        &self,
        download: DownloadBuilder,
        sink: Sink,
        curfew: &mut Curfew,
    ) -> Outcome {
        let (download, stream) = match download.stream() {
            Ok(both) => both,
            Err(error) => return Outcome::Failed(error.into()),
        };
        let written = match sink.take(stream) {
            Ok(written) => written,
            Err(failure) => return Outcome::Failed(failure),
        };
        let outcome = self.drive(download, curfew).await;
        // However the download ended, the bytes that have arrived are still on their way to the
        // reader.
        let written = tokio::select! {
            biased;
            early = curfew.reached() => return curfew.outcome(&early, None, self.id, self.view),
            written = written => written,
        };
        match written {
            // The failed write is why the download ended.
            Ok(Err(failure)) => Outcome::Failed(failure),
            _ => outcome,
        }
    }

    fn failed(&self, failure: Failure) -> Outcome {
        let failure = if self.item.is_of_hub { hub::explained(failure) } else { failure };
        if !failure.silent {
            self.view.failed(self.id, &failure);
        }
        Outcome::Failed(failure)
    }
}

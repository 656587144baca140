//! Runs the downloads, some at a time, and says how the run ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_engine::{Download, DownloadBuilder, Engine, Event, Events, Summary};
use tokio::task::JoinSet;

use crate::exec;
use crate::exit::{self, End, Failure};
use crate::input::Item;
use crate::plan::GetPlan;
use crate::render::View;
use crate::results::Results;
use crate::signals::{Interrupt, Stop};
use crate::sink::Sink;
use crate::source::{Next, Source};
use crate::units::duration;

/// How long the last events of a cancelled download are waited for.
const LAST_EVENTS: Duration = Duration::from_millis(100);

/// How one download ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The output is complete and published.
    Completed(Box<Summary>),
    /// It was only planned, and the view has printed the plan.
    Planned,
    /// Its output exists and was left as it is, and the view was told.
    Skipped,
    /// It failed; [`drive`] leaves it to its caller to tell the view.
    Failed(Failure),
    /// It was stopped by a signal; this many bytes are kept.
    Interrupted {
        /// Bytes of the object that the next run need not fetch.
        kept_bytes: u64,
    },
}

/// Downloads what the source gives and returns the exit code.
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
    let mut width = Width::new(plan.jobs);
    let mut ended = false;
    loop {
        let too_many =
            plan.max_failures.is_some_and(|most| most.exceeded(tally.failed, tally.ended));
        let wanted = !ended && !too_many && running.len() < width.now && stop.now().is_none();
        tokio::select! {
            biased;
            _ = stop.requested(), if wanted => {}
            next = source.next(), if wanted => match next {
                Some(Next::Item(id, item)) => {
                    let (plan, engine) = (Arc::clone(&plan), engine.clone());
                    let (view, stop) = (Arc::clone(&view), stop.clone());
                    running.spawn(async move {
                        let started = Instant::now();
                        let outcome = one(&plan, &engine, id, &item, &*view, stop).await;
                        (item, outcome, started.elapsed())
                    });
                }
                Some(Next::Fault(id, failure)) => {
                    view.failed(id, &failure);
                    tally.fail(&failure);
                }
                Some(Next::Note(text)) => view.warning(&text),
                None => ended = true,
            },
            Some(one) = running.join_next(), if !running.is_empty() => match one {
                Ok((item, outcome, elapsed)) => {
                    if let Some(results) = &results {
                        results.add(&item, &outcome, elapsed);
                    }
                    width.learn(&outcome);
                    tally.add(&outcome);
                }
                Err(panic) => {
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
        tally.fail(&failure);
    }
    match stop.now() {
        // A signal that came when all was done changes nothing.
        Some(interrupt) if tally.stopped || !source.has_ended() || tally.end.code != exit::OK => {
            view.interrupted(tally.kept_bytes);
            interrupt.exit_code().into()
        }
        stopped => {
            if stopped.is_none() && !ended {
                view.warning(&format!(
                    "{} of {} failed, more than --max-failures: nothing more was started",
                    tally.failed, tally.ended
                ));
            }
            tally.end
        }
    }
}

/// How many downloads run at a time: as many as asked for, else more while
/// they are small, because of a small one most of the time is waiting.
#[derive(Debug)]
struct Width {
    now: usize,
    learns: bool,
}

impl Width {
    const LARGE: usize = 4;
    const SMALL: usize = 16;
    const SMALL_BYTES: u64 = 1 << 20;

    fn new(asked: Option<usize>) -> Self {
        match asked {
            Some(count) => Self { now: count, learns: false },
            None => Self { now: Self::LARGE, learns: true },
        }
    }

    fn learn(&mut self, outcome: &Outcome) {
        if let Outcome::Completed(summary) = outcome
            && self.learns
        {
            let small = summary.bytes <= Self::SMALL_BYTES;
            self.now = if small { (self.now + 1).min(Self::SMALL) } else { Self::LARGE };
        }
    }
}

/// What the downloads of a run came to.
#[derive(Debug, Default)]
struct Tally {
    ended: u64,
    failed: u64,
    /// What the run would end with so far.
    end: End,
    stopped: bool,
    kept_bytes: u64,
}

impl Tally {
    fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Completed(_) | Outcome::Planned | Outcome::Skipped => self.ended += 1,
            Outcome::Failed(failure) => self.fail(failure),
            Outcome::Interrupted { kept_bytes } => {
                self.kept_bytes += kept_bytes;
                self.stopped = true;
            }
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.ended += 1;
        self.failed += 1;
        self.end = self.end.and(failure);
    }
}

async fn one(
    plan: &GetPlan,
    engine: &Engine,
    id: usize,
    item: &Item,
    view: &dyn View,
    stop: Stop,
) -> Outcome {
    view.begin(id, &item.urls[0]);
    let plan = plan.for_url(&item.urls[0]);
    let mut curfew = Curfew::from_now(stop.clone(), plan.max_time);
    let outcome = match attempt(plan, engine, id, item, view, &mut curfew).await {
        Outcome::Failed(failure) if plan.skip_existing && failure.is_of_existing() => {
            view.note(id, "skipped", &format!("skipped: {}", failure.message));
            Outcome::Skipped
        }
        Outcome::Failed(failure) => failed(view, id, failure),
        Outcome::Completed(summary) => match exec::run(plan, &summary.output, stop).await {
            Ok(()) => Outcome::Completed(summary),
            Err(failure) => failed(view, id, failure),
        },
        outcome => outcome,
    };
    view.end(id);
    outcome
}

/// One download; a failure is not told yet.
async fn attempt(
    plan: &GetPlan,
    engine: &Engine,
    id: usize,
    item: &Item,
    view: &dyn View,
    curfew: &mut Curfew,
) -> Outcome {
    let download = match plan.download(engine, item) {
        Ok(download) => download,
        Err(failure) => return Outcome::Failed(failure),
    };
    if plan.dry_run {
        let planned = tokio::select! {
            planned = download.plan() => planned,
            early = curfew.reached() => return curfew.outcome(&early, None, id, view),
        };
        return match planned {
            Ok(planned) => {
                view.planned(id, &planned);
                Outcome::Planned
            }
            Err(error) => Outcome::Failed(error.into()),
        };
    }
    if let Some(sink) = &plan.sink {
        return Box::pin(streamed(download, sink.clone(), id, view, curfew)).await;
    }
    match download.start() {
        Ok(download) => drive(download, id, view, curfew).await,
        Err(error) => Outcome::Failed(error.into()),
    }
}

/// As [`attempt`], of one that is written in order while it comes.
async fn streamed(
    download: DownloadBuilder,
    sink: Sink,
    id: usize,
    view: &dyn View,
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
    let outcome = drive(download, id, view, curfew).await;
    // Whatever the download came to, what is here is on its way to who reads.
    let written = tokio::select! {
        biased;
        early = curfew.reached() => return curfew.outcome(&early, None, id, view),
        written = written => written,
    };
    match written {
        // It is why the download ended.
        Ok(Err(failure)) => Outcome::Failed(failure),
        _ => outcome,
    }
}

/// What may end one download early: a signal, or the end of its time.
#[derive(Debug, Clone)]
pub(crate) struct Curfew {
    stop: Stop,
    max_time: Duration,
    ends: Option<tokio::time::Instant>,
}

/// Which of them it was.
enum Early {
    Signal(Interrupt),
    Time,
}

impl Curfew {
    /// Of a download that begins now.
    pub(crate) fn from_now(stop: Stop, max_time: Option<Duration>) -> Self {
        let ends = max_time.and_then(|time| tokio::time::Instant::now().checked_add(time));
        Self { stop, max_time: max_time.unwrap_or_default(), ends }
    }

    /// Waits for it; cancel safe.
    async fn reached(&mut self) -> Early {
        let time = async {
            match self.ends {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            interrupt = self.stop.requested() => Early::Signal(interrupt),
            () = time => Early::Time,
        }
    }

    /// Tells of a download that was ended, of which so many bytes are kept.
    fn outcome(
        &self,
        early: &Early,
        kept_bytes: Option<u64>,
        id: usize,
        view: &dyn View,
    ) -> Outcome {
        match early {
            Early::Signal(interrupt) => {
                view.cancelled(id, interrupt.exit_code(), kept_bytes.is_some());
                Outcome::Interrupted { kept_bytes: kept_bytes.unwrap_or(0) }
            }
            Early::Time => {
                let text = format!("not complete after {}: stopped", duration(self.max_time));
                let failure = Failure::new(exit::LIMIT, "limit-reached", text)
                    .hint("--max-time is the time that it may take");
                Outcome::Failed(Failure { resumable: kept_bytes.is_some(), ..failure })
            }
        }
    }
}

/// Follows one download to its end, tells the view, and cancels it when it is
/// to end early.
pub(crate) async fn drive(
    mut download: Download,
    id: usize,
    view: &dyn View,
    curfew: &mut Curfew,
) -> Outcome {
    let mut events = download.events();
    let (mut started, mut complete) = (false, false);
    // Not at once: an early timer wakes the runtime for each of thousands of small files.
    let interval = view.interval();
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let ended = loop {
        tokio::select! {
            biased;
            early = curfew.reached() => break Err(early),
            event = events.next() => match event {
                // The error itself comes from `wait`, with its hint.
                Some(Event::Failed { .. }) => {}
                Some(event) => {
                    view.event(id, &event);
                    match event {
                        Event::Started(_) => started = true,
                        Event::Completed(_) => complete = true,
                        _ => {}
                    }
                }
                None => tokio::select! {
                    early = curfew.reached() => break Err(early),
                    ended = download.wait() => break Ok(ended),
                },
            },
            _ = tick.tick(), if !complete => match started {
                true => view.progress(id, &download.progress()),
                false => view.connecting(id),
            },
        }
    };
    match ended {
        Ok(Ok(summary)) => Outcome::Completed(Box::new(summary)),
        Ok(Err(error)) => Outcome::Failed(error.into()),
        Err(early) => match cancel(download, events, id, view).await {
            Ok(kept_bytes) => curfew.outcome(&early, kept_bytes, id, view),
            Err(ended) => ended,
        },
    }
}

/// Stops a download. Tells how much of it is kept for the next run, or how it
/// ended where that came first.
async fn cancel(
    download: Download,
    mut events: Events,
    id: usize,
    view: &dyn View,
) -> Result<Option<u64>, Outcome> {
    let bytes = download.progress().bytes;
    let checkpoint = match download.cancel().await {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Err(Outcome::Failed(error.into())),
    };
    // The signal and the end of the download may have crossed.
    while let Ok(Some(event)) = tokio::time::timeout(LAST_EVENTS, events.next()).await {
        if let Event::Completed(summary) = event {
            view.event(id, &Event::Completed(summary.clone()));
            return Err(Outcome::Completed(Box::new(summary)));
        }
    }
    Ok(checkpoint.map(|_| bytes))
}

fn failed(view: &dyn View, id: usize, failure: Failure) -> Outcome {
    if !failure.silent {
        view.failed(id, &failure);
    }
    Outcome::Failed(failure)
}

//! Follows one download until it ends: by itself, by a signal, because its time is up, or because
//! another haul holds the name of its output.

use std::time::Duration;

use haul_engine::{Download, Event, Events, Summary};

use crate::exit::{self, Failure};
use crate::render::View;
use crate::signals::{Interrupt, Stop};
use crate::units::duration;

/// How long to wait for the last events of a cancelled download.
const LAST_EVENTS: Duration = Duration::from_millis(100);

/// The first and the longest interval between looks at whether another haul has ended. Where the
/// server names the file, each look costs a request.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOK_RARELY: Duration = Duration::from_secs(2);

/// How one download ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The output is complete and published.
    Completed(Box<Summary>),
    /// It was only planned, and the view has printed the plan.
    Planned,
    /// The output existed and was left as it is, and the view was told.
    Skipped,
    /// It failed. [`drive`] leaves it to the caller to tell the view.
    Failed(Failure),
    /// A signal stopped it.
    Interrupted {
        /// Bytes of the object that the next run need not fetch.
        kept_bytes: u64,
    },
}

/// What may end one download early: a signal, or the end of its time.
#[derive(Debug, Clone)]
pub(crate) struct Curfew {
    stop: Stop,
    max_time: Duration,
    ends: Option<tokio::time::Instant>,
}

/// What ended a download early.
pub(crate) enum Early {
    Signal(Interrupt),
    Time,
}

impl Curfew {
    /// The curfew of a download that begins now.
    pub(crate) fn from_now(stop: Stop, max_time: Option<Duration>) -> Self {
        let ends = max_time.and_then(|time| tokio::time::Instant::now().checked_add(time));
        Self { stop, max_time: max_time.unwrap_or_default(), ends }
    }

    /// Waits until the download has to end; cancel safe.
    pub(crate) async fn reached(&mut self) -> Early {
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

    /// The outcome of a download that was ended early with this many bytes kept; the view is told
    /// of a signal.
    pub(crate) fn outcome(
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
                    .hint("--max-time sets how long it may take");
                Outcome::Failed(Failure { resumable: kept_bytes.is_some(), ..failure })
            }
        }
    }
}

/// Follows one download to its end, reports to the view what `shows` lets through, as it leaves it,
/// and cancels the download if it has to end early.
pub(crate) async fn drive(
    download: Download,
    id: usize,
    view: &dyn View,
    curfew: &mut Curfew,
    shows: impl Fn(&mut Event) -> bool,
) -> Outcome {
    let mut events = download.events();
    let (mut started, mut complete) = (false, false);
    // The first tick is not immediate: an early timer would wake the runtime for each of thousands
    // of small files.
    let interval = view.interval();
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let ended = loop {
        tokio::select! {
            biased;
            early = curfew.reached() => break Err(early),
            event = events.next() => match event {
                // `wait` returns the error itself, with its hint.
                Some(Event::Failed { .. }) => {}
                Some(mut event) => {
                    if shows(&mut event) {
                        view.event(id, &event);
                    }
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
                false => view.connecting(id, &download.progress()),
            },
        }
    };
    match ended {
        Ok(Ok(summary)) => Outcome::Completed(Box::new(summary)),
        Ok(Err(error)) => Outcome::Failed(error.into()),
        Err(early) => match cancel(download, events, id, view, &shows).await {
            Ok(kept_bytes) => curfew.outcome(&early, kept_bytes, id, view),
            Err(ended) => ended,
        },
    }
}

/// Stops a download. Returns how much of it is kept for the next run, or how it ended if that came
/// first.
async fn cancel(
    download: Download,
    mut events: Events,
    id: usize,
    view: &dyn View,
    shows: &impl Fn(&mut Event) -> bool,
) -> Result<Option<u64>, Outcome> {
    let bytes = download.progress().bytes;
    let checkpoint = match download.cancel().await {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Err(Outcome::Failed(error.into())),
    };
    // The signal and the end of the download may have crossed.
    while let Ok(Some(event)) = tokio::time::timeout(LAST_EVENTS, events.next()).await {
        if let Event::Completed(summary) = &event {
            let (summary, mut event) = (summary.clone(), event);
            if shows(&mut event) {
                view.event(id, &event);
            }
            return Err(Outcome::Completed(Box::new(summary)));
        }
    }
    Ok(checkpoint.map(|_| bytes))
}

/// Waits while another haul holds the name of the output, if that was asked for.
#[derive(Debug)]
pub(crate) struct Queue {
    waits: bool,
    told: bool,
    next: Duration,
}

impl Queue {
    pub(crate) fn new(waits: bool) -> Self {
        Self { waits, told: false, next: LOOK_AGAIN }
    }

    /// Whether a download that ended like this waits.
    pub(crate) fn is_for(&self, outcome: &Outcome) -> bool {
        let held = |failure: &Failure| failure.is_of_another_haul();
        self.waits && matches!(outcome, Outcome::Failed(failure) if held(failure))
    }

    /// Returns `None` if the download is to be tried again now, which is when `turn` says so, or
    /// else its outcome, which may be that it was ended while it waited.
    pub(crate) async fn wait(
        &mut self,
        outcome: Outcome,
        id: usize,
        view: &dyn View,
        curfew: &mut Curfew,
        turn: impl Fn() -> bool,
    ) -> Option<Outcome> {
        let waits = self.is_for(&outcome);
        let failure = match outcome {
            Outcome::Failed(failure) if waits => failure,
            outcome => return Some(outcome),
        };
        if !std::mem::replace(&mut self.told, true) {
            view.note(id, "locked", &format!("waiting: {}", failure.message));
        }
        let next = self.next;
        self.next = (next * 2).min(LOOK_RARELY);
        let its_turn = async {
            tokio::time::sleep(next).await;
            while !turn() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            early = curfew.reached() => Some(curfew.outcome(&early, None, id, view)),
            () = its_turn => None,
        }
    }
}

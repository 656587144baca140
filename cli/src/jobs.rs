//! Runs the downloads, some at a time, and says how the run ended.

use std::sync::Arc;
use std::time::Duration;

use haul_engine::{Download, Engine, Event, Events};
use tokio::task::JoinSet;

use crate::exit::{self, Failure};
use crate::plan::GetPlan;
use crate::render::View;
use crate::signals::{Interrupt, Stop};

/// How long the last events of a cancelled download are waited for.
const LAST_EVENTS: Duration = Duration::from_millis(100);

/// How one download ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The output is complete and published.
    Completed,
    /// It was only planned, and the view has printed the plan.
    Planned,
    /// It failed, and the view has told so.
    Failed(Failure),
    /// It was stopped by a signal; this many bytes are kept.
    Interrupted {
        /// Bytes of the object that the next run need not fetch.
        kept_bytes: u64,
    },
}

/// Downloads every URL of the plan and returns the exit code.
pub(crate) async fn run(plan: Arc<GetPlan>, engine: Engine, view: Arc<dyn View>, stop: Stop) -> u8 {
    let mut waiting = plan.urls.clone().into_iter().enumerate();
    let mut running = JoinSet::new();
    let mut codes = Vec::new();
    let (mut kept_bytes, mut stopped) = (0, false);
    loop {
        while running.len() < plan.jobs && stop.now().is_none() {
            let Some((index, url)) = waiting.next() else { break };
            let (plan, engine) = (Arc::clone(&plan), engine.clone());
            let (view, stop) = (Arc::clone(&view), stop.clone());
            running.spawn(async move { one(&plan, &engine, index + 1, &url, &*view, stop).await });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Outcome::Completed | Outcome::Planned)) => {}
            Some(Ok(Outcome::Failed(failure))) => codes.push(failure.exit),
            Some(Ok(Outcome::Interrupted { kept_bytes: kept })) => {
                kept_bytes += kept;
                stopped = true;
            }
            Some(Err(panic)) => {
                let failure = Failure::internal(format!("a download's task failed: {panic}"));
                view.failed(0, &failure);
                codes.push(failure.exit);
            }
        }
    }
    match stop.now() {
        // A signal that came when all was done changes nothing.
        Some(interrupt) if stopped || waiting.len() > 0 || !codes.is_empty() => {
            view.interrupted(kept_bytes);
            interrupt.exit_code()
        }
        _ => exit::worst(codes),
    }
}

async fn one(
    plan: &GetPlan,
    engine: &Engine,
    id: usize,
    url: &str,
    view: &dyn View,
    mut stop: Stop,
) -> Outcome {
    let download = plan.download(engine, url);
    if plan.dry_run {
        let planned = tokio::select! {
            planned = download.plan() => planned,
            _ = stop.requested() => return Outcome::Interrupted { kept_bytes: 0 },
        };
        return match planned {
            Ok(planned) => {
                view.planned(id, &planned);
                Outcome::Planned
            }
            Err(error) => failed(view, id, error.into()),
        };
    }
    match download.start() {
        Ok(download) => drive(download, id, view, stop).await,
        Err(error) => failed(view, id, error.into()),
    }
}

/// Follows one download to its end, tells the view, and cancels it when a
/// signal asks for that.
async fn drive(mut download: Download, id: usize, view: &dyn View, mut stop: Stop) -> Outcome {
    let mut events = download.events();
    let (mut started, mut complete) = (false, false);
    let mut tick = tokio::time::interval(view.interval());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let ended = loop {
        tokio::select! {
            biased;
            interrupt = stop.requested() => break Err(interrupt),
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
                    interrupt = stop.requested() => break Err(interrupt),
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
        Ok(Ok(_)) => Outcome::Completed,
        Ok(Err(error)) => failed(view, id, error.into()),
        Err(interrupt) => cancel(download, events, id, view, interrupt).await,
    }
}

async fn cancel(
    download: Download,
    mut events: Events,
    id: usize,
    view: &dyn View,
    interrupt: Interrupt,
) -> Outcome {
    let bytes = download.progress().bytes;
    let checkpoint = match download.cancel().await {
        Ok(checkpoint) => checkpoint,
        Err(error) => return failed(view, id, error.into()),
    };
    // The signal and the end of the download may have crossed.
    while let Ok(Some(event)) = tokio::time::timeout(LAST_EVENTS, events.next()).await {
        if let Event::Completed(summary) = event {
            view.event(id, &Event::Completed(summary));
            return Outcome::Completed;
        }
    }
    let resumable = checkpoint.is_some();
    view.cancelled(id, interrupt.exit_code(), resumable);
    Outcome::Interrupted { kept_bytes: if resumable { bytes } else { 0 } }
}

fn failed(view: &dyn View, id: usize, failure: Failure) -> Outcome {
    view.failed(id, &failure);
    Outcome::Failed(failure)
}

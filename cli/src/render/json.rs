//! JSON lines on stdout, one event each, for programs. Integers are exact, sizes are in bytes, and
//! times are in seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use haul_engine::{Event, Plan, Progress};
use serde::Serialize;

use super::lines::{self, Lines};
use super::{Ended, View, to_stderr, to_stdout};
use crate::exit::Failure;

/// Events as JSON lines; errors go to stderr as text too.
#[derive(Debug)]
pub(crate) struct Json {
    lines: Lines,
    start: Instant,
    // Held while an event is stamped and written, so that `t` never runs backwards in the output.
    order: Mutex<()>,
}

impl Json {
    pub(crate) fn new(lines: Lines) -> Self {
        Self { lines, start: Instant::now(), order: Mutex::new(()) }
    }

    fn write(&self, id: usize, body: &Body<'_>) {
        let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        to_stdout(&[record(id, self.start.elapsed(), body)]);
    }
}

fn record(id: usize, since_start: Duration, body: &Body<'_>) -> String {
    let record = Record { v: 1, id, t: seconds(since_start), body };
    // A record cannot fail to serialise: its keys are strings and its numbers finite.
    serde_json::to_string(&record).unwrap_or_default()
}

/// Seconds, rounded to milliseconds.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    #[serde(flatten)]
    body: &'a Body<'a>,
    id: usize,
    t: f64,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Body<'a> {
    Plan {
        url: &'a str,
        output: String,
        total: Option<u64>,
        ranges: bool,
        validator: &'static str,
        resumed_bytes: u64,
        connections: usize,
        segment_size: u64,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        unchanged: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        head: Option<Vec<String>>,
    },
    Start {
        url: &'a str,
        output: String,
        total: Option<u64>,
        ranges: bool,
        validator: &'static str,
        resumed_bytes: u64,
        connections: usize,
    },
    Progress {
        bytes: u64,
        total: Option<u64>,
        bps: u64,
        eta_s: Option<u64>,
        connections: usize,
    },
    Retry {
        reason: &'a str,
        attempt: u32,
        wait_s: f64,
    },
    Notice {
        code: &'a str,
        message: &'a str,
    },
    Complete {
        output: String,
        bytes: u64,
        fetched_bytes: u64,
        mapped_bytes: u64,
        requests: u64,
        elapsed_s: f64,
        blake3: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        unchanged: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        limited_by: Option<&'static str>,
        #[serde(flatten)]
        digests: serde_json::Map<String, serde_json::Value>,
    },
    Error {
        code: &'a str,
        exit: u8,
        message: &'a str,
        resumable: bool,
    },
    /// The end of a run of several downloads.
    Summary {
        downloaded: u64,
        failed: u64,
        skipped: u64,
        bytes: u64,
        elapsed_s: f64,
    },
}

impl View for Json {
    fn interval(&self) -> Duration {
        // Each download reports four times a second; the contract allows ten.
        Duration::from_millis(250)
    }

    fn begin(&self, id: usize, url: &str) {
        self.lines.begin(id, url);
    }

    fn event(&self, id: usize, event: &Event) {
        match event {
            Event::Started(started) => self.write(
                id,
                &Body::Start {
                    url: &started.url,
                    output: started.output.to_string_lossy().into_owned(),
                    total: started.total_bytes,
                    ranges: started.ranges,
                    validator: lines::validator_word(started.validator),
                    resumed_bytes: started.resumed_bytes,
                    connections: started.connections,
                },
            ),
            Event::Retry { reason, attempt, wait } => {
                self.write(id, &Body::Retry { reason, attempt: *attempt, wait_s: seconds(*wait) });
            }
            Event::Notice(notice) => {
                let (code, message) = (notice.code.as_str(), notice.message.as_str());
                self.write(id, &Body::Notice { code, message });
            }
            Event::Lagged(count) => {
                let message = format!("{count} events were lost, the download was not");
                self.write(id, &Body::Notice { code: "lagged", message: &message });
            }
            Event::Completed(summary) => {
                let mut digests = serde_json::Map::new();
                if let Some((algorithm, digest)) = &summary.verified
                    && algorithm.as_str() != "blake3"
                {
                    digests.insert(algorithm.to_string(), lines::hex(digest).into());
                }
                self.write(
                    id,
                    &Body::Complete {
                        output: summary.output.to_string_lossy().into_owned(),
                        bytes: summary.bytes,
                        fetched_bytes: summary.fetched_bytes,
                        mapped_bytes: summary.mapped_bytes,
                        requests: summary.requests,
                        elapsed_s: seconds(summary.elapsed),
                        blake3: summary.blake3_hex(),
                        unchanged: summary.unchanged,
                        limited_by: summary.limited_by.map(haul_engine::LimitedBy::as_str),
                        digests,
                    },
                );
            }
            _ => {}
        }
    }

    fn progress(&self, id: usize, progress: &Progress) {
        self.write(
            id,
            &Body::Progress {
                bytes: progress.bytes,
                total: progress.total_bytes,
                bps: progress.bytes_per_second as u64,
                eta_s: progress.eta.map(|eta| eta.as_secs()),
                connections: progress.connections,
            },
        );
    }

    fn planned(&self, id: usize, plan: &Plan, head: bool) {
        self.write(
            id,
            &Body::Plan {
                url: &plan.url,
                output: plan.output.to_string_lossy().into_owned(),
                total: plan.total_bytes,
                ranges: plan.ranges,
                validator: lines::validator_word(plan.validator),
                resumed_bytes: plan.resumable_bytes,
                connections: plan.connections,
                segment_size: plan.segment_size_bytes,
                unchanged: plan.unchanged,
                head: head.then(|| lines::head(plan)),
            },
        );
    }

    fn failed(&self, id: usize, failure: &Failure) {
        self.write(
            id,
            &Body::Error {
                code: failure.word,
                exit: failure.exit,
                message: &failure.message,
                resumable: failure.resumable,
            },
        );
        to_stderr(&self.lines.failure(id, failure));
    }

    fn cancelled(&self, id: usize, exit: u8, resumable: bool) {
        let message = "the download was stopped by a signal";
        self.write(id, &Body::Error { code: "interrupted", exit, message, resumable });
    }

    fn end(&self, id: usize) {
        self.lines.end(id);
    }

    fn ended(&self, ended: &Ended) {
        self.write(
            0,
            &Body::Summary {
                downloaded: ended.downloaded,
                failed: ended.failed,
                skipped: ended.skipped,
                bytes: ended.bytes,
                elapsed_s: seconds(ended.elapsed),
            },
        );
    }

    fn interrupted(&self, kept_bytes: u64) {
        to_stderr(&[lines::interrupted(kept_bytes)]);
    }

    fn note(&self, id: usize, code: &str, text: &str) {
        self.write(id, &Body::Notice { code, message: text });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(body: &Body<'_>) -> Value {
        let line = record(1, Duration::from_micros(1_234_567), body);
        assert!(!line.contains('\n'));
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn every_event_has_the_contracts_fields_and_no_others() {
        let start = Body::Start {
            url: "http://h/f",
            output: "f".to_owned(),
            total: None,
            ranges: true,
            validator: "strong-etag",
            resumed_bytes: 7,
            connections: 4,
        };
        assert_eq!(
            parsed(&start),
            json!({"v": 1, "event": "start", "id": 1, "t": 1.235, "url": "http://h/f",
                   "output": "f", "total": null, "ranges": true, "validator": "strong-etag",
                   "resumed_bytes": 7, "connections": 4})
        );
        let progress =
            Body::Progress { bytes: 1, total: Some(2), bps: 3, eta_s: None, connections: 4 };
        assert_eq!(
            parsed(&progress),
            json!({"v": 1, "event": "progress", "id": 1, "t": 1.235, "bytes": 1, "total": 2,
                   "bps": 3, "eta_s": null, "connections": 4})
        );
        assert_eq!(
            parsed(&Body::Retry { reason: "reset", attempt: 2, wait_s: 1.5 }),
            json!({"v": 1, "event": "retry", "id": 1, "t": 1.235, "reason": "reset",
                   "attempt": 2, "wait_s": 1.5})
        );
        assert_eq!(
            parsed(&Body::Notice { code: "restarted", message: "line\nbreak" }),
            json!({"v": 1, "event": "notice", "id": 1, "t": 1.235, "code": "restarted",
                   "message": "line\nbreak"})
        );
        let error = Body::Error { code: "network", exit: 4, message: "reset", resumable: true };
        assert_eq!(
            parsed(&error),
            json!({"v": 1, "event": "error", "id": 1, "t": 1.235, "code": "network", "exit": 4,
                   "message": "reset", "resumable": true})
        );
        let summary =
            Body::Summary { downloaded: 2, failed: 1, skipped: 0, bytes: 7, elapsed_s: 1.5 };
        assert_eq!(
            parsed(&summary),
            json!({"v": 1, "event": "summary", "id": 1, "t": 1.235, "downloaded": 2, "failed": 1,
                   "skipped": 0, "bytes": 7, "elapsed_s": 1.5})
        );
    }

    #[test]
    fn other_digests_stand_beside_blake3() {
        let mut digests = serde_json::Map::new();
        digests.insert("sha256".to_owned(), lines::hex(&[0xab, 1]).into());
        let complete = Body::Complete {
            output: "f".to_owned(),
            bytes: 10,
            fetched_bytes: 11,
            mapped_bytes: 9,
            requests: 1,
            elapsed_s: 0.5,
            unchanged: false,
            blake3: Some("00".to_owned()),
            limited_by: Some("link"),
            digests,
        };
        assert_eq!(
            parsed(&complete),
            json!({"v": 1, "event": "complete", "id": 1, "t": 1.235, "output": "f", "bytes": 10,
                   "fetched_bytes": 11, "mapped_bytes": 9, "requests": 1, "elapsed_s": 0.5, "blake3": "00",
                   "limited_by": "link",
                   "sha256": "ab01"})
        );
    }
}

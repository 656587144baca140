//! The sentences of a run, shared by the bar and the plain view.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use haul_engine::{Event, LimitedBy, Plan, Started, Summary, ValidatorKind, redact_url};

use super::{Palette, again, escape};
use crate::exit::Failure;
use crate::units::{duration, plural, rate, size};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// What went otherwise than asked for.
    Less,
    /// Also the plan and the summary.
    Usual,
    /// Also where from, how, and how many requests it took.
    More,
}

/// Turns what happens into lines, with the download's name where there are several.
#[derive(Debug)]
pub(crate) struct Lines {
    palette: Palette,
    detail: Detail,
    several: bool,
    /// Of the downloads that run.
    names: Mutex<HashMap<usize, Name>>,
}

/// What a download is called.
#[derive(Debug)]
enum Name {
    /// Its URL, before there is a file. Of thousands in a list few are spoken of, so it
    /// is made fit to be shown only then.
    Url(String),
    File(String),
}

impl Name {
    fn shown(&self) -> String {
        match self {
            Self::Url(url) => redact_url(url),
            Self::File(name) => name.clone(),
        }
    }
}

impl Lines {
    pub(crate) fn new(several: bool, detail: Detail, palette: Palette) -> Self {
        Self { palette, detail, several, names: Mutex::default() }
    }

    /// A download begins, with this URL.
    pub(crate) fn begin(&self, id: usize, url: &str) {
        self.set_name(id, Name::Url(url.to_owned()));
    }

    /// It has ended and is not spoken of again.
    pub(crate) fn end(&self, id: usize) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn set_name(&self, id: usize, name: Name) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(id, name);
    }

    /// The name of a download that runs.
    pub(crate) fn name(&self, id: usize) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&id).map_or_else(|| "haul".to_owned(), Name::shown)
    }

    /// The lines of an event; most have one.
    pub(crate) fn event(&self, id: usize, event: &Event) -> Vec<String> {
        match event {
            Event::Started(started) => self.started(id, started),
            Event::Retry { reason, attempt, wait } => {
                let word = self.palette.aside("retry:");
                let (prefix, reason) = (self.prefix(id), escape(reason));
                vec![format!("{word} {prefix}{reason}; attempt {attempt} in {}", duration(*wait))]
            }
            Event::Notice(notice) => vec![self.note(id, &notice.message)],
            Event::Lagged(count) if self.detail == Detail::More => {
                vec![self.note(id, &format!("{count} events were lost, the download was not"))]
            }
            Event::Completed(summary) if self.detail > Detail::Less => self.completed(summary),
            _ => Vec::new(),
        }
    }

    /// A line that is not an error.
    pub(crate) fn note(&self, id: usize, text: &str) -> String {
        format!("{} {}{}", self.palette.aside("note:"), self.prefix(id), escape(text))
    }

    /// The lines of a failure.
    pub(crate) fn failure(&self, id: usize, failed: &Failure) -> Vec<String> {
        failure(self.palette, &self.prefix(id), failed)
    }

    /// Whether there are several downloads to be told apart.
    pub(crate) fn several(&self) -> bool {
        self.several
    }

    fn prefix(&self, id: usize) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        match names.get(&id).filter(|_| self.several) {
            Some(name) => format!("{}: ", name.shown()),
            None => String::new(),
        }
    }

    fn started(&self, id: usize, started: &Started) -> Vec<String> {
        let name = file_name(&started.output);
        let mut lines = vec![plan_line(
            &name,
            started.total_bytes,
            started.ranges,
            started.connections,
            started.segment_size_bytes,
            started.resumed_bytes,
        )];
        if self.detail == Detail::More {
            let validator = validator_word(started.validator);
            lines.push(format!("  from {}", escape(&started.url)));
            lines.push(format!("  to {}", escape(&started.output.to_string_lossy())));
            lines.push(format!("  validator {validator}, storage {}", started.storage));
        }
        if self.detail == Detail::Less {
            lines.clear();
        }
        self.set_name(id, Name::File(name));
        lines
    }

    fn completed(&self, summary: &Summary) -> Vec<String> {
        if summary.unchanged {
            let name = file_name(&summary.output);
            return vec![format!("{name}: unchanged on the server, nothing was fetched")];
        }
        let mut lines = vec![summary_line(&Facts {
            name: &file_name(&summary.output),
            bytes: summary.bytes,
            resumed_bytes: summary.resumed_bytes,
            retries: summary.retries,
            elapsed_seconds: summary.elapsed.as_secs_f64(),
        })];
        if let Some(hash) = summary.blake3_hex() {
            lines.push(format!("  blake3 {hash}"));
        }
        if let Some(limited_by) = summary.limited_by {
            lines.push(format!("  {}", limited_by_line(limited_by)));
        }
        if let Some((algorithm, _)) = &summary.verified {
            lines.push(format!("  {algorithm} is as asked for"));
        }
        if self.detail == Detail::More {
            let requests = plural(summary.requests, "request", "requests");
            let connections = plural(summary.connections as u64, "connection", "connections");
            let fetched = size(summary.fetched_bytes);
            let first = summary.time_to_first_byte.map_or_else(String::new, |time| {
                format!(", first byte after {:.0} ms", time.as_secs_f64() * 1e3)
            });
            lines.push(format!("  {fetched} fetched in {requests} on {connections}{first}"));
        }
        lines
    }
}

/// The lines that tell of a failure: cause, next step, and what became of the partial.
pub(crate) fn failure(palette: Palette, prefix: &str, failure: &Failure) -> Vec<String> {
    let mut lines =
        vec![format!("{} {prefix}{}", palette.error("error:"), escape(&failure.message))];
    let hint = palette.aside("hint:");
    if let Some(text) = &failure.hint {
        lines.push(format!("{hint} {}", escape(text)));
    }
    if failure.resumable {
        lines.push(format!("{hint} the partial is kept: run the same command again to continue"));
    }
    lines
}

/// The last line of a run that a signal stopped.
pub(crate) fn interrupted(kept_bytes: u64) -> String {
    if kept_bytes == 0 {
        return "interrupted: 0 bytes kept; the same command starts anew".to_owned();
    }
    let command = again::command()
        .map_or_else(|| " the same command".to_owned(), |command| format!(":\n  {command}"));
    format!("interrupted: {} kept; continue with{command}", size(kept_bytes))
}

/// The lines of `--dry-run`.
pub(crate) fn planned(plan: &Plan) -> Vec<String> {
    let total = plan.total_bytes.map_or_else(
        || "unknown".to_owned(),
        |bytes| format!("{} ({})", plural(bytes, "byte", "bytes"), size(bytes)),
    );
    let ranges = if plan.ranges { "yes" } else { "no" };
    let mut lines = vec![
        format!("url          {}", escape(&plan.url)),
        format!("output       {}", escape(&plan.output.to_string_lossy())),
        format!("size         {total}"),
        format!("ranges       {ranges}"),
        format!("validator    {}", validator_word(plan.validator)),
        format!("connections  {}", plan.connections),
    ];
    if plan.ranges {
        lines.push(format!("segments     {}", size(plan.segment_size_bytes)));
    }
    if plan.resumable_bytes > 0 {
        lines.push(format!("resumable    {}", size(plan.resumable_bytes)));
    }
    lines
}

/// The stable word for a validator.
pub(crate) fn validator_word(validator: ValidatorKind) -> &'static str {
    match validator {
        ValidatorKind::StrongEtag => "strong-etag",
        ValidatorKind::WeakEtag => "weak-etag",
        ValidatorKind::LastModified => "last-modified",
        _ => "none",
    }
}

/// The last component of a path, fit for a terminal.
pub(crate) fn file_name(path: &Path) -> String {
    escape(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

fn plan_line(
    name: &str,
    total_bytes: Option<u64>,
    ranges: bool,
    connections: usize,
    segment_size_bytes: u64,
    resumed_bytes: u64,
) -> String {
    let total = total_bytes.map_or_else(|| "size unknown".to_owned(), size);
    let connections = plural(connections as u64, "connection", "connections");
    let segments = if ranges {
        format!("{} segments", size(segment_size_bytes))
    } else {
        "one stream".to_owned()
    };
    let resumed = if resumed_bytes > 0 {
        format!(", {} already here", size(resumed_bytes))
    } else {
        String::new()
    };
    format!("{name}: {total}, {connections}, {segments}{resumed}")
}

/// What the summary line is made of.
struct Facts<'a> {
    name: &'a str,
    bytes: u64,
    resumed_bytes: u64,
    retries: u32,
    elapsed_seconds: f64,
}

/// Why it was not faster, which is why there were not more connections.
fn limited_by_line(limited_by: LimitedBy) -> String {
    match limited_by {
        LimitedBy::Connection { bytes_per_second } => {
            format!("speed: the server gives about {} a connection", rate(bytes_per_second as f64))
        }
        LimitedBy::Link { bytes_per_second } => {
            format!("speed: the link is full at about {}", rate(bytes_per_second as f64))
        }
        LimitedBy::Server { connections } => {
            let connections = plural(connections as u64, "connection", "connections");
            format!("speed: the server limits the rate: it takes {connections}, and refuses more")
        }
        LimitedBy::Disk => "speed: the disk is the limit".to_owned(),
        LimitedBy::SpeedLimit => "speed: the rate limit that you set".to_owned(),
        _ => format!("speed: limited by the {}", limited_by.as_str()),
    }
}

fn summary_line(facts: &Facts<'_>) -> String {
    let fetched = facts.bytes.saturating_sub(facts.resumed_bytes);
    // A file of no time at all has no speed worth telling.
    let mean = rate(fetched as f64 / facts.elapsed_seconds.max(1e-3));
    let elapsed = duration(std::time::Duration::from_secs_f64(facts.elapsed_seconds.max(0.0)));
    let retries = plural(facts.retries.into(), "retry", "retries");
    let resumed = if facts.resumed_bytes > 0 {
        format!(", {} resumed", size(facts.resumed_bytes))
    } else {
        String::new()
    };
    format!(
        "{}: complete, {} in {elapsed}, {mean}, {retries}{resumed}",
        facts.name,
        size(facts.bytes)
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn plan_is_one_line_with_what_matters() {
        assert_eq!(
            plan_line("film.mp4", Some(300 << 20), true, 8, 1 << 20, 120 << 20),
            "film.mp4: 300 MiB, 8 connections, 1 MiB segments, 120 MiB already here"
        );
        assert_eq!(
            plan_line("page", None, false, 1, 1 << 20, 0),
            "page: size unknown, 1 connection, one stream"
        );
    }

    #[test]
    fn summary_counts_only_this_runs_bytes_for_the_speed() {
        let facts = Facts {
            name: "film.mp4",
            bytes: 300 << 20,
            resumed_bytes: 100 << 20,
            retries: 1,
            elapsed_seconds: 4.0,
        };
        assert_eq!(
            summary_line(&facts),
            "film.mp4: complete, 300 MiB in 4.0 s, 50 MiB/s, 1 retry, 100 MiB resumed"
        );
    }

    #[test]
    fn failure_has_cause_hint_and_the_partials_fate() {
        let mut failed = Failure::local("cannot write\x1b[2J").hint("free some space");
        failed.resumable = true;
        assert_eq!(
            failure(Palette::PLAIN, "a: ", &failed),
            [
                "error: a: cannot write\\u{1b}[2J",
                "hint: free some space",
                "hint: the partial is kept: run the same command again to continue",
            ]
        );
    }

    #[test]
    fn notes_and_retries_name_the_download_only_among_several() {
        let retry =
            Event::Retry { reason: "reset".to_owned(), attempt: 2, wait: Duration::from_secs(2) };
        let one = Lines::new(false, Detail::Usual, Palette::PLAIN);
        one.begin(1, "http://h/a");
        assert_eq!(one.event(1, &retry), ["retry: reset; attempt 2 in 2.0 s"]);
        let two = Lines::new(true, Detail::Usual, Palette::PLAIN);
        two.begin(2, "http://h/b?sig=hunter2");
        assert_eq!(two.event(2, &retry), ["retry: http://h/b?…: reset; attempt 2 in 2.0 s"]);
        two.set_name(2, Name::File("b".to_owned()));
        assert_eq!(two.event(2, &retry), ["retry: b: reset; attempt 2 in 2.0 s"]);
        assert_eq!(two.note(0, "x"), "note: x");
    }

    #[test]
    fn interruption_says_what_is_kept() {
        assert!(interrupted(1024).starts_with("interrupted: 1 KiB kept; continue"));
        assert!(interrupted(0).starts_with("interrupted: 0 bytes kept"));
    }
}

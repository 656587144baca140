//! The sentences of a run, shared by the bar and the plain view.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_engine::{
    Event, LimitedBy, NoticeCode, Plan, Started, Summary, ValidatorKind, redact_url,
};

use super::{Ended, Palette, again, escape};
use crate::exit::{self, Failure};
use crate::units::{duration, plural, rate, size};

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detail {
    /// Only what differs from what was asked for.
    Less,
    /// The plan and the summary as well.
    Usual,
    /// Also where bytes come from, how they are stored, and how many requests were made.
    More,
}

/// Turns events into lines, with the download's name if there are several.
#[derive(Debug)]
pub(crate) struct Lines {
    palette: Palette,
    detail: Detail,
    several: bool,
    /// The names of the running downloads.
    names: Mutex<HashMap<usize, Name>>,
    /// The failures that are reported at the end, each with the download's name; `None` if each is
    /// reported when it happens.
    failures: Mutex<Option<Vec<(String, Failure)>>>,
}

/// How many failures are kept for the end. Further ones are reported when they happen.
const MAX_FAILURES: usize = 1000;

/// The name of a download.
#[derive(Debug)]
enum Name {
    /// Its URL, before there is a file. It is made fit for display only when needed, because few of
    /// the thousands in a list are ever mentioned.
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
        Self { palette, detail, several, names: Mutex::default(), failures: Mutex::default() }
    }

    /// A download of this URL begins.
    pub(crate) fn begin(&self, id: usize, url: &str) {
        self.set_name(id, Name::Url(url.to_owned()));
    }

    /// The download makes this file.
    pub(crate) fn named(&self, id: usize, output: &Path) {
        self.set_name(id, Name::File(file_name(output)));
    }

    /// The download has ended and is not mentioned again.
    pub(crate) fn end(&self, id: usize) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    fn set_name(&self, id: usize, name: Name) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(id, name);
    }

    /// The name of a running download.
    pub(crate) fn name(&self, id: usize) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&id).map_or_else(|| "haul".to_owned(), Name::shown)
    }

    /// The lines for an event; most events have one.
    pub(crate) fn event(&self, id: usize, event: &Event) -> Vec<String> {
        match event {
            Event::Started(started) => self.started(id, started),
            Event::Retry { reason, attempt, wait } => {
                let word = self.palette.note("retry:");
                let (prefix, reason) = (self.prefix(id), escape(reason));
                vec![format!("{word} {prefix}{reason}; attempt {attempt} in {}", duration(*wait))]
            }
            Event::Notice(notice) if notice.code == NoticeCode::Address => match self.detail {
                Detail::More => vec![self.note(id, &notice.message)],
                Detail::Less | Detail::Usual => Vec::new(),
            },
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
        format!("{} {}{}", self.palette.note("note:"), self.prefix(id), escape(text))
    }

    /// From now on, [`Self::ended`] reports the failures of downloads, once each.
    pub(crate) fn keep_failures(&self) {
        self.failures().get_or_insert_default();
    }

    fn failures(&self) -> MutexGuard<'_, Option<Vec<(String, Failure)>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines for a failure; none if it is kept for the end.
    pub(crate) fn failure(&self, id: usize, failed: &Failure) -> Vec<String> {
        // Most causes name the download themselves.
        let named = failed.message.contains(&self.name(id));
        let prefix = if named { String::new() } else { self.prefix(id) };
        // Failures of the run itself belong to no download that is counted.
        if let Some(kept) = self.failures().as_mut().filter(|kept| kept.len() < MAX_FAILURES)
            && id > 0
        {
            kept.push((prefix, failed.clone()));
            return Vec::new();
        }
        failure(self.palette, &prefix, failed)
    }

    /// Whether there are several downloads to be told apart.
    pub(crate) fn several(&self) -> bool {
        self.several
    }

    /// Whether more is printed than usual.
    pub(crate) fn verbose(&self) -> bool {
        self.detail == Detail::More
    }

    /// The last lines of a run of several downloads: the totals, and the failures. A hint that
    /// several failures share is printed with the first.
    pub(crate) fn ended(&self, ended: &Ended) -> Vec<String> {
        let kept = self.failures().take().unwrap_or_default();
        let all = ended.downloaded + ended.skipped + ended.failed + ended.stopped + ended.waiting;
        if self.detail == Detail::Less || all < 2 {
            let told = kept.iter().map(|(prefix, failed)| failure(self.palette, prefix, failed));
            return told.flatten().collect();
        }
        let downloaded = format!("{} of {all} downloaded", ended.downloaded);
        let bytes = size(ended.bytes);
        let mut line = if ended.downloaded == all {
            format!("{}, {bytes} in {}", self.palette.good(&downloaded), duration(ended.elapsed))
        } else {
            format!("{downloaded}, {bytes}")
        };
        for (count, word) in
            [(ended.skipped, "skipped"), (ended.stopped, "stopped"), (ended.waiting, "not begun")]
        {
            if count > 0 {
                line += &format!(", {count} {word}");
            }
        }
        let failures = kept.len() as u64;
        if ended.failed > 0 {
            let failed = format!("{} failed", ended.failed);
            let colon = if failures > 0 { ":" } else { "" };
            line += &format!(", {}{colon}", self.palette.bad(&failed));
        }
        let mut lines = vec![line];
        let mut told = HashSet::new();
        for (prefix, failed) in &kept {
            lines.push(format!("  {prefix}{}", escape(&failed.message)));
            let hints = hints(self.palette, failed).into_iter();
            lines.extend(
                hints.filter(|hint| told.insert(hint.clone())).map(|hint| format!("    {hint}")),
            );
        }
        if failures > 0 && ended.failed > failures {
            lines.push(format!("  and {} more, listed above", ended.failed - failures));
        }
        lines
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
        let mut lines = Vec::from_iter(plan_line(&name, started));
        if self.detail == Detail::More {
            let validator = validator_word(started.validator);
            lines.push(format!("  from {}", escape(&started.url)));
            lines.push(format!("  to {}", escape(&started.output.to_string_lossy())));
            if started.ranges {
                lines.push(format!("  segments of {}", size(started.segment_size_bytes)));
            }
            lines.push(format!("  validator {validator}, {}", storage_words(started)));
        }
        if self.detail == Detail::Less {
            lines.clear();
        }
        self.set_name(id, Name::File(name));
        lines
    }

    fn completed(&self, summary: &Summary) -> Vec<String> {
        let place = place(&summary.output);
        if summary.unchanged {
            return vec![format!("{place} is already complete ({})", size(summary.bytes))];
        }
        let mut lines = vec![summary_line(
            self.palette,
            &Facts {
                place: &place,
                bytes: summary.bytes,
                resumed_bytes: summary.resumed_bytes,
                retries: summary.retries,
                elapsed: summary.elapsed,
            },
        )];
        if let Some((algorithm, digest)) = &summary.verified {
            lines.push(format!("  {algorithm} {} is as asked for", hex(digest)));
        }
        if let Some(limited_by) = summary.limited_by
            && (!self.several || self.detail == Detail::More)
        {
            lines.push(format!("  {}", limited_by_line(limited_by)));
        }
        if self.detail == Detail::More
            && let Some(hash) = summary.blake3_hex()
        {
            lines.push(format!("  blake3 {hash}"));
        }
        if self.detail == Detail::More {
            let requests = plural(summary.requests, "request", "requests");
            let connections = plural(summary.connections as u64, "connection", "connections");
            let fetched = size(summary.fetched_bytes);
            let first = summary.time_to_first_byte.map_or_else(String::new, |time| {
                format!(", first byte after {:.0} ms", time.as_secs_f64() * 1e3)
            });
            lines.push(format!("  {fetched} fetched in {requests} on {connections}{first}"));
            lines.push(format!("  {} through the mapped file", size(summary.mapped_bytes)));
        }
        lines
    }
}

/// The lines that describe a failure: the cause, the next step, and what became of the partial.
pub(crate) fn failure(palette: Palette, prefix: &str, failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("{} {prefix}{}", palette.bad("error:"), escape(&failure.message))];
    lines.extend(hints(palette, failure));
    lines
}

fn hints(palette: Palette, failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    let hint = palette.aside("hint:");
    if let Some(text) = &failure.hint {
        lines.push(format!("{hint} {}", escape(text)));
    }
    if failure.resumable {
        let next = match failure.exit {
            // The same command alone would be refused again.
            exit::TLS | exit::DENIED => "once that is settled, the download continues",
            _ => "run the same command again to continue",
        };
        lines.push(format!("{hint} the partial is kept: {next}"));
    }
    lines
}

/// The last line of a run that a signal stopped.
pub(crate) fn interrupted(kept_bytes: u64) -> String {
    if kept_bytes == 0 {
        return "interrupted: nothing was kept; the same command starts over".to_owned();
    }
    let command = again::command()
        .map_or_else(|| " the same command".to_owned(), |command| format!(":\n  {command}"));
    format!("interrupted: {} kept; continue with{command}", size(kept_bytes))
}

/// The lines of `--dry-run`.
pub(crate) fn planned(plan: &Plan, with_head: bool) -> Vec<String> {
    let total = plan.total_bytes.map_or_else(
        || "unknown".to_owned(),
        |bytes| format!("{} ({})", plural(bytes, "byte", "bytes"), size(bytes)),
    );
    let ranges = if plan.ranges { "yes" } else { "no" };
    let complete = if plan.unchanged { ", already complete" } else { "" };
    let mut lines = if with_head { head(plan) } else { Vec::new() };
    if with_head {
        lines.push(String::new());
    }
    lines.extend([
        format!("url          {}", escape(&plan.url)),
        format!("output       {}{complete}", escape(&plan.output.to_string_lossy())),
        format!("size         {total}"),
        format!("ranges       {ranges}"),
        format!("validator    {}", validator_word(plan.validator)),
        format!("connections  {}", plan.connections),
    ]);
    if plan.ranges {
        lines.push(format!("segments     {}", size(plan.segment_size_bytes)));
    }
    if plan.resumable_bytes > 0 {
        lines.push(format!("resumable    {}", size(plan.resumable_bytes)));
    }
    lines
}

/// The head of the response: its status, then its fields. Fields that may contain a session or a
/// signed URL are hidden.
pub(crate) fn head(plan: &Plan) -> Vec<String> {
    let status = http::StatusCode::from_u16(plan.status).ok();
    let words = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
    let status = format!("HTTP {} {words}", plan.status);
    let field = |(name, value): &(String, String)| {
        let is_url = value.contains("://") && value.contains(['?', '@']);
        let is_secret = is_url || name.starts_with("set-cookie");
        format!("{}: {}", escape(name), if is_secret { "…".to_owned() } else { escape(value) })
    };
    [status.trim_end().to_owned()].into_iter().chain(plan.headers.iter().map(field)).collect()
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

/// The last component of a path, made safe for a terminal.
pub(crate) fn file_name(path: &Path) -> String {
    escape(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// A path as a user would type it, made safe for a terminal.
fn place(path: &Path) -> String {
    escape(&path.strip_prefix(".").unwrap_or(path).to_string_lossy())
}

/// The line that announces a download; none if a note has already said that the size is unknown.
fn plan_line(name: &str, started: &Started) -> Option<String> {
    let total = size(started.total_bytes?);
    let resumed = match started.resumed_bytes {
        0 => String::new(),
        bytes => format!(", {} already here", size(bytes)),
    };
    Some(format!("{name}: {total}{resumed}"))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Which storage is used, and why it is not the mapped file.
fn storage_words(started: &Started) -> String {
    let unmapped = started.unmapped.as_ref();
    let why = unmapped.map_or_else(String::new, |why| format!(", not mapped: {why}"));
    format!("storage {}{why}", started.storage)
}

/// The facts of the summary line.
struct Facts<'a> {
    place: &'a str,
    bytes: u64,
    resumed_bytes: u64,
    retries: u32,
    elapsed: Duration,
}

/// Why the download was not faster, which is also why there were no more connections.
fn limited_by_line(limited_by: LimitedBy) -> String {
    match limited_by {
        LimitedBy::Connection { bytes_per_second } => {
            format!("speed: the server gives about {} a connection", rate(bytes_per_second as f64))
        }
        LimitedBy::Link { bytes_per_second } => {
            let rate = rate(bytes_per_second as f64);
            format!(
                "speed: more connections bring no more than about {rate}: the link is full, or \
                 the server gives no more"
            )
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

fn summary_line(palette: Palette, facts: &Facts<'_>) -> String {
    let fetched = facts.bytes.saturating_sub(facts.resumed_bytes);
    // A download that took no time has no speed worth printing.
    let mean = rate(fetched as f64 / facts.elapsed.as_secs_f64().max(1e-3));
    let mut line = format!(
        "{}: {}, {} in {}, {mean}",
        facts.place,
        palette.good("complete"),
        size(facts.bytes),
        duration(facts.elapsed)
    );
    if facts.retries > 0 {
        line += &format!(", {}", plural(facts.retries.into(), "retry", "retries"));
    }
    if facts.resumed_bytes > 0 {
        line += &format!(", {} resumed", size(facts.resumed_bytes));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_counts_only_this_runs_bytes_and_leaves_out_what_was_not() {
        let mut facts = Facts {
            place: "films/film.mp4",
            bytes: 300 << 20,
            resumed_bytes: 100 << 20,
            retries: 1,
            elapsed: Duration::from_secs(4),
        };
        assert_eq!(
            summary_line(Palette::PLAIN, &facts),
            "films/film.mp4: complete, 300 MiB in 4.0 s, 50 MiB/s, 1 retry, 100 MiB resumed"
        );
        (facts.retries, facts.resumed_bytes) = (0, 0);
        assert_eq!(
            summary_line(Palette::COLOUR, &facts),
            "films/film.mp4: \x1b[1;32mcomplete\x1b[0m, 300 MiB in 4.0 s, 75 MiB/s"
        );
        assert_eq!(place(Path::new("./film.mp4")), "film.mp4");
        assert_eq!(place(Path::new("/tmp/film.mp4")), "/tmp/film.mp4");
    }

    #[test]
    fn several_downloads_end_with_a_count_and_a_line_for_each_failure() {
        let lines = Lines::new(true, Detail::Usual, Palette::PLAIN);
        let fail = |lines: &Lines| {
            let of = |id, url: &str, message: &str| {
                lines.begin(id, url);
                lines.failure(id, &Failure::local(message).hint("check it"))
            };
            let mut told = of(1, "http://h/a?sig=x", "cannot download http://h/a?…: 404");
            told.extend(of(2, "http://h/b", "no such host"));
            told
        };
        let mut ended = Ended { downloaded: 2, failed: 2, bytes: 879 << 10, ..Ended::default() };
        assert_eq!(fail(&lines).len(), 4, "at once where nothing is told at the end");
        assert_eq!(lines.ended(&ended), ["2 of 4 downloaded, 879 KiB, 2 failed"]);
        for failed in [2, 5] {
            ended.failed = failed;
            lines.keep_failures();
            assert!(fail(&lines).is_empty(), "and else once");
            let mut told = vec![
                "  cannot download http://h/a?…: 404",
                "    hint: check it",
                "  http://h/b: no such host",
            ];
            told.extend((failed > 2).then_some("  and 3 more, listed above"));
            let found = lines.ended(&ended);
            assert!(found[0].ends_with(&format!("downloaded, 879 KiB, {failed} failed:")));
            assert_eq!(found[1..], told);
        }
        // A download from a list has nothing to count here.
        lines.keep_failures();
        fail(&lines);
        let one = Ended { failed: 1, ..Ended::default() };
        assert_eq!(lines.ended(&one)[0], "error: cannot download http://h/a?…: 404");
        let ended = Ended {
            downloaded: 3,
            bytes: 879 << 10,
            elapsed: Duration::from_secs(2),
            ..Ended::default()
        };
        assert_eq!(lines.ended(&ended), ["3 of 3 downloaded, 879 KiB in 2.0 s"]);
        let ended = Ended { skipped: 1, stopped: 2, waiting: 7, ..Ended::default() };
        assert_eq!(
            lines.ended(&ended),
            ["0 of 10 downloaded, 0 B, 1 skipped, 2 stopped, 7 not begun"]
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
        assert!(interrupted(0).starts_with("interrupted: nothing was kept"));
    }
}

//! One WebVTT file of many: segments each have a header of their own, which says what their times
//! are relative to, and repeat a cue that lasts beyond their end.

use std::collections::HashSet;

/// Timestamps of MPEG count so many ticks a millisecond, and start over after 33 bits.
const TICKS_A_MILLISECOND: i64 = 90;
const TIMESTAMPS: u64 = 1 << 33;

/// The segments of `text`, which stand one after the other, as one file. Its times are relative to
/// the first picture, whose timestamp is `first`, where the segments say what theirs are relative to
/// (RFC 8216 section 3.5); otherwise they are left as they are.
pub(crate) fn merged(text: &str, first: Option<u64>) -> String {
    let text = text.replace("\r\n", "\n").replace(['\r'], "\n").replace('\u{feff}', "");
    let mut out = "WEBVTT\n".to_owned();
    let mut seen = HashSet::new();
    let mut shift_ms = 0;
    for block in text.split("\n\n").map(|block| block.trim_matches('\n')) {
        // A header may stand right after the last cue of the segment before.
        let (before, header) = match block.find("WEBVTT") {
            Some(at) if at == 0 || block[..at].ends_with('\n') => block.split_at(at),
            _ => (block, ""),
        };
        let cue = before.trim_matches('\n');
        let is_style = cue.starts_with("STYLE") || cue.starts_with("REGION");
        let is_cue = cue.contains("-->") || is_style;
        if !cue.is_empty()
            && (is_cue || header.is_empty())
            && let Some(cue) = shifted(cue, shift_ms)
            && seen.insert(cue.clone())
        {
            out.push('\n');
            out.push_str(&cue);
            out.push('\n');
        }
        if !header.is_empty() {
            shift_ms = first.and_then(|first| shift_of(header, first)).unwrap_or(0);
        }
    }
    out
}

/// By how much the cues after this header are moved, in milliseconds; `None` where it does not say
/// what their times are relative to.
fn shift_of(header: &str, first: u64) -> Option<i64> {
    let map = header.lines().find_map(|line| line.trim().strip_prefix("X-TIMESTAMP-MAP="))?;
    let value = |name| map.split(',').find_map(|part| part.trim().strip_prefix(name));
    let ticks: u64 = value("MPEGTS:")?.trim().parse().ok()?;
    let local_ms = milliseconds(value("LOCAL:")?)?;
    // Of the two ways around, the shorter: a difference of 13 hours is none between pieces of a film.
    let ahead = (ticks % TIMESTAMPS + TIMESTAMPS - first % TIMESTAMPS) % TIMESTAMPS;
    let ahead = i64::try_from(ahead).ok()?;
    let all = i64::try_from(TIMESTAMPS).ok()?;
    let ticks = if ahead > all / 2 { ahead - all } else { ahead };
    (ticks + TICKS_A_MILLISECOND / 2).div_euclid(TICKS_A_MILLISECOND).checked_sub(local_ms)
}

/// A cue moved by so many milliseconds; `None` where it ends before the film begins.
fn shifted(cue: &str, shift_ms: i64) -> Option<String> {
    if shift_ms == 0 {
        return Some(cue.to_owned());
    }
    let mut lines = Vec::new();
    for line in cue.lines() {
        let times = line.split_once("-->").and_then(|(start, rest)| {
            let rest = rest.trim_start();
            let (end, settings) = rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()));
            Some((milliseconds(start)?, milliseconds(end)?, settings))
        });
        let Some((start, end, settings)) = times else {
            lines.push(line.to_owned());
            continue;
        };
        let (start, end) = (start.saturating_add(shift_ms).max(0), end.saturating_add(shift_ms));
        if end <= 0 {
            return None;
        }
        lines.push(format!("{} --> {}{settings}", shown(start), shown(end)));
    }
    Some(lines.join("\n"))
}

/// The time `[hours:]minutes:seconds.milliseconds`.
fn milliseconds(text: &str) -> Option<i64> {
    let (clock, thousandths) = text.trim().split_once('.')?;
    let mut seconds: i64 = 0;
    for part in clock.split(':') {
        seconds = seconds.checked_mul(60)?.checked_add(i64::from(part.parse::<u32>().ok()?))?;
    }
    let is_whole = thousandths.len() == 3;
    let thousandths = thousandths.parse::<u16>().ok().filter(|_| is_whole)?;
    seconds.checked_mul(1000)?.checked_add(i64::from(thousandths))
}

fn shown(milliseconds: i64) -> String {
    let (seconds, thousandths) = (milliseconds / 1000, milliseconds % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    format!("{:02}:{:02}:{seconds:02}.{thousandths:03}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_become_one_file_with_one_header() {
        let text = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n1\n00:00.000 --> 00:02.000\n\
                    one\n\nWEBVTT\r\n\r\n1\n00:00.000 --> 00:02.000\none\n\n00:02.000 --> 00:03.000\n\
                    two\nWEBVTT\n\n00:05.000 --> 00:06.000\nthree\n";
        assert_eq!(
            merged(text, Some(0)),
            "WEBVTT\n\n1\n00:00.000 --> 00:02.000\none\n\n00:02.000 --> 00:03.000\ntwo\n\n\
             00:05.000 --> 00:06.000\nthree\n"
        );
    }

    #[test]
    fn times_become_relative_to_the_first_picture() {
        // Each segment counts from its own beginning; the film begins at 10 s.
        let text = "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n\
                    00:01.000 --> 00:02.500 align:start\none\n\n\
                    WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:1440000,LOCAL:00:00:05.000\n\n\
                    a\n00:05.250 --> 01:00:00.000\ntwo --> too\n";
        let wanted = "WEBVTT\n\n00:01.000 --> 00:02.500 align:start\none\n\n\
                      a\n00:00:06.250 --> 01:00:01.000\ntwo --> too\n";
        assert_eq!(merged(text, Some(900_000)), wanted);
        assert!(merged(text, None).contains("\n00:05.250 --> 01:00:00.000\n"));
        // What is over when the film begins is left out, and what is not begins with it.
        let late = merged(text, Some(900_000 + 2 * 90_000));
        assert!(late.contains("\n00:00:00.000 --> 00:00:00.500 align:start\n"), "{late}");
        assert!(!merged(text, Some(900_000 + 3 * 90_000)).contains("one"));
    }

    #[test]
    fn timestamps_start_over_after_33_bits() {
        let first = TIMESTAMPS - 90_000;
        let header = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:90000,LOCAL:00:00.000";
        assert_eq!(shift_of(header, first), Some(2000));
        let header = format!("X-TIMESTAMP-MAP=MPEGTS:{first},LOCAL:00:00.000");
        assert_eq!(shift_of(&header, 90_000), Some(-2000));
        for none in ["WEBVTT", "X-TIMESTAMP-MAP=MPEGTS:x,LOCAL:0", "X-TIMESTAMP-MAP=MPEGTS:5"] {
            assert_eq!(shift_of(none, 0), None, "{none}");
        }
    }
}

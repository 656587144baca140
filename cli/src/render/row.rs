//! The line of numbers of one download. Its columns line up with those of the other downloads of a
//! run.

use std::time::Duration;

use haul_engine::Progress;

use crate::units::{duration, eta, rate, size};

/// A shorter silence is an ordinary pause of the network.
const WORTH_A_WORD: Duration = Duration::from_secs(3);

/// A speed measured for less than this is noise.
const TELLING: Duration = Duration::from_secs(1);

/// This much of a name is worth more than the next number.
const NAME_COLUMNS: usize = 12;

/// The words that replace speed and time left while nothing arrives: a long and a short form.
pub(super) fn standstill(progress: &Progress) -> Option<[String; 2]> {
    let word = |word: &str| Some([word.to_owned(), word.to_owned()]);
    if progress.syncing {
        return word("syncing");
    }
    if progress.paused {
        return word("paused");
    }
    if progress.queued {
        return word("waiting for its turn");
    }
    if progress.silent_for < WORTH_A_WORD {
        return None;
    }
    let short = format!("no data for {}", whole(progress.silent_for));
    let long = match progress.gives_up_after {
        Some(after) => format!("{short} (gives up at {})", whole(after)),
        None => short.clone(),
    };
    Some([long, short])
}

/// A time for which tenths of a second say nothing.
pub(super) fn whole(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 1..60 => format!("{seconds} s"),
        _ => duration(time),
    }
}

/// The whole percentage that is done, if the size is known.
pub(super) fn percent(progress: &Progress) -> Option<u64> {
    let total = progress.total_bytes?;
    if total == 0 {
        return Some(100);
    }
    // The last percent is not shown before it is reached.
    u64::try_from(u128::from(progress.bytes.min(total)) * 100 / u128::from(total)).ok()
}

/// The speed, once it is meaningful.
pub(super) fn speed(progress: &Progress) -> Option<f64> {
    let tells = progress.measured_for >= TELLING && progress.bytes_per_second >= 1.0;
    tells.then_some(progress.bytes_per_second)
}

/// The line in at most `width` columns, as full as they allow; the last numbers are dropped first.
/// The column of names is `names` wide, the width of the longest.
pub(super) fn row(
    name: &str,
    names: usize,
    several: bool,
    progress: &Progress,
    width: usize,
) -> String {
    let texts = texts(progress, several);
    let wanted = names.min(NAME_COLUMNS);
    // Alone, the speed is worth more than the name, which was printed at the start.
    let worth_less = if several { texts.len() } else { texts.len() - 1 };
    let with_name = texts.iter().take(worth_less).find(|text| columns(text) + 2 + wanted <= width);
    if let Some(text) = with_name {
        let room = (width - columns(text) - 2).min(names);
        let name = shorten(name, room);
        let padding = " ".repeat(room.saturating_sub(columns(&name)));
        return format!("{name}{padding}  {text}").trim_end().to_owned();
    }
    let alone = texts.iter().map(|text| text.trim()).find(|text| columns(text) <= width);
    alone.map_or_else(
        || shorten(texts.last().map_or("", |text| text.trim()), width),
        |text| text.trim_end().to_owned(),
    )
}

/// The candidates for the text after the name, the fullest first. Each number keeps its place
/// whatever its value, so that nothing jumps and lines below one another form a table.
fn texts(progress: &Progress, several: bool) -> Vec<String> {
    let done = size(progress.bytes);
    let (percent, bytes) = match (percent(progress), progress.total_bytes) {
        (Some(percent), Some(total)) => {
            (format!("{:>4}  ", format!("{percent}%")), format!("{done:>8} / {:>8}", size(total)))
        }
        // The columns that other lines use are kept free.
        _ if several => (" ".repeat(6), format!("{done:>8}{:11}", "")),
        _ => (String::new(), format!("{done:>8}")),
    };
    let known = progress.total_bytes.is_some();
    if let Some([long, short]) = standstill(progress) {
        return vec![
            format!("{percent}{bytes}  {long}"),
            format!("{percent}{done:>8}  {long}"),
            format!("{percent}{long}"),
            format!("{percent}{short}"),
            short,
        ];
    }
    let speed = speed(progress).map_or_else(|| "-".to_owned(), rate);
    let left = progress.eta.map_or_else(|| "-".to_owned(), eta);
    let (labelled, left) = match known {
        true => (format!("  ETA {left:>6}"), format!("  {left:>6}")),
        false if several => (" ".repeat(12), " ".repeat(8)),
        false => (String::new(), String::new()),
    };
    // Where there is no percentage, the bytes show the progress.
    let few = if known { percent.clone() } else { format!("{done:>8}  ") };
    vec![
        format!("{percent}{bytes}  {speed:>10}{labelled}  {:>2} conn", progress.connections),
        format!("{percent}{bytes}  {speed:>10}{labelled}"),
        format!("{percent}{bytes}  {speed:>10}{left}"),
        format!("{percent}{done:>8}  {speed:>10}{left}"),
        format!("{few}{speed:>10}{left}"),
        format!("{few}{speed:>10}"),
        few.trim_end().to_owned(),
    ]
}

/// How many columns a text takes, or slightly more: every character that may be wide counts as
/// wide, so that a line never wraps.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(char_columns).sum()
}

fn char_columns(c: char) -> usize {
    // The map's own blocks are U+2500 to U+25FF, and the ellipsis is U+2026.
    if c < '\u{1100}' || ('\u{2010}'..='\u{25ff}').contains(&c) { 1 } else { 2 }
}

/// Breaks a text into lines of at most `width` columns, between words but not between a number and
/// its unit. A longer word has a line to itself.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match words.last_mut() {
            Some(number) if number.ends_with(|c: char| c.is_ascii_digit()) => {
                *number += &format!(" {word}");
            }
            _ => words.push(word.to_owned()),
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(&word) <= width => {
                *line += &format!(" {word}");
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Shortens a text to at most `width` columns; `…` shows what was cut out of its middle.
pub(super) fn shorten(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(1);
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| -> Vec<char> {
        let mut used = 0;
        chars
            .take_while(|&c| {
                used += char_columns(c);
                used <= room
            })
            .collect()
    };
    let head = take(&mut text.chars(), room.div_ceil(2));
    let mut tail = take(&mut text.chars().rev(), room / 2);
    tail.reverse();
    if width == 0 {
        return String::new();
    }
    head.into_iter().chain(['…']).chain(tail).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn progress() -> Progress {
        let mut progress = Progress::default();
        progress.bytes = 102 << 20;
        progress.total_bytes = Some(300 << 20);
        progress.bytes_per_second = 45.3 * f64::from(1 << 20);
        progress.measured_for = Duration::from_secs(2);
        progress.eta = Some(Duration::from_secs(185));
        progress.connections = 16;
        progress
    }

    fn of(progress: &Progress, width: usize) -> String {
        row("film.mp4", 8, false, progress, width)
    }

    #[test]
    fn narrow_lines_lose_the_connections_first_and_the_percentage_last() {
        for (width, line) in [
            (79, "film.mp4   34%   102 MiB /  300 MiB  45.3 MiB/s  ETA  3m05s  16 conn"),
            (59, "film.mp4   34%   102 MiB /  300 MiB  45.3 MiB/s  ETA  3m05s"),
            (39, "film.mp4   34%  45.3 MiB/s   3m05s"),
            (20, "34%  45.3 MiB/s"),
            (4, "34%"),
        ] {
            assert_eq!(of(&progress(), width), line);
        }
    }

    #[test]
    fn silence_stands_in_place_of_speed_and_time() {
        let mut silent = progress();
        silent.silent_for = Duration::from_millis(12_400);
        silent.gives_up_after = Some(Duration::from_secs(30));
        assert_eq!(
            of(&silent, 79),
            "film.mp4   34%   102 MiB /  300 MiB  no data for 12 s (gives up at 30 s)"
        );
        assert_eq!(of(&silent, 39), "film.mp4   34%  no data for 12 s");
        silent.gives_up_after = None;
        assert!(of(&silent, 79).ends_with("  no data for 12 s"));
        silent.silent_for = Duration::from_secs(2);
        assert!(of(&silent, 79).contains("45.3 MiB/s"), "a pause is no silence");
    }

    #[test]
    fn there_is_no_speed_before_it_means_something() {
        let mut young = progress();
        young.measured_for = Duration::from_millis(900);
        young.eta = None;
        assert_eq!(
            of(&young, 79),
            "film.mp4   34%   102 MiB /  300 MiB           -  ETA      -  16 conn"
        );
    }

    #[test]
    fn lines_below_one_another_are_a_table() {
        let mut small = progress();
        small.bytes = 1;
        small.total_bytes = Some(1023);
        small.bytes_per_second = 9.0;
        small.eta = Some(Duration::from_secs(3));
        small.connections = 1;
        let mut unknown = small.clone();
        unknown.total_bytes = None;
        unknown.eta = None;
        let of = |name: &str, progress: &Progress, width| row(name, 12, true, progress, width);
        assert_eq!(
            [
                of("film.mp4", &progress(), 79),
                of("a", &small, 79),
                of("a-long-name.bin", &unknown, 79)
            ],
            [
                "film.mp4       34%   102 MiB /  300 MiB  45.3 MiB/s  ETA  3m05s  16 conn",
                "a               0%       1 B /    1 KiB       9 B/s  ETA     3s   1 conn",
                "a-long…e.bin             1 B                  9 B/s               1 conn",
            ]
        );
        assert_eq!(
            of("a-long-name.bin", &unknown, 39),
            "a-long…e.bin       1 B       9 B/s",
            "without a percentage the bytes are worth more"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = "a very long name of a film with 名前 in it ".repeat(4);
        let mut late = progress();
        late.bytes = u64::MAX - 1;
        late.total_bytes = Some(u64::MAX);
        late.eta = Some(Duration::from_secs(863_999));
        let mut syncing = progress();
        syncing.syncing = true;
        let mut silent = progress();
        silent.silent_for = Duration::from_secs(100);
        silent.gives_up_after = Some(Duration::from_secs(300));
        for width in 1..=120 {
            for name in ["f", long.as_str()] {
                for state in [&progress(), &late, &syncing, &silent, &Progress::default()] {
                    for several in [false, true] {
                        let line = row(name, columns(name), several, state, width);
                        assert!(columns(&line) <= width, "{width}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shorten("abcdefghij.mp4", 9), "abcd….mp4");
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abc", 1), "…");
        assert_eq!(shorten("abc", 0), "");
        assert!(columns(&shorten("名前名前名前", 6)) <= 6);
    }

    #[test]
    fn sentences_break_between_words_and_keep_units() {
        let text = "it took 56 s from http://127.0.0.1/demo.bin on";
        assert_eq!(wrap(text, 11), ["it took", "56 s from", "http://127.0.0.1/demo.bin", "on"]);
        assert_eq!(wrap(text, usize::MAX), [text]);
        assert_eq!(wrap("", 20), [""]);
    }
}

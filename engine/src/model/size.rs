//! Sizes in words, for messages: one system of units everywhere.

/// A size for people, in at most 8 columns: `999 B`, `1.5 MiB`, `300 MiB`.
#[must_use]
pub fn size_words(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 and not 1024: a fourth digit would widen the column.
    while value >= 999.5 && unit + 1 < NAMES.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = match (unit, value) {
        (0, _) => 0,
        (_, value) if value < 9.995 => 2,
        (_, value) if value < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text = if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text} {}", NAMES[unit])
}

/// The same, with the number of bytes where every byte matters: `1 MiB (1048577 bytes)`.
#[must_use]
pub fn exact_words(bytes: u64) -> String {
    let words = size_words(bytes);
    // Below the first unit the words are the number of bytes.
    if words.ends_with(" B") { words } else { format!("{words} ({bytes} bytes)") }
}

/// Two sizes that a message says differ: with the numbers of bytes only if rounding would
/// make them look the same.
#[must_use]
pub fn differing(one: u64, other: u64) -> (String, String) {
    let words = (size_words(one), size_words(other));
    if words.0 != words.1 { words } else { (exact_words(one), exact_words(other)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (300 << 20, "300 MiB"),
            (1023 << 20, "1 GiB"),
            (10_240, "10 KiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size_words(bytes), text, "{bytes}");
        }
        for shift in 0..64 {
            assert!(size_words((1_u64 << shift) - 1).len() <= 8, "{shift}");
        }
    }

    #[test]
    fn sizes_that_differ_look_different() {
        let of = |one, other| {
            let (one, other) = differing(one, other);
            format!("{one}, {other}")
        };
        assert_eq!(of(1 << 20, 1 << 21), "1 MiB, 2 MiB");
        assert_eq!(of(998, 999), "998 B, 999 B");
        assert_eq!(of((1 << 20) - 1, 1 << 20), "1 MiB (1048575 bytes), 1 MiB (1048576 bytes)");
    }
}

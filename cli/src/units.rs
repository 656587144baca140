//! Quantities as people write and read them. Everything else counts in bytes, bytes a second and
//! [`Duration`].

use std::time::Duration;

use haul_engine::Connections;
/// A size for people, worded as in the engine's own messages.
pub(crate) use haul_engine::size_words as size;

const KIB: u64 = 1 << 10;

/// Reads a size in bytes: decimal digits with an optional fraction and one of `K`, `M`, `G`, `T`
/// (powers of 1024, as in curl and aria2).
///
/// # Errors
/// The grammar, for a text that does not follow it or does not fit in 64 bits.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    scaled(text).ok_or_else(|| "write digits and K, M or G: 1M, 500k, 1.5G".to_owned())
}

/// Reads a rate in bytes a second, in the grammar of [`parse_size`]. 0 is no limit.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    scaled(text)
        .ok_or_else(|| "write bytes a second as digits and K, M or G: 2M, 500k, 1.5M".to_owned())
}

fn scaled(text: &str) -> Option<u64> {
    let (digits, factor) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], KIB),
        'm' | 'M' => (&text[..text.len() - 1], KIB.pow(2)),
        'g' | 'G' => (&text[..text.len() - 1], KIB.pow(3)),
        't' | 'T' => (&text[..text.len() - 1], KIB.pow(4)),
        _ => (text, 1),
    };
    decimal(digits, factor)
}

/// Reads a time: digits with an optional fraction and `ms`, `s`, `m` or `h`; without a unit,
/// seconds. Zero is refused, because no timeout can be met in it.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let time = time(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "write a time above zero with ms, s, m or h: 15s, 500ms, 2m".to_owned())
}

/// Reads an age, in the grammar of [`parse_duration`] with `d` for days, and zero allowed.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_age(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').map(|digits| decimal(digits, 86_400_000_000_000));
    let time = days.map_or_else(|| time(text), |nanos| nanos.map(Duration::from_nanos));
    time.ok_or_else(|| "write a time with s, m, h or d: 90m, 12h, 7d".to_owned())
}

fn time(text: &str) -> Option<Duration> {
    let (digits, nanos) = if let Some(digits) = text.strip_suffix("ms") {
        (digits, 1_000_000)
    } else if let Some(digits) = text.strip_suffix('s') {
        (digits, 1_000_000_000)
    } else if let Some(digits) = text.strip_suffix('m') {
        (digits, 60_000_000_000)
    } else if let Some(digits) = text.strip_suffix('h') {
        (digits, 3_600_000_000_000)
    } else {
        (text, 1_000_000_000)
    };
    decimal(digits, nanos).map(Duration::from_nanos)
}

/// Reads a count from 1.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("write a whole number, 1 or more".to_owned()),
    }
}

/// Reads a count from 0.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

/// Reads the number of connections, `auto`, or `auto:` with the most that it may come to.
///
/// # Errors
/// The grammar.
pub(crate) fn parse_connections(text: &str) -> Result<Connections, String> {
    const GRAMMAR: &str = "write a whole number, 1 or more, auto, or auto:N with N up to 64";
    let count = |text| parse_count(text).map_err(|_| GRAMMAR.to_owned());
    match text.strip_prefix("auto") {
        Some("") => Ok(Connections::Auto),
        Some(rest) => match count(rest.strip_prefix(':').unwrap_or_default())? {
            most @ ..=64 => Ok(Connections::AutoUpTo(most)),
            _ => Err(GRAMMAR.to_owned()),
        },
        None => count(text).map(Connections::Fixed),
    }
}

/// `digits[.digits]` times `factor`, rounded down; `None` if malformed or too large. Exact where
/// floating point would not be.
fn decimal(text: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits_only(whole) || !digits_only(fraction) || fraction.len() > 15 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let number =
        whole.parse::<u128>().ok()?.checked_mul(scale)?.checked_add(fraction.parse().ok()?)?;
    u64::try_from(number.checked_mul(u128::from(factor))? / scale).ok()
}

/// A speed for people.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    // A cast from f64 saturates and turns NaN into zero.
    format!("{}/s", size(bytes_per_second as u64))
}

/// A time for people: `8 ms`, `0.8 s`, `12 s`, `3m05s`, `2h07m`, `4d03h`.
pub(crate) fn duration(time: Duration) -> String {
    let millis = (time.as_secs_f64() * 1e3).round();
    if millis < 100.0 {
        // Whatever was done took some time.
        let least = if time.is_zero() { 0.0 } else { 1.0 };
        return format!("{} ms", millis.max(least));
    }
    let tenths = (time.as_secs_f64() * 10.0).round();
    if tenths < 100.0 {
        return format!("{:.1} s", tenths / 10.0);
    }
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// An estimate of the time left, short: `5s`, `3m05s`, `9d+`.
pub(crate) fn eta(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}s"),
        864_000.. => "9d+".to_owned(),
        _ => duration(time),
    }
}

/// `count` with the fitting form of a noun.
pub(crate) fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_multiples() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("500k", 512_000),
            ("2M", 2 << 20),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            ("16777215T", 16_777_215 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn malformed_sizes_are_refused_with_the_grammar() {
        for text in [
            "",
            "M",
            "1MB",
            "1MiB",
            "-1",
            "+1",
            "1e3",
            ".5M",
            "1.M",
            "1 M",
            "é",
            "16777216T",
            "0x1",
        ] {
            assert!(parse_size(text).unwrap_err().contains("1.5G"), "{text}");
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_read_with_and_without_unit() {
        for (text, millis) in [
            ("15s", 15_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("30", 30_000),
            ("1.5", 1500),
            ("1h", 3_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "0", "0s", "-1s", "1d", "soon", "1 s", "99999999999999h"] {
            assert!(parse_duration(text).unwrap_err().contains("500ms"), "{text}");
        }
    }

    #[test]
    fn connections_are_a_number_or_auto() {
        assert_eq!(parse_connections("auto"), Ok(Connections::Auto));
        assert_eq!(parse_connections("64"), Ok(Connections::Fixed(64)));
        assert_eq!(parse_connections("auto:64"), Ok(Connections::AutoUpTo(64)));
        for text in ["0", "-1", "", "Auto", "1.5"] {
            assert!(parse_connections(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_written_short() {
        assert_eq!(rate(f64::NAN), "0 B/s");
        assert_eq!(rate(2_097_152.0), "2 MiB/s");
    }

    #[test]
    fn times_are_written_short() {
        for (millis, text) in [
            (0, "0 ms"),
            (8, "8 ms"),
            (99, "99 ms"),
            (100, "0.1 s"),
            (840, "0.8 s"),
            (9_960, "10 s"),
            (59_400, "59 s"),
            (59_900, "1m00s"),
            (185_000, "3m05s"),
            (7_620_000, "2h07m"),
            (356_400_000, "4d03h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text, "{millis}");
        }
        assert_eq!(duration(Duration::from_micros(80)), "1 ms");
        assert_eq!(duration(Duration::from_micros(99_900)), "0.1 s");
        assert_eq!(eta(Duration::from_secs(5)), "5s");
        assert_eq!(eta(Duration::MAX), "9d+");
    }
}

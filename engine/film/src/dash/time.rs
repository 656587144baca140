//! Times of the manifest: XML Schema durations, and ticks of a timescale.

use std::num::NonZeroU32;
use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Packagers round the duration of a period, usually to milliseconds. A remainder after the last
/// whole piece that is shorter than this is a rounding error: no frame is that short.
const TOLERANCE_NANOS: u128 = 2_000_000;

/// Reads an `xs:duration` such as `PT1H2M3.5S`. Years have 365 days and months 30.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    const DATE: [(char, u64); 3] = [('Y', 365 * 86_400), ('M', 30 * 86_400), ('D', 86_400)];
    const TIME: [(char, u64); 3] = [('H', 3_600), ('M', 60), ('S', 1)];
    let (date, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((date, time)) if !time.is_empty() => (date, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    sum(date, &DATE)?.checked_add(sum(time, &TIME)?)
}

/// Adds up numbers that are each followed by a unit. The units come in their order, each at most
/// once.
fn sum(mut text: &str, mut units: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(end);
        let unit = rest.chars().next()?;
        let at = units.iter().position(|&(name, _)| name == unit)?;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if unit == 'S' => (whole, fraction),
            Some(_) => return None,
            None => (number, ""),
        };
        let seconds = whole.parse::<u64>().ok()?.checked_mul(units[at].1)?;
        total = total.checked_add(Duration::new(seconds, nanoseconds(fraction)?))?;
        text = &rest[unit.len_utf8()..];
        units = &units[at + 1..];
    }
    Some(total)
}

/// The digits after a decimal point, cut off after the ninth.
fn nanoseconds(fraction: &str) -> Option<u32> {
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{fraction:0<9}")[..9].parse().ok()
}

/// How long ticks of a timescale last.
pub(super) fn from_ticks(ticks: u64, timescale: NonZeroU32) -> Duration {
    let timescale = u64::from(timescale.get());
    // Less than a second, so the nanoseconds fit.
    let nanos = (ticks % timescale) * 1_000_000_000 / timescale;
    Duration::new(ticks / timescale, u32::try_from(nanos).unwrap_or(0))
}

/// How many pieces of `length` ticks it takes from the tick `from` to the end of a period whose
/// first tick is `origin`.
pub(super) fn pieces_until_end(
    period: Duration,
    origin: u64,
    from: u64,
    length: u64,
    timescale: NonZeroU32,
) -> u128 {
    // In billionths of a tick everything is exact and below 2^128, since a duration has less than
    // 2^94 nanoseconds.
    let timescale = u128::from(timescale.get());
    let scaled = |ticks: u64| u128::from(ticks) * NANOS_PER_SECOND;
    let end = scaled(origin) + period.as_nanos() * timescale;
    let length = scaled(length.max(1));
    let tolerance = (TOLERANCE_NANOS * timescale).min(length / 2);
    end.saturating_sub(scaled(from)).saturating_sub(tolerance).div_ceil(length)
}

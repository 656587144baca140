//! When a signed URL expires, according to its own query.
//!
//! Signatures are told apart by the names of their fields; each belongs to one cloud, and to
//! services that sign like it. Times are seconds since 1970-01-01 00:00 UTC.

use std::time::Duration;

use url::Url;

/// How long before it expires a link is replaced: a lease takes a few seconds.
const MARGIN: Duration = Duration::from_secs(30);
/// A link that lives for a shorter time is replaced when this part of it is left.
const SHARE: u32 = 4;
/// With less left it is used as it is, and a refusal is dealt with when it comes.
const TOO_SHORT: Duration = Duration::from_secs(2);

/// When the URL ceases to be valid; `None` when it does not say.
///
/// It reads `X-Amz-Date` with `X-Amz-Expires` (AWS signature 4), `X-Goog-Date`
/// with `X-Goog-Expires`, `x-oss-date` with `x-oss-expires`, `Expires` (AWS
/// signature 2, CloudFront, OSS: a time), and `se` beside `sig` (Azure).
#[must_use]
pub fn expires_at(url: &Url) -> Option<u64> {
    let field = |name: &str| {
        url.query_pairs().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    for (date, lifetime) in [
        ("X-Amz-Date", "X-Amz-Expires"),
        ("X-Goog-Date", "X-Goog-Expires"),
        ("x-oss-date", "x-oss-expires"),
    ] {
        if let (Some(date), Some(lifetime)) = (field(date), field(lifetime)) {
            return basic_time(&date)?.checked_add(lifetime.parse().ok()?);
        }
    }
    if field("sig").is_some()
        && let Some(end) = field("se")
    {
        return extended_time(&end);
    }
    let end: u64 = field("Expires")?.parse().ok()?;
    // A count of days or versions is no time of this century.
    (end > 1_000_000_000).then_some(end)
}

/// How soon to replace a link that was received at `now_unix` and expires at `end`; `None` for one
/// that cannot be replaced, or that our clock judges wrongly.
#[must_use]
pub fn replace_within(end: u64, now_unix: u64) -> Option<Duration> {
    let left = Duration::from_secs(end.checked_sub(now_unix)?);
    (left > TOO_SHORT).then(|| left - MARGIN.min(left / SHARE))
}

/// `20260131T235959Z`.
fn basic_time(text: &str) -> Option<u64> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    if day.len() != 8 || time.len() != 6 {
        return None;
    }
    let part = |of: &str, from: usize, to: usize| number(of.get(from..to)?);
    let date = (part(day, 0, 4)?, part(day, 4, 6)?, part(day, 6, 8)?);
    seconds(date, (part(time, 0, 2)?, part(time, 2, 4)?, part(time, 4, 6)?))
}

/// `2026-01-31T23:59:59Z`, or with fewer parts (RFC 3339 without an offset).
fn extended_time(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let mut day = day.split('-').map(number);
    let mut time = time.split(['.', ':']).map(number);
    let date = (day.next()??, day.next()??, day.next()??);
    let clock = (time.next()??, time.next()??, time.next().unwrap_or(Some(0))?);
    seconds(date, clock)
}

fn number(digits: &str) -> Option<u64> {
    (!digits.is_empty() && digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())?
}

/// Days are counted in years that begin with March, so that a leap day comes last.
fn seconds((year, month, day): (u64, u64, u64), (hour, min, sec): (u64, u64, u64)) -> Option<u64> {
    let sensible = (1970..=9999).contains(&year) && (1..=12).contains(&month);
    if !sensible || !(1..=31).contains(&day) || hour > 24 || min > 59 || sec > 60 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 1970-01-01 in the same count.
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3_600 + min * 60 + sec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Option<u64> {
        expires_at(&Url::parse(&format!("https://h/o?{query}")).unwrap())
    }

    #[test]
    fn each_signature_is_read() {
        assert_eq!(of("X-Amz-Date=20260101T000000Z&X-Amz-Expires=60"), Some(1_767_225_660));
        assert_eq!(of("x-amz-expires=60&x-amz-date=20240229T120000Z"), Some(1_709_208_060));
        assert_eq!(of("X-Goog-Date=19700101T000001Z&X-Goog-Expires=9"), Some(10));
        assert_eq!(of("x-oss-date=20260101T000000Z&x-oss-expires=1"), Some(1_767_225_601));
        assert_eq!(of("Expires=1767225600&Signature=x&Key-Pair-Id=y"), Some(1_767_225_600));
        assert_eq!(of("se=2026-01-01T00%3A00%3A00Z&sig=x"), Some(1_767_225_600));
        assert_eq!(of("se=2026-01-01&sig=x"), Some(1_767_225_600));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for query in [
            "",
            "Expires=7",
            "Expires=soon",
            "se=2026-01-01T00:00:00Z",
            "se=yesterday&sig=x",
            "X-Amz-Date=20260101T000000Z",
            "X-Amz-Date=2026-01-01&X-Amz-Expires=60",
            "X-Amz-Date=20261301T000000Z&X-Amz-Expires=60",
            "X-Amz-Date=20260101T000000Z&X-Amz-Expires=-1",
            "X-Amz-Date=20260101T000000Z&X-Amz-Expires=18446744073709551615",
            "X-Amz-Date=20é0101T00000Z&X-Amz-Expires=1",
        ] {
            assert_eq!(of(query), None, "{query}");
        }
    }

    #[test]
    fn links_are_replaced_before_they_expire() {
        let within = |left: u64| replace_within(1000 + left, 1000);
        assert_eq!(within(3600), Some(Duration::from_secs(3570)));
        assert_eq!(within(40), Some(Duration::from_secs(30)));
        assert_eq!(within(1), None);
        assert_eq!(replace_within(10, 1000), None, "our clock may be wrong");
    }
}

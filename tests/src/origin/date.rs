//! HTTP dates (RFC 9110 section 5.6.7), the one form that is sent.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The wall clock in whole seconds since 1970.
#[must_use]
pub fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 as an HTTP date, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn format(unix: u64) -> String {
    let (day, second) = (unix / 86_400, unix % 86_400);
    let (year, month, of_month) = civil(day);
    format!(
        "{}, {of_month:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(day % 7) as usize],
        MONTHS[month],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// The inverse of [`format()`]; `None` for anything else.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let mut parts = text.get(5..)?.split([' ', ':']);
    let of_month: u64 = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)?;
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (year, hour, minute, second) = (number()?, number()?, number()?, number()?);
    // The months are not regular: look the day up instead of computing it.
    let first = (year.checked_sub(1970)? * 1461 / 4).saturating_sub(3);
    let day = (first..first + 372).find(|day| civil(*day) == (year, month, of_month))?;
    Some(day * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Year, month from 0 and day of month from 1 of a day since 1970.
fn civil(mut day: u64) -> (u64, usize, u64) {
    let mut year = 1970;
    loop {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let in_year = if leap { 366 } else { 365 };
        if day >= in_year {
            day -= in_year;
            year += 1;
            continue;
        }
        let february = if leap { 29 } else { 28 };
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 0;
        while day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        return (year, month, day + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(951_827_696), "Tue, 29 Feb 2000 12:34:56 GMT");
        assert_eq!(format(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn parse_inverts_format() {
        for unix in (0..4_000_000_000).step_by(7_654_321) {
            assert_eq!(parse(&format(unix)), Some(unix));
        }
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse(""), None);
    }
}

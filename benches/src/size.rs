//! Sizes as people type and read them, powers of 1024.

/// One mebibyte in bytes.
pub const MIB: u64 = 1 << 20;
/// One gibibyte in bytes.
pub const GIB: u64 = 1 << 30;

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// Reads `1G`, `256M`, `1024` (bytes). The unit may be followed by `i`, `iB` or `B`.
///
/// # Errors
///
/// A sentence that quotes the input, when it is no number, has an unknown unit, or exceeds `u64`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size (write bytes or a unit: 1024, 256M, 1G)");
    let upper = text.trim().to_ascii_uppercase();
    let digits_end = upper.find(|c: char| !c.is_ascii_digit()).unwrap_or(upper.len());
    let (digits, unit) = upper.split_at(digits_end);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let shift = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        letter => UNITS
            .iter()
            .find(|(name, _)| letter.chars().eq([*name]))
            .map(|(_, shift)| *shift)
            .ok_or_else(wrong)?,
    };
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// `1 GiB`, `1.5 MiB`, `17 B`: the largest unit that leaves at least one.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let Some((letter, shift)) = UNITS.iter().rev().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let unit = 1u64 << shift;
    if bytes.is_multiple_of(unit) {
        format!("{} {letter}iB", bytes / unit)
    } else {
        format!("{:.1} {letter}iB", bytes as f64 / unit as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_typed() {
        for (text, bytes) in
            [("0", 0), ("1024", 1024), ("64k", 65_536), ("256M", 256 * MIB), ("1GiB", GIB)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "1X", "1.5G", "-1", "99999999999T", "1MK"] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit() {
        for (bytes, text) in
            [(17, "17 B"), (1024, "1 KiB"), (GIB + GIB / 2, "1.5 GiB"), (64 * GIB, "64 GiB")]
        {
            assert_eq!(show_size(bytes), text);
        }
    }
}

//! How times, amounts and strangers' words are shown. It never lets control characters reach a terminal.

use asset::{Amount, BTC};

/// Bitcoin amounts.
pub(crate) fn btc(units: u128) -> String {
    Amount::from_units(units).format_with(BTC)
}

/// Somebody else's words, on one line, without control characters.
pub(crate) fn words(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// A time span in the largest unit that divides it.
pub(crate) fn span(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let fits = units.into_iter().find(|(unit, _)| seconds > 0 && seconds.is_multiple_of(*unit));
    let (unit, name) = fits.unwrap_or((1, "second"));
    let count = seconds.checked_div(unit).unwrap_or(seconds);
    format!("{count} {name}{}", if count == 1 { "" } else { "s" })
}

/// Reads `90s`, `15m`, `2h`, `7d`.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let bad = || format!("\"{}\" is not a time span: write 90s, 15m, 2h or 7d", words(text));
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(bad()),
    };
    let digits = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let count: u64 = digits.parse().map_err(|_| bad())?;
    count.checked_mul(unit).ok_or_else(bad)
}

/// Unix seconds as `2026-01-31 12:34:56 UTC`.
pub(crate) fn time(unix: u64) -> String {
    let (day, second) = (unix / 86_400, unix % 86_400);
    let Some((year, month, day)) = civil(day) else { return format!("Unix second {unix}") };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Year, month and day of a day counted from 1970 (Howard Hinnant's algorithm, whose years begin in March).
fn civil(days: u64) -> Option<(u64, u64, u64)> {
    let shifted = days.checked_add(719_468)?;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let leaps = (day / 1_460).checked_add(day / 146_096)?;
    let year = day.checked_add(day / 36_524)?.checked_sub(leaps)? / 365;
    let before = year.checked_mul(365)?.checked_add(year / 4)?.checked_sub(year / 100)?;
    let day = day.checked_sub(before)?;
    let month = day.checked_mul(5)?.checked_add(2)? / 153;
    let of_month = day.checked_sub(month.checked_mul(153)?.checked_add(2)? / 5)?.checked_add(1)?;
    let (month, carry) =
        if month < 10 { (month.checked_add(3)?, 0) } else { (month.checked_sub(9)?, 1) };
    let year = era.checked_mul(400)?.checked_add(year)?.checked_add(carry)?;
    Some((year, month, of_month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_on_the_days_that_go_wrong() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_767_225_600, "2026-01-01 00:00:00 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(time(unix), text);
        }
        let _ = time(u64::MAX);
    }

    #[test]
    fn words_cannot_move_the_cursor() {
        assert_eq!(words("Zoë's \"x\" \u{1b}[2J\n\u{202e}"), "Zoë's \"x\" \\u{1b}[2J\\n\\u{202e}");
    }

    #[test]
    fn spans_read_and_show() {
        for (text, seconds, shown) in [
            ("90s", 90, "90 seconds"),
            ("15m", 900, "15 minutes"),
            ("1h", 3600, "1 hour"),
            ("7d", 604_800, "7 days"),
        ] {
            assert_eq!(parse_span(text), Ok(seconds));
            assert_eq!(span(seconds), shown);
        }
        for text in [
            "",
            "s",
            "1",
            "-1s",
            "+1s",
            "1w",
            "1 h",
            "99999999999999999999d",
            "400000000000000000d",
            "1é",
        ] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}

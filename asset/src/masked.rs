//! What a library says about a text that may hold a key, without anything of it that can be one. It never says whether
//! something was left out because it was secret.

use alloc::format;
use alloc::string::String;
use core::ops::Range;

/// As long as this, letters and digits that are no word may be part of a key.
const RUN_MIN: usize = 8;

/// The same words, with `…` in the place of each run of letters and digits that has a digit or a capital in it and is as
/// long as a part of a key.
#[must_use]
pub fn masked(text: &str) -> String {
    let (mut out, mut run) = (String::with_capacity(text.len()), String::new());
    for c in text.chars() {
        if c.is_alphanumeric() {
            run.push(c);
            continue;
        }
        flush(&mut out, &mut run);
        out.push(c);
    }
    flush(&mut out, &mut run);
    out
}

/// What a reader of settings says is wrong, without the value that it found, which may be a password or a PIN. The name of a
/// field stays where it is one.
fn masked_setting(message: &str) -> String {
    let (what, expected) = match message.rfind(", expected") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let (before, rest) = match what.find(['`', '"']) {
        Some(at) => what.split_at(at),
        None => (what, ""),
    };
    // To the last such mark: a value may have some in it.
    let last = rest.chars().next().and_then(|mark| rest.rfind(mark)).filter(|at| *at > 0);
    let (quoted, after) = match last.and_then(|at| rest.split_at_checked(at.saturating_add(1))) {
        Some(parts) => parts,
        None => (rest, ""),
    };
    let name = quoted.trim_matches('`');
    let is_name = before.ends_with("field ")
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let mut said = masked(before.trim_end());
    if is_name {
        said.push(' ');
        said.push_str(quoted);
    }
    said.push_str(&masked(after));
    said.push_str(expected);
    String::from(said.trim_start())
}

/// Where settings are none, and why, without what stands there: it may be a password, or a PIN that somebody took to belong
/// there.
#[must_use]
pub fn setting_error(text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
    let line = before.matches('\n').count().saturating_add(1);
    format!("line {line}: {}", masked_setting(message))
}

fn flush(out: &mut String, run: &mut String) {
    let odd = |c: char| c.is_numeric() || c.is_uppercase();
    let is_long = run.chars().count() >= RUN_MIN;
    if is_long && run.chars().skip(1).any(odd) {
        out.push('…');
    } else {
        out.push_str(run);
    }
    run.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_named_and_its_value_is_not() {
        for (message, left) in [
            (
                "unknown variant `4711-0815`, expected `prompt`",
                "unknown variant, expected `prompt`",
            ),
            (
                "invalid type: string \"a, expected b\", expected u64",
                "invalid type: string, expected u64",
            ),
            (
                "unknown field `listn`, expected one of `listen`",
                "unknown field `listn`, expected one of `listen`",
            ),
            ("unknown field `4711-0815`, expected `pin`", "unknown field, expected `pin`"),
            ("missing field `policy`", "missing field `policy`"),
            ("\"mainnet\" is not a network: say regtest", "is not a network: say regtest"),
            ("a mark \"a\"b\" there", "a mark there"),
            ("string values must be quoted", "string values must be quoted"),
        ] {
            assert_eq!(masked_setting(message), left);
        }
    }

    #[test]
    fn an_error_names_its_line_and_not_what_stands_there() {
        let text = "a = 1\nb = \"hunter2\"\n";
        let said =
            setting_error(text, Some(10..19), "invalid type: string \"hunter2\", expected u64");
        assert_eq!(said, "line 2: invalid type: string, expected u64");
        assert_eq!(setting_error(text, None, "no"), "line 1: no");
        assert_eq!(setting_error("é", Some(1..2), "no"), "line 1: no");
    }

    #[test]
    fn words_stay_and_keys_do_not() {
        for (text, left) in [
            (
                "unrecognized name 'w23a/84h/1h/0h]tprv8gz3G58sB12'",
                "unrecognized name 'w23a/84h/1h/0h]…'",
            ),
            (
                "Unexpected multi-path descriptor at 17, expected 1",
                "Unexpected multi-path descriptor at 17, expected 1",
            ),
            ("key 00ff00ff00ff, 8gz3G58", "key …, 8gz3G58"),
            ("ünicodeX9", "…"),
            ("", ""),
        ] {
            assert_eq!(masked(text), left);
        }
    }
}

//! A token's own audit log in one form for every vendor (docs/log.md): which function used which key how often. It
//! never guesses: a line that is none is an error.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// A function of PKCS#11, and the label of the key that it used.
pub type Key = (String, String);

const FIRST_LINE: &str = "cofferdam token operations, version 1";
/// Longest file that is read: a line for each of millions of operations.
const BYTES_MAX: u64 = 1 << 30;

/// What a vendor's log says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VendorLog {
    /// The token's serial number.
    pub serial: String,
    /// It begins after this moment, Unix milliseconds; else with the token itself.
    pub since: Option<u64>,
    /// It was read at this moment; else after everything in the log.
    pub until: Option<u64>,
    /// Operations that the token did.
    pub counts: BTreeMap<Key, u64>,
}

impl VendorLog {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(file: &Path) -> Result<Self> {
        let place = || file.display().to_string();
        let long = std::fs::metadata(file).with_context(place)?.len();
        ensure!(long <= BYTES_MAX, "{} is too long", file.display());
        let text = std::fs::read_to_string(file).with_context(place)?;
        Self::parse(&text).with_context(place)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// Which line is none.
    pub fn parse(text: &str) -> Result<Self> {
        let mut lines = (1..).zip(text.lines());
        ensure!(
            lines.next().is_some_and(|(_, first)| first == FIRST_LINE),
            "the first line is not \"{FIRST_LINE}\""
        );
        let mut log = Self::default();
        for (number, line) in lines {
            log.line(line).with_context(|| format!("line {number}"))?;
        }
        ensure!(!log.serial.is_empty(), "it does not name its token: \"token SERIAL\"");
        Ok(log)
    }

    fn line(&mut self, line: &str) -> Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" => {}
            "token" if self.serial.is_empty() => rest.trim().clone_into(&mut self.serial),
            "since" if self.since.is_none() => self.since = Some(rest.parse().context("no time")?),
            "until" if self.until.is_none() => self.until = Some(rest.parse().context("no time")?),
            function if function.starts_with("C_") => {
                let (count, key) = rest.split_once(' ').context("no count or no key")?;
                let count: u64 = count.parse().context("no count")?;
                let key = (function.to_owned(), key.trim().to_owned());
                let all = self.counts.entry(key).or_default();
                *all = all.checked_add(count).context("too many operations")?;
            }
            _ => bail!("neither `token`, `since`, `until` nor a function of PKCS#11"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_key_add_up() {
        let text = "cofferdam token operations, version 1\ntoken 41fc\nuntil 300\nC_Sign 1 -\nC_Sign 2 -\n\nC_Sign 1 a b\n";
        let log = VendorLog::parse(text).unwrap();
        let key = |key: &str| ("C_Sign".to_owned(), key.to_owned());
        assert_eq!((log.serial.as_str(), log.since, log.until), ("41fc", None, Some(300)));
        assert_eq!(log.counts, BTreeMap::from([(key("-"), 3), (key("a b"), 1)]));
    }

    #[test]
    fn what_is_no_line_is_said() {
        let head = "cofferdam token operations, version 1\n";
        for (bad, says) in [
            ("", "token SERIAL"),
            ("token a\ntoken b\n", "line 3"),
            ("token a\nsign 1 -\n", "line 3"),
            ("token a\nC_Sign x -\n", "no count"),
            ("token a\nC_Sign 1\n", "no count or no key"),
            ("token a\nC_Sign 18446744073709551615 -\nC_Sign 1 -\n", "too many"),
            ("token a\nuntil then\n", "no time"),
        ] {
            let said = format!("{:#}", VendorLog::parse(&format!("{head}{bad}")).unwrap_err());
            assert!(said.contains(says), "{bad}: {said}");
        }
        assert!(VendorLog::parse("token a\n").is_err());
    }
}

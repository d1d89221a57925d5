//! What the doctor found, for people and for programs. It never holds a secret.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// As it should be.
    Well,
    /// Somebody should look at it.
    Warning,
    /// The signer cannot work like this, or must not.
    Broken,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// `token`, `log`, ...
    pub area: &'static str,
    /// One sentence.
    pub text: String,
}

/// Everything that was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checked {
    /// In the order of the screen.
    pub findings: Vec<Finding>,
}

impl Checked {
    pub(super) fn well(&mut self, area: &'static str, text: &str) {
        self.add(Level::Well, area, text);
    }

    pub(super) fn warn(&mut self, area: &'static str, text: &str) {
        self.add(Level::Warning, area, text);
    }

    pub(super) fn broken(&mut self, area: &'static str, text: &str) {
        self.add(Level::Broken, area, text);
    }

    /// What was found about the token (none: the first, else that standby).
    pub(super) fn extend(&mut self, whose: Option<&str>, more: Self) {
        let named = |finding: Finding| match whose {
            Some(name) => Finding { text: format!("standby {name}: {}", finding.text), ..finding },
            None => finding,
        };
        self.findings.extend(more.findings.into_iter().map(named));
    }

    fn add(&mut self, level: Level, area: &'static str, text: &str) {
        self.findings.push(Finding { level, area, text: text.to_owned() });
    }

    /// The worst of all.
    #[must_use]
    pub fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Well)
    }

    /// 0: all well; 1: warnings; 2: broken.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self.level() {
            Level::Well => ExitCode::SUCCESS,
            Level::Warning => ExitCode::from(1),
            Level::Broken => ExitCode::from(2),
        }
    }

    /// Shows it.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn show(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            return writeln!(out, "{}", self.json());
        }
        for Finding { level, area, text } in &self.findings {
            writeln!(out, "{:<8} {area:<11} {text}", level.word())?;
        }
        writeln!(out, "{}", self.level().word())
    }

    fn json(&self) -> String {
        let one = |finding: &Finding| {
            format!(
                "{{\"level\":{},\"area\":{},\"text\":{}}}",
                quoted(finding.level.word()),
                quoted(finding.area),
                quoted(&finding.text)
            )
        };
        let all: Vec<String> = self.findings.iter().map(one).collect();
        format!("{{\"level\":{},\"findings\":[{}]}}", quoted(self.level().word()), all.join(","))
    }
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            letter if letter.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_read_what_people_see() {
        let mut checked = Checked::default();
        checked.well("log", "3 \"entries\"");
        assert_eq!(checked.exit_code(), ExitCode::SUCCESS);
        checked.warn("clock", "a\\b\nc");
        let json = checked.json();
        let wanted = r#"{"level":"warning","findings":[{"level":"ok","area":"log","text":"3 \"entries\""},{"level":"warning","area":"clock","text":"a\\b\u000ac"}]}"#;
        assert_eq!(json, wanted);
        assert_eq!(checked.exit_code(), ExitCode::from(1));
        checked.broken("pin", "x");
        let mut screen = Vec::new();
        checked.show(false, &mut screen).unwrap();
        assert!(String::from_utf8(screen).unwrap().ends_with("broken   pin         x\nbroken\n"));
    }
}

//! What a running signer says of itself in the state folder: whether it turns, its clock, its log, its tokens, its witnesses.
//! It never asks that signer anything, and takes a page that is old for a signer that stands still.

use std::collections::HashMap;
use std::path::Path;

use policy::Rules;

use super::{Checked, clock};
use crate::metrics::kept;

/// A page that says less is not from now.
const STILL_SECONDS: u64 = 30;
/// Clocks read in one second and the next.
const AHEAD_SECONDS: u64 = 2;
/// So many entries may be on their way to the token or a witness.
const LAG_ENTRIES: u64 = 100;

/// What the page says, by name and labels.
pub(super) struct Numbers(HashMap<String, u64>);

impl Numbers {
    /// From the state folder; `None` where there is no page that can be read.
    pub(super) fn read(state_dir: &Path) -> Option<Self> {
        std::fs::read_to_string(state_dir.join(kept::FILE)).ok().map(|text| Self::parse(&text))
    }

    /// Lines that are no whole number are of no interest here.
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.filter_map(|line| line.rsplit_once(' '));
        Self(
            pairs
                .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }

    fn of(&self, name: &str) -> Option<u64> {
        self.0.get(&format!("cofferdam_{name}")).copied()
    }

    fn numbered(&self, name: &str, number: usize) -> Option<u64> {
        self.of(&format!("{name}{{number=\"{number}\"}}"))
    }

    fn says(&self, name: &str) -> bool {
        self.of(name) == Some(1)
    }

    /// How old the page is at this time.
    fn age(&self, now: u64) -> Option<u64> {
        Some(now.saturating_sub(self.of("heartbeat_unix_seconds")?))
    }

    /// Whether a signer that serves looks after its tokens' keys itself.
    pub(super) fn keeps_keys(&self, now: u64) -> bool {
        self.age(now).is_some_and(|age| age <= STILL_SECONDS)
            && self.says("token_ready")
            && !self.says("token_warning")
    }
}

/// Everything that a running signer says, if it does.
pub(super) fn look(
    numbers: Option<&Numbers>,
    rules: Option<&Rules>,
    now: u64,
    checked: &mut Checked,
) {
    let Some((numbers, age)) = numbers.and_then(|it| Some((it, it.age(now)?))) else {
        let text = format!(
            "the one that holds the log says nothing of itself here ({} in its state folder): is it another host's?",
            kept::FILE
        );
        return checked.warn("running", &text);
    };
    turning(numbers, age, now, checked);
    if age > STILL_SECONDS {
        // What it said then is not so now.
        return;
    }
    log(numbers, checked);
    witnesses(numbers, rules, now, checked);
}

fn turning(numbers: &Numbers, age: u64, now: u64, checked: &mut Checked) {
    let beat = numbers.of("heartbeat_unix_seconds").unwrap_or_default();
    if beat > now.saturating_add(AHEAD_SECONDS) {
        let text =
            "the running signer's last beat lies ahead of this machine's clock: it was set back";
        checked.broken("clock", text);
    }
    if age > STILL_SECONDS {
        let text = format!(
            "the signer last turned {age} s ago: it hangs, ended, or cannot write to its state folder; look at its unit"
        );
        return checked.broken("running", &text);
    }
    if numbers.says("standby") {
        checked.well("running", &format!("stands by; turned {age} s ago"));
    } else if numbers.says("ready") {
        checked.well("running", &format!("signs if asked; turned {age} s ago"));
    } else {
        checked.broken("running", "signs nothing now: `/ready`, its log or `Status` says why");
    }
    if numbers.says("token_warning") {
        let text = "one of the running signer's tokens is away, latched or distrusted, or a tier is not served";
        checked.warn("running", text);
    }
}

/// Its log and what its clock has to do with that; a signer that stands by has none.
fn log(numbers: &Numbers, checked: &mut Checked) {
    let Some(entries) = numbers.of("log_entries") else { return };
    let uncovered = numbers.of("log_uncovered_entries").unwrap_or_default();
    let text = format!("{entries} entries, {uncovered} of them not under a checkpoint yet");
    if numbers.says("log_stopped") {
        checked.broken("log", &format!("stopped: nothing is written any more; {text}"));
    } else if uncovered > LAG_ENTRIES {
        checked.warn("log", &text);
    } else {
        checked.well("log", &text);
    }
    if let Some(latest) = numbers.of("log_latest_unix_seconds") {
        clock(latest.saturating_mul(1_000), checked);
    }
    if numbers.says("clock_in_doubt") {
        let text = "in doubt to the running signer: delays, maturing and vetoes are held until an officer's `officer time`";
        checked.broken("clock", text);
    }
}

/// Each with how far it has seen, and how old its newest cosignature is: an idle log asks for none.
fn witnesses(numbers: &Numbers, rules: Option<&Rules>, now: u64, checked: &mut Checked) {
    let required = numbers.of("witnesses_required").unwrap_or_default();
    let mut here = 0_u64;
    for number in 0.. {
        let Some(connected) = numbers.numbered("witness_connected", number) else { break };
        here = here.saturating_add(connected);
        let name = name(numbers, rules, number);
        let cosigned = match numbers.numbered("witness_cosigned_unix_seconds", number) {
            Some(at) => format!("cosigned {} s ago", now.saturating_sub(at)),
            None => "has cosigned nothing since the signer began".to_owned(),
        };
        match numbers.numbered("witness_lag_entries", number) {
            Some(lag) if lag > LAG_ENTRIES => checked
                .warn("witnesses", &format!("{name} has not seen {lag} entries yet; {cosigned}")),
            Some(lag) => checked
                .well("witnesses", &format!("{name} is here, {lag} entries behind; {cosigned}")),
            None => checked.warn("witnesses", &format!("{name} is not connected; {cosigned}")),
        }
    }
    if here < required {
        let text = format!("{required} are required and {here} are here: nothing is let out");
        checked.broken("witnesses", &text);
    }
}

/// By the policy here, if that is the one in force.
fn name(numbers: &Numbers, rules: Option<&Rules>, number: usize) -> String {
    let rules = rules.filter(|rules| {
        numbers.of("policy_version") == Some(rules.version())
            && numbers.numbered("witness_connected", rules.witnesses().len()).is_none()
    });
    let named = rules.and_then(|rules| rules.witnesses().get(number));
    named.map_or_else(|| format!("number {number}"), |witness| format!("\"{}\"", witness.name))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    const NOW: u64 = 2_000_000_000;

    /// A page on which all is well, but for these lines.
    fn page(other: &[(&str, u64)]) -> Numbers {
        let text = format!(
            "# HELP cofferdam_ready signs if asked\ncofferdam_heartbeat_unix_seconds {beat}\ncofferdam_ready 1\n\
             cofferdam_token_ready 1\ncofferdam_token_warning 0\ncofferdam_standby 0\ncofferdam_log_entries 1234\n\
             cofferdam_log_uncovered_entries 2\ncofferdam_log_stopped 0\ncofferdam_clock_in_doubt 0\n\
             cofferdam_witnesses_required 1\ncofferdam_witness_connected{{number=\"0\"}} 1\n\
             cofferdam_witness_connected{{number=\"1\"}} 0\ncofferdam_witness_lag_entries{{number=\"0\"}} 3\n\
             cofferdam_witness_cosigned_unix_seconds{{number=\"0\"}} {cosigned}\ncofferdam_limit_used_ratio{{limit=\"a b\"}} 0.5\n",
            beat = NOW - 3,
            cosigned = NOW - 12,
        );
        let mut numbers = Numbers::parse(&text);
        for (name, value) in other {
            numbers.0.insert(format!("cofferdam_{name}"), *value);
        }
        numbers
    }

    fn said(numbers: Option<&Numbers>) -> Vec<(Level, &'static str, String)> {
        let mut checked = Checked::default();
        look(numbers, None, NOW, &mut checked);
        checked.findings.into_iter().map(|it| (it.level, it.area, it.text)).collect()
    }

    #[test]
    fn a_signer_that_turns_tells_of_its_log_and_of_each_witness() {
        let said = said(Some(&page(&[])));
        let found = |level, area, text: &str| {
            let text = text.to_owned();
            assert!(said.contains(&(level, area, text.clone())), "{text}: {said:?}");
        };
        found(Level::Well, "running", "signs if asked; turned 3 s ago");
        found(Level::Well, "log", "1234 entries, 2 of them not under a checkpoint yet");
        let first = "number 0 is here, 3 entries behind; cosigned 12 s ago";
        found(Level::Well, "witnesses", first);
        let second = "number 1 is not connected; has cosigned nothing since the signer began";
        found(Level::Warning, "witnesses", second);
        assert_eq!(said.len(), 4, "{said:?}");
        assert!(page(&[]).keeps_keys(NOW));
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_line() {
        for (other, level, text) in [
            (("heartbeat_unix_seconds", NOW - 31), Level::Broken, "last turned 31 s ago"),
            (("heartbeat_unix_seconds", NOW + 3), Level::Broken, "it was set back"),
            (("ready", 0), Level::Broken, "signs nothing now"),
            (("standby", 1), Level::Well, "stands by"),
            (("token_warning", 1), Level::Warning, "one of the running signer's tokens"),
            (("log_stopped", 1), Level::Broken, "stopped: nothing is written"),
            (("log_uncovered_entries", 101), Level::Warning, "101 of them"),
            (("clock_in_doubt", 1), Level::Broken, "in doubt to the running signer"),
            (("witness_lag_entries{number=\"0\"}", 101), Level::Warning, "has not seen 101"),
            (("witnesses_required", 2), Level::Broken, "2 are required and 1 are here"),
        ] {
            let said = said(Some(&page(&[other])));
            let found = said.iter().any(|(at, _, line)| *at == level && line.contains(text));
            assert!(found, "{text}: {said:?}");
        }
        let said = said(None);
        assert!(said[0].0 == Level::Warning && said[0].2.contains("another host's"), "{said:?}");
    }

    #[test]
    fn keys_of_a_signer_that_stands_still_or_doubts_its_tokens_are_looked_after_by_nobody() {
        for other in
            [("heartbeat_unix_seconds", NOW - 31), ("token_ready", 0), ("token_warning", 1)]
        {
            assert!(!page(&[other]).keeps_keys(NOW), "{other:?}");
        }
    }
}

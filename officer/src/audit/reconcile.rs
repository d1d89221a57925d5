//! What the token's vendor says that the token did, held against what the log says: one operation more than the signer
//! had done, and somebody else used a key. It never believes the log before all of it was verified.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use audit::entry::{Entry, Event, KeyUse};

use super::source::Source;
use super::vendor::{Key, VendorLog};
use crate::text::words;

/// The key that signs checkpoints: the last ones come after the last count.
const CHECKPOINTS: (&str, &str) = ("C_Sign", "cofferdam checkpoint 1");
/// What a signer's worker asks a token for: only of these a lost one may have had more done.
const FUNCTIONS: [&str; 3] = ["C_Sign", "C_UnwrapKey", "C_Decrypt"];
/// How both sides name the keys of a session.
const CHILDREN: &str = "-";

/// What does not agree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// The token did more than the signer had done: somebody else used the key.
    Extra {
        /// Function and key.
        key: Key,
        /// By the vendor's word.
        vendor: u64,
        /// At most, by the log's.
        most: u64,
    },
    /// The vendor's log lacks operations: it is not whole, or another token's.
    Missing {
        /// Function and key.
        key: Key,
        /// By the vendor's word.
        vendor: u64,
        /// At least, by the log's.
        least: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, (function, key), vendor, [more, bound], log) = match self {
            Self::Extra { key, vendor, most } => ("EXTRA", key, vendor, ["more", "most"], most),
            Self::Missing { key, vendor, least } => {
                ("MISSING", key, vendor, ["fewer", "least"], least)
            }
        };
        let by = vendor.abs_diff(*log);
        let key = words(key);
        write!(
            f,
            "{name}  {function} \"{key}\": {vendor} by the vendor, at {bound} {log} by the log: {by} {more}"
        )
    }
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// What does not agree.
    pub findings: Vec<Finding>,
    /// Operations by the vendor's word.
    pub operations: u64,
    /// More than were counted, by keys that the signer uses, and no more of all than lost workers may have had done.
    pub excused: Vec<(Key, u64)>,
    /// Why what is more may be the signer's own all the same: said when something is.
    pub unclear: Vec<String>,
}

impl Reconciled {
    /// Whether somebody should be woken.
    #[must_use]
    pub fn alarms(&self) -> bool {
        !self.findings.is_empty()
    }
}

/// Counts of the log, entry by entry.
#[derive(Debug, Default)]
pub struct Counts {
    entries: Vec<Count>,
    running: bool,
    ends: Vec<u64>,
    size: u64,
}

#[derive(Debug)]
struct Count {
    seq: u64,
    unix_ms: u64,
    uses: Vec<KeyUse>,
    lost: u64,
}

#[derive(Clone, Copy, Default)]
struct Range {
    least: u64,
    most: u64,
}

impl Counts {
    /// Takes the next entry of the log; `serial` is the token's.
    pub fn follow(&mut self, serial: &str, seq: u64, entry: &Entry) {
        self.size = seq.saturating_add(1);
        match &entry.event {
            Event::Service { state, .. } => self.service(seq, state),
            Event::TokenOperations { serial: of, uses, lost } if of == serial => {
                let (unix_ms, uses, lost) = (entry.unix_ms, uses.clone(), *lost);
                self.entries.push(Count { seq, unix_ms, uses, lost });
            }
            _ => {}
        }
    }

    fn service(&mut self, seq: u64, state: &str) {
        if state == "started" && self.running {
            self.ends.push(seq);
        }
        self.running = state != "stopped";
    }

    /// What is in no entry yet: of a file `operations-…` in the signer's state folder.
    fn waiting(&mut self, event: Event, serial: &str) {
        if let Event::TokenOperations { serial: of, uses, lost } = event
            && of == serial
        {
            self.entries.push(Count { seq: self.size, unix_ms: 0, uses, lost });
        }
    }

    /// Holds the vendor's counts against these.
    #[must_use]
    pub fn compare(&self, vendor: &VendorLog) -> Reconciled {
        let mut ranges: BTreeMap<Key, Range> = BTreeMap::new();
        let (mut lost, mut last, mut open) = (0_u64, self.size, self.running);
        for count in &self.entries {
            // What an entry counts was done before it was written.
            let whole =
                vendor.since.is_none_or(|since| count.unix_ms > since || count.unix_ms == 0);
            let later = vendor.until.is_some_and(|until| count.unix_ms > until);
            if !whole {
                continue;
            }
            lost = lost.saturating_add(count.lost);
            last = count.seq;
            for of in &count.uses {
                let range = ranges.entry((of.function.clone(), of.key.clone())).or_default();
                let least = if later { 0 } else { of.done };
                range.least = range.least.saturating_add(least);
                range.most = range.most.saturating_add(of.done).saturating_add(of.unsure);
            }
            if later {
                open = false;
                break;
            }
        }
        // Each entry from the last count on may have brought a checkpoint that no count has.
        let checkpoints = ranges.entry((CHECKPOINTS.0.to_owned(), CHECKPOINTS.1.to_owned()));
        let checkpoints = checkpoints.or_default();
        checkpoints.most = checkpoints.most.saturating_add(self.size.saturating_sub(last));
        let mut unclear = Vec::new();
        if open {
            unclear.push("the signer runs, and its next count is to come: stop it, or give a log that goes on beyond the vendor's `until`".to_owned());
        }
        let ends: Vec<String> = self.ends.iter().map(u64::to_string).collect();
        if !ends.is_empty() {
            let at = ends.join(", ");
            unclear.push(format!("the signer died without an orderly end before entry {at}: where the machine lost its power, what was done just before may not be counted"));
        }
        judge(vendor, &ranges, lost, unclear)
    }
}

fn judge(
    vendor: &VendorLog,
    ranges: &BTreeMap<Key, Range>,
    lost: u64,
    unclear: Vec<String>,
) -> Reconciled {
    let keys: BTreeSet<&Key> = vendor.counts.keys().chain(ranges.keys()).collect();
    let (mut findings, mut excused, mut operations) = (Vec::new(), Vec::new(), 0_u64);
    for key in keys {
        let said = vendor.counts.get(key).copied().unwrap_or_default();
        let Range { least, most } = ranges.get(key).copied().unwrap_or_default();
        operations = operations.saturating_add(said);
        if said > most {
            if may_be_lost(key, ranges) {
                excused.push((key.clone(), said.saturating_sub(most)));
            }
            findings.push(Finding::Extra { key: key.clone(), vendor: said, most });
        }
        // Where the vendor's log begins in the middle of a count it may have less of that.
        if said < least && vendor.since.is_none() {
            findings.push(Finding::Missing { key: key.clone(), vendor: said, least });
        }
    }
    let more = excused.iter().fold(0_u64, |all, (_, more)| all.saturating_add(*more));
    if more > lost {
        excused.clear();
    }
    findings.retain(|finding| match finding {
        Finding::Extra { key, .. } => !excused.iter().any(|(of, _)| of == key),
        Finding::Missing { .. } => true,
    });
    let unclear = if findings.is_empty() { Vec::new() } else { unclear };
    Reconciled { findings, operations, excused, unclear }
}

/// Whether a worker that was lost may have used the key so: the log knows the signer to do that.
fn may_be_lost(key: &Key, ranges: &BTreeMap<Key, Range>) -> bool {
    let (function, name) = key;
    FUNCTIONS.contains(&function.as_str()) && (name == CHILDREN || ranges.contains_key(key))
}

/// `officer log reconcile`.
///
/// # Errors
/// When something does not agree, or the log does not hold.
pub async fn reconcile(
    source: &mut Source,
    key: [u8; 32],
    vendor: &Path,
    waiting: &[PathBuf],
    out: &mut impl Write,
) -> Result<()> {
    let vendor = VendorLog::read(vendor)?;
    let mut counts = Counts::default();
    super::read(source, key, &[], &mut |seq, entry| {
        counts.follow(&vendor.serial, seq, entry);
        Ok(())
    })
    .await?;
    for file in waiting {
        for event in read_waiting(file)? {
            counts.waiting(event, &vendor.serial);
        }
    }
    let found = counts.compare(&vendor);
    writeln!(out, "token       {}", words(&vendor.serial))?;
    writeln!(out, "operations  {} by the vendor's log", found.operations)?;
    writeln!(out, "counts      {} in the log", counts.entries.len())?;
    for (key, more) in &found.excused {
        let (function, name) = key;
        writeln!(
            out,
            "warning     {function} \"{}\": {more} more than were counted: workers were lost, which may have had as many done",
            words(name)
        )?;
    }
    for finding in &found.findings {
        writeln!(out, "{finding}")?;
    }
    for why in &found.unclear {
        writeln!(out, "unclear     {why}")?;
    }
    anyhow::ensure!(!found.alarms(), "the token's own log and this one do not agree");
    writeln!(out, "Every operation is accounted for.")?;
    Ok(())
}

/// A file `operations-…` of a signer's state folder.
fn read_waiting(file: &Path) -> Result<Vec<Event>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let event = |line: &str| -> Result<Event> {
        Ok(Entry::decode(&hex::decode(line).context("not hex")?)?.event)
    };
    text.lines()
        .filter(|line| !line.is_empty())
        .map(event)
        .collect::<Result<_>>()
        .with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: &str =
        "C_Sign 7 -\nC_UnwrapKey 7 cofferdam wrapping 1\nC_Sign 4 cofferdam checkpoint 1\n";

    fn entry(unix_ms: u64, event: Event) -> Entry {
        Entry { unix_ms, event }
    }

    fn service(state: &str) -> Event {
        Event::Service { state: state.to_owned(), version: "1".to_owned() }
    }

    fn counted(uses: &[(&str, &str, u64, u64)], lost: u64) -> Event {
        let key_use = |(function, key, done, unsure): &(&str, &str, u64, u64)| KeyUse {
            function: (*function).to_owned(),
            key: (*key).to_owned(),
            done: *done,
            unsure: *unsure,
        };
        let uses = uses.iter().map(key_use).collect();
        Event::TokenOperations { serial: "41fc".to_owned(), uses, lost }
    }

    /// Seven signatures by children in two counts, and three checkpoints before the last count.
    fn log(unsure: u64, lost: u64) -> Counts {
        let (sign, unwrap) = (("C_Sign", "-"), ("C_UnwrapKey", "cofferdam wrapping 1"));
        let of = |(function, key), done, unsure| (function, key, done, unsure);
        let first = [of(sign, 4, 0), of(unwrap, 4, 0), of(CHECKPOINTS, 2, 0)];
        let second = [of(sign, 3, unsure), of(unwrap, 3, 0), of(CHECKPOINTS, 1, 0)];
        let events = [
            (1_000, service("started")),
            (2_000, counted(&first, 0)),
            (3_000, counted(&second, lost)),
            (3_000, service("stopped")),
        ];
        let mut counts = Counts::default();
        for (seq, (unix_ms, event)) in (0..).zip(events) {
            counts.follow("41fc", seq, &entry(unix_ms, event));
        }
        counts
    }

    fn vendor(lines: &str) -> VendorLog {
        let head = "cofferdam token operations, version 1\ntoken 41fc\n";
        VendorLog::parse(&format!("{head}{lines}")).unwrap()
    }

    fn findings(counts: &Counts, lines: &str) -> Vec<String> {
        counts.compare(&vendor(lines)).findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn one_operation_more_or_fewer_is_found() {
        assert_eq!(log(0, 0).compare(&vendor(OPERATIONS)).findings, []);
        let said = findings(&log(0, 0), &format!("{OPERATIONS}C_Sign 1 -\n"));
        assert_eq!(said, ["EXTRA  C_Sign \"-\": 8 by the vendor, at most 7 by the log: 1 more"]);
        let said = findings(&log(0, 0), &format!("{OPERATIONS}C_Sign 1 mine\n"));
        assert_eq!(said, ["EXTRA  C_Sign \"mine\": 1 by the vendor, at most 0 by the log: 1 more"]);
        let said = findings(&log(0, 0), &format!("{OPERATIONS}C_WrapKey 1 x\n"));
        assert!(said[0].starts_with("EXTRA  C_WrapKey"), "{said:?}");
        let said = findings(&log(0, 0), &OPERATIONS.replace("C_Sign 7", "C_Sign 6"));
        assert_eq!(
            said,
            ["MISSING  C_Sign \"-\": 6 by the vendor, at least 7 by the log: 1 fewer"]
        );
    }

    #[test]
    fn what_is_not_known_is_given_room_and_no_more() {
        let more = format!("{OPERATIONS}C_Sign 2 -\n");
        assert!(findings(&log(2, 0), &more).is_empty());
        assert_eq!(findings(&log(1, 0), &more).len(), 1);
        let excused = log(0, 2).compare(&vendor(&more));
        let sign = ("C_Sign".to_owned(), "-".to_owned());
        assert_eq!((excused.findings.len(), excused.excused), (0, vec![(sign, 2)]));
        assert_eq!(findings(&log(0, 1), &more).len(), 1);
        // One count and the entry after it: one or two checkpoints.
        assert_eq!(
            findings(&log(0, 0), &format!("{OPERATIONS}C_Sign 1 cofferdam checkpoint 1\n")).len(),
            0
        );
        assert_eq!(
            findings(&log(0, 0), &format!("{OPERATIONS}C_Sign 2 cofferdam checkpoint 1\n")).len(),
            1
        );
    }

    #[test]
    fn a_lost_worker_excuses_nothing_that_no_worker_does() {
        for foreign in [
            "C_WrapKey 1 x",
            "C_WrapKey 1 -",
            "C_DeriveKey 1 cofferdam wrapping 1",
            "C_Sign 1 mine",
            "C_Sign 1 cofferdam wrapping 1",
        ] {
            let (function, _) = foreign.split_once(' ').unwrap();
            let found = log(0, 4096).compare(&vendor(&format!("{OPERATIONS}{foreign}\n")));
            let said: Vec<String> = found.findings.iter().map(ToString::to_string).collect();
            assert!(
                found.alarms() && said[0].starts_with(&format!("EXTRA  {function}")),
                "{said:?}"
            );
            // Beside what it does excuse.
            let both = format!("{OPERATIONS}{foreign}\nC_UnwrapKey 2 cofferdam wrapping 1\n");
            let found = log(0, 4096).compare(&vendor(&both));
            assert_eq!((found.findings.len(), found.excused.len()), (1, 1), "{foreign}");
            assert_eq!(found.excused[0].1, 2);
        }
        // All of them together are no more than were lost, or none is excused.
        let two = format!("{OPERATIONS}C_Sign 2 -\nC_UnwrapKey 2 cofferdam wrapping 1\n");
        assert!(!log(0, 4).compare(&vendor(&two)).alarms());
        assert_eq!(findings(&log(0, 3), &two).len(), 2);
    }

    #[test]
    fn a_vendors_log_that_ends_between_two_counts_is_held_between_them() {
        let until = |signed: u64| {
            let lines = OPERATIONS.replace("C_Sign 7", &format!("C_Sign {signed}"));
            findings(&log(0, 0), &format!("until 2500\n{}", lines.replace("Key 7", "Key 5")))
        };
        assert!(until(4).is_empty() && until(7).is_empty());
        assert_eq!((until(3).len(), until(8).len()), (1, 1));
    }

    #[test]
    fn a_signer_that_runs_or_died_is_said_beside_the_alarm() {
        let mut counts = log(0, 0);
        counts.follow("41fc", 4, &entry(4_000, service("started")));
        let more = vendor(&format!("{OPERATIONS}C_Sign 1 -\n"));
        assert_eq!(counts.compare(&more).unclear.len(), 1);
        assert!(counts.compare(&vendor(OPERATIONS)).unclear.is_empty());
        counts.follow("41fc", 5, &entry(5_000, service("started")));
        assert_eq!(counts.compare(&more).unclear.len(), 2);
        assert!(counts.compare(&more).alarms());
    }
}

//! `officer policy simulate`: which decisions of a log would have been others by a draft. Each is judged on what really
//! happened before it, not on what the draft would have let happen. What cannot be decided again is listed, never guessed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ::audit::entry::{Admitted, Entry};
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::bench::{Bench, Verdict, Weighed};
use super::{Decided, Known, Replay};
use crate::audit;
use crate::audit::source::{Record, Source};
use crate::policies;
use crate::text::{time, words};

/// Which log, and how far back.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The checkpoint key.
    pub key: [u8; 32],
    /// Checkpoints kept elsewhere.
    pub kept: &'a [String],
    /// Seconds before the log's last entry; all of it when not given.
    pub since: Option<u64>,
    /// For programs.
    pub json: bool,
}

/// That not everything came out the same, for the program's exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Differs {
    /// Decisions flip.
    #[error("{0} decisions would have been others by the draft")]
    Flips(usize),
    /// None flips, and of some nobody can tell.
    #[error("no decision flips, and {0} could not be decided again")]
    Untold(usize),
}

impl Differs {
    /// What the program exits with.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Flips(_) => 2,
            Self::Untold(_) => 3,
        }
    }
}

/// One decision that the draft makes otherwise, or of which nobody can tell.
struct Line {
    seq: u64,
    unix_s: u64,
    request: [u8; 16],
    admitted: Admitted,
    /// Of its wallet.
    tier: String,
    policy: u64,
    was: Verdict,
    /// The draft's verdict and its reasons, or why nobody can tell.
    by_draft: Result<(Verdict, Vec<(String, String)>), String>,
}

/// What came of it all.
#[derive(Default)]
struct Outcome {
    decided: BTreeMap<Verdict, usize>,
    lines: Vec<Line>,
    last_unix: u64,
}

/// `officer policy simulate`.
///
/// # Errors
/// When the log does not hold, or the draft is no policy; [`Differs`] once all is printed, unless every decision comes out
/// the same.
pub async fn simulate(
    source: &mut Source,
    draft: &Path,
    asked: Asked<'_>,
    out: &mut impl Write,
) -> Result<()> {
    let text = policies::read(draft)?;
    let from = match asked.since {
        Some(seconds) => last_time(source).await?.saturating_sub(seconds),
        None => 0,
    };
    let (mut replay, mut outcome) = (Replay::default(), Outcome::default());
    let mut bench: Option<Bench> = None;
    let mut look = |seq: u64, entry: &Entry| {
        outcome.last_unix = entry.unix_ms / 1000;
        replay.take(seq, entry, &mut |replay, known, decided| {
            if decided.unix_s < from {
                return Ok(());
            }
            if bench.is_none() {
                bench = Some(draft_for(&text, replay)?);
            }
            let draft = bench.as_ref().ok_or_else(|| anyhow!("there is no draft"))?;
            outcome.weigh(replay, known, decided, draft);
            Ok(())
        })
    };
    let (report, beyond) = audit::read(source, asked.key, asked.kept, &mut look).await?;
    if bench.is_none() {
        draft_for(&text, &replay)?;
    }
    if asked.json {
        writeln!(out, "{}", outcome.json(&report.origin, from, replay.refused))?;
    } else {
        outcome.print(&report.origin, from, &replay, out)?;
        if beyond > 0 {
            writeln!(
                out,
                "warning     {beyond} rows beyond the newest checkpoint are not part of the log"
            )?;
        }
    }
    match outcome.counts() {
        (0, 0) => Ok(()),
        (0, untold) => Err(Differs::Untold(untold).into()),
        (flips, _) => Err(Differs::Flips(flips).into()),
    }
}

/// The draft, read for the log's network as the signer would.
fn draft_for(text: &str, replay: &Replay) -> Result<Bench> {
    Bench::new(text, &replay.network).map_err(|why| anyhow!("the draft is no policy: {why}"))
}

/// When the last entry was written.
async fn last_time(source: &mut Source) -> Result<u64> {
    let mut last = Vec::new();
    while let Some(record) = source.next().await? {
        if let Record::Entry { bytes, .. } = record {
            last = bytes;
        }
    }
    source.again()?;
    // What is no entry is found when the log is verified.
    Ok(Entry::decode(&last).map_or(0, |entry| entry.unix_ms / 1000))
}

/// Decides as the log did: what came of it and at which second, or why it comes out otherwise here.
pub(super) fn again(
    replay: &Replay,
    known: &Known,
    decided: &Decided<'_>,
) -> Result<(Weighed, u64), String> {
    let intent = known.intent.as_ref().map_err(Clone::clone)?;
    let bench = replay.active.as_ref().map_err(Clone::clone)?;
    if bench.rules.version() != decided.policy {
        return Err("another policy decided than was in force".to_owned());
    }
    let mut found = None;
    // It was written down a moment after it was decided.
    for now in [decided.unix_s, decided.unix_s.saturating_sub(1)] {
        if found.is_some() && now < replay.ledger.latest_unix() {
            break;
        }
        let weighed = bench.weigh(&replay.ledger, (intent, &known.change), &bench.rules, now);
        let told = decided.reasons.iter().map(|reason| reason.code.as_str()).collect();
        let same = weighed.verdict == decided.verdict
            && (weighed.verdict != Verdict::Denied || weighed.codes() == told);
        if same {
            return Ok((weighed, now));
        }
        found = found.or(Some(weighed));
    }
    let (verdict, codes) = found.map_or((decided.verdict, String::new()), |weighed| {
        let codes: Vec<&str> = weighed.codes().into_iter().collect();
        (weighed.verdict, codes.join(" "))
    });
    Err(format!(
        "decided again from the log by the policy that was in force, it is {}{}{codes}: facts decided it that the log does not hold",
        verdict.as_str(),
        if codes.is_empty() { "" } else { " " },
    ))
}

impl Outcome {
    fn weigh(&mut self, replay: &Replay, known: &Known, decided: &Decided<'_>, draft: &Bench) {
        let count = self.decided.entry(decided.verdict).or_default();
        *count = count.saturating_add(1);
        let by_draft = by_draft(replay, known, decided, draft);
        if matches!(&by_draft, Ok((verdict, _)) if *verdict == decided.verdict) {
            return;
        }
        self.lines.push(Line {
            seq: decided.seq,
            unix_s: decided.unix_s,
            request: decided.request,
            admitted: known.admitted.clone(),
            tier: replay.tier(&known.admitted.wallet),
            policy: decided.policy,
            was: decided.verdict,
            by_draft,
        });
    }

    /// How many flip, and of how many nobody can tell.
    fn counts(&self) -> (usize, usize) {
        let flips = self.lines.iter().filter(|line| line.by_draft.is_ok()).count();
        (flips, self.lines.len().saturating_sub(flips))
    }

    fn print(&self, origin: &str, from: u64, replay: &Replay, out: &mut impl Write) -> Result<()> {
        for line in &self.lines {
            line.print(out)?;
        }
        let all: usize = self.decided.values().sum();
        let counted = self.decided.iter().map(|(verdict, n)| format!("{n} {}", verdict.as_str()));
        let (flips, untold) = self.counts();
        writeln!(out, "log         {}", words(origin))?;
        writeln!(out, "from        {} to {}", time(from), time(self.last_unix))?;
        writeln!(out, "decisions   {all}: {}", counted.collect::<Vec<_>>().join(", "))?;
        let mut kinds: BTreeMap<(Verdict, Verdict), usize> = BTreeMap::new();
        for line in &self.lines {
            if let Ok((verdict, _)) = &line.by_draft {
                let count = kinds.entry((line.was, *verdict)).or_default();
                *count = count.saturating_add(1);
            }
        }
        writeln!(out, "flips       {flips}")?;
        for ((was, now), count) in kinds {
            writeln!(out, "            {count} {} -> {}", was.as_str(), now.as_str())?;
        }
        writeln!(out, "untold      {untold}, each named above with why")?;
        if replay.refused > 0 {
            let refused = replay.refused;
            writeln!(
                out,
                "            {refused} requests in the whole log were refused before any policy was asked, and are not among these"
            )?;
        }
        writeln!(
            out,
            "Each decision is judged on what happened before it in this log; what officers approved counts for the draft too."
        )?;
        Ok(())
    }

    fn json(&self, origin: &str, from: u64, refused: u64) -> Value {
        let (flips, untold) = self.counts();
        let decided = self.decided.iter();
        let decided: BTreeMap<&str, usize> = decided.map(|(v, n)| (v.as_str(), *n)).collect();
        json!({
            "log": origin,
            "from_unix": from,
            "to_unix": self.last_unix,
            "decisions": decided,
            "flips": flips,
            "untold": untold,
            "refused_before_any_policy": refused,
            "lines": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
        })
    }
}

/// The draft's verdict, if the log can tell.
fn by_draft(
    replay: &Replay,
    known: &Known,
    decided: &Decided<'_>,
    draft: &Bench,
) -> Result<(Verdict, Vec<(String, String)>), String> {
    let (_, now) = again(replay, known, decided)?;
    let intent = known.intent.as_ref().map_err(Clone::clone)?;
    let in_force = &replay.active.as_ref().map_err(Clone::clone)?.rules;
    if let Some(why) = draft.cannot_judge(intent, in_force) {
        return Err(why);
    }
    let asked = (intent, known.change.as_slice());
    if let Some(why) = draft.cannot_tell(&replay.ledger, asked, in_force, now) {
        return Err(why);
    }
    let weighed = draft.weigh(&replay.ledger, asked, in_force, now);
    let reason = |finding: &policy::Finding| (finding.rule.code().to_owned(), finding.text.clone());
    let reasons = weighed.findings.iter().map(reason).collect();
    Ok((weighed.verdict, reasons))
}

impl Line {
    fn print(&self, out: &mut impl Write) -> Result<()> {
        let Admitted { caller, key, lane, wallet, .. } = &self.admitted;
        let (when, id, was) = (time(self.unix_s), hex::encode(self.request), self.was.as_str());
        let tier = &self.tier;
        let who = words(&format!("{caller}, key {key}, lane {lane}, wallet {wallet} ({tier})"));
        writeln!(out, "entry {}  {when}  {id}\n  {who}", self.seq)?;
        match &self.by_draft {
            Err(why) => writeln!(out, "  {was} by policy {}; untold: {}", self.policy, words(why))?,
            Ok((verdict, reasons)) => {
                let verdict = verdict.as_str();
                writeln!(out, "  {was} by policy {}; by the draft: {verdict}", self.policy)?;
                for (code, text) in reasons {
                    writeln!(out, "    {code}: {}", words(text))?;
                }
            }
        }
        writeln!(out)?;
        Ok(())
    }

    fn json(&self) -> Value {
        let (verdict, reasons, untold) = match &self.by_draft {
            Ok((verdict, reasons)) => (Some(verdict.as_str()), reasons.as_slice(), None),
            Err(why) => (None, &[][..], Some(why)),
        };
        let reason = |(code, text): &(String, String)| json!({ "code": code, "text": text });
        json!({
            "entry": self.seq,
            "unix": self.unix_s,
            "request": hex::encode(self.request),
            "client": self.admitted.caller,
            "key": self.admitted.key,
            "lane": self.admitted.lane,
            "wallet": self.admitted.wallet,
            "tier": self.tier,
            "policy": self.policy,
            "was": self.was.as_str(),
            "by_draft": verdict,
            "reasons": reasons.iter().map(reason).collect::<Vec<_>>(),
            "untold": untold,
        })
    }
}

//! `officer policy explain`: one request, with everything that was and is said of it. What is computed here from the log is told
//! apart from what only the signer said.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use ::audit::entry::{Entry, Event};
use anyhow::{Result, bail};
use policy::intent::Destination;
use policy::usage::{Usage, usage};
use policy::{Finding, Intent};
use statement::Statement;

use super::bench::{Verdict, Weighed};
use super::simulate::again;
use super::{Decided, Known, Replay, told};
use crate::audit;
use crate::audit::source::Source;

/// A decision of the request's, as the log has it and as it comes out here.
pub(super) struct Judged {
    pub(super) seq: u64,
    pub(super) unix_s: u64,
    pub(super) policy: u64,
    pub(super) verdict: Verdict,
    /// Codes and sentences of a denial, and every rule looked at, in the signer's words.
    pub(super) reasons: Vec<(String, String)>,
    pub(super) trace: Vec<String>,
    pub(super) here: Result<Here, String>,
}

/// What was computed here.
pub(super) struct Here {
    pub(super) now_unix: u64,
    pub(super) weighed: Weighed,
    pub(super) usage: Vec<Usage>,
}

/// Everything of one request.
pub(super) struct Explained<'a> {
    pub(super) origin: String,
    pub(super) known: &'a Known,
    /// Of its wallet.
    pub(super) tier: String,
    pub(super) decisions: Vec<Judged>,
    /// What else the log has of it: entry, time, words.
    pub(super) said: Vec<(u64, u64, String)>,
    pub(super) ended: Option<&'static str>,
    /// Since and until when it waits.
    pub(super) waits: Option<(u64, u64)>,
    /// If it were asked again at the end of this log.
    pub(super) now: Option<Result<Here, String>>,
    pub(super) now_policy: Option<u64>,
    /// What the policy's lists and the address book call each script that is paid, at the end of this log.
    pub(super) names: BTreeMap<Vec<u8>, Vec<String>>,
}

/// What is collected while the log is read, of every request that might be meant.
#[derive(Default)]
struct Collected {
    decisions: HashMap<[u8; 16], Vec<Judged>>,
    said: HashMap<[u8; 16], Vec<(u64, u64, String)>>,
    ended: HashMap<[u8; 16], &'static str>,
}

/// `officer policy explain`.
///
/// # Errors
/// When the log does not hold, or has no such request, or several.
pub async fn explain(
    source: &mut Source,
    request: &str,
    key: [u8; 32],
    kept: &[String],
    json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let (mut replay, mut collected) = (Replay::default(), Collected::default());
    let mut look = |seq: u64, entry: &Entry| {
        replay.take(seq, entry, &mut |replay, known, decided| {
            if known.is_meant(request) {
                collected.judge(replay, known, decided);
            }
            Ok(())
        })?;
        collected.hear(&replay, request, seq, entry);
        Ok(())
    };
    let (report, _) = audit::read(source, key, kept, &mut look).await?;
    let id = match replay.find(request).as_slice() {
        [one] => *one,
        [] => bail!("the log has no request with this id or key"),
        several => {
            let ids: Vec<String> = several.iter().map(hex::encode).collect();
            bail!("several requests are called that: say which id: {}", ids.join(", "))
        }
    };
    let explained = collected.explained(&replay, id, report.origin)?;
    if json {
        writeln!(out, "{}", told::json(&explained))?;
        return Ok(());
    }
    told::text(&explained, out)
}

impl Collected {
    fn judge(&mut self, replay: &Replay, known: &Known, decided: &Decided<'_>) {
        let here = again(replay, known, decided).and_then(|(weighed, now_unix)| {
            let intent = known.intent.as_ref().map_err(Clone::clone)?;
            here(replay, intent, weighed, now_unix)
        });
        let reasons = decided.reasons.iter().map(|r| (r.code.clone(), r.text.clone())).collect();
        self.decisions.entry(decided.request).or_default().push(Judged {
            seq: decided.seq,
            unix_s: decided.unix_s,
            policy: decided.policy,
            verdict: decided.verdict,
            reasons,
            trace: decided.trace.to_vec(),
            here,
        });
    }

    /// What else an entry says of a request.
    fn hear(&mut self, replay: &Replay, text: &str, seq: u64, entry: &Entry) {
        let (request, words, ended) = match &entry.event {
            Event::Signed { request, .. } => (*request, "signed".to_owned(), Some("signed")),
            Event::PartlySigned { request, .. } => {
                (*request, "signed, for other cosigners".to_owned(), Some("signed in part"))
            }
            Event::Failed { request, reason } => {
                (*request, format!("not signed: {}", reason.text), None)
            }
            Event::WaitEnded { request, reason } => {
                (*request, format!("waits no longer: {}", reason.text), None)
            }
            Event::Withheld { request, reason, .. } => {
                let words = format!("is signed and held back for good: {}", reason.text);
                (*request, words, Some("signed, and held back"))
            }
            Event::OfficerSaid { statement, .. } | Event::OfficerSaidP256 { statement, .. } => {
                match Statement::parse(statement) {
                    Ok(said) => match said.says.about() {
                        Some(about) => {
                            let words = format!("{} said {}", said.officer, said.says.verb());
                            (about.request.0, words, None)
                        }
                        None => return,
                    },
                    Err(_) => return,
                }
            }
            _ => return,
        };
        if !replay.known(&request).is_some_and(|known| known.is_meant(text)) {
            return;
        }
        self.said.entry(request).or_default().push((seq, entry.unix_ms / 1000, words));
        if let Some(ended) = ended {
            self.ended.insert(request, ended);
        }
    }

    fn explained(mut self, replay: &Replay, id: [u8; 16], origin: String) -> Result<Explained<'_>> {
        let Some(known) = replay.known(&id) else { bail!("the log has no such request") };
        let ended = self.ended.get(&id).copied();
        let wait = replay.ledger.people().wait(policy::intent::RequestId(id));
        let now = ended.is_none().then(|| {
            let intent = known.intent.as_ref().map_err(Clone::clone)?;
            let bench = replay.active.as_ref().map_err(Clone::clone)?;
            let now = replay.ledger.latest_unix();
            let weighed = bench.weigh(&replay.ledger, (intent, &known.change), &bench.rules, now);
            here(replay, intent, weighed, now)
        });
        Ok(Explained {
            origin,
            known,
            tier: replay.tier(&known.admitted.wallet),
            decisions: self.decisions.remove(&id).unwrap_or_default(),
            said: self.said.remove(&id).unwrap_or_default(),
            ended,
            waits: wait.map(|wait| (wait.asked_unix, wait.expires_unix)),
            now,
            names: names(replay, known),
            now_policy: replay.active.as_ref().ok().map(|bench| bench.rules.version()),
        })
    }
}

fn names(replay: &Replay, known: &Known) -> BTreeMap<Vec<u8>, Vec<String>> {
    let (Ok(intent), Ok(bench)) = (&known.intent, &replay.active) else { return BTreeMap::new() };
    let now = replay.ledger.latest_unix();
    let paid = intent.transfers.iter().filter_map(|transfer| match &transfer.to {
        Destination::External { script, .. } => Some(script),
        _ => None,
    });
    paid.map(|script| (script.clone(), bench.names(&replay.ledger, script, now))).collect()
}

fn here(replay: &Replay, intent: &Intent, weighed: Weighed, now_unix: u64) -> Result<Here, String> {
    let bench = replay.active.as_ref().map_err(Clone::clone)?;
    let usage = usage(intent, &weighed.evidence, &bench.rules, now_unix);
    Ok(Here { now_unix, weighed, usage })
}

/// What stands in the way, and what would have to change.
pub(super) fn remedies(findings: &[Finding]) -> impl Iterator<Item = (&Finding, &'static str)> {
    findings.iter().map(|finding| (finding, finding.rule.remedy()))
}

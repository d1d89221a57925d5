//! A signer's log decided again, offline: each decision on the evidence that the log had then, by the policy that was in force
//! and by any other. It never believes that a decision was what its entry says, and says what the log does not carry.
//!
//! Reading order: `Replay` (entry after entry), `recall` (a request out of its entries), `places` (whose an output is),
//! [`bench`] (a policy and what it says), [`simulate`] and [`explain`] (the commands), `told` (in words and as JSON).

pub mod simulate;
pub mod explain;
mod told;
pub(crate) mod bench;
mod recall;
mod places;

use std::collections::HashMap;

use anyhow::{Context as _, Result, anyhow};
use audit::entry::{Admitted, Entry, Event, Reason};
use bitcoin::hashes::Hash as _;
use bitcoin::{ScriptBuf, Transaction};
use ledger::{Fold as _, Ledger};
use policy::Intent;
use policy::intent::SlotId;
use policy::names::WalletName;

use bench::{Bench, Verdict};

/// The log so far.
pub(crate) struct Replay {
    pub(crate) ledger: Ledger,
    /// The policy in force, or why this program cannot decide by it.
    pub(crate) active: Result<Bench, String>,
    network: String,
    requests: HashMap<[u8; 16], Known>,
    /// Where transactions that were given out pay to.
    given: HashMap<[u8; 32], Vec<ScriptBuf>>,
    /// Requests that came no further than the door.
    pub(crate) refused: u64,
}

/// A request that was readable.
pub(crate) struct Known {
    pub(crate) admitted: Admitted,
    /// What it would do, or why nobody can tell.
    pub(crate) intent: Result<Intent, String>,
    /// Which of its coins were change of transactions that this log had given out when it was decided on last.
    pub(crate) change: Vec<SlotId>,
}

impl Known {
    /// Whether its id begins like this, or its caller's key is this.
    pub(crate) fn is_meant(&self, text: &str) -> bool {
        let by_id = text.len() >= 8 && hex::encode(self.admitted.request).starts_with(text);
        by_id || self.admitted.key == text
    }
}

/// One decision that the log has.
pub(crate) struct Decided<'a> {
    pub(crate) seq: u64,
    /// When it was written, Unix seconds.
    pub(crate) unix_s: u64,
    pub(crate) request: [u8; 16],
    /// The policy that decided.
    pub(crate) policy: u64,
    pub(crate) verdict: Verdict,
    /// What it was denied for.
    pub(crate) reasons: &'a [Reason],
    /// Every rule looked at, in the signer's words.
    pub(crate) trace: &'a [String],
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            ledger: Ledger::new(),
            active: Err("no policy was in force yet".to_owned()),
            network: String::new(),
            requests: HashMap::new(),
            given: HashMap::new(),
            refused: 0,
        }
    }
}

impl Replay {
    /// Takes the next entry of a log that is being verified. A decision is shown to `look` on the log as it was when it was
    /// made.
    ///
    /// # Errors
    /// When it does not follow from those before, or `look` says so.
    pub(crate) fn take(
        &mut self,
        seq: u64,
        entry: &Entry,
        look: &mut impl FnMut(&Self, &Known, &Decided<'_>) -> Result<()>,
    ) -> Result<()> {
        self.learn(&entry.event);
        if let Some(decided) = decided(seq, entry) {
            self.find_change(&decided.request);
            let known = self.known(&decided.request).context("a decision on an unknown request")?;
            look(self, known, &decided)?;
        }
        self.ledger.apply(seq, entry).map_err(|error| anyhow!("entry {seq}: {error}"))?;
        if let Event::PolicyActivated { text, .. } = &entry.event {
            self.active = Bench::new(text, &self.network);
        }
        Ok(())
    }

    /// A request by its id.
    pub(crate) fn known(&self, request: &[u8; 16]) -> Option<&Known> {
        self.requests.get(request)
    }

    /// Where a wallet's keys are, as the log has it so far: by import or binding, else by the policy in force.
    pub(crate) fn tier(&self, wallet: &str) -> String {
        let name = WalletName::parse(wallet).ok();
        let bound = name.as_ref().and_then(|name| self.ledger.imports().wallet(name));
        let pinned = || {
            let rules = &self.active.as_ref().ok()?.rules;
            Some(rules.wallet(name.as_ref()?)?.tier.as_str().to_owned())
        };
        let tier = bound.map(|bound| bound.tier.clone()).or_else(pinned);
        tier.unwrap_or_else(|| "unknown".to_owned())
    }

    /// Every request whose id, or whose caller's key, begins like this.
    pub(crate) fn find(&self, text: &str) -> Vec<[u8; 16]> {
        let meant = self.requests.values().filter(|known| known.is_meant(text));
        let mut found: Vec<[u8; 16]> = meant.map(|known| known.admitted.request).collect();
        found.sort_unstable();
        found
    }

    fn learn(&mut self, event: &Event) {
        if let Some(begun) = event.begun() {
            begun.network.clone_into(&mut self.network);
            return;
        }
        let learnt = match event {
            Event::Refused { .. } => {
                self.refused = self.refused.saturating_add(1);
                return;
            }
            Event::Admitted(admitted) => {
                let why = "the log does not hold what it would do: it was denied by an older program, or is too large";
                let intent = Err(why.to_owned());
                let known = Known { admitted: admitted.clone(), intent, change: Vec::new() };
                self.requests.insert(admitted.request, known);
                return;
            }
            Event::Signed { transaction, .. } => return self.give(transaction),
            Event::Considered(considered) => considered.request,
            Event::Spend(spend) => spend.request,
            Event::Awaiting(awaiting) => awaiting.spend.request,
            _ => return,
        };
        let Some(known) = self.requests.get_mut(&learnt) else { return };
        if known.intent.is_ok() {
            return;
        }
        known.intent = match &mut self.active {
            Err(why) => Err(why.clone()),
            Ok(bench) => match event {
                Event::Considered(considered) => {
                    recall::considered(&known.admitted, considered, bench)
                }
                Event::Spend(spend) => recall::spend(&known.admitted, spend, bench),
                Event::Awaiting(awaiting) => recall::awaiting(&known.admitted, awaiting, bench),
                _ => return,
            },
        };
    }

    /// Which of its coins are change by now: its parents may have been given out since it was decided on first, and another policy be in force.
    fn find_change(&mut self, request: &[u8; 16]) {
        let Some(known) = self.requests.get_mut(request) else { return };
        if let (Ok(intent), Ok(bench)) = (&known.intent, &mut self.active) {
            let is_change = |slot: &&SlotId| {
                let script = paid_by(&self.given, slot);
                let highest = self.ledger.last_used(&intent.wallet, true);
                let place = script.zip(highest).and_then(|(script, highest)| {
                    bench.places.index(&intent.wallet, true, script, highest)
                });
                place.is_some()
            };
            let slots = intent.slots.iter().map(|slot| &slot.id);
            known.change = slots.filter(is_change).copied().collect();
        }
    }

    fn give(&mut self, transaction: &[u8]) {
        if let Ok(read) = bitcoin::consensus::deserialize::<Transaction>(transaction) {
            let scripts = read.output.iter().map(|output| output.script_pubkey.clone()).collect();
            self.given.insert(read.compute_txid().to_byte_array(), scripts);
        }
    }
}

/// The script that a coin is locked to, if a transaction that was given out made it.
fn paid_by<'a>(
    given: &'a HashMap<[u8; 32], Vec<ScriptBuf>>,
    coin: &SlotId,
) -> Option<&'a ScriptBuf> {
    let (txid, vout) = coin.0.split_at_checked(32)?;
    let vout = u32::from_le_bytes(vout.try_into().ok()?);
    given.get(txid)?.get(usize::try_from(vout).ok()?)
}

/// The decision that an entry is about.
fn decided(seq: u64, entry: &Entry) -> Option<Decided<'_>> {
    let (request, policy, verdict, reasons, trace) = match &entry.event {
        Event::Spend(spend) => {
            (spend.request, spend.policy, Verdict::Allowed, &[][..], &spend.trace[..])
        }
        Event::SpendAgain { request, policy, trace } => {
            (*request, *policy, Verdict::Allowed, &[][..], &trace[..])
        }
        Event::Denied { request, policy, reasons, trace } => {
            (*request, *policy, Verdict::Denied, &reasons[..], &trace[..])
        }
        Event::Awaiting(awaiting) => {
            let spend = &awaiting.spend;
            (spend.request, spend.policy, Verdict::Waits, &[][..], &spend.trace[..])
        }
        _ => return None,
    };
    let unix_s = entry.unix_ms / 1000;
    Some(Decided { seq, unix_s, request, policy, verdict, reasons, trace })
}

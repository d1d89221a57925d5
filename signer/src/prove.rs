//! Proves imported records in the background: each is unwrapped in the token, signed with, and checked against the
//! key that the account has there, before its index may be issued. It never goes past a record that failed,
//! and works only while nobody waits for the token.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use policy::names::WalletName;
use tokio::time::Instant;

use crate::ledger::Ledger;
use crate::log::{Lease, Log, LogError};
use crate::records::{Records, RecordsError};
use crate::token::{ProofJob, Token, TokenError};
use crate::wallets::{OwnKey, ScriptKind, Wallet, Wallets};

/// Records proven in one go: few, so that a request never waits long behind them.
const BATCH: u32 = 16;
/// A branch's watermark is written at most this often, except at the first batch and at the end.
const COMMIT_EVERY: Duration = Duration::from_secs(2);
/// Children of a sealed account's branch that sign: the first ones, one in the middle, the last.
const PROBES: [u32; 4] = [0, 1, 1 << 30, (1 << 31) - 1];
/// Wait after the token or the disk failed: the first, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Proves every record of every wallet that has records, from where the log says it stopped, each branch in its
/// turn. Ends when all are proven or failed. May be dropped at any moment: what was not written is proven again.
///
/// # Errors
/// [`LogError`] when the log takes no more entries.
pub async fn run(
    log: Arc<Log<Ledger>>,
    token: Arc<Token>,
    wallets: Arc<Wallets>,
) -> Result<(), LogError> {
    let mut branches = unfinished(&log, &token, &wallets);
    let mut wait = BACK_OFF.0;
    while let Some(mut branch) = branches.pop_front() {
        match branch.step(&token, log.lease()).await {
            Ok(()) => wait = BACK_OFF.0,
            Err(trouble) => {
                let wallet = branch.wallet.name();
                tracing::warn!(%wallet, "proving records waits {wait:?}: {trouble}");
                branch.commit(&log).await?;
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(BACK_OFF.1);
            }
        }
        if branch.finished() || branch.due() {
            branch.commit(&log).await?;
        }
        if !branch.finished() {
            branches.push_back(branch);
        }
    }
    Ok(())
}

/// Why a batch is tried again. Says nothing about the records.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Records(#[from] RecordsError),
    #[error("a task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// One branch on its way.
struct Branch {
    wallet: Arc<Wallet>,
    change: bool,
    bundle: [u8; 32],
    count: u32,
    /// Proven below this, written or not.
    below: u32,
    /// Written below this.
    written: u32,
    failed: Option<String>,
    committed: Option<Instant>,
}

fn unfinished(log: &Log<Ledger>, token: &Token, wallets: &Wallets) -> VecDeque<Branch> {
    // What the token is not asked for stays as it is.
    let asked = |wallet: &&Arc<Wallet>| {
        records(wallet).is_none_or(|records| token.bars(records.sealed().is_some()).is_none())
    };
    let start = |wallet: &Arc<Wallet>, change: bool| {
        let bundle = records(wallet)?.digest();
        log.read(|ledger| {
            let imported = ledger.imports().wallet(wallet.name())?;
            let same = imported.bundle == bundle && imported.descriptor == wallet.descriptor();
            let below = imported.proven(change);
            let ended = imported.failed(change).is_some() || below >= imported.records(change);
            (same && !ended).then(|| Branch {
                wallet: Arc::clone(wallet),
                change,
                bundle,
                count: imported.records(change),
                below,
                written: below,
                failed: None,
                committed: None,
            })
        })
    };
    wallets
        .iter()
        .filter(asked)
        .flat_map(|wallet| [start(wallet, false), start(wallet, true)])
        .flatten()
        .collect()
}

impl Branch {
    /// Proves the next few records.
    async fn step(&mut self, token: &Token, lease: &Lease) -> Result<(), Trouble> {
        let (wallet, bundle, change) = (Arc::clone(&self.wallet), self.bundle, self.change);
        let range = self.below..self.count.min(self.below.saturating_add(BATCH));
        if let Some(probes) = probes(&wallet, &bundle, change)? {
            let verdicts = token.prove(lease, wallet.name().as_str(), probes).await?;
            match verdicts.into_iter().find_map(Result::err) {
                None => self.below = self.count,
                Some(reason) => self.failed = Some(reason),
            }
            return Ok(());
        }
        let reading = move || read(&wallet, &bundle, change, range);
        let (jobs, damaged) = tokio::task::spawn_blocking(reading).await??;
        for proof in token.prove(lease, self.wallet.name().as_str(), jobs).await? {
            if let Err(reason) = proof {
                self.failed = Some(reason);
                return Ok(());
            }
            self.below = self.below.saturating_add(1);
        }
        self.failed = damaged;
        Ok(())
    }

    fn finished(&self) -> bool {
        self.failed.is_some() || self.below >= self.count
    }

    fn due(&self) -> bool {
        self.below > self.written
            && self.committed.is_none_or(|last| last.elapsed() >= COMMIT_EVERY)
    }

    /// Writes down how far the branch is.
    async fn commit(&mut self, log: &Log<Ledger>) -> Result<(), LogError> {
        // What is released on the strength of it waits for its checkpoint; a proof that was set aside is made again.
        log.note(|ledger| self.events(ledger)).await?;
        self.written = self.below;
        self.committed = Some(Instant::now());
        if let Some(reason) = &self.failed {
            let (wallet, index) = (self.wallet.name(), self.below);
            let branch = bundle::branch_name(self.change);
            tracing::error!(%wallet, "{branch} record {index} failed its proof: {reason}");
        }
        Ok(())
    }

    /// What is new to the ledger.
    fn events(&self, ledger: &Ledger) -> Vec<Event> {
        let (name, change): (&WalletName, _) = (self.wallet.name(), self.change);
        let Some(imported) = ledger.imports().wallet(name) else { return Vec::new() };
        if imported.bundle != self.bundle || imported.failed(change).is_some() {
            return Vec::new();
        }
        let wallet = || name.as_str().to_owned();
        let mut events = Vec::new();
        if self.below > imported.proven(change) {
            events.push(Event::Proven { wallet: wallet(), change, below: self.below });
        }
        if let Some(reason) = self.failed.clone() {
            events.push(Event::ProofFailed { wallet: wallet(), change, index: self.below, reason });
        }
        events
    }
}

fn records(wallet: &Wallet) -> Option<&Records> {
    wallet.own().first().and_then(OwnKey::records)
}

/// A sealed account has no records to prove one by one: every child follows from the account key, as every public key
/// from the xpub. Children far apart, whose signatures verify under keys that the xpub gave, show that the two belong
/// together. `None` for any other wallet.
fn probes(
    wallet: &Wallet,
    bundle: &[u8; 32],
    change: bool,
) -> Result<Option<Vec<ProofJob>>, Trouble> {
    let Some((records, account)) =
        records(wallet).and_then(|records| Some((records, records.sealed()?)))
    else {
        return Ok(None);
    };
    let taproot = wallet.kind() == ScriptKind::P2tr;
    let probe = |index: u32| {
        let key = records.public_key(change, index)?;
        Ok(ProofJob::sealed(bundle, (change, index), Arc::clone(account), taproot, key))
    };
    PROBES
        .into_iter()
        .map(probe)
        .collect::<Result<_, RecordsError>>()
        .map(Some)
        .map_err(Trouble::from)
}

/// Reads records and derives their keys, up to the first that is none; the reason is a verdict on that one. What
/// the disk says is no verdict.
fn read(
    wallet: &Wallet,
    bundle: &[u8; 32],
    change: bool,
    range: Range<u32>,
) -> Result<(Vec<ProofJob>, Option<String>), Trouble> {
    let mut jobs = Vec::new();
    for index in range {
        let record = match records(wallet).map(|records| records.get(change, index)) {
            Some(Ok(record)) => record,
            Some(Err(RecordsError::Bundle {
                source: source @ bundle::Error::Record { .. },
                ..
            })) => {
                return Ok((jobs, Some(source.to_string())));
            }
            Some(Err(error)) => return Err(error.into()),
            None => return Ok((jobs, Some("its bundle is not here".to_owned()))),
        };
        // `get` derived this key from the account's xpub and compared; the record is not taken at its word.
        let key = record.public_key;
        let Some(by) = records(wallet).and_then(Records::wrapped_by) else {
            return Ok((jobs, Some("its scheme is unknown here".to_owned())));
        };
        jobs.push(ProofJob::new(bundle, change, index, (by, record.wrapped.into()), key));
    }
    Ok((jobs, None))
}

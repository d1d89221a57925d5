//! The sanctions list: a file that is looked at again while the signer runs, signed by a screener of the policy. A list
//! counts once the log names it. It never takes an older list for a newer one, and keeps the last good one.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use audit::entry::Event;
use policy::facts::Stated;
use policy::intent::{Destination, Intent, SlotId};
use statement::StatementError;
use statement::fact::AHEAD_SECONDS;
use statement::sanctions::{self, Listed, SANCTIONS_BYTES_MAX};

use crate::app::{App, blocking};
use crate::ledger::Ledger;
use crate::log::Step;
use crate::officers::notices::Topic;
use crate::refusal::Refusal;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The list in memory: the one that counts, and while a newer one is written down that one too, so that at no moment
/// neither is here.
#[derive(Debug, Default)]
pub struct Sanctions(RwLock<Vec<Arc<List>>>);

#[derive(Debug)]
struct List {
    digest: [u8; 32],
    scripts: HashSet<Vec<u8>>,
    coins: HashSet<SlotId>,
}

/// Which file was looked at last: its number, its length, when it was written.
pub type Seen = Option<(u64, u64, i64, i64)>;

/// Why a file is no list that may count.
#[derive(Debug, thiserror::Error)]
pub enum SanctionsError {
    /// It is not there, or cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A link, a pipe, a folder.
    #[error("it is no file: write the list beside it, and rename it")]
    NoFile,
    /// Longer than any list.
    #[error("it is longer than {SANCTIONS_BYTES_MAX} bytes")]
    TooLong,
    /// Not what its signature holds for, or a line is wrong.
    #[error("{0}")]
    Format(#[from] StatementError),
    /// Nobody of the policy made it.
    #[error("the policy in force has no screener \"{0}\", or no longer")]
    Screener(String),
    /// It is for another network.
    #[error("it is for {found}, and this signer is for {ours}")]
    Network {
        /// Its own.
        found: String,
        /// Ours.
        ours: String,
    },
    /// A line is no address of this network.
    #[error("\"{0}\" is no address of this network: leave out what is another's")]
    Address(String),
    /// It would take the place of a newer one.
    #[error("it was made at {made}, and the list that counts at {last}: only a newer one follows")]
    Older {
        /// When it was made.
        made: u64,
        /// When the one that counts was.
        last: u64,
    },
    /// It was made in the future.
    #[error("it was made at {made}, and it is {now}: a clock is wrong")]
    Future {
        /// When it says it was made.
        made: u64,
        /// Now.
        now: u64,
    },
    /// It could not be written down.
    #[error("{0}")]
    Log(Refusal),
}

impl Sanctions {
    /// How many destinations and coins of an intent are on the list with this digest; `None`: it is not here.
    #[must_use]
    pub fn hits(&self, digest: &[u8; 32], intent: &Intent) -> Option<u32> {
        let lists = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let list = lists.iter().find(|list| list.digest == *digest).map(Arc::clone);
        drop(lists);
        let list = list?;
        let scripts = intent.transfers.iter().filter_map(|transfer| match &transfer.to {
            Destination::External { script, .. } => Some(script),
            Destination::Cold { .. } | Destination::Change { .. } => None,
        });
        let scripts: BTreeSet<_> = scripts.collect();
        let scripts = scripts.into_iter().filter(|script| list.scripts.contains(*script)).count();
        let coins = intent.slots.iter().filter(|slot| list.coins.contains(&slot.id)).count();
        Some(u32::try_from(scripts.saturating_add(coins)).unwrap_or(u32::MAX))
    }

    /// Adds a list, before the log is told of it.
    fn add(&self, list: List) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lists.push(Arc::new(list));
    }

    /// Forgets all but the list that counts.
    fn keep(&self, digest: Option<[u8; 32]>) {
        let mut lists = self.0.write().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|list| Some(list.digest) == digest);
        lists.dedup_by_key(|list| list.digest);
    }
}

/// Looks for as long as the signer runs.
pub async fn run(app: Arc<App>, path: PathBuf, mut seen: Seen) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        look(&app, &path, &mut seen).await;
    }
}

/// One look; what is wrong is said once for each file.
pub async fn look(app: &App, path: &Path, seen: &mut Seen) {
    let found = identity(path);
    if found.is_some() && found == *seen {
        return;
    }
    let why = match take(app, path).await {
        Ok(()) => None,
        // Tried again: the file is not at fault.
        Err(SanctionsError::Log(refusal)) => {
            return tracing::error!("a sanctions list could not be written down: {refusal}");
        }
        Err(why) => Some(why),
    };
    let news = *seen != found || found.is_none() && seen.is_some();
    *seen = found;
    if let Some(why) = why.filter(|_| news) {
        let text = format!("the sanctions list {} was not taken: {why}", path.display());
        tracing::error!("{text}");
        app.notices.tell("alarm", Topic::NONE, &[("sanctions", &text)]);
    }
}

fn identity(path: &Path) -> Seen {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

async fn take(app: &App, path: &Path) -> Result<(), SanctionsError> {
    let file = path.to_owned();
    let read = blocking(move || Ok(read(&file))).await.map_err(SanctionsError::Log)?;
    let text = read?;
    let by = sanctions::claimed(&text)?;
    let now = app.log.read(|ledger| ledger.not_before_latest(app.clock.unix_seconds()));
    let key = app.rules.fact_key(Stated::Sanctions, &by, now);
    let nobody = || SanctionsError::Screener(by.to_string());
    let key = key.ok_or_else(nobody)?;
    let list = blocking(move || Ok(sanctions::verify(&text, &key))).await;
    let list = list.map_err(SanctionsError::Log)??;
    let ours = app.rules.network().chain_id().to_string();
    if list.network != ours {
        return Err(SanctionsError::Network { found: list.network, ours });
    }
    let made = list.made_unix;
    if made > now.saturating_add(AHEAD_SECONDS) {
        return Err(SanctionsError::Future { made, now });
    }
    let (mut scripts, mut coins) = (HashSet::new(), HashSet::new());
    for entry in &list.entries {
        match entry {
            Listed::Address(address) => {
                let script = app.wallets.script_of(address);
                let script = script.map_err(|_| SanctionsError::Address(address.clone()))?;
                scripts.insert(script.into_bytes());
            }
            Listed::Script(script) => drop(scripts.insert(script.clone())),
            Listed::Coin(coin) => drop(coins.insert(*coin)),
        }
    }
    let digest = list.digest;
    let event = Event::SanctionsRead {
        digest,
        made_unix: made,
        count: u64::try_from(list.entries.len()).unwrap_or(u64::MAX),
        by: by.to_string(),
        key,
    };
    // Its key may have ended while the list was read.
    let has_key = |ledger: &Ledger| {
        let now = ledger.not_before_latest(app.clock.unix_seconds());
        app.rules.fact_key(Stated::Sanctions, &by, now) == Some(key)
    };
    let step = |ledger: &Ledger| match ledger.facts().sanctions() {
        _ if !has_key(ledger) => Step::nothing(Err(nobody())),
        // The same file after a start.
        Some(last) if last.digest == digest && last.key == key => Step::nothing(Ok(())),
        Some(last) if made <= last.made_unix => {
            Step::nothing(Err(SanctionsError::Older { made, last: last.made_unix }))
        }
        _ => Step::write(vec![event], Ok(())),
    };
    app.sanctions.add(List { digest, scripts, coins });
    let written = app.log.commit(step).await;
    app.sanctions.keep(app.log.read(|ledger| ledger.facts().sanctions().map(|read| read.digest)));
    written.map_err(|error| SanctionsError::Log(error.into()))?.1?;
    tracing::info!(entries = list.entries.len(), made, "a sanctions list counts");
    Ok(())
}

fn read(path: &Path) -> Result<String, SanctionsError> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(SanctionsError::NoFile);
    }
    let most = u64::try_from(SANCTIONS_BYTES_MAX).unwrap_or(u64::MAX);
    let mut text = String::new();
    fs::File::open(path)?.take(most.saturating_add(1)).read_to_string(&mut text)?;
    if text.len() > SANCTIONS_BYTES_MAX {
        return Err(SanctionsError::TooLong);
    }
    Ok(text)
}

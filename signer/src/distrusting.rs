//! Writes into the log that a token signed wrongly. What it is to say lies in the state folder, beside the mark of distrust,
//! from when it was seen until a checkpoint covers it: where no token is left to sign one, whoever opens the log next writes
//! it. It never asks the token for anything itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;

use crate::app::App;
use crate::ledger::Ledger;
use crate::log::{Log, LogError, Step};
use crate::start::StartError;
use crate::token::{Distrust, TokenError, state_dirs};

/// How often it is looked whether a checkpoint covers what is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has in the log what its own folder and its standbys' have for it, under a checkpoint.
///
/// # Errors
/// When log or state folder cannot be written.
pub(crate) async fn note(log: &Log<Ledger>, state_dir: &Path) -> Result<(), StartError> {
    let kept = Kept::read(state_dir, &BTreeMap::new())?;
    if !kept.events.is_empty() {
        log.commit(|_| Step::write(kept.events, ())).await?;
    }
    Ok(logged(&kept.counts)?)
}

/// Writes it down as it happens, until it is stopped, which it may be anywhere, or the log takes nothing more.
pub(crate) async fn run(app: Arc<App>) {
    let (_, state_dir) = app.token.operations();
    // Written, and under no checkpoint yet: how many of each folder, and the log's size then.
    let (mut written, mut due) = (BTreeMap::new(), None);
    loop {
        let kept = match Kept::read(state_dir, &written) {
            Ok(kept) => kept,
            Err(error) => return tracing::error!("distrust of a token is not logged: {error}"),
        };
        if !kept.events.is_empty() {
            let committed = app.log.commit(|_| Step::write(kept.events, ())).await;
            written = kept.counts;
            due = match committed {
                Ok(_) => Some(0),
                Err(LogError::Uncovered(_) | LogError::Unwitnessed(_)) => {
                    Some(app.log.status().head.size)
                }
                Err(error) => return tracing::error!("distrust of a token is not logged: {error}"),
            };
        }
        if due.is_some_and(|due| due <= app.log.status().checkpointed) {
            if let Err(error) = logged(&written) {
                tracing::error!("distrust of a token will be logged twice: {error}");
                return;
            }
            written.clear();
            due = None;
        }
        tokio::select! {
            () = app.token.went_wrong() => {}
            () = tokio::time::sleep(LOOK_EVERY), if due.is_some() => {}
        }
    }
}

/// What lies there for the log.
struct Kept {
    events: Vec<Event>,
    /// How many there are of each folder, those included that were written before.
    counts: BTreeMap<PathBuf, usize>,
}

impl Kept {
    fn read(state_dir: &Path, written: &BTreeMap<PathBuf, usize>) -> Result<Self, TokenError> {
        let mut kept = Self { events: Vec::new(), counts: BTreeMap::new() };
        for dir in state_dirs(state_dir) {
            let events = Distrust::in_dir(&dir).kept()?;
            let before = written.get(&dir).copied().unwrap_or_default();
            let count = events.len();
            kept.events.extend(events.into_iter().skip(before));
            kept.counts.insert(dir, count);
        }
        Ok(kept)
    }
}

fn logged(counts: &BTreeMap<PathBuf, usize>) -> Result<(), TokenError> {
    counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .try_for_each(|(dir, count)| Distrust::in_dir(dir).logged(*count))
}

//! Frees clients that were locked, by what officers signed: a statement like their others, over the wire or in the inbox, or a file
//! that whoever has the host puts into `free` in the state folder, also for officers whom the configuration alone names. It never
//! frees on the word of the host alone, and frees from one lock once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use audit::freeing::{BYTES_MAX, Freeing};
use policy::Rules;
use policy::names::{ClientName, KeyName};
use policy::people::OfficerKey;

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::ledger::Ledger;
use crate::log::Step;
use crate::refusal::{Reason, Refusal};

/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Files read at one look.
const FILES_MAX: usize = 64;

/// The folder in one state folder.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("free")
}

/// Who may free a client: the officers whom the policy in force names and has not revoked, or those of the configuration where
/// it names none.
///
/// # Errors
/// [`ConfigError::Officer`].
pub fn officers(config: &Config, rules: &Rules) -> Result<Vec<(KeyName, OfficerKey)>, ConfigError> {
    if rules.people().is_empty() {
        return config.officers.pinned();
    }
    // Freeing is a yes, and that of a revoked officer counts nowhere.
    let officers = rules.people().iter().filter(|officer| !officer.revoked);
    Ok(officers.map(|officer| (officer.name.clone(), officer.key)).collect())
}

/// Looks at the folder for ever.
pub async fn run(app: Arc<App>, state_dir: PathBuf, officers: Vec<(KeyName, OfficerKey)>) {
    let folder = folder(&state_dir);
    if let Err(error) = fs::create_dir_all(&folder) {
        tracing::error!("cannot make {}: {error}", folder.display());
    }
    loop {
        for file in files(&folder) {
            take(&app, &file, &officers).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One file: what it says is done and it is removed, or it is set aside with the reason.
async fn take(app: &App, file: &Path, officers: &[(KeyName, OfficerKey)]) {
    match free(app, file, officers).await {
        Ok(client) => {
            tracing::warn!(client, "freed by an officer");
            // Read again, it would free nobody: the lock is gone.
            if let Err(error) = fs::remove_file(file) {
                tracing::warn!("cannot remove {}: {error}", file.display());
            }
        }
        Err(reason) => {
            tracing::error!("{} frees nobody: {reason}", file.display());
            let aside = file.with_extension("refused");
            if let Err(error) = fs::rename(file, aside) {
                tracing::warn!("cannot set {} aside: {error}", file.display());
            }
        }
    }
}

async fn free(
    app: &App,
    file: &Path,
    officers: &[(KeyName, OfficerKey)],
) -> Result<String, String> {
    let length = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > u64::try_from(BYTES_MAX).unwrap_or(u64::MAX) {
        return Err("it is too long".to_owned());
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let is_by = |name: &str, text: &[u8], signature: &[u8; 64]| {
        let officer = officers.iter().find(|(officer, _)| officer.as_str() == name);
        officer.is_some_and(|(_, key)| key.verifies(text, signature))
    };
    let (asked, signed) = Freeing::verify(&text, is_by).map_err(|error| error.to_string())?;
    let origin = &app.log.opening().origin;
    if *origin != asked.log {
        return Err(format!("it is for the log {}, and this is {origin}", asked.log));
    }
    let event = Event::ClientFreed {
        client: asked.client.clone(),
        lock: asked.lock,
        officers: signed,
        reason: asked.reason.clone(),
    };
    let step = |ledger: &Ledger| match is_locked(ledger, &asked.client, asked.lock) {
        Ok(()) => Step::write(vec![event], None),
        Err(reason) => Step::nothing(Some(reason)),
    };
    let (_permit, refused) = app.log.commit(step).await.map_err(|error| error.to_string())?;
    refused.map_or(Ok(asked.client), Err)
}

/// An officer's statement frees it: what is to be written beside that, and what came of it.
pub(crate) fn by_statement(
    ledger: &Ledger,
    officer: &KeyName,
    (client, lock, reason): (&ClientName, u64, &str),
) -> Result<(Vec<Event>, String), Refusal> {
    is_locked(ledger, client.as_str(), lock)
        .map_err(|reason| Refusal::new(Reason::StatementNothing, reason))?;
    let freed = Event::ClientFreed {
        client: client.to_string(),
        lock,
        officers: vec![officer.to_string()],
        reason: reason.to_owned(),
    };
    Ok((vec![freed], format!("{client} may come in again")))
}

fn is_locked(ledger: &Ledger, client: &str, lock: u64) -> Result<(), String> {
    match ledger.locks().of(client) {
        Some(locked) if locked == lock => Ok(()),
        Some(locked) => Err(format!("the client is locked by entry {locked}")),
        None => Err("the client is not locked".to_owned()),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let free = paths.filter(|path| path.extension().is_some_and(|end| end == "free"));
    free.take(FILES_MAX).collect()
}

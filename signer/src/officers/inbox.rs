//! Statements as files, for the hour in which certificates or the network are gone: whoever runs the host puts them into a
//! folder of the state directory. They are verified like all others; one that does not count is set aside with its reason.
//! It never reads more than a statement's length, and never leaves a file where it was.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use statement::said::SIGNED_BYTES_MAX;
use statement::{Deed, Says, Signed, Statement, Task};

use super::hear::hear;
use super::{revocations, wait};
use crate::app::{App, blocking};
use crate::refusal::{Reason, Refusal};

/// Ends the name of a statement that is whole: write it under another name, then rename it.
pub const ENDING: &str = "statement";
/// How the names of freezes begin that were kept while no log was open: they are heard first, whatever else lies there, and before
/// anybody is served all of them.
pub(super) const FIRST: &str = "freeze";
/// How often it is looked into the folder.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files looked at in one look, and files kept that were set aside.
pub(super) const FILES_MAX: usize = 64;

/// The folder in a state directory.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("inbox")
}

/// Looks for as long as the signer runs, and ends waits whose time is up.
pub async fn run(app: Arc<App>, state_dir: PathBuf) {
    let folder = folder(&state_dir);
    loop {
        if let Err(refusal) = look(&app, &state_dir).await {
            tracing::error!("statements in {} could not be read: {refusal}", folder.display());
        }
        if let Err(error) = wait::end_expired(&app).await {
            tracing::error!("what waited too long could not be ended: {error}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// One look.
///
/// # Errors
/// [`Refusal`] when the folder cannot be read, or a file not be taken out of it.
pub async fn look(app: &App, state_dir: &Path) -> Result<(), Refusal> {
    let left = take(app, state_dir, files, |_| true).await?;
    revocations::settle(app, state_dir).await?;
    left.map_or(Ok(()), Err)
}

/// One look for freezes alone, before anybody is served: they are to hold from the first request on. All that are named as freezes
/// are heard, however many files are, and of those under other names the first few. What is said of single requests has its time
/// later, while nothing counts that witnesses have not seen anew.
///
/// # Errors
/// As for [`look`].
pub async fn look_for_freezes(app: &App, state_dir: &Path) -> Result<(), Refusal> {
    take(app, state_dir, files_and_freezes, is_freeze).await?.map_or(Ok(()), Err)
}

/// Takes in what is asked for of the files that are found; says why something was left for the next look.
async fn take(
    app: &App,
    state_dir: &Path,
    find: fn(&Path) -> std::io::Result<Vec<PathBuf>>,
    is_asked: impl Fn(&Result<Signed, Refusal>) -> bool,
) -> Result<Option<Refusal>, Refusal> {
    let place = folder(state_dir);
    let mut left = None;
    let found = blocking(move || find(&place).map_err(|error| trouble(&place, &error))).await?;
    for file in found {
        let read = file.clone();
        let signed = blocking(move || Ok(read_statement(&read))).await?;
        if !is_asked(&signed) {
            continue;
        }
        let heard = match signed {
            Ok(signed) if is_for_a_list(&signed) => {
                revocations::hear_late(app, state_dir, signed).await
            }
            Ok(signed) => hear(app, signed, "file").await,
            Err(refusal) => Err(refusal),
        };
        let why = match heard {
            Ok(heard) => {
                tracing::info!(file = %file.display(), "taken in: {}", heard.said);
                None
            }
            // Not the statement's fault: it stays for the next look, and keeps no other from being heard.
            Err(refusal) if is_passing(refusal.reason) => {
                left = Some(refusal);
                continue;
            }
            Err(refusal) => Some(refusal),
        };
        blocking(move || done(&file, why.as_ref())).await?;
    }
    Ok(left)
}

/// Whether a revocation list may be in force by it.
fn is_for_a_list(signed: &Signed) -> bool {
    let said = Statement::parse(&signed.statement).map(|said| said.says);
    matches!(said, Ok(Says::Administer(Task { deed: Deed::Revocations(_), .. })))
}

/// Whether it says nothing against the statement.
fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::LogUnavailable
            | Reason::TokenUnavailable
            | Reason::WitnessUnavailable
            | Reason::Busy
    )
}

/// The first few, by name, and before all others those of [`FIRST`].
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let named = |path: &PathBuf| path.extension().is_some_and(|ending| ending == ENDING);
    let paths = entries.take(FILES_MAX.saturating_mul(64)).flatten().map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(named).collect();
    paths.sort_by_cached_key(|path| (!is_first(path), path.clone()));
    paths.truncate(FILES_MAX);
    Ok(paths)
}

/// Whether it says that something is frozen, whoever signed it.
fn is_freeze(signed: &Result<Signed, Refusal>) -> bool {
    let said = signed.as_ref().ok().and_then(|said| Statement::parse(&said.statement).ok());
    said.is_some_and(|said| matches!(said.says, Says::Freeze(_)))
}

/// Whether it is a freeze by its name and by what it says.
pub(super) fn is_kept_freeze(path: &Path) -> bool {
    is_first(path) && is_freeze(&read_statement(path))
}

fn is_first(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(FIRST))
}

/// All those of [`FIRST`], and the first few of the others, which no number of the former pushes out.
fn files_and_freezes(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let dotted = format!(".{ENDING}");
    let mut found = named(folder, |name| name.starts_with(FIRST) && name.ends_with(&dotted))?;
    let mut others = named(folder, |name| !name.starts_with(FIRST) && name.ends_with(&dotted))?;
    found.sort();
    others.sort();
    others.truncate(FILES_MAX);
    found.extend(others);
    Ok(found)
}

/// All whose names are such.
pub(super) fn named(folder: &Path, is: impl Fn(&str) -> bool) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

pub(super) fn read_statement(file: &Path) -> Result<Signed, Refusal> {
    let bad = |text: String| Refusal::new(Reason::StatementFormat, text);
    // Neither followed nor waited for: a link or a pipe is no statement.
    if !fs::symlink_metadata(file).is_ok_and(|meta| meta.is_file()) {
        return Err(bad("it is no file".to_owned()));
    }
    let opened = fs::File::open(file);
    let opened = opened.map_err(|error| bad(format!("it cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    let most = u64::try_from(SIGNED_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = opened.take(most).read_to_end(&mut bytes);
    read.map_err(|error| bad(format!("it cannot be read: {error}")))?;
    Signed::from_file(&bytes).map_err(|error| bad(error.to_string()))
}

/// Takes it out of the folder: what counted is in the log, what did not is kept beside its reason, as many as there is
/// room for.
fn done(file: &Path, why: Option<&Refusal>) -> Result<(), Refusal> {
    let aside = file.parent().map(|folder| folder.join("refused")).unwrap_or_default();
    let removed = match why {
        None => fs::remove_file(file),
        Some(why) => {
            tracing::warn!(file = %file.display(), "a statement was set aside: {why}");
            set_aside(file, &aside, why).or_else(|_| fs::remove_file(file))
        }
    };
    removed.or_else(|_| fs::remove_dir(file)).map_err(|error| trouble(file, &error))
}

fn set_aside(file: &Path, aside: &Path, why: &Refusal) -> std::io::Result<()> {
    fs::create_dir_all(aside)?;
    let name = file.file_name().ok_or(std::io::ErrorKind::NotFound)?;
    let mut reason = aside.join(name).into_os_string();
    reason.push(".why");
    let is_full = fs::read_dir(aside)?.count() >= FILES_MAX.saturating_mul(2);
    if is_full && !aside.join(name).exists() {
        tracing::warn!("{} is full: the file is not kept", aside.display());
        return fs::remove_file(file);
    }
    fs::write(reason, format!("{why}\n"))?;
    fs::rename(file, aside.join(name))
}

pub(super) fn trouble(path: &Path, error: &std::io::Error) -> Refusal {
    let text = format!("{}: {error}", path.display());
    Refusal::new(Reason::Internal, text)
}

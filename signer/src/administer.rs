//! What a person at the signer's machine does only with officers' signatures, where the policy in force says so
//! (`administer` under `[governance]`): their statements come as files, are verified, written down and used up once. It never
//! counts one for another log, token or task, and never does what they are for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;
use policy::Rules;
use policy::names::KeyName;
use statement::{Deed, Says, Signed, Statement, Task};

use crate::config::Config;
use crate::governing::governed_by;
use crate::ledger::Ledger;
use crate::log::{Clock, Log, Step};
use crate::officers::hear::entry;
use crate::officers::{VALID_SECONDS_MAX, holds};
use crate::start::{StartError, lost, open_log, open_lost_log};
use crate::token::{Token, write_durably};

/// Where the number of this machine's site is kept.
pub(crate) const SITE: &str = "site";

/// Takes in the statements in these files, and returns when enough officers have said that this may be done, now. Where nobody
/// must be asked, there is nothing to do.
///
/// # Errors
/// Saying which file does not count and why, or who must still sign what.
pub async fn by_quorum(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
    task: &Task,
    files: &[PathBuf],
) -> anyhow::Result<()> {
    let rules = governed_by(log, config).await?;
    let Some(rules) = rules.filter(|rules| rules.administer().is_some()) else {
        ensure!(
            files.is_empty(),
            "the policy in force asks no officers for this: leave the statements away"
        );
        return Ok(());
    };
    for file in files {
        hear(log, &rules, clock, task, file)
            .await
            .with_context(|| format!("{} does not count", file.display()))?;
    }
    let now = log.read(|ledger| ledger.not_before_latest(clock.unix_seconds()));
    let by = log.read(|ledger| said_so(ledger, &rules, task, now));
    if rules.may_administer(&by.iter().collect()) {
        tracing::warn!(task = %task.deed, token = task.token, by = names(&by), "officers let this be done");
        return Ok(());
    }
    let (quorum, origin) = (rules.administer().map(ToString::to_string), &log.opening().origin);
    bail!(
        "the policy in force has this done by {} alone, and so far said so: [{}]. Each of them signs, for the log {origin}: officer administer {} --token {} --offline FILE. Then give the files to this command (--statement FILE)",
        quorum.unwrap_or_default(),
        names(&by),
        task.deed,
        task.token
    )
}

/// The same for several tasks at once: each file goes to the one that its statement names. Nothing is to be done without tasks.
///
/// # Errors
/// As [`by_quorum`], and when a file is for none of them.
pub async fn each_by_quorum(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
    tasks: &[Task],
    files: &[PathBuf],
) -> anyhow::Result<()> {
    let mut sorted: Vec<Vec<PathBuf>> = vec![Vec::new(); tasks.len()];
    for file in files {
        let place = {
            let signed = Signed::from_file(&fs::read(file)?)?;
            let said = Statement::parse(&signed.statement)?.says;
            tasks.iter().position(|task| matches!(&said, Says::Administer(about) if about == task))
        };
        let of_task = place.and_then(|place| sorted.get_mut(place));
        of_task
            .with_context(|| format!("{} is for nothing that is to be done here", file.display()))?
            .push(file.clone());
    }
    // All are heard, also where one of them is not enough yet.
    let mut lacking = Ok(());
    for (task, files) in tasks.iter().zip(sorted) {
        let asked = by_quorum(log, config, clock, task, &files).await;
        lacking = lacking.and(asked);
    }
    lacking
}

/// One officer's statement, written down once.
async fn hear(
    log: &Log<Ledger>,
    rules: &Rules,
    clock: &Clock,
    task: &Task,
    file: &Path,
) -> anyhow::Result<()> {
    let signed = Signed::from_file(&fs::read(file)?)?;
    let claimed = Statement::parse(&signed.statement)?;
    let officer = rules.officer(&claimed.officer);
    let officer = officer
        .with_context(|| format!("the policy in force has no officer \"{}\"", claimed.officer))?;
    let said = signed.verify(&officer.key)?;
    let (origin, network) = (&log.opening().origin, rules.network().chain_id().to_string());
    ensure!(said.log == *origin, "it is for the log {}, and this is {origin}", said.log);
    ensure!(
        said.network == network,
        "it is for {}, and this signer is for {network}",
        said.network
    );
    let Says::Administer(about) = &said.says else {
        bail!("it says {}, and not that anything may be done here", said.says.verb())
    };
    ensure!(
        about == task,
        "it is for `{}` with token {}, and this is `{}` with token {}",
        about.deed,
        about.token,
        task.deed,
        task.token
    );
    let event = entry(&signed, &officer.key, "file");
    let step = |ledger: &Ledger| {
        let now = ledger.not_before_latest(clock.unix_seconds());
        let already = ledger.people().task(task);
        if already.iter().any(|word| word.statement == said.digest()) {
            // Heard before, for this, and not used up: an earlier try was cut off.
            Step::nothing(Ok(()))
        } else if ledger.people().is_used(&said.officer, said.nonce) {
            Step::nothing(
                Err("it was counted before, and counts once: sign another one".to_owned()),
            )
        } else if now > said.expires_unix {
            Step::nothing(Err(format!("it ended at {}, and it is {now}", said.expires_unix)))
        } else if said.expires_unix > now.saturating_add(VALID_SECONDS_MAX) {
            Step::nothing(Err("a statement is valid for at most 31 days".to_owned()))
        } else {
            Step::write(vec![event], Ok(()))
        }
    };
    let (_, taken) = log.commit(step).await?;
    taken.map_err(anyhow::Error::msg)
}

/// Whose word for this holds.
fn said_so(ledger: &Ledger, rules: &Rules, task: &Task, now_unix: u64) -> BTreeSet<KeyName> {
    let about = |says: &Says| matches!(says, Says::Administer(about) if about == task);
    let words = ledger.people().task(task).iter();
    let holding = words.filter(|word| holds(rules, word, now_unix, about));
    holding.map(|word| word.officer.clone()).collect()
}

fn names(by: &BTreeSet<KeyName>) -> String {
    by.iter().map(KeyName::as_str).collect::<Vec<_>>().join(", ")
}

/// Whether this machine, with this token, may serve. The first one under a policy that asks is the one that is there.
///
/// # Errors
/// [`StartError::Site`] where officers must activate it first.
pub async fn site_serves(
    log: &Log<Ledger>,
    state_dir: &Path,
    rules: &Rules,
    serial: &str,
) -> Result<(), StartError> {
    if rules.administer().is_none() {
        return Ok(());
    }
    let site = site(state_dir)?;
    let known = |ledger: &Ledger| ledger.people().sites().contains(&(site, serial.to_owned()));
    if log.read(known) {
        return Ok(());
    }
    if !log.read(|ledger| ledger.people().sites().is_empty()) {
        let (site, token) = (hex::encode(site), serial.to_owned());
        return Err(StartError::Site { site, token });
    }
    log.commit(|_| Step::write(vec![activated(site, serial)], ())).await?;
    Ok(())
}

/// `signer activate`: officers let this machine serve with this token. Where the state folder lost its checkpoint, they let it be used
/// again, or a reason does where nobody is asked.
///
/// # Errors
/// When it may not be, or the log cannot be opened.
pub async fn activate_here(
    config: &Config,
    token: &Arc<Token>,
    files: &[PathBuf],
    reason: Option<&str>,
) -> anyhow::Result<()> {
    let (clock, serial) = (Clock::system(), token.info().serial);
    if !lost::is_lost(config)? {
        ensure!(
            reason.is_none(),
            "the state folder did not lose its checkpoint: no reason is asked for"
        );
        let log = open_log(config, token, clock.clone()).await?;
        let activated = activate(&log, config, &clock, &serial, files).await;
        log.close().await?;
        return activated;
    }
    lost::begin(config, reason)?;
    let log = open_lost_log(config, token, clock.clone()).await?;
    let let_be_used = match reason {
        // It is in the log by now.
        Some(_) => Ok(()),
        None => again(&log, config, &clock, &serial, files).await,
    };
    log.close().await?;
    let_be_used?;
    lost::end(config)
}

/// Officers let it be used again, whom the log's policy must ask as the one that was in force here last does.
async fn again(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
    serial: &str,
    files: &[PathBuf],
) -> anyhow::Result<()> {
    let rules = governed_by(log, config).await?;
    ensure!(
        rules.is_some_and(|rules| rules.administer().is_some()),
        "the policy that was in force here last asks officers, and the database's is one that asks none: it is an old one, restore the newest"
    );
    activate(log, config, clock, serial, files).await
}

/// Officers let the machine serve.
///
/// # Errors
/// When too few of them signed for it, or the log does not take it.
pub async fn activate(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
    serial: &str,
    files: &[PathBuf],
) -> anyhow::Result<()> {
    let site = site(&config.state_dir)?;
    let task = Task { deed: Deed::Activate(site), token: serial.to_owned() };
    by_quorum(log, config, clock, &task, files).await?;
    log.commit(|_| Step::write(vec![activated(site, serial)], ())).await?;
    Ok(())
}

fn activated(site: [u8; 16], serial: &str) -> Event {
    Event::Administered { what: "activate".to_owned(), serial: serial.to_owned(), site }
}

/// This machine's number, drawn when it is asked for first. It is no secret.
pub(crate) fn site(state_dir: &Path) -> Result<[u8; 16], StartError> {
    let path = state_dir.join(SITE);
    let failed = |source| StartError::SiteFile { path: path.clone(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut site = [0; 16];
            let read = hex::decode_to_slice(text.trim_end(), &mut site);
            read.map_err(|error| failed(std::io::Error::other(error)))?;
            Ok(site)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut site = [0; 16];
            getrandom::fill(&mut site)
                .map_err(|error| failed(std::io::Error::other(error.to_string())))?;
            // Entries name it: it is on disk before the first of them is.
            write_durably(&path, (hex::encode(site) + "\n").as_bytes())
                .map_err(|error| failed(std::io::Error::other(error)))?;
            Ok(site)
        }
        Err(error) => Err(failed(error)),
    }
}

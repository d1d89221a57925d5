//! How a log begins: for one token and network, and under the officers that two people compared on two screens. It never
//! begins a second one, and never changes who the first officers are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use asset::Network;
use audit::entry::Event;
use policy::first::FirstOfficers;
use policy::signed::MAX_TEXT;
use statement::{Deed, Task};

use crate::administer::by_quorum;
use crate::config::Config;
use crate::init::{find_again, fingerprint_lines};
use crate::log::{Clock, LogError, Step, Store, begin, begun};
use crate::start::{beginning, open_log, open_token, tell_waived};
use crate::token::{KeyFile, TokenKeys};

/// Reads the file with the officers to begin with.
///
/// # Errors
/// When there is none and must be one, or it cannot be read.
pub fn officers(config: &Config, file: Option<&Path>) -> anyhow::Result<Option<FirstOfficers>> {
    let Some(path) = file else { return Ok(None) };
    let shown = path.display();
    let length = std::fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    let most = u64::try_from(MAX_TEXT).unwrap_or(u64::MAX);
    ensure!(length <= most, "{shown} is longer than any policy ({most} bytes)");
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let officers = FirstOfficers::read(&text).with_context(|| shown.to_string())?;
    // Said before the token is asked for anything.
    if let Ok(policy) = config.unsigned_rules()
        && policy.officers_text().is_some_and(|text| text != officers.text())
    {
        tracing::warn!(
            "the policy file has other officers, groups or governance than {shown}: it could not be the first"
        );
    }
    Ok(Some(officers))
}

/// Begins the log under these officers, or says that it was begun.
///
/// # Errors
/// When it was begun under others, or would begin under none on the main network.
pub async fn log(
    config: &Config,
    keys: &TokenKeys,
    officers: Option<&FirstOfficers>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut store = Store::open(&config.database_url()).await?;
    let result = begin_or_look(&mut store, config, keys, officers).await;
    store.close().await?;
    let (said, digest) = result?;
    writeln!(out, "log           {said}")?;
    writeln!(out, "origin        {}", audit::checkpoint::origin(&keys.checkpoint))?;
    let Some(digest) = digest else {
        writeln!(
            out,
            "officers      not fixed: those of the configuration bring in the first policy"
        )?;
        return Ok(());
    };
    for (line, name) in fingerprint_lines(&digest).iter().zip(["officers", "", "", ""]) {
        writeln!(out, "{name:<13} {line}")?;
    }
    writeln!(
        out,
        "compare       with what `officer policy officers FILE` says on another machine"
    )?;
    Ok(())
}

/// Before `signer init` gives keys to a token whose log was begun: officers must have said so, where the policy in force asks.
/// Without the file of the token's keys no log can be opened to ask: then it finds what the token has, and none is made.
///
/// Where it opens no log, which safeguards it goes without is kept for whoever opens that next.
///
/// # Errors
/// When too few of them have, or token or log cannot be opened.
pub async fn again(config: &Config, statements: &[PathBuf]) -> anyhow::Result<()> {
    let known = KeyFile::in_dir(&config.state_dir).read()?;
    let nothing_to_make = || {
        ensure!(statements.is_empty(), "nothing would be made: leave the statements away");
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("cannot make {}", config.state_dir.display()))?;
        Ok(tell_waived(config, "signer init")?)
    };
    if known.as_ref().is_some_and(|keys| keys.sealing_spki.is_some()) {
        return nothing_to_make();
    }
    let mut store = Store::open(&config.database_url()).await?;
    let begun = begun(&mut store).await;
    store.close().await?;
    if begun?.is_none() {
        return nothing_to_make();
    }
    if known.is_none() {
        find_again(&config.token, &config.state_dir).await?;
        return nothing_to_make();
    }
    let (token, clock) = (open_token(config, config.token.alone()).await?, Clock::system());
    let log = open_log(config, &token, clock.clone()).await?;
    let serial = token.info().serial;
    let task = Task { deed: Deed::Init, token: serial.clone() };
    let let_be_done = by_quorum(&log, config, &clock, &task, statements).await;
    if let_be_done.is_ok() {
        let (what, site) = ("init".to_owned(), [0; 16]);
        let event = Event::Administered { what, serial, site };
        log.commit(|_| Step::write(vec![event], ())).await?;
    }
    log.close().await?;
    drop(log);
    if let Some(token) = Arc::into_inner(token) {
        token.stop().await;
    }
    let_be_done
}

async fn begin_or_look(
    store: &mut Store,
    config: &Config,
    keys: &TokenKeys,
    officers: Option<&FirstOfficers>,
) -> anyhow::Result<(&'static str, Option<[u8; 32]>)> {
    if let Some(entry) = begun(store).await? {
        let begun = entry.event.begun().context("entry 0 does not begin a log")?;
        let before = begun.officers_digest();
        ensure!(
            officers.is_none_or(|officers| Some(officers.digest()) == before),
            "the log was begun under {}, and is so for ever",
            before.map_or("no officers".to_owned(), |digest| format!(
                "the officers {}",
                hex::encode(digest)
            ))
        );
        return Ok(("was there", before));
    }
    if officers.is_none() && config.network == Network::Bitcoin {
        bail!("say under which officers the log begins: --officers FILE");
    }
    let opened = beginning(config, keys, officers);
    match begin(store, opened, &Clock::system(), &config.state_dir).await {
        Ok(()) => Ok(("begun", officers.map(FirstOfficers::digest))),
        Err(error @ LogError::Lost) => Err(error).context("nothing was begun"),
        Err(error) => Err(error.into()),
    }
}

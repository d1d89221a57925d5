//! `pin clear`, `token clear` and `token anchor-forget` where the policy has officers say what is done at the machine. No log can be opened to ask while
//! they are needed, so statements are held against the policy that was in force when this signer looked last, kept in the state folder, and written down by whoever opens the log
//! next. It never opens log or token, and never takes a statement twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use audit::entry::Event;
use policy::Rules;
use policy::names::KeyName;
use policy::people::OfficerKey;
use statement::{Deed, NO_TOKEN, Says, Signed, Statement, Task};

use crate::administer::site;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::log::{Clock, kept_origin};
use crate::officers::VALID_SECONDS_MAX;
use crate::officers::hear::{entry, in_time, not_revoked, verify_by};
use crate::token::{read_file, write_durably};

/// Statements that counted, by digest and end: until they have ended they are not taken again.
const USED: &str = "cleared";

/// What is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clearing {
    /// That a PIN was refused.
    Pin,
    /// The same, and one try more although it may lock the PIN.
    PinLastTry,
    /// That a token signed wrongly.
    Token,
    /// What the tokens remember of the log.
    Anchor,
}

/// Officers' leave to clear it, on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowed {
    clearing: Clearing,
    site: [u8; 16],
    /// When it was cleared, Unix seconds.
    at: u64,
    words: Vec<(Signed, OfficerKey)>,
}

impl Clearing {
    fn what(self) -> &'static str {
        match self {
            Self::Pin => "pin-clear",
            Self::PinLastTry => "pin-clear-last-try",
            Self::Token => "token-clear",
            Self::Anchor => "anchor-forget",
        }
    }

    fn task(self, site: [u8; 16]) -> Task {
        let deed = match self {
            Self::Pin => Deed::ClearPin(site),
            Self::PinLastTry => Deed::ClearPinLastTry(site),
            Self::Token => Deed::ClearToken(site),
            Self::Anchor => Deed::ForgetAnchor(site),
        };
        Task { deed, token: NO_TOKEN.to_owned() }
    }
}

/// By which officers this may be cleared, by the policy in force as this machine knew it last, or else its file; `None` where nobody is asked, or nobody can be, as no log was begun.
///
/// # Errors
/// Saying which file does not count and why, or who must still sign what.
pub fn by_officers(
    config: &Config,
    clearing: Clearing,
    files: &[PathBuf],
) -> anyhow::Result<Option<Allowed>> {
    let nobody = || {
        ensure!(files.is_empty(), "no officers are asked for this: leave the statements away");
        Ok(None)
    };
    let Some(log) = kept_origin(&config.state_dir)? else { return nobody() };
    let rules = config.kept_rules().context("the policy says which officers are asked")?;
    let Some(quorum) = rules.administer() else { return nobody() };
    let site = site(&config.state_dir)?;
    let task = clearing.task(site);
    let used = read_file(&config.state_dir.join(USED))?.unwrap_or_default();
    let (mut by, mut words) = (BTreeSet::new(), Vec::new());
    for file in files {
        let shown = || format!("{} does not count", file.display());
        let signed = fs::read(file).map_err(anyhow::Error::from);
        let signed = signed.and_then(|bytes| Ok(Signed::from_file(&bytes)?)).with_context(shown)?;
        let (said, key) = counts(&rules, &log, &task, &signed).with_context(shown)?;
        let before = used.lines().any(|line| line.starts_with(&hex::encode(said.digest())));
        ensure!(!before, "{}: it was counted before, and counts once", shown());
        ensure!(by.insert(said.officer), "{}: the same officer's word is there twice", shown());
        words.push((signed, key));
    }
    if !rules.may_administer(&by.iter().collect()) {
        bail!(
            "the policy has this done by {quorum} alone, and so far said so: [{}]. Each of them signs, for the log {log}: officer administer {} --token {NO_TOKEN} --offline FILE. Then give all files at once to this command (--statement FILE, once for each)",
            by.iter().map(KeyName::as_str).collect::<Vec<_>>().join(", "),
            task.deed
        );
    }
    let at = Clock::system().unix_seconds();
    Ok(Some(Allowed { clearing, site, at, words }))
}

fn counts(
    rules: &Rules,
    log: &str,
    task: &Task,
    signed: &Signed,
) -> anyhow::Result<(Statement, OfficerKey)> {
    let (said, key) =
        verify_by(rules, log, signed).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    ensure!(said.says == Says::Administer(task.clone()), "it is not for `{}`", task.deed);
    let now = Clock::system().unix_seconds();
    in_time(&said, now, now).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    not_revoked(rules, &said).map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    Ok((said, key))
}

impl Allowed {
    /// As one line of text without tabs, for whoever opens the log next.
    pub(crate) fn line(&self) -> String {
        let words = self
            .words
            .iter()
            .map(|(signed, key)| format!(" {}:{}", key.to_hex(), hex::encode(signed.to_file())));
        let (what, site) = (self.clearing.what(), hex::encode(self.site));
        format!("{what} {site} {}{}", self.at, words.collect::<String>())
    }

    /// Such a line.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let what = words.next()?;
        let clearing = [Clearing::Pin, Clearing::PinLastTry, Clearing::Token, Clearing::Anchor]
            .into_iter()
            .find(|one| one.what() == what)?;
        let site = hex::decode(words.next()?).ok()?.try_into().ok()?;
        let at = words.next()?.parse().ok()?;
        let word = |text: &str| {
            let (key, signed) = text.split_once(':')?;
            let signed = Signed::from_file(&hex::decode(signed).ok()?).ok()?;
            Some((signed, OfficerKey::parse(key).ok()?))
        };
        Some(Self { clearing, site, at, words: words.map(word).collect::<Option<_>>()? })
    }

    /// Remembers that these statements are used up.
    ///
    /// # Errors
    /// When the state folder cannot be written.
    pub(crate) fn use_up(&self, state_dir: &Path) -> anyhow::Result<()> {
        let (path, now) = (state_dir.join(USED), Clock::system().unix_seconds());
        let before = read_file(&path)?.unwrap_or_default();
        let lasts = |line: &&str| {
            let end = line.split_once(' ').and_then(|(_, end)| end.parse::<u64>().ok());
            end.is_none_or(|end| end >= now)
        };
        let mut text: String = before.lines().filter(lasts).flat_map(|line| [line, "\n"]).collect();
        for said in self.said() {
            text.push_str(&format!("{} {}\n", hex::encode(said.digest()), said.expires_unix));
        }
        Ok(write_durably(&path, text.as_bytes())?)
    }

    fn said(&self) -> impl Iterator<Item = Statement> {
        self.words.iter().filter_map(|(signed, _)| Statement::parse(&signed.statement).ok())
    }

    /// Whether an entry holds one of its statements: all that count are written at once.
    pub(crate) fn is_known(&self, ledger: &Ledger) -> bool {
        self.said().any(|said| ledger.people().is_used(&said.officer, said.nonce))
    }

    /// As entries, where they count by the policy in force; else as what was done without officers, with those who signed.
    pub(crate) fn events(&self, ledger: &Ledger, rules: Option<&Rules>, now: u64) -> Vec<Event> {
        let task = self.clearing.task(self.site);
        let mut by = BTreeSet::new();
        // Whether they had ended is judged by when it was cleared; the file that says so is the machine's, and bounded.
        let at = self.at.clamp(now.saturating_sub(VALID_SECONDS_MAX), now);
        let holds = |rules: &Rules, signed: &Signed, key: &OfficerKey| {
            let said = signed.verify(key).ok()?;
            let has = rules.officer(&said.officer).is_some_and(|known| known.key == *key);
            let holds = has
                && said.says == Says::Administer(task.clone())
                && at <= said.expires_unix
                && !rules.is_revoked(&said.officer)
                && !ledger.people().is_used(&said.officer, said.nonce);
            holds.then_some(said.officer)
        };
        let mut holding = Vec::new();
        for (signed, key) in &self.words {
            // One of each officer, and those alone that hold.
            let officer = rules.and_then(|rules| holds(rules, signed, key));
            if officer.is_some_and(|officer| by.insert(officer)) {
                holding.push(entry(signed, key, "file"));
            }
        }
        let enough = rules.is_some_and(|rules| rules.may_administer(&by.iter().collect()));
        if enough && !holding.is_empty() {
            let words = holding.into_iter();
            let (what, serial) = (self.clearing.what().to_owned(), NO_TOKEN.to_owned());
            return words.chain([Event::Administered { what, serial, site: self.site }]).collect();
        }
        let names: Vec<String> = self.said().map(|said| said.officer.to_string()).collect();
        let said = format!(
            "signer {}, with statements of [{}] that counted before or do not count by the policy in force",
            self.clearing.what().replace('-', " "),
            names.join(", ")
        );
        vec![Event::Waived { safeguard: safeguard(self.clearing).to_owned(), said }]
    }
}

/// What the log calls it where nobody was asked.
pub(crate) fn safeguard(clearing: Clearing) -> &'static str {
    match clearing {
        Clearing::Pin | Clearing::PinLastTry => "PIN latch",
        Clearing::Token => "distrust of a token",
        Clearing::Anchor => "anchor in the token",
    }
}

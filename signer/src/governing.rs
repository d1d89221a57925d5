//! Which policy a signer serves under: the first by the officers that its log began with (or else of its configuration), every later one by what the policy
//! in force says of who may change it. It never lets a file on this machine rule that those people did not sign for.

use std::path::PathBuf;

use audit::entry::Event;
use policy::governance::Next;
use policy::names::KeyName;
use policy::{PolicyError, Rules, SignedPolicy};
use sha2::{Digest as _, Sha256};

use crate::config::{Config, ConfigError, read};
use crate::ledger::{ActivePolicy, Ledger, Proposal};
use crate::log::{Clock, Log, LogError, Step};
use crate::officers::vetoing;
use crate::start::{StartError, activate, servable};
use crate::token::{read_file, write_durably};

/// The policy to serve under, and when it is worth looking again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InForce {
    /// The policy.
    pub rules: Rules,
    /// When a proposed one may take its place, Unix seconds.
    pub next_unix: Option<u64>,
    /// What is proposed, also when a veto that nobody understands holds it.
    pub proposed: Option<Proposed>,
}

/// A policy that is to take the place of the one in force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// SHA-256 of its text.
    pub digest: [u8; 32],
    /// Its version.
    pub version: u64,
    /// Who signed it.
    pub officers: Vec<KeyName>,
    /// It comes into force no sooner, Unix seconds.
    pub due_unix: u64,
    /// Whether they are those who are there for when keys are lost.
    pub recovery: bool,
}

impl Proposed {
    fn of(next: &Rules, due_unix: u64, recovery: bool) -> Self {
        let officers = next.officers().to_vec();
        Self { digest: *next.digest(), version: next.version(), officers, due_unix, recovery }
    }
}

impl InForce {
    /// With nothing to wait for.
    fn alone(rules: Rules) -> Self {
        Self { rules, next_unix: None, proposed: None }
    }
}

/// Finds it: writes down what the policy file proposes, and puts into force what may be.
///
/// # Errors
/// [`StartError`] when the file is not a policy that may follow the one in force, or the log cannot be read.
pub async fn in_force(
    log: &Log<Ledger>,
    config: &Config,
    clock: &Clock,
) -> Result<InForce, StartError> {
    let found = find(log, config, clock).await?;
    let path = config.policy_kept();
    // For the hour in which no log can be opened; whatever the file says by then.
    if read_file(&path)?.is_none_or(|kept| kept != found.rules.text()) {
        write_durably(&path, found.rules.text().as_bytes())?;
    }
    Ok(found)
}

async fn find(log: &Log<Ledger>, config: &Config, clock: &Clock) -> Result<InForce, StartError> {
    let Some(now) = governed_by(log, config).await? else {
        let rules = first(log, config)?;
        activate(log, &config.state_dir, &rules).await?;
        return Ok(InForce::alone(rules));
    };
    let (text, signatures) = config.policy_files()?;
    let found: [u8; 32] = Sha256::digest(&text).into();
    withdraw(log, &found).await?;
    if found == *now.digest() {
        return Ok(InForce::alone(now));
    }
    let signed = SignedPolicy { text: &text, signatures: &signatures };
    let next = now.next(&signed).map_err(|source| wrong(config, source))?;
    // What was proposed before policies named their signer goes its way, to its force or its veto.
    if log.read(|ledger| ledger.proposal(next.rules().digest())).is_none() {
        next.rules().is_for(&log.opening().origin).map_err(|source| wrong(config, source))?;
    }
    let recovery = matches!(next, Next::Recovery(..));
    match next {
        Next::AtOnce(rules) if vetoed(log, rules.digest()) => {
            tracing::warn!("the policy file was vetoed: the one in force stays");
            Ok(InForce::alone(now))
        }
        Next::AtOnce(rules) => {
            activate(log, &config.state_dir, &rules).await?;
            Ok(InForce::alone(rules))
        }
        Next::After(next, delay_seconds) | Next::Recovery(next, delay_seconds) => {
            if recovery {
                tracing::error!(
                    version = next.version(),
                    "ALARM: a policy is to come in by those who are there for when keys are lost: veto it if that is not so"
                );
            }
            log.read(|ledger| servable(ledger, &config.state_dir, &next))?;
            let proposal = propose(log, &now, &next, delay_seconds, clock).await?;
            let proposed = Proposed::of(&next, proposal.due_unix, recovery);
            let vetoes = Vetoes { now: &now, signed: &signed, proposed: &proposed };
            match veto(log, config, &vetoes, proposal, clock).await? {
                Ok(proposal) => follow(log, config, now, next, (proposal, proposed), clock).await,
                Err(unclear) => {
                    // It may have been meant for this text: nothing changes until somebody has looked.
                    tracing::error!(
                        "{unclear}: the policy in force stays, and the proposed one does not take its place, until that can be read and holds vetoes over it alone, or is gone"
                    );
                    Ok(InForce { proposed: Some(proposed), ..InForce::alone(now) })
                }
            }
        }
    }
}

/// The first policy: of the officers that the log began with and by them, or by the configuration's where it began with none.
fn first(log: &Log<Ledger>, config: &Config) -> Result<Rules, StartError> {
    let began = log.read(|ledger| ledger.beginning().and_then(|beginning| beginning.officers));
    let rules = match began {
        None => config.rules()?,
        Some(officers) => {
            let (text, signatures) = config.policy_files()?;
            let signed = SignedPolicy { text: &text, signatures: &signatures };
            let first = Rules::first(&signed, config.network, &officers);
            first.map_err(|source| wrong(config, source))?
        }
    };
    rules.is_for(&log.opening().origin).map_err(|source| wrong(config, source))?;
    Ok(rules)
}

/// What was proposed and is not in the policy file any more comes into force no more, unless it is proposed anew.
async fn withdraw(log: &Log<Ledger>, found: &[u8; 32]) -> Result<(), LogError> {
    let gone = log.read(Ledger::proposed).into_iter().filter(|digest| digest != found);
    let gone: Vec<Event> = gone.map(|digest| Event::PolicyWithdrawn { digest }).collect();
    if !gone.is_empty() {
        tracing::warn!("a proposed policy is not in the policy file any more: it is withdrawn");
        log.commit(|_| Step::write(gone, ())).await?;
    }
    Ok(())
}

fn vetoed(log: &Log<Ledger>, digest: &[u8; 32]) -> bool {
    log.read(|ledger| ledger.proposal(digest)).is_some_and(|proposal| proposal.vetoed)
}

/// The policy in force, as the log has it, and nothing brought in: `None` where there is none, or it is governed by nobody.
///
/// # Errors
/// [`StartError`] when the log cannot be read.
pub async fn governed_by(log: &Log<Ledger>, config: &Config) -> Result<Option<Rules>, StartError> {
    let Some(active) = log.read(Ledger::policy) else { return Ok(None) };
    Ok(reopen(log, config, active).await?.filter(|rules| rules.governance().is_some()))
}

/// The policy in force, as the log has it.
async fn reopen(
    log: &Log<Ledger>,
    config: &Config,
    active: ActivePolicy,
) -> Result<Option<Rules>, StartError> {
    let entry = log.entry(active.seq).await?;
    match entry.event {
        Event::PolicyActivated { text, officers, .. }
            if <[u8; 32]>::from(Sha256::digest(&text)) == active.digest =>
        {
            let officers = officers.iter().filter_map(|name| KeyName::parse(name).ok()).collect();
            match Rules::reopen(&text, officers, config.network) {
                Ok(rules) => Ok(Some(rules)),
                // From before there were sections that this program asks for: nothing governs it.
                Err(_) if !is_governed(&text) => Ok(None),
                Err(source) => Err(wrong(config, source)),
            }
        }
        _ => Err(LogError::Missing(active.seq).into()),
    }
}

/// Whether the text has the section, however it is written.
fn is_governed(text: &str) -> bool {
    // What is no TOML at all is not given to the configuration's officers.
    toml::from_str::<toml::Table>(text).map_or(true, |table| table.contains_key("governance"))
}

/// The proposal as the log has it, or a new one. What was proposed by a quorum with another delay and other vetoes is no
/// proposal by this one: it begins anew.
async fn propose(
    log: &Log<Ledger>,
    now: &Rules,
    next: &Rules,
    delay_seconds: u64,
    clock: &Clock,
) -> Result<Proposal, StartError> {
    let digest = *next.digest();
    let mut events = Vec::new();
    if let Some(proposal) = log.read(|ledger| ledger.proposal(&digest)) {
        if proposal.vetoed || is_alike(now, next, &proposal) {
            return Ok(proposal);
        }
        tracing::warn!(
            version = next.version(),
            "the policy that is proposed has other signatures now, with another delay: it is proposed anew"
        );
        events.push(Event::PolicyWithdrawn { digest });
    }
    let time = log.read(|ledger| ledger.not_before_latest(clock.unix_seconds()));
    let due_unix = time.saturating_add(delay_seconds);
    let officers: Vec<String> = next.officers().iter().map(ToString::to_string).collect();
    events.push(Event::PolicyProposed {
        version: next.version(),
        digest,
        text: next.text().to_owned(),
        officers: officers.clone(),
        due_unix,
    });
    log.commit(|_| Step::write(events, ())).await?;
    tracing::warn!(
        version = next.version(),
        digest = hex::encode(digest),
        due_unix,
        "a policy is proposed that may loosen, or changes who governs: it comes into force when it is due, unless it is vetoed"
    );
    Ok(Proposal { officers, due_unix, vetoed: false })
}

/// Whether those who had signed it when it was proposed are a quorum of the same kind as those who have now.
fn is_alike(now: &Rules, next: &Rules, proposal: &Proposal) -> bool {
    let officers = proposal.officers.iter().filter_map(|name| KeyName::parse(name).ok()).collect();
    let then = Rules::reopen(next.text(), officers, next.network());
    let then = then.and_then(|then| now.gives_way(then));
    let as_now = now.gives_way(next.clone());
    let is_recovery = |next: &Next| matches!(next, Next::Recovery(..));
    matches!((then, as_now), (Ok(then), Ok(as_now)) if is_recovery(&then) == is_recovery(&as_now))
}

/// What vetoes are held against.
struct Vetoes<'a> {
    now: &'a Rules,
    signed: &'a SignedPolicy<'a>,
    proposed: &'a Proposed,
}

/// Reads the vetoes that came as statements while nobody could write them down, and those that lie beside the policy: what
/// becomes of the proposal, or what is wrong with them.
async fn veto(
    log: &Log<Ledger>,
    config: &Config,
    vetoes: &Vetoes<'_>,
    proposal: Proposal,
    clock: &Clock,
) -> Result<Result<Proposal, ConfigError>, LogError> {
    let Vetoes { now, signed, proposed } = vetoes;
    let stopped = vetoing::at_start(log, &config.state_dir, now, proposed, clock).await?;
    let proposal = match stopped {
        Ok(stopped) => Proposal { vetoed: proposal.vetoed || stopped, ..proposal },
        Err(unclear) => return Ok(Err(unclear)),
    };
    let path = config.policy_vetoes();
    let signatures = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ok(proposal)),
        Err(source) => return Ok(Err(ConfigError::Read { path, source })),
    };
    let vetoed = SignedPolicy { text: signed.text, signatures: &signatures };
    let officers = match now.vetoed_by(&vetoed, &log.read(Ledger::vetoed), proposed.recovery) {
        Ok(officers) => officers,
        Err(source) => return Ok(Err(ConfigError::Policy { path, source })),
    };
    if officers.is_empty() || proposal.vetoed {
        return Ok(Ok(proposal));
    }
    let digest = Sha256::digest(signed.text).into();
    let officers: Vec<String> = officers.iter().map(ToString::to_string).collect();
    tracing::warn!(officers = officers.join(", "), "the proposed policy is vetoed");
    log.commit(|_| Step::write(vec![Event::PolicyVetoed { digest, officers }], ())).await?;
    Ok(Ok(Proposal { vetoed: true, ..proposal }))
}

async fn follow(
    log: &Log<Ledger>,
    config: &Config,
    now: Rules,
    next: Rules,
    (proposal, proposed): (Proposal, Proposed),
    clock: &Clock,
) -> Result<InForce, StartError> {
    if proposal.vetoed {
        tracing::warn!(
            version = next.version(),
            "the policy file was vetoed: the one in force stays"
        );
        return Ok(InForce::alone(now));
    }
    // A clock in doubt holds the delay.
    let time = log.read(|ledger| ledger.waited_until(clock.unix_seconds()));
    if time < proposal.due_unix {
        let next_unix = Some(proposal.due_unix);
        return Ok(InForce { rules: now, next_unix, proposed: Some(proposed) });
    }
    activate(log, &config.state_dir, &next).await?;
    Ok(InForce::alone(next))
}

fn wrong(config: &Config, source: PolicyError) -> StartError {
    ConfigError::Policy { path: config.policy.clone(), source }.into()
}

impl Config {
    /// The policy's text and its officers' signatures, not looked at.
    fn policy_files(&self) -> Result<(String, String), ConfigError> {
        Ok((read(&self.policy)?, read(&self.policy_signatures())?))
    }

    /// Where vetoes against the policy lie.
    fn policy_vetoes(&self) -> PathBuf {
        let mut path = self.policy.clone().into_os_string();
        path.push(".veto");
        path.into()
    }

    /// Where the text of the policy in force is kept.
    pub(crate) fn policy_kept(&self) -> PathBuf {
        self.state_dir.join("policy-in-force.toml")
    }

    /// The words of the policy that was in force when this signer looked last, for what no log can be opened for; those of the policy
    /// file where it never did.
    pub(crate) fn kept_rules(&self) -> Result<Rules, ConfigError> {
        let path = self.policy_kept();
        if !path.exists() {
            return self.unsigned_rules();
        }
        let text = read(&path)?;
        Rules::reopen(&text, Vec::new(), self.network)
            .map_err(|source| ConfigError::Policy { path, source })
    }

    /// The policy file's words, whoever signed them, for a signer that serves nothing but the reason why not.
    pub(crate) fn unsigned_rules(&self) -> Result<Rules, ConfigError> {
        let text = read(&self.policy)?;
        Rules::reopen(&text, Vec::new(), self.network)
            .map_err(|source| ConfigError::Policy { path: self.policy.clone(), source })
    }
}

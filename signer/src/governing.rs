//! Which policy a signer serves under: the first by the officers that its log began with (or else of its configuration), every later one by what the policy
//! in force says of who may change it, whether it came as a file or over the wire. It never lets a file on this machine rule that those people did not sign for.

pub mod push;
mod pushed;
mod rate;
mod upcoming;

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

use pushed::Tightened;
pub use upcoming::Upcoming;

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
    /// Whether it provably only tightens: then it was handed in, and is in force as soon as the signer has started anew.
    pub tightens: bool,
    /// Why that cannot be served on this machine: then nothing is.
    pub unserved: Option<String>,
}

impl Proposed {
    fn of(next: &Next, due_unix: u64) -> Self {
        let rules = next.rules();
        Self {
            digest: *rules.digest(),
            version: rules.version(),
            officers: rules.officers().to_vec(),
            due_unix,
            recovery: matches!(next, Next::Recovery(..)),
            tightens: matches!(next, Next::AtOnce(_)),
            unserved: None,
        }
    }

    /// Of which kind it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match (self.recovery, self.tightens) {
            (true, _) => "recovery",
            (false, true) => "tightening",
            (false, false) => "change",
        }
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
    // What officers handed in to tighten waits for nothing, also not for what is wrong with a file.
    let (now, tightened) = match pushed::tighten(log, config, now).await? {
        Tightened::No(now) => (now, false),
        Tightened::Yes(rules) => (rules, true),
        Tightened::Unserved(now, proposed) => {
            return Ok(InForce { proposed: Some(proposed), ..InForce::alone(now) });
        }
    };
    let handed_in = pushed::open(log, &now).await?;
    let handed_in = handed_in.filter(|next| !matches!(next, Next::AtOnce(_)));
    let of_file = match of_file(log, config, &now).await {
        Ok(next) => next,
        Err(error @ StartError::Log(_)) => return Err(error),
        // A file can be behind what officers handed in since, or be gone; that must not keep their policy from being served.
        Err(error) if tightened || log.read(Ledger::policy).is_some_and(|active| active.pushed) => {
            tracing::error!(
                "the policy file does nothing, since the policy in force came over the wire and the file's may not follow it: {error}; put what is in force in its place, as it is kept in {}",
                config.policy_kept().display()
            );
            // No delay runs on for what nobody is shown.
            withdraw(log, None).await?;
            None
        }
        Err(error) => return Err(error),
    };
    // What was vetoed takes nobody's place.
    let of_file = of_file.filter(|file| {
        let stays = handed_in.is_none() || !vetoed(log, file.rules().digest());
        if !stays {
            tracing::warn!("the policy file was vetoed: what came over the wire stays proposed");
        }
        stays
    });
    let next = match (of_file, handed_in) {
        (None, None) => return Ok(InForce::alone(now)),
        (Some(next), None) => next,
        (Some(next), Some(other)) if pushed::gives_way(&Proposed::of(&other, 0), &next) => {
            pushed::withdraw(log, &next).await?;
            next
        }
        (file, Some(other)) => {
            if file.is_some_and(|file| file.rules().digest() != other.rules().digest()) {
                tracing::warn!(
                    "the policy file is not proposed: another policy is, which came over the wire"
                );
            }
            other
        }
    };
    let next = match next {
        Next::AtOnce(rules) if vetoed(log, rules.digest()) => {
            tracing::warn!("the policy file was vetoed: the one in force stays");
            return Ok(InForce::alone(now));
        }
        Next::AtOnce(rules) => {
            activate(log, &config.state_dir, &rules).await?;
            return Ok(InForce::alone(rules));
        }
        later => later,
    };
    proposed(log, config, (now, next), clock).await
}

/// What the policy file brings, if that is not in force.
async fn of_file(
    log: &Log<Ledger>,
    config: &Config,
    now: &Rules,
) -> Result<Option<Next>, StartError> {
    let (text, signatures) = config.policy_files()?;
    let found: [u8; 32] = Sha256::digest(&text).into();
    withdraw(log, Some(&found)).await?;
    if found == *now.digest() {
        return Ok(None);
    }
    let signed = SignedPolicy { text: &text, signatures: &signatures };
    weigh(log, now, &signed).map(Some).map_err(|error| wrong(config, error))
}

/// Whether and how the policy in force gives way to this one, whichever way it came: the one judge of that. It must be for this
/// signer; what was proposed before policies named theirs goes its way, to its force or its veto.
fn weigh(log: &Log<Ledger>, now: &Rules, signed: &SignedPolicy<'_>) -> Result<Next, PolicyError> {
    let next = now.next(signed)?;
    if log.read(|ledger| ledger.proposal(next.rules().digest())).is_none() {
        next.rules().is_for(&log.opening().origin)?;
    }
    Ok(next)
}

/// What becomes of one that has to wait.
async fn proposed(
    log: &Log<Ledger>,
    config: &Config,
    (now, next): (Rules, Next),
    clock: &Clock,
) -> Result<InForce, StartError> {
    if matches!(next, Next::Recovery(..)) {
        alarm(next.rules());
    }
    if let Err(error) = log.read(|ledger| servable(ledger, &config.state_dir, next.rules())) {
        let known = log.read(|ledger| ledger.proposal(next.rules().digest()));
        let Some(known) = known.filter(|known| known.pushed) else { return Err(error) };
        // It could be when it came, and nobody here can take it away.
        tracing::error!(
            "the policy that was handed in cannot be served, and stays proposed: {error}"
        );
        let proposed = Some(Proposed::of(&next, known.due_unix));
        return Ok(InForce { proposed, ..InForce::alone(now) });
    }
    let proposal = propose(log, &now, &next, clock).await?;
    let proposed = Proposed::of(&next, proposal.due_unix);
    let next = next.into_rules();
    let vetoes = Vetoes { now: &now, text: next.text(), proposed: &proposed };
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

fn alarm(next: &Rules) {
    tracing::error!(
        version = next.version(),
        "ALARM: a policy is to come in by those who are there for when keys are lost: veto it if that is not so"
    );
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

/// What was proposed by the policy file and is not there any more comes into force no more, unless it is proposed anew.
async fn withdraw(log: &Log<Ledger>, found: Option<&[u8; 32]>) -> Result<(), LogError> {
    let pushed = log.read(Ledger::pushed).map(|(digest, _)| digest);
    let gone = log.read(Ledger::proposed).into_iter();
    let gone = gone.filter(|digest| Some(digest) != found && Some(*digest) != pushed);
    let gone: Vec<Event> = gone.map(|digest| Event::PolicyWithdrawn { digest }).collect();
    if !gone.is_empty() {
        tracing::warn!(
            "a proposed policy is not in the policy file any more, or may not follow any more: it is withdrawn"
        );
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
    next: &Next,
    clock: &Clock,
) -> Result<Proposal, StartError> {
    let rules = next.rules();
    let digest = *rules.digest();
    let mut events = Vec::new();
    if let Some(proposal) = log.read(|ledger| ledger.proposal(&digest)) {
        if proposal.vetoed || is_alike(now, rules, &proposal) {
            return Ok(proposal);
        }
        tracing::warn!(
            version = rules.version(),
            "the policy that is proposed has other signatures now, with another delay: it is proposed anew"
        );
        events.push(Event::PolicyWithdrawn { digest });
    }
    events.push(log.read(|ledger| proposal(ledger, next, clock)));
    log.commit(|_| Step::write(events, ())).await?;
    let proposal = log.read(|ledger| ledger.proposal(&digest));
    let proposal = proposal.ok_or(LogError::Missing(log.status().head.size))?;
    said(rules, proposal.due_unix);
    Ok(proposal)
}

/// The entry by which a policy is proposed from now on.
fn proposal(ledger: &Ledger, next: &Next, clock: &Clock) -> Event {
    let (rules, delay_seconds) = match next {
        Next::AtOnce(rules) => (rules, 0),
        Next::After(rules, delay) | Next::Recovery(rules, delay) => (rules, *delay),
    };
    let time = ledger.not_before_latest(clock.unix_seconds());
    Event::PolicyProposed {
        version: rules.version(),
        digest: *rules.digest(),
        text: rules.text().to_owned(),
        officers: rules.officers().iter().map(ToString::to_string).collect(),
        due_unix: time.saturating_add(delay_seconds),
    }
}

fn said(rules: &Rules, due_unix: u64) {
    tracing::warn!(
        version = rules.version(),
        digest = hex::encode(rules.digest()),
        due_unix,
        "a policy is proposed that may loosen, or changes who governs: it comes into force when it is due, unless it is vetoed"
    );
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
    text: &'a str,
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
    let Vetoes { now, text, proposed } = vetoes;
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
    let vetoed = SignedPolicy { text, signatures: &signatures };
    let officers = match now.vetoed_by(&vetoed, &log.read(Ledger::vetoed), proposed.recovery) {
        Ok(officers) => officers,
        Err(source) => return Ok(Err(ConfigError::Policy { path, source })),
    };
    if officers.is_empty() || proposal.vetoed {
        return Ok(Ok(proposal));
    }
    let digest = Sha256::digest(text).into();
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
            "the proposed policy was vetoed: the one in force stays"
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

    /// The words that say who must have spoken before a log is opened: of the policy that was in force here last, or of the
    /// policy file where that is newer. A policy that was handed in is not in the file, which may be of long ago, broken or gone.
    pub(crate) fn newest_words(&self) -> Result<Rules, ConfigError> {
        let file = self.unsigned_rules();
        if !self.policy_kept().exists() {
            return file;
        }
        match (self.kept_rules(), file) {
            (Ok(kept), Ok(file)) if kept.version() < file.version() => Ok(file),
            (Ok(kept), Ok(_)) => Ok(kept),
            (Ok(kept), Err(error)) => {
                tracing::error!("{error}: it goes by what was in force here last");
                Ok(kept)
            }
            (Err(error), file) => {
                tracing::error!("{error}: it goes by the policy file");
                file
            }
        }
    }

    /// The policy file's words, or where that cannot be read those of the policy that was in force here last.
    pub(crate) fn words(&self) -> Result<Rules, ConfigError> {
        self.unsigned_rules().or_else(|error| match self.policy_kept().exists() {
            true => self.kept_rules().map_err(|_| error),
            false => Err(error),
        })
    }

    /// The policy file's words, whoever signed them, for a signer that serves nothing but the reason why not.
    pub(crate) fn unsigned_rules(&self) -> Result<Rules, ConfigError> {
        let text = read(&self.policy)?;
        Rules::reopen(&text, Vec::new(), self.network)
            .map_err(|source| ConfigError::Policy { path: self.policy.clone(), source })
    }
}
